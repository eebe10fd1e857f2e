//! Running one script of an attempt on its server: the lease is checked, the connection made if there is none, and the
//! output turned into an error where the script or the connection failed.

use slipway_protocol::names::HostKey;
use slipway_protocol::{ErrorCode, Stage};

use crate::remote::failure_phrases::{explain_unexpected, read_explained};
use crate::remote::output::ScriptOutput;
use crate::remote::script::Script;
use crate::remote::ssh::{ExecOptions, RemoteExit, Session};
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
        self.work.lease.check()?;
        let layered = self.layer.as_ref().map(|scratch| script.layered(self.root(), scratch));
        let script = layered.as_ref().unwrap_or(script);
        if self.session.is_none() {
            let reporter = self.reporter.clone();
            let learned = |key: &HostKey| reporter.host_key_learned(key);
            let connecting = Session::connect(&self.work.target, &learned);
            let session = tokio::select! {
                session = connecting => session?,
                () = self.cancel.cancelled() => {
                    return Err(StageError::new(ErrorCode::DeadlineExceeded, "connecting was cancelled"));
                }
            };
            self.session = Some(session);
        }
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
        self.work.lease.check()?;
        let script =
            script.fenced(self.work.lease.fence()).owned(self.work.request.project.id, &self.work.former_owners);
        let finished = session.exec(&script, &options).await?;
        let output = finished.output;
        match finished.exit {
            RemoteExit::Exited(0) => Ok(Ok(output)),
            RemoteExit::Lost => Err(session.lost_during(script.name()).with_tail(output.tail())),
            RemoteExit::Signalled => Err(session.signalled(script.name()).with_tail(output.tail())),
            RemoteExit::Exited(_) => match read_explained(&output) {
                Some(error) => Err(error),
                None => Ok(Err(output)),
            },
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
}
