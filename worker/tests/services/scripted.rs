//! A pipeline whose stages do what the test says.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use slipway_deploy::{CompletedStages, DeploymentWork, Reporter, RestoreOutcome, StageError, StageReport};
use slipway_protocol::{Change, Stage};
use slipway_worker::run::{Pipeline, PipelineAttempt};
use tokio_util::sync::CancellationToken;

type Future<'a, T> = std::pin::Pin<Box<dyn std::future::Future<Output = T> + Send + 'a>>;

/// A stage being run.
pub struct StageCall {
    pub stage: Stage,
    /// Which attempt, from 1, counted over all deployments.
    pub attempt: u32,
    pub work: DeploymentWork,
    pub reporter: Arc<dyn Reporter>,
    pub cancel: CancellationToken,
}

type Settling = dyn Fn(CancellationToken) -> Future<'static, RestoreOutcome> + Send + Sync;
type Script = dyn Fn(StageCall) -> Future<'static, Result<StageReport, StageError>> + Send + Sync;

/// An attempt and the stages that it was offered.
pub type Offer = (u32, Vec<Stage>);

/// A pipeline whose stages do what the test says.
#[derive(Clone)]
pub struct ScriptedStages {
    script: Arc<Script>,
    attempts: Arc<AtomicU32>,
    /// Stages that were run, with their attempt.
    pub calls: Arc<Mutex<Vec<(u32, Stage)>>>,
    /// Attempts that put back, and whether they were to keep what runs.
    pub settled: Arc<Mutex<Vec<(u32, bool)>>>,
    /// What comes of that.
    settling: Arc<Settling>,
    /// What was offered to be resumed, with its attempt.
    pub offered: Arc<Mutex<Vec<Offer>>>,
    /// Stages that are proven when they're offered.
    proves: &'static [Stage],
    /// Whether an offer is ever answered.
    resumes: bool,
}

impl ScriptedStages {
    pub fn new<F>(script: impl Fn(StageCall) -> F + Send + Sync + 'static) -> Self
    where
        F: std::future::Future<Output = Result<StageReport, StageError>> + Send + 'static,
    {
        Self {
            script: Arc::new(move |call| Box::pin(script(call))),
            attempts: Arc::default(),
            calls: Arc::default(),
            settled: Arc::default(),
            settling: Arc::new(|_| Box::pin(std::future::ready(RestoreOutcome::Nothing))),
            offered: Arc::default(),
            proves: &[],
            resumes: true,
        }
    }

    /// The same, and this is what comes of putting back.
    pub fn settling(self, settling: RestoreOutcome) -> Self {
        self.settling_with(move |_| std::future::ready(settling.clone()))
    }

    /// The same, and this is how it puts back.
    pub fn settling_with<F>(self, restore_previous: impl Fn(CancellationToken) -> F + Send + Sync + 'static) -> Self
    where
        F: std::future::Future<Output = RestoreOutcome> + Send + 'static,
    {
        Self { settling: Arc::new(move |cancel| Box::pin(restore_previous(cancel))), ..self }
    }

    /// The same, and whoever asks what is proven gets no answer.
    pub fn never_resuming(self) -> Self {
        Self { resumes: false, ..self }
    }

    /// The same, with these stages proven when they're offered.
    pub fn proving(self, proves: &'static [Stage]) -> Self {
        Self { proves, ..self }
    }

    pub fn attempts(&self) -> u32 {
        self.attempts.load(Ordering::SeqCst)
    }
}

struct ScriptedAttempt {
    pipeline: ScriptedStages,
    number: u32,
    work: DeploymentWork,
    reporter: Arc<dyn Reporter>,
    cancel: CancellationToken,
}

impl Pipeline for ScriptedStages {
    fn begin(
        &self,
        work: DeploymentWork,
        reporter: Arc<dyn Reporter>,
        cancel: CancellationToken,
    ) -> Box<dyn PipelineAttempt> {
        let number = self.attempts.fetch_add(1, Ordering::SeqCst) + 1;
        Box::new(ScriptedAttempt { pipeline: self.clone(), number, work, reporter, cancel })
    }
}

impl PipelineAttempt for ScriptedAttempt {
    fn run(&mut self, stage: Stage) -> Future<'_, Result<StageReport, StageError>> {
        self.pipeline.calls.lock().unwrap().push((self.number, stage));
        (self.pipeline.script)(StageCall {
            stage,
            attempt: self.number,
            work: self.work.clone(),
            reporter: self.reporter.clone(),
            cancel: self.cancel.clone(),
        })
    }

    fn resume<'a>(
        &'a mut self,
        done: &'a CompletedStages,
    ) -> Future<'a, Result<BTreeMap<Stage, StageReport>, StageError>> {
        self.pipeline.offered.lock().unwrap().push((self.number, done.keys().copied().collect()));
        if !self.pipeline.resumes {
            return Box::pin(std::future::pending());
        }
        let proven = done.iter().filter(|(stage, _)| self.pipeline.proves.contains(stage)).map(|(stage, facts)| {
            let again = StageReport { facts: facts.clone(), ..report(Change::Unchanged) };
            (*stage, again.fact("resumed", true))
        });
        Box::pin(std::future::ready(Ok(proven.collect())))
    }

    fn restore_previous(&mut self, keep: bool, cancel: CancellationToken) -> Future<'_, RestoreOutcome> {
        self.pipeline.settled.lock().unwrap().push((self.number, keep));
        (self.pipeline.settling)(cancel)
    }

    fn round_trips(&self) -> u32 {
        7
    }

    fn close(self: Box<Self>) -> Future<'static, ()> {
        Box::pin(async {})
    }
}

/// What a stage reports that had something to do.
pub fn report(change: Change) -> StageReport {
    StageReport::of(change == Change::Changed)
}
