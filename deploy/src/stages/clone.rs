//! Clone: the exact commit into the project's directory. What git's errors mean is decided in `remote::failure_phrases`. Its
//! script goes on to what stage env asks for first, which is kept until then.

use secrecy::ExposeSecret as _;
use slipway_protocol::{ErrorCode, Stage};

use crate::remote::failure_phrases::explain_fetch;
use crate::remote::output::ScriptOutput;
use crate::remote::script::Script;
use crate::remote::ssh::RemoteExit;
use crate::scripts;
use crate::stages::secrets::deploy_port_of;
use crate::{Attempt, StageError, StageReport};

impl Attempt {
    pub(crate) async fn clone_commit(&mut self) -> Result<StageReport, StageError> {
        let repository = &self.work.request.repository;
        let token = self.unless_cancelled(self.github().repository_token(&repository.name)).await?;
        self.learn(&token);
        let url = self.git_url().of_repository(&repository.name);
        let script = Script::new("clone", scripts::CLONE)
            .done_with("cloned")
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .word("commit", &repository.commit)
            .word("url", &url)
            .number("max_bytes", self.config().limits.repository_bytes)
            .number("max_files", self.config().limits.repository_files)
            .bytes("token", token.expose_secret().as_bytes())
            // What stage env asks for first.
            .word("registry", self.image_registry())
            .number("by_commit", self.is_by_commit().into())
            .number("asks_docker", self.docker.is_none().into())
            .bytes("recorded", self.recorded_images().as_bytes());
        let ended = self.run_script(Stage::Clone, &script).await?;
        if ended.output.value("cloned").is_some() {
            let report = self.report_clone(&ended.output);
            self.workflows = ended.output.value("workflows").map(|_| deploy_port_of(&ended.output));
            // Else stage env asks for itself.
            self.env_seen = matches!(ended.exit, RemoteExit::Exited(_)).then_some(ended);
            return Ok(report);
        }
        let output = match self.judge_end(&script, ended)? {
            Ok(output) => output,
            Err(output) => {
                let error = explain_fetch(&output, url.as_str());
                if error.code == ErrorCode::GitCredentialRefused {
                    self.github().forget_token(&self.work.request.repository.name, &token).await;
                }
                return Err(error);
            }
        };
        Ok(self.report_clone(&output))
    }

    fn report_clone(&self, output: &ScriptOutput) -> StageReport {
        let report = StageReport::of(output.value("change") == Some("changed"))
            .fact("commit", self.work.request.repository.commit.as_str());
        match output.value("previous") {
            Some(previous) => report.fact("previous_commit", previous),
            None => report,
        }
    }
}
