//! An attempt: one deployment, one SSH connection, the stages one by one. What a stage does stands in `stages`.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use slipway_protocol::names::HostKey;
use slipway_protocol::{Action, ErrorCode, Stage};
use tokio_util::sync::CancellationToken;

use crate::error::{understood, unexpected};
use crate::github::GithubClient;
use crate::lines::ScriptOutput;
use crate::redact::Redactor;
use crate::registry::RegistryClient;
use crate::retry::RetryPolicy;
use crate::script::Script;
use crate::ssh::{ExecOptions, RemoteExit, Session};
use crate::target::{HttpsUrl, RegistryHost};
use crate::{
    Deployer, DeployerConfig, DeploymentWork, GithubCredential, RemotePath, Reporter, StageError, StageReport,
};

/// What a script needs at most to say what it has found.
const LAST_WORDS: Duration = Duration::from_secs(30);

impl Deployer {
    /// Begins an attempt; the SSH connection is made by the first stage that needs it. `cancel` ends the running
    /// remote command, with its process group.
    #[must_use]
    pub fn begin(&self, work: DeploymentWork, reporter: Arc<dyn Reporter>, cancel: CancellationToken) -> Attempt {
        let redactor = Redactor::default();
        for secret in work.secrets.values().chain([&work.target.ssh_key]) {
            redactor.learn(secret);
        }
        if let GithubCredential::Token(token) = &self.config.github {
            redactor.learn(token);
        }
        if let Some(credential) = &self.config.registry {
            redactor.learn(&credential.password);
        }
        redactor.learn(&self.config.digest_key);
        Attempt {
            deployer: self.clone(),
            work,
            reporter,
            cancel,
            redactor,
            session: None,
            round_trips: 0,
            kept: None,
            layer: None,
            settled: false,
        }
    }
}

/// One attempt of one deployment.
pub struct Attempt {
    deployer: Deployer,
    pub(crate) work: DeploymentWork,
    reporter: Arc<dyn Reporter>,
    pub(crate) cancel: CancellationToken,
    pub(crate) redactor: Redactor,
    session: Option<Session>,
    round_trips: u32,
    /// The variables in `.env` on the server, once they are known.
    pub(crate) kept: Option<BTreeMap<String, String>>,
    /// Where what is written goes when nothing must change.
    pub(crate) layer: Option<RemotePath>,
    /// Whether what served before has been put back.
    pub(crate) settled: bool,
}

