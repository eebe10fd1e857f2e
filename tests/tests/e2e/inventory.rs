//! The inventory as operators use it: keys that lie encrypted in it, host keys that are learned, a server that is
//! checked.

use serde_json::Value;
use slipway_tests::stack::Stack;
use slipway_tests::world::{Generation, Sample, Variant};

/// What the command line prints as JSON.
fn json(stack: &Stack, arguments: &[&str]) -> Value {
    serde_json::from_str(&stack.slipway(arguments).unwrap()).unwrap()
}

/// A deployment of a new sample on target 0; gives its result event's data.
fn deploy(stack: &Stack, sample: &Sample, slug: &str) -> Value {
    let commit = stack.publish(sample, Variant::Healthy).unwrap();
    let request = stack.world.folder().join("request.json");
    std::fs::write(&request, stack.ready(sample, &commit, slug, 0, 8080).unwrap().to_string()).unwrap();
    let file = request.display().to_string();
    let output = stack.program("slipway").unwrap().args(["submit", "--watch", "--json", &file]).output().unwrap();
    let lines = String::from_utf8(output.stdout).unwrap();
    let last = lines.lines().last().unwrap_or_else(|| panic!("{}", String::from_utf8_lossy(&output.stderr)));
    let event: Value = serde_json::from_str(last).unwrap();
    assert_eq!(event["type"], "slipway.deployment.result.v1", "{event:#}");
    event["data"].clone()
}

#[test]
fn a_server_with_an_inventory_key_and_a_host_key_trusted_on_sight_is_deployed_to() {
    let mut stack = Stack::start(1).unwrap();
    // The worker has no key of its own: only the encrypted one can log in.
    stack.worker(&[("SLIPWAY_SSH_KEY_FILE", "")]).unwrap();
    let target = stack.world.target(0);
    let (ip, shown) = (target.ip().to_string(), target.host_key().to_owned());
    let key = stack.world.ssh_key().display().to_string();
    stack
        .slipway(&["servers", "add", "target-0", "--address", &ip, "--trust-on-first-use", "--key-file", &key])
        .unwrap();

    // After an outage whoever has mended it needn't wait for the circuit.
    let outage = "INSERT INTO server_circuits VALUES ('target-0', 5, now(), now() + interval '1 h')";
    let url = stack.world.database_url();
    let mut psql = stack.world.command("/usr/lib/postgresql/15/bin/psql");
    assert!(psql.args(["-qc", outage, url]).status().unwrap().success());
    assert_eq!(json(&stack, &["servers", "list", "--json"])[0]["circuit"]["state"], "open");
    let check = stack.slipway(&["servers", "check", "target-0"]).unwrap();
    assert_eq!(json(&stack, &["servers", "list", "--json"])[0]["circuit"], Value::Null);
    // By the very stage that deployments begin with.
    for finding in ["docker", "compose", "ufw", "user", "disk_free_kb", "stopped_containers_with_the_ports"] {
        assert!(check.contains(finding), "no {finding} in\n{check}");
    }

    let sample = Sample::new(Generation::Two, "acme", "shop");
    let result = deploy(&stack, &sample, "shop");
    assert_eq!(result["outcome"], "succeeded", "{result:#}");

    let servers = json(&stack, &["servers", "list", "--json"]);
    assert!(servers.to_string().contains(&shown), "the host key isn't recorded: {servers:#}");
    assert!(!servers.to_string().contains("PRIVATE KEY"), "{servers:#}");

    // From now on the key is pinned: another one is refused, and the deployment isn't tried again.
    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f";
    stack.slipway(&["servers", "add", "target-0", "--host-key", other]).unwrap();
    let result = deploy(&stack, &Sample::new(Generation::Two, "acme", "bakery"), "bakery");
    assert_eq!(result["failure"]["code"], "host-key-mismatch", "{result:#}");
    assert_eq!(result["attempts"], 1, "{result:#}");
}
