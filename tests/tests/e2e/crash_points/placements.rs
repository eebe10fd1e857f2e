//! Lives whose server is chosen: one is there, one gets room while the request waits, or none does in time; and one that
//! goes on to another server.

use slipway_protocol::DeploymentId;

use crate::crash_points::scenario::{OLD, Scenario, ScenarioStep, event, read, scenario};

/// A server of the inventory that was just asked for what it has, and has no memory.
const FULL: &str =
    "INSERT INTO servers (handle, address, host_key) VALUES ('vps-1', '203.0.113.7', 'ssh-ed25519 AAAA');
    UPDATE server_facts SET seen_at = now(), ram_mb = 8192, free_ram_mb = 0, disk_mb = 100000, free_disk_mb = 50000,
        free_inodes = 1000000, cpus = 4, load = 0.5, ports = '{22}'";
/// It has some.
const ROOM: &str = "UPDATE server_facts SET seen_at = now(), free_ram_mb = 4096";

fn publish() -> ScenarioStep {
    let mut event = event(OLD);
    if let Some(data) = event["data"].as_object_mut() {
        data.remove("server");
    }
    for allocation in event["data"]["allocations"].as_array_mut().into_iter().flatten() {
        allocation.as_object_mut().and_then(|allocation| allocation.remove("host_port"));
    }
    ScenarioStep::Publish(event.to_string().into_bytes())
}

/// A move is accepted, claimed and ended otherwise than what stays on its server.
const OF_MOVES: &[&str] = &[
    "commit-accept:before",
    "commit-accept:after",
    "commit-claim:before",
    "commit-claim:after",
    "commit-finish:before",
    "commit-finish:after",
];

/// The move to that server, and the undeployment that follows from it.
fn moved() -> [ScenarioStep; 2] {
    let mut event = read(include_bytes!("../../../../protocol/samples/project-move.v1.json"));
    event["data"]["to"] = "vps-1".into();
    if let Some(data) = event["data"].as_object_mut() {
        data.remove("sequence");
    }
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    let source = format!("/slipway/moves/{}", DeploymentId::of(text("source"), text("id"), None));
    let follows = serde_json::json!({ "source": source, "id": "undeploy" });
    let publish = ScenarioStep::Publish(event.to_string().into_bytes());
    [publish, ScenarioStep::Joined(follows.to_string().into_bytes())]
}

/// The event that names the server where the project is at first.
fn settled() -> ScenarioStep {
    ScenarioStep::Publish(event(OLD).to_string().into_bytes())
}

pub fn all() -> Vec<Scenario> {
    vec![
        Scenario {
            before: vec![ScenarioStep::Sql(FULL), ScenarioStep::Sql(ROOM)],
            ..scenario("placed", vec![], vec![publish()])
        },
        Scenario {
            before: vec![ScenarioStep::Sql(FULL)],
            ..scenario(
                "waits for room",
                vec![],
                vec![publish(), ScenarioStep::Becomes(OLD, "placement IS NOT NULL"), ScenarioStep::Sql(ROOM)],
            )
        },
        Scenario {
            environment: &[("SLIPWAY_PLACEMENT_WAIT", "1s")],
            ..scenario("no room in time", vec![], vec![publish()])
        },
        Scenario {
            own: OF_MOVES,
            before: vec![ScenarioStep::Sql(FULL), ScenarioStep::Sql(ROOM)],
            ..scenario(
                "moved",
                vec![],
                [settled(), ScenarioStep::Becomes(OLD, "finished_at IS NOT NULL")].into_iter().chain(moved()).collect(),
            )
            .of(3)
        },
    ]
}