impl Attempt {
    /// Runs one stage, with its in-stage retries; its span is the caller's. Stages are run in the order of
    /// [`Action::stages`]; a stage that was done by an earlier attempt may be left out.
    ///
    /// # Errors
    /// A redacted [`StageError`]; the code's class says whether another attempt can help.
    pub async fn run(&mut self, stage: Stage) -> Result<StageReport, StageError> {
        let mut tried = 0;
        loop {
            tried += 1;
            let error = match self.stage(stage).await {
                Ok(report) => return Ok(self.redacted(report)),
                Err(error) => self.redacted_error(error),
            };
            if error.code == ErrorCode::ServerConnectionLost {
                self.drop_session();
            }
            let Some(delay) = self.retry_delay(&error, tried) else {
                let error = self.after_failure(stage, error).await;
                return Err(self.redacted_error(error));
            };
            self.reporter.retrying(stage, &error.failure(Some(stage)), delay);
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = self.cancel.cancelled() => return Err(error),
            }
        }
    }

    async fn stage(&mut self, stage: Stage) -> Result<StageReport, StageError> {
        match self.work.action {
            Action::Stop => return self.stop().await,
            Action::Start if stage == Stage::Compose => return self.start().await,
            Action::Undeploy => return self.undeploy(stage).await,
            Action::Deploy | Action::Rollback | Action::Start | Action::Cancel => {}
        }
        match stage {
            Stage::Preflight => self.preflight().await,
            Stage::Clone => self.clone_commit().await,
            Stage::Env => self.env().await,
            Stage::Compose => self.compose().await,
            Stage::Firewall => self.firewall().await,
            Stage::Verify => self.verify().await,
            Stage::Secrets => {
                let report = self.secrets().await?;
                Ok(self.after_success(report).await)
            }
        }
    }

    /// The delay before another try within the stage: for short faults only. An image that CI hasn't pushed yet and a
    /// rate limit take longer than that: they are a matter for the next attempt.
    fn retry_delay(&self, error: &StageError, tried: u32) -> Option<Duration> {
        let short = matches!(
            error.code,
            ErrorCode::ServerConnectionLost
                | ErrorCode::GitUnavailable
                | ErrorCode::RegistryUnavailable
                | ErrorCode::PullFailed
                | ErrorCode::GithubUnavailable
        );
        if !short || self.cancel.is_cancelled() || error.retry_after.is_some() {
            return None;
        }
        RetryPolicy::IN_STAGE.delay(tried)
    }

    /// Sequential round trips over SSH so far, the ones of the handshake included.
    #[must_use]
    pub fn round_trips(&self) -> u32 {
        self.round_trips + self.session.as_ref().map_or(0, Session::round_trips)
    }

    /// Closes the connection.
    pub async fn close(mut self) {
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }

    pub(crate) fn drop_session(&mut self) {
        self.round_trips = self.round_trips();
        self.session = None;
    }

    pub(crate) fn config(&self) -> &DeployerConfig {
        &self.deployer.config
    }

    /// How long a script may take to come to a verdict, in seconds: a bit less than until it's cut off.
    pub(crate) fn limit(&self) -> u64 {
        let all = self.config().command_timeout;
        (all - (all / 4).min(LAST_WORDS)).as_secs()
    }

    /// Whether there is a connection to the server that hasn't been seen to break.
    pub(crate) fn is_connected(&self) -> bool {
        self.session.is_some()
    }

    pub(crate) fn registry(&self) -> &RegistryClient {
        &self.deployer.registry
    }

    pub(crate) fn github(&self) -> &GithubClient {
        &self.deployer.github
    }

    pub(crate) fn probe(&self) -> &reqwest::Client {
        &self.deployer.probe
    }

    pub(crate) fn root(&self) -> &RemotePath {
        &self.deployer.root
    }

    pub(crate) fn git_url(&self) -> &HttpsUrl {
        &self.deployer.git_url
    }

    pub(crate) fn image_registry(&self) -> &RegistryHost {
        &self.deployer.image_registry
    }

    /// Waits for `work`, which runs nothing on the server, unless the attempt is cancelled first.
    pub(crate) async fn unless_cancelled<T>(
        &self,
        work: impl Future<Output = Result<T, StageError>>,
    ) -> Result<T, StageError> {
        let cancelled = || Err(StageError::new(ErrorCode::DeadlineExceeded, "the attempt was cancelled"));
        self.cancel.run_until_cancelled(work).await.unwrap_or_else(cancelled)
    }

    /// Remembers a secret that must not leave from now on.
    pub(crate) fn learn(&self, secret: &SecretString) {
        self.redactor.learn(secret);
    }

    /// Tells those who watch something that no program on the server has said.
    pub(crate) fn say(&self, stage: Stage, line: &str) {
        self.reporter.line(stage, &self.redactor.clean(line));
    }

    /// Runs a script on the server, with the number of our claim. A failure that the script has understood comes back
    /// as an error; any other as `Err(said)` within, for the stage to judge.
    ///
    /// # Errors
    /// Those of the connection, of the deadline, and the script's own.
    pub(crate) async fn exec(
        &mut self,
        stage: Stage,
        script: &Script,
    ) -> Result<Result<ScriptOutput, ScriptOutput>, StageError> {
        self.work.hold.check()?;
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
        let watch = ExecOptions {
            deadline: self.deployer.config.command_timeout,
            cancel: &self.cancel,
            redactor: &self.redactor,
            on_line: &|line| reporter.line(stage, line),
        };
        self.work.hold.check()?;
        let finished = session.exec(&script.fenced(self.work.hold.fence()), &watch).await?;
        let said = finished.said;
        match finished.exit {
            RemoteExit::Exited(0) => Ok(Ok(said)),
            RemoteExit::Lost => Err(session.lost(script.name()).with_tail(said.tail())),
            RemoteExit::Signalled => Err(session.signalled(script.name()).with_tail(said.tail())),
            RemoteExit::Exited(_) => match understood(&said) {
                Some(error) => Err(error),
                None => Ok(Err(said)),
            },
        }
    }

    /// As [`Self::exec`], for scripts that explain their failures themselves: any other is `code`, unless what was said
    /// last shows that the server's disk is full or its Docker gone.
    pub(crate) async fn exec_or(
        &mut self,
        stage: Stage,
        script: &Script,
        code: ErrorCode,
        message: &str,
    ) -> Result<ScriptOutput, StageError> {
        self.exec(stage, script).await?.map_err(|said| unexpected(&said, code, message))
    }

    pub(crate) fn redacted(&self, mut report: StageReport) -> StageReport {
        if let serde_json::Value::Object(facts) = self.redactor.clean_json(serde_json::Value::Object(report.facts)) {
            report.facts = facts;
        } else {
            report.facts = serde_json::Map::new();
        }
        report
    }

    pub(crate) fn redacted_error(&self, mut error: StageError) -> StageError {
        error.message = self.redactor.clean(&error.message);
        error.detail.secret_description = error.detail.secret_description.map(|text| self.redactor.clean(&text));
        error.tail = error.tail.iter().map(|line| self.redactor.clean(line)).collect();
        error
    }
}
