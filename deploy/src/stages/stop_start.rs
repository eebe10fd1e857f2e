//! Stopping and starting a deployed project. Neither changes what is deployed. Taking it off the server is in `undeploy`.

use secrecy::ExposeSecret as _;
use slipway_protocol::{ErrorCode, Stage};

use super::compose::parse_services;
use super::start_failure::explain_failure;
use crate::remote::script::Script;
use crate::scripts;
use crate::{Attempt, StageError, StageReport};

impl Attempt {
    pub(crate) async fn stop(&mut self) -> Result<StageReport, StageError> {
        let script =
            Script::new("stop", scripts::STOP).word("root", self.root()).word("slug", &self.work.request.project.slug);
        let message = "the containers couldn't be stopped";
        let output = self.exec_or(Stage::Compose, &script, ErrorCode::StopFailed, message).await?;
        let services = parse_services(&output);
        let mut report = StageReport::of(output.value("change") == Some("changed")).fact("services", services.len());
        report.services = services;
        Ok(report)
    }

    pub(crate) async fn start(&mut self) -> Result<StageReport, StageError> {
        let script = Script::new("start", scripts::START)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .number("limit", self.script_limit())
            .number("patience", self.config().health_timeout.as_secs())
            .word("door", &self.former_door_image())
            .bytes("acme", self.acme_lines().expose_secret().as_bytes())
            .number("drain", self.drain_seconds());
        // The end of a container's log may be reported: the redactor must know the secrets of the environment by then.
        self.check_deployed().await?;
        self.known_env(Stage::Compose).await?;
        let outcome = self.exec(Stage::Compose, &script).await?;
        let output = match &outcome {
            Ok(output) | Err(output) => output,
        };
        let services = parse_services(output);
        if outcome.is_err() {
            return Err(StageError { services: services.into(), ..explain_failure(output) });
        }
        let mut report = StageReport::of(output.value("change") == Some("changed")).fact("services", services.len());
        report.services = services;
        Ok(report)
    }

    /// Refuses a project whose directory is gone.
    async fn check_deployed(&mut self) -> Result<(), StageError> {
        let script = Script::new("look for project", scripts::REQUIRE_PROJECT)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug);
        let message = "the project couldn't be found";
        self.exec_or(Stage::Compose, &script, ErrorCode::NotDeployed, message).await.map(drop)
    }
}
