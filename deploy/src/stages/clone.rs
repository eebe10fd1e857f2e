//! Clone: the exact commit into the project's directory. What git's errors mean is decided in `remote::failure_phrases`.

use secrecy::ExposeSecret as _;
use slipway_protocol::{ErrorCode, Stage};

use crate::remote::failure_phrases::explain_fetch;
use crate::remote::script::Script;
use crate::scripts;
use crate::{Attempt, StageError, StageReport};

impl Attempt {
    pub(crate) async fn clone_commit(&mut self) -> Result<StageReport, StageError> {
        let repository = &self.work.request.repository;
        let token = self.unless_cancelled(self.github().repository_token(&repository.name)).await?;
        self.learn(&token);
        let url = self.git_url().of_repository(&repository.name);
        let script = Script::new("clone", scripts::CLONE)
            .word("root", self.root())
            .word("slug", &self.work.request.project.slug)
            .word("commit", &repository.commit)
            .word("url", &url)
            .number("max_bytes", self.config().limits.repository_bytes)
            .number("max_files", self.config().limits.repository_files)
            .bytes("token", token.expose_secret().as_bytes());
        let output = match self.exec(Stage::Clone, &script).await? {
            Ok(output) => output,
            Err(output) => {
                let error = explain_fetch(&output, url.as_str());
                if error.code == ErrorCode::GitCredentialRefused {
                    self.github().forget_token(&self.work.request.repository.name, &token).await;
                }
                return Err(error);
            }
        };
        let mut report = StageReport::of(output.value("change") == Some("changed"))
            .fact("commit", self.work.request.repository.commit.as_str());
        if let Some(previous) = output.value("previous") {
            report = report.fact("previous_commit", previous);
        }
        Ok(report)
    }
}
