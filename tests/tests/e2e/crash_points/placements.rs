//! Lives that begin without a server: one is there, one gets room while the request waits, or none does in time.

use crate::crash_points::scenario::{OLD, Scenario, ScenarioStep, event, scenario};

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
    ]
}
