//! The table of lives: which project, and what happens to it after its first deployment.

use slipway_tests::world::Module::{self, Backend, Frontend, NotificationsWorker, TgBot};
use slipway_tests::world::{Generation, Variant};

const BACKEND: &[Module] = &[Backend];
const WITH_BOT: &[Module] = &[Backend, TgBot];
const ALL: &[Module] = &[Backend, TgBot, NotificationsWorker, Frontend];

/// What happens to a project after its first deployment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Step {
    /// The same request again.
    Same,
    /// The same commit with another value of a variable.
    Environment,
    /// The next commit.
    Commit,
    /// A commit that can't be deployed.
    Fails(Why),
}

/// What is wrong with a commit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Why {
    /// Its image isn't in the registry.
    NoImage,
    /// Its image can't be started.
    BadImage,
    CrashLoop,
    /// Its health check fails, or what people see where it has none.
    Unhealthy,
    FailingMigration,
    /// It requires a variable that nobody gives.
    MissingVariable,
}

impl Why {
    const ALL: [Self; 6] = [
        Self::NoImage,
        Self::BadImage,
        Self::CrashLoop,
        Self::Unhealthy,
        Self::FailingMigration,
        Self::MissingVariable,
    ];

    pub(super) fn variant(self) -> Variant {
        match self {
            Self::NoImage | Self::MissingVariable => Variant::Healthy,
            Self::BadImage => Variant::NoProgram,
            Self::CrashLoop => Variant::CrashLoop,
            Self::Unhealthy => Variant::Unhealthy,
            Self::FailingMigration => Variant::FailingMigration,
        }
    }

    pub(super) fn code(self, generation: Generation) -> &'static str {
        match self {
            Self::NoImage => "image-not-found",
            Self::BadImage => "start-failed",
            Self::CrashLoop | Self::FailingMigration => "crash-loop",
            // Generation 1 has no health check: its page is asked for.
            Self::Unhealthy if generation == Generation::One => "not-healthy",
            Self::Unhealthy => "unhealthy",
            Self::MissingVariable => "missing-secret",
        }
    }

    /// Whether it's found out before anything that runs is touched.
    pub(super) fn is_early(self) -> bool {
        matches!(self, Self::NoImage | Self::MissingVariable)
    }
}

/// One project and what happens to it.
pub(super) struct Row {
    pub(super) generation: Generation,
    pub(super) modules: &'static [Module],
    pub(super) steps: Vec<Step>,
}

/// Each generation with each set of modules, each step, and each way to fail that isn't told elsewhere; the full
/// product below has every step for every kind.
pub(super) fn covering() -> Vec<Row> {
    use Generation::{One, Two};
    use Step::{Commit, Environment, Fails, Same};
    let row = |generation, modules, steps: &[Step]| Row { generation, modules, steps: steps.to_vec() };
    vec![
        // Without a Redis.
        row(One, BACKEND, &[Same]),
        row(One, WITH_BOT, &[Fails(Why::Unhealthy), Fails(Why::FailingMigration)]),
        row(One, ALL, &[Environment, Fails(Why::MissingVariable)]),
        row(Two, BACKEND, &[Fails(Why::Unhealthy), Fails(Why::BadImage)]),
        row(Two, ALL, &[Fails(Why::NoImage), Commit, Same]),
    ]
}

/// Every kind with every step.
pub(super) fn product() -> Vec<Row> {
    let mut rows = Vec::new();
    for generation in Generation::ALL {
        for modules in [BACKEND, WITH_BOT, ALL] {
            let mut steps = vec![Step::Same, Step::Environment, Step::Same, Step::Commit];
            steps.extend(Why::ALL.map(Step::Fails));
            steps.push(Step::Commit);
            rows.push(Row { generation, modules, steps });
        }
    }
    rows
}
