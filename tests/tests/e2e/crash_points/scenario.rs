//! The lives that a deployment can lead, as steps of somebody outside. Together they pass every boundary of the engine:
//! that is checked against the list of the code, so a new kind of write calls for a new scenario here.

use serde_json::{Value, json};
use slipway_protocol::{DeploymentId, ErrorCode, Stage};
use slipway_tests::script::{Rule, StageAct};

/// A life.
pub struct Scenario {
    pub name: &'static str,
    /// What the stages do.
    pub rules: Vec<Rule>,
    /// More environment for every worker.
    pub environment: &'static [(&'static str, &'static str)],
    /// Boundaries that are of another kind here than elsewhere: a transaction of the same name that writes other
    /// things.
    pub own: &'static [&'static str],
    /// What happens before the first worker starts.
    pub before: Vec<ScenarioStep>,
    pub steps: Vec<ScenarioStep>,
    /// How many deployments there are in the end, and dead letters without one.
    pub deployments: i64,
    pub strays: i64,
}

/// A step of somebody outside.
pub enum ScenarioStep {
    /// Publishes a message.
    Publish(Vec<u8>),
    /// Publishes a message that expires at once, and waits until the broker has given it up.
    Expire(Vec<u8>),
    /// Publishes a message that asks for no deployment of its own.
    Wish(Vec<u8>),
    /// What messages before this one ask for together.
    Joined(Vec<u8>),
    /// Lets a worker die at this boundary.
    Orphan(&'static str),
    /// Waits until this stage has begun for a commit, or its deployment has ended.
    Begun(&'static str, Stage),
    /// Waits until a condition holds for the deployment of this commit, or it has ended.
    Becomes(&'static str, &'static str),
    /// Opens the gate that stages are held at. A cancelled one ends without it.
    Open,
    /// Asks the worker to stop; another one follows.
    Drain,
    /// What becomes known of servers.
    Sql(&'static str),
    /// Runs the command line.
    Cli(Vec<String>),
}

pub const OLD: &str = "1111111111111111111111111111111111111111";
pub const NEW: &str = "2222222222222222222222222222222222222222";
const SOURCE: &str = "/orchestrator";

/// A sample that was sent just now, so that nobody finds it too old.
pub fn read(sample: &[u8]) -> Value {
    let mut event: Value = serde_json::from_slice(sample).unwrap_or_default();
    event["time"] = jiff::Timestamp::now().to_string().into();
    event
}

/// The event that asks for a commit of the one project; the sequence follows the commit.
pub fn event(commit: &str) -> Value {
    let mut event = read(include_bytes!("../../../../protocol/samples/project-ready.v1.json"));
    event["source"] = SOURCE.into();
    event["id"] = commit.into();
    event["data"]["repository"]["commit"] = commit.into();
    event["data"]["sequence"] = if commit == OLD { 1.into() } else { 2.into() };
    if let Some(data) = event["data"].as_object_mut() {
        data.remove("secrets");
    }
    event
}

fn publish(commit: &str) -> ScenarioStep {
    ScenarioStep::Publish(event(commit).to_string().into_bytes())
}

fn publish_stop() -> ScenarioStep {
    ScenarioStep::Publish(
        read(include_bytes!("../../../../protocol/samples/project-stop.v1.json")).to_string().into_bytes(),
    )
}

fn wish_to_cancel(commit: &str) -> ScenarioStep {
    let mut event = read(include_bytes!("../../../../protocol/samples/deployment-cancel.v1.json"));
    event["data"]["deployment_id"] = deployment(commit).into();
    ScenarioStep::Wish(event.to_string().into_bytes())
}

pub fn deployment(commit: &str) -> String {
    DeploymentId::of(SOURCE, commit, None).to_string()
}

fn cli(words: &[&str]) -> ScenarioStep {
    ScenarioStep::Cli(words.iter().map(|word| (*word).to_owned()).collect())
}

pub fn scenario(name: &'static str, rules: Vec<Rule>, steps: Vec<ScenarioStep>) -> Scenario {
    let deployments = steps.iter().filter(|step| matches!(step, ScenarioStep::Publish(_))).count();
    let deployments = i64::try_from(deployments).unwrap_or(i64::MAX);
    Scenario { name, rules, environment: &[], own: &[], before: vec![], steps, deployments, strays: 0 }
}

/// A rule for the older commit's first stage.
pub fn old(act: StageAct) -> Rule {
    Rule::at(Stage::Preflight, act).for_commit(OLD)
}

pub fn hold() -> StageAct {
    StageAct::Hold("go".to_owned())
}

/// The delay is drawn evenly from zero on: of a day's, next to none ends while a play lasts.
const SLOW_RETRY: &[(&str, &str)] =
    &[("SLIPWAY_RETRY_INITIAL", "24h"), ("SLIPWAY_RETRY_MAX", "24h"), ("SLIPWAY_DEPLOYMENT_TIMEOUT", "48h")];

/// All but those of `halves` and `placements`; the first one is the life that most deployments lead.
pub fn all() -> Vec<Scenario> {
    let begun = || ScenarioStep::Begun(OLD, Stage::Preflight);
    let unreachable = || StageAct::Fail(ErrorCode::ServerUnreachable);
    let mut refused = event(OLD);
    refused["data"]["project"]["slug"] = json!("../etc");
    vec![
        scenario("success", vec![Rule::at(Stage::Compose, StageAct::Say(3))], vec![publish(OLD)]),
        scenario("retry", vec![old(unreachable()).until(1)], vec![publish(OLD)]),
        scenario("permanent failure", vec![old(StageAct::Fail(ErrorCode::CrashLoop))], vec![publish(OLD)]),
        scenario("refused", vec![], vec![ScenarioStep::Publish(refused.to_string().into_bytes())]),
        Scenario {
            deployments: 0,
            strays: 1,
            ..scenario("unreadable", vec![], vec![ScenarioStep::Publish(b"not json".to_vec())])
        },
        scenario("duplicate", vec![], vec![publish(OLD), ScenarioStep::Becomes(OLD, "true"), publish(OLD)]).of(1),
        scenario(
            "superseded while it runs",
            vec![old(hold())],
            vec![
                publish(OLD),
                begun(),
                publish(NEW),
                ScenarioStep::Becomes(OLD, "superseded_by IS NOT NULL"),
                ScenarioStep::Open,
            ],
        ),
        Scenario {
            environment: SLOW_RETRY,
            ..scenario(
                "superseded while it waits",
                vec![old(unreachable())],
                vec![publish(OLD), ScenarioStep::Becomes(OLD, "state = 'pending' AND attempt = 1"), publish(NEW)],
            )
        },
        scenario(
            "superseded at a retry",
            vec![old(hold()), old(unreachable())],
            vec![
                publish(OLD),
                begun(),
                publish(NEW),
                ScenarioStep::Becomes(OLD, "superseded_by IS NOT NULL"),
                ScenarioStep::Open,
            ],
        ),
        scenario("stale", vec![], vec![publish(NEW), ScenarioStep::Becomes(NEW, "true"), publish(OLD)]),
        scenario(
            "cancelled while it runs",
            vec![old(hold())],
            vec![publish(OLD), begun(), cli(&["deployments", "cancel", &deployment(OLD)])],
        ),
        Scenario {
            environment: SLOW_RETRY,
            ..scenario(
                "cancelled while it waits",
                vec![old(unreachable())],
                vec![
                    publish(OLD),
                    ScenarioStep::Becomes(OLD, "state = 'pending' AND attempt = 1"),
                    cli(&["deployments", "cancel", &deployment(OLD)]),
                ],
            )
        },
        Scenario {
            environment: &[("SLIPWAY_DRAIN_TIMEOUT", "0s")],
            ..scenario(
                "drained",
                vec![old(hold())],
                vec![publish(OLD), begun(), ScenarioStep::Drain, ScenarioStep::Open],
            )
        },
        Scenario {
            before: vec![publish(OLD), ScenarioStep::Orphan("stage:before#2")],
            ..scenario("orphaned", vec![], vec![]).of(1)
        },
        scenario(
            "replayed",
            vec![old(StageAct::Fail(ErrorCode::CrashLoop))],
            vec![
                publish(OLD),
                ScenarioStep::Becomes(OLD, "finished_at IS NOT NULL"),
                cli(&["dead-letters", "replay", &deployment(OLD)]),
            ],
        )
        .of(2),
        scenario(
            "archived",
            vec![old(StageAct::Fail(ErrorCode::CrashLoop))],
            vec![
                publish(OLD),
                ScenarioStep::Becomes(OLD, "finished_at IS NOT NULL"),
                cli(&["dead-letters", "archive", &deployment(OLD), "--why", "known"]),
            ],
        ),
        // Its server's circuit opens with the third failure; whoever reaps next finds that it has lasted long enough.
        Scenario {
            environment: &[("SLIPWAY_SERVER_PATIENCE", "1s"), ("SLIPWAY_LEASE", "4s")],
            ..scenario("given up", vec![old(unreachable())], vec![publish(OLD)])
        },
        Scenario {
            before: vec![ScenarioStep::Expire(event(OLD).to_string().into_bytes())],
            ..scenario("expired in the queue", vec![], vec![]).of(1)
        },
        Scenario {
            own: &["commit-accept:before", "commit-accept:after"],
            ..scenario(
                "stopped",
                vec![],
                vec![publish(OLD), ScenarioStep::Becomes(OLD, "finished_at IS NOT NULL"), publish_stop()],
            )
        },
        scenario(
            "cancelled by an event",
            vec![old(hold())],
            vec![
                publish(OLD),
                begun(),
                wish_to_cancel(OLD),
                ScenarioStep::Becomes(OLD, "cancel_requested_at IS NOT NULL"),
            ],
        ),
    ]
}

impl Scenario {
    pub fn of(self, deployments: i64) -> Self {
        Self { deployments, ..self }
    }
}
