//! Stopping and starting a deployed project. Neither changes what is deployed.

use slipway_protocol::{ErrorCode, Stage};

use super::compose::{explain, services};
use crate::script::Script;
use crate::scripts;
use crate::{Attempt, StageError, StageReport};

impl Attempt {
    pub(crate) async fn stop(&mut self) -> Result<StageReport, StageError> {
        let script =
            Script::new("stop", scripts::STOP).word("root", self.root()).word("slug", &self.work.request.project.slug);
        let message = "the containers couldn't be stopped";
        let said = self.exec_or(Stage::Compose, &script, ErrorCode::StopFailed, message).await?;
        let services = services(&said);
        let mut report = StageReport::of(said.value("change") == Some("changed")).fact("services", services.len());
        report.services = services;
        Ok(report)
    }

    pub(crate) async fn start(&mut self) -> Result<StageReport, StageError> {
        let script = Script::new("start", scripts::START)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .number("limit", self.limit())
            .number("patience", self.config().health_timeout.as_secs());
        // The end of a container's log may be told: the secrets in the environment must be known by then.
        self.there().await?;
        self.known_env(Stage::Compose).await?;
        let outcome = self.exec(Stage::Compose, &script).await?;
        let said = match &outcome {
            Ok(said) | Err(said) => said,
        };
        let services = services(said);
        if outcome.is_err() {
            return Err(StageError { services: services.into(), ..explain(said) });
        }
        let mut report = StageReport::of(said.value("change") == Some("changed")).fact("services", services.len());
        report.services = services;
        Ok(report)
    }

    /// Refuses a project whose directory is gone.
    async fn there(&mut self) -> Result<(), StageError> {
        let script = Script::new("look for project", scripts::REQUIRE_PROJECT)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug);
        let message = "the project couldn't be found";
        self.exec_or(Stage::Compose, &script, ErrorCode::NotDeployed, message).await.map(drop)
    }
}
