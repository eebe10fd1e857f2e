//! An attempt: one deployment, one SSH connection, the stages one by one. What a stage does is in `stages`, and how a
//! script is run in `exec`; when an attempt begins and what is stored of it is decided by the worker.

pub(crate) mod deployer;
pub(crate) mod error;
mod exec;
pub(crate) mod lease_guard;
mod means;
mod outgoing;
pub(crate) mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use slipway_protocol::names::Port;
use slipway_protocol::{Action, ErrorCode, Stage};
use tokio_util::sync::CancellationToken;

use crate::backoff::RetryPolicy;
use crate::project::env::expression::Expressions;
use crate::project::grants::JudgedModel;
use crate::project::workflows::DeployPortUse;
use crate::remote::output::ScriptOutput;
use crate::remote::ssh::{CommandOutput, Session};
use crate::secrets::redact::Redactor;
use crate::stages::left_reports::KnownState;
use crate::stages::move_state::{MoveState, former_work};
use crate::{Deployer, DeploymentWork, GithubCredential, RemotePath, Reporter, StageError, StageReport};

/// How long a script needs at most to report its result.
const REPORT_TIME: Duration = Duration::from_secs(30);

impl Deployer {
    /// Begins an attempt; the SSH connection is made by the first stage that needs it. `cancel` ends the running
    /// remote command, with its process group.
    #[must_use]
    pub fn begin(&self, work: DeploymentWork, reporter: Arc<dyn Reporter>, cancel: CancellationToken) -> Attempt {
        let redactor = Redactor::default();
        for secret in work.secrets.values().chain([&work.target.ssh_key]) {
            redactor.learn(secret);
        }
        // One that can't be read fails the stage that needs it.
        if let GithubCredential::Token(token) = &self.config.github
            && let Ok(token) = token.read()
        {
            redactor.learn(&token);
        }
        if let Some(credential) = &work.registry {
            redactor.learn(&credential.password);
            redactor.learn(&credential.login());
        }
        redactor.learn(&self.config.digest_key);
        let account = self.config.front_door.as_ref().and_then(|door| door.acme.external_account.as_ref());
        account.inspect(|account| redactor.learn(&account.key));
        let former = former_work(&work).map(|work| Box::new(self.begin(work, reporter.clone(), cancel.clone())));
        Attempt {
            deployer: self.clone(),
            work,
            reporter,
            cancel,
            redactor,
            session: None,
            round_trips: 0,
            env_on_server: None,
            env_expressions: Expressions::new(),
            env_seen: None,
            docker: None,
            workflows: None,
            looked_after: None,
            login_refused: AtomicBool::new(false),
            layer: None,
            restored: false,
            judged: None,
            published: None,
            rules_seen: None,
            domain_defects: Vec::new(),
            registrys_clock: None,
            left: KnownState::default(),
            moving: MoveState::default(),
            former,
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
    pub(crate) session: Option<Session>,
    round_trips: u32,
    /// The variables in `.env` on the server, once they are known.
    pub(crate) env_on_server: Option<BTreeMap<String, String>>,
    /// Which of them are written with references to others, and how.
    pub(crate) env_expressions: Expressions,
    /// What stage clone's script has told for stage env.
    pub(crate) env_seen: Option<CommandOutput>,
    /// What preflight knows of the server's Docker, by the keys under which stage env's script would tell it.
    pub(crate) docker: Option<Vec<(&'static str, String)>>,
    /// What the commit's workflows need, once stage clone has seen them.
    pub(crate) workflows: Option<DeployPortUse>,
    /// What was told of all that a success leaves, where that was looked after already.
    pub(crate) looked_after: Option<ScriptOutput>,
    /// Whether the registry refuses the credential, and gives the project's images to anybody.
    pub(crate) login_refused: AtomicBool,
    /// A directory that takes all writes to the project when nothing must change (a plan).
    pub(crate) layer: Option<RemotePath>,
    /// What stage env has judged and nothing was refused of.
    pub(crate) judged: Option<JudgedModel>,
    /// Whether the previous release has been restored.
    pub(crate) restored: bool,
    /// The ports that Docker publishes for the project, with their services, once they were seen.
    pub(crate) published: Option<BTreeMap<Port, String>>,
    /// What stage compose has told, which has looked at the firewall.
    pub(crate) rules_seen: Option<ScriptOutput>,
    /// Which of the project's domains don't lead to the server.
    pub(crate) domain_defects: Vec<String>,
    /// The registry's time, in seconds since 1970, where the server's clock and the worker's differ.
    pub(crate) registrys_clock: Option<u64>,
    /// What it knows of how it leaves the server, or how the one before has left it.
    pub(crate) left: KnownState,
    /// What a move knows of the server that it takes the project away from.
    pub(crate) moving: MoveState,
    /// Acts on that server.
    pub(crate) former: Option<Box<Attempt>>,
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
            let outcome =
                Box::pin(self.run_once(stage)).await.and_then(|report| self.redactor.tell_report(stage, report));
            let error = match outcome {
                Ok(report) => {
                    self.left.finished.insert(stage, report.facts.clone());
                    return Ok(report);
                }
                Err(error) => self.redactor.tell_error(error),
            };
            // Who floods us isn't asked for more.
            if matches!(error.code, ErrorCode::ServerConnectionLost | ErrorCode::OutputTooLarge) {
                self.drop_session();
            }
            let Some(delay) = self.retry_delay(&error, tried) else {
                let error = Box::pin(self.after_failure(stage, error)).await;
                return Err(self.redactor.tell_error(error));
            };
            self.reporter.retrying(stage, &error.failure(Some(stage)), delay);
            tokio::select! {
                () = tokio::time::sleep(delay) => {}
                () = self.cancel.cancelled() => return Err(error),
            }
        }
    }

    async fn run_once(&mut self, stage: Stage) -> Result<StageReport, StageError> {
        match self.work.action {
            Action::Stop => return self.stop().await,
            Action::Start if stage == Stage::Compose => return self.start().await,
            Action::Undeploy => return self.undeploy(stage).await,
            Action::Move => return Box::pin(self.move_stage(stage)).await,
            Action::Deploy | Action::Rollback | Action::Start | Action::Cancel | Action::Cordon => {}
        }
        self.deploy_stage(stage).await
    }

    /// Runs a stage of a deployment.
    pub(crate) async fn deploy_stage(&mut self, stage: Stage) -> Result<StageReport, StageError> {
        if let Some(report) = self.left.proven.remove(&stage) {
            return Ok(report);
        }
        match stage {
            Stage::Preflight => self.preflight().await,
            Stage::Clone => self.clone_commit().await,
            Stage::Env => self.env().await,
            Stage::Compose => self.compose().await,
            Stage::Firewall => self.firewall().await,
            Stage::Verify => {
                let report = self.verify().await?;
                Ok(self.after_start(report).await)
            }
            Stage::Secrets => {
                let report = self.secrets().await?;
                Ok(self.after_success(report).await)
            }
        }
    }

    /// The delay before another try within the stage: for short faults only. An image that CI hasn't pushed yet and a
    /// rate limit take longer: they are left to the next attempt. So is GitHub's API, since its client has tried three
    /// times already: `github::retry`.
    fn retry_delay(&self, error: &StageError, tried: u32) -> Option<Duration> {
        let short = matches!(
            error.code,
            ErrorCode::ServerConnectionLost
                | ErrorCode::GitUnavailable
                | ErrorCode::RegistryUnavailable
                | ErrorCode::PullFailed
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
        if let Some(session) = self.former.take().and_then(|mut former| former.session.take()) {
            session.close().await;
        }
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }

    pub(crate) fn drop_session(&mut self) {
        self.round_trips = self.round_trips();
        self.session = None;
    }

    /// Waits for `work`, which runs nothing on the server, unless the attempt is cancelled first.
    pub(crate) async fn unless_cancelled<T>(
        &self,
        work: impl Future<Output = Result<T, StageError>>,
    ) -> Result<T, StageError> {
        let cancelled = || Err(StageError::new(ErrorCode::DeadlineExceeded, "the attempt was cancelled"));
        self.cancel.run_until_cancelled(work).await.unwrap_or_else(cancelled)
    }
}
