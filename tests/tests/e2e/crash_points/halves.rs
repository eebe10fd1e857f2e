//! Lives that begin in two halves: in either order, twice, replaced while they wait or run, too late, and refused together.

use serde_json::{Value, json};
use slipway_protocol::{CloudEvent, EngineeringDone, ResourcesAllocated, Stage, join};

use crate::crash_points::scenario::{NEW, OLD, Scenario, ScenarioStep, hold, old, read, scenario};

/// A half is another one here than elsewhere, whatever it's kept for or comes to.
const OWN: &[&str] = &[
    "commit-half:before",
    "commit-half:after",
    "commit-accept:before",
    "commit-accept:after",
    "commit-refuse:before",
    "commit-refuse:after",
];

/// A sample that was sent just now, by a clock that has no more places than the database's: what both halves make is told
/// with the time of one of them.
fn now(sample: &[u8]) -> Value {
    let mut event = read(sample);
    event["time"] =
        jiff::Timestamp::from_second(jiff::Timestamp::now().as_second()).unwrap_or_default().to_string().into();
    event
}

/// The half that tells this commit; the number follows the commit.
fn code(commit: &str) -> Value {
    let mut event = now(include_bytes!("../../../../protocol/samples/engineering-done.v1.json"));
    event["source"] = "/engineering".into();
    event["id"] = commit.into();
    event["data"]["repository"]["commit"] = commit.into();
    event["data"]["sequence"] = if commit == OLD { 1.into() } else { 2.into() };
    if let Some(data) = event["data"].as_object_mut() {
        data.remove("secrets");
        data.remove("registry");
    }
    event
}

/// The half that tells where.
fn place() -> Value {
    let mut event = now(include_bytes!("../../../../protocol/samples/resources-allocated.v1.json"));
    event["source"] = "/zavhoz".into();
    event["data"]["sequence"] = 1.into();
    event["data"]["allocations"] = json!([{ "service": "backend", "host_port": 8080, "container_port": 8000 }]);
    event
}

/// A domain for what neither half alone shows to be none that is served.
fn place_with_a_bots_domain() -> Value {
    let mut event = place();
    let bot = json!({ "service": "tg_bot", "host_port": 8081, "container_port": 8000, "domains": ["bot.example.org"] });
    if let Some(allocations) = event["data"]["allocations"].as_array_mut() {
        allocations.push(bot);
    }
    event
}

fn bytes(event: &Value) -> Vec<u8> {
    event.to_string().into_bytes()
}

/// A half that comes to something only with the other one.
fn half(event: &Value) -> ScenarioStep {
    ScenarioStep::Wish(bytes(event))
}

/// A half that ends by itself.
fn lonely(event: &Value) -> ScenarioStep {
    ScenarioStep::Publish(bytes(event))
}

fn joined(code: &Value, place: &Value) -> ScenarioStep {
    let read = || -> serde_json::Result<Vec<u8>> {
        let code: CloudEvent<EngineeringDone> = serde_json::from_value(code.clone())?;
        let place: CloudEvent<ResourcesAllocated> = serde_json::from_value(place.clone())?;
        serde_json::to_vec(&join(&code, &place))
    };
    ScenarioStep::Joined(read().unwrap_or_default())
}

/// All of them.
pub fn all() -> Vec<Scenario> {
    let (old_code, new_code, place, bad) = (code(OLD), code(NEW), place(), place_with_a_bots_domain());
    let halves = |name, rules, steps| Scenario { own: OWN, ..scenario(name, rules, steps) };
    let begun = || ScenarioStep::Begun(OLD, Stage::Preflight);
    vec![
        halves("halves, the code first", vec![], vec![joined(&old_code, &place), half(&old_code), half(&place)]).of(1),
        halves(
            "halves, the place first, and everything twice",
            vec![],
            vec![joined(&old_code, &place), half(&place), half(&place), half(&old_code), half(&old_code), half(&place)],
        )
        .of(1),
        halves(
            "halves, a newer one while they run",
            vec![old(hold())],
            vec![
                joined(&old_code, &place),
                joined(&new_code, &place),
                half(&place),
                half(&old_code),
                begun(),
                half(&new_code),
                half(&old_code),
                ScenarioStep::Becomes(OLD, "superseded_by IS NOT NULL"),
                ScenarioStep::Open,
            ],
        )
        .of(2),
        halves(
            "halves, one replaced while it waits",
            vec![],
            vec![joined(&new_code, &place), lonely(&old_code), half(&new_code), half(&place)],
        )
        .of(2),
        halves(
            "halves, one that is stale",
            vec![],
            vec![joined(&new_code, &place), half(&new_code), lonely(&old_code), half(&place)],
        )
        .of(2),
        Scenario {
            environment: &[("SLIPWAY_HALF_TIMEOUT", "1s")],
            ..halves(
                "halves, the other one too late",
                vec![],
                vec![
                    joined(&old_code, &place),
                    lonely(&old_code),
                    ScenarioStep::Becomes(OLD, "state = 'failed'"),
                    half(&place),
                ],
            )
            .of(2)
        },
        halves("halves, refused together", vec![], vec![joined(&old_code, &bad), half(&bad), half(&old_code)]).of(1),
    ]
}
