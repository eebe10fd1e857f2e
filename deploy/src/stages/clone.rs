//! Clone: the exact commit into the project's directory. What git's errors mean is decided in `remote::failure_phrases`. Its
//! script goes on to what stage env asks for first, which is kept until then.

use secrecy::{ExposeSecret as _, SecretString};
use slipway_protocol::names::RepositoryName;
use slipway_protocol::{ErrorCode, Stage};

use crate::remote::failure_phrases::explain_fetch;
use crate::remote::output::ScriptOutput;
use crate::remote::script::Script;
use crate::remote::ssh::RemoteExit;
use crate::scripts;
use crate::stages::secrets::deploy_port_of;
use crate::{Attempt, StageError, StageReport, Target};

impl Attempt {
    /// Fetches; once more where git was refused with a token that GitHub's API replaces. Where it doesn't, its answer says
    /// why, which git doesn't tell.
    pub(crate) async fn clone_commit(&mut self) -> Result<StageReport, StageError> {
        let repository = self.work.request.repository.name.clone();
        let token = self.unless_cancelled(self.github().repository_token(&repository)).await?;
        let error = match self.fetch(&repository, &token).await {
            Err(error) if error.code == ErrorCode::RepositoryMoved => return self.fetch_moved(error, &token).await,
            Err(error) if may_be_the_token(error.code) => error,
            other => return other,
        };
        self.github().forget_token(&repository, &token).await;
        match self.unless_cancelled(self.github().repository_token(&repository)).await {
            Ok(fresh) if fresh.expose_secret() != token.expose_secret() => self.fetch(&repository, &fresh).await,
            Ok(_) => Err(error),
            Err(why) => Err(StageError { tail: error.tail, ..why }),
        }
    }

    /// Once git has shown its token, it goes no further than the first request to where a repository is by now.
    async fn fetch_moved(&mut self, error: StageError, token: &SecretString) -> Result<StageReport, StageError> {
        let asked = self.work.request.repository.name.clone();
        match self.unless_cancelled(self.github().present_name(&asked)).await {
            Ok(present) if present != asked => {
                self.report_line(Stage::Clone, &format!("warning: {asked} is {present} on GitHub by now"));
                self.fetch(&present, token).await
            }
            Err(why) if why.code.class().retries() => Err(why),
            _ => Err(error),
        }
    }

    async fn fetch(&mut self, name: &RepositoryName, token: &SecretString) -> Result<StageReport, StageError> {
        let repository = &self.work.request.repository;
        self.learn(token);
        let url = self.git_url().of_repository(name);
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
        let output = self.judge_end(&script, ended)?.map_err(|output| {
            let mut error = explain_fetch(&output, url.as_str());
            if error.code == ErrorCode::GithubIpNotAllowed {
                let Target { handle, address, .. } = &self.work.target;
                error.message = format!("{}: that of {handle} ({address})", error.message);
            }
            error
        })?;
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

/// Whether git is refused as it is with a token that ended, or was withdrawn, since it was minted.
fn may_be_the_token(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::GitCredentialRefused | ErrorCode::RepositoryNotFound | ErrorCode::GithubSuspended)
}
