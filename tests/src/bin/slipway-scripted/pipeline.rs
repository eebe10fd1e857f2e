//! The pipeline: each stage enters its project on the model, does what the rules say, and leaves its mark.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use slipway_deploy::{DeploymentWork, Reporter, StageError, StageReport};
use slipway_protocol::{ErrorCode, Stage};
use slipway_tests::model::{Barred, EffectKind, HeldProject, Model, StagePlace};
use slipway_tests::script::{Rule, StageAct};
use slipway_worker::run::{Pipeline, PipelineAttempt};
use tokio_util::sync::CancellationToken;

type Future<'a, T> = Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;

/// Attempts by a script.
#[derive(Clone)]
pub struct ScriptedPipeline {
    model: Model,
    rules: Arc<Vec<Rule>>,
}

impl ScriptedPipeline {
    /// By `rules`, on `model`.
    pub fn new(model: Model, rules: Vec<Rule>) -> Self {
        Self { model, rules: Arc::new(rules) }
    }
}

impl Pipeline for ScriptedPipeline {
    fn begin(
        &self,
        work: DeploymentWork,
        reporter: Arc<dyn Reporter>,
        cancel: CancellationToken,
    ) -> Box<dyn PipelineAttempt> {
        Box::new(Scene { scripted: self.clone(), work, reporter, cancel })
    }
}

struct Scene {
    scripted: ScriptedPipeline,
    work: DeploymentWork,
    reporter: Arc<dyn Reporter>,
    cancel: CancellationToken,
}

impl PipelineAttempt for Scene {
    fn run(&mut self, stage: Stage) -> Future<'_, Result<StageReport, StageError>> {
        Box::pin(async move {
            let cancel = self.cancel.clone();
            let entered = tokio::select! {
                entered = self.scripted.model.enter(self.place(stage)) => entered,
                () = cancel.cancelled() => return Err(cut()),
            };
            let held = entered.map_err(|barred| match barred {
                Barred::Fence { .. } => StageError::new(ErrorCode::InternalError, barred.to_string()),
                Barred::Busy => StageError::new(ErrorCode::ServerConnectionLost, barred.to_string()),
                Barred::Broken(error) => broken(&error),
            })?;
            tokio::select! {
                outcome = self.act(&held, stage) => {
                    let what = if outcome.is_ok() { EffectKind::Done } else { EffectKind::Failed };
                    held.end(what).map_err(|e| broken(&e))?;
                    outcome
                }
                () = cancel.cancelled() => {
                    held.end(EffectKind::Cut).map_err(|e| broken(&e))?;
                    Err(cut())
                }
            }
        })
    }

    fn round_trips(&self) -> u32 {
        0
    }

    fn close(self: Box<Self>) -> Future<'static, ()> {
        Box::pin(async {})
    }
}

impl Scene {
    fn place(&self, stage: Stage) -> StagePlace {
        StagePlace {
            server: self.work.target.handle.to_string(),
            slug: self.work.request.project.slug.to_string(),
            deployment: self.work.deployment,
            stage,
            fence: i64::try_from(self.work.lease.fence()).unwrap_or(i64::MAX),
        }
    }

    /// The stage's work; the project is ours while it runs.
    async fn act(&self, held: &HeldProject, stage: Stage) -> Result<StageReport, StageError> {
        let request = &self.work.request;
        let (slug, commit) = (request.project.slug.as_str(), request.repository.commit.as_str());
        let effects = self.scripted.model.effects().map_err(|e| broken(&e))?;
        let own = |e: &&slipway_tests::model::Effect| {
            e.what == EffectKind::Failed && e.deployment == Some(self.work.deployment) && e.stage == Some(stage)
        };
        let failed = u32::try_from(effects.iter().filter(own).count()).unwrap_or(u32::MAX);
        let rules = self.scripted.rules.iter().filter(|rule| rule.matches(slug, commit, stage, failed));
        for rule in rules {
            match &rule.act {
                StageAct::Nothing => {}
                StageAct::Fail(code) => return Err(StageError::new(*code, "the script says so")),
                StageAct::Delay(ms) => tokio::time::sleep(Duration::from_millis(*ms)).await,
                StageAct::Hold(gate) => self.scripted.model.pass(gate).await,
                StageAct::Say(lines) => (1..=*lines).for_each(|n| self.reporter.line(stage, &format!("line {n}"))),
            }
        }
        let changed = held.converge(commit).map_err(|e| broken(&e))?;
        let url = (stage == Stage::Verify).then(|| format!("model://{}/{slug}", self.work.target.handle));
        Ok(StageReport { url, ..StageReport::of(changed) })
    }
}

fn cut() -> StageError {
    StageError::new(ErrorCode::ServerConnectionLost, "cancelled")
}

/// The script's own trouble passes like a lost connection.
fn broken(error: &anyhow::Error) -> StageError {
    StageError::new(ErrorCode::ServerConnectionLost, format!("the scripted worker: {error:#}"))
}
