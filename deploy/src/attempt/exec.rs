//! Running one script of an attempt on its server, and what is told beside it: the lease is checked, the connection made
//! if there is none, and the output turned into an error where the script or the connection failed.

use std::sync::PoisonError;

use secrecy::SecretString;
use slipway_protocol::names::HostKey;
use slipway_protocol::{Action, ErrorCode, Stage};

use crate::remote::failure_phrases::{explain_unexpected, read_explained};
use crate::remote::output::ScriptOutput;
use crate::remote::script::Script;
use crate::remote::ssh::{CommandOutput, ExecOptions, RemoteExit, Session};
use crate::{Attempt, StageError};

impl Attempt {
    /// Runs a script on the server, with the number of our claim. A failure that the script has explained comes back as
    /// an error; any other as the inner `Err` with its output, for the stage to decide.
    ///
    /// # Errors
    /// Those of the connection, of the deadline, and the script's own.
    pub(crate) async fn exec(
        &mut self,
        stage: Stage,
        script: &Script,
    ) -> Result<Result<ScriptOutput, ScriptOutput>, StageError> {
        let ended = self.run_script(stage, script).await?;
        self.judge_end(script, ended)
    }

    /// As [`Self::exec`], with what the script has told also where it has explained a failure.
    pub(crate) async fn run_script(&mut self, stage: Stage, script: &Script) -> Result<CommandOutput, StageError> {
        self.work.lease.check()?;
        let layered = self.layer.as_ref().map(|scratch| script.layered(self.root(), scratch));
        let script = layered.as_ref().unwrap_or(script);
        if self.session.is_none() {
            let reporter = self.reporter.clone();
            let learned = |key: &HostKey| reporter.host_key_learned(key);
            let connecting = Box::pin(Session::connect(&self.work.target, &learned));
            let session = tokio::select! {
                session = connecting => session?,
                () = self.cancel.cancelled() => {
                    return Err(StageError::new(ErrorCode::DeadlineExceeded, "connecting was cancelled"));
                }
            };
            self.session = Some(session);
        }
        self.work.lease.check()?;
        let script = self.own_script(script);
        let Some(session) = self.session.as_mut() else {
            return Err(StageError::new(ErrorCode::InternalError, "there is no SSH session"));
        };
        let reporter = self.reporter.clone();
        let options = ExecOptions {
            deadline: self.deployer.config.command_timeout,
            cancel: &self.cancel,
            redactor: &self.redactor,
            on_line: &|line| reporter.line(stage, line),
        };
        // Every stage has this within it: on the heap, it makes none of them large.
        Box::pin(session.exec(&script, &options)).await
    }

    /// The script with what it acts by: the number of our claim, and the project; a move says that it's one.
    pub(crate) fn own_script(&self, script: &Script) -> Script {
        let script =
            script.fenced(self.work.lease.fence()).owned(self.work.request.project.id, &self.work.former_owners);
        if self.work.action == Action::Move { script.number("moving", 1) } else { script }
    }

    /// What the end of a script means.
    pub(crate) fn judge_end(
        &self,
        script: &Script,
        ended: CommandOutput,
    ) -> Result<Result<ScriptOutput, ScriptOutput>, StageError> {
        let CommandOutput { exit, output } = ended;
        let Some(session) = self.session.as_ref() else {
            return Err(StageError::new(ErrorCode::InternalError, "there is no SSH session"));
        };
        match exit {
            RemoteExit::Exited(0) => Ok(Ok(output)),
            RemoteExit::Lost => Err(session.lost_during(script.name()).with_tail(output.tail())),
            RemoteExit::Signalled => Err(session.signalled(script.name()).with_tail(output.tail())),
            RemoteExit::Exited(_) => match read_explained(&output) {
                Some(error) => Err(error),
                None => Ok(Err(output)),
            },
        }
    }

    /// Has the server start the shell of the next script already, while something else is done.
    pub(crate) fn begin_next_script(&mut self) {
        if let Some(session) = &mut self.session {
            session.begin_next();
        }
    }

    /// As [`Self::exec`], for scripts that explain their failures themselves: any other is `code`, unless the end of the
    /// output shows that the server's disk is full or its Docker gone.
    pub(crate) async fn exec_or(
        &mut self,
        stage: Stage,
        script: &Script,
        code: ErrorCode,
        message: &str,
    ) -> Result<ScriptOutput, StageError> {
        self.exec(stage, script).await?.map_err(|output| explain_unexpected(&output, code, message))
    }

    /// Adds a secret to those that are masked from now on.
    pub(crate) fn learn(&self, secret: &SecretString) {
        self.redactor.learn(secret);
    }

    /// Reports a line of our own, beside those that programs on the server print.
    pub(crate) fn report_line(&self, stage: Stage, line: &str) {
        let line = self.redactor.tell(line);
        self.reporter.line(stage, &line);
        if stage == Stage::Secrets {
            self.left.warnings.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        }
    }
}
