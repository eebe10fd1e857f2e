//! `slipway plan` against a real server: what it says comes true, and it changes nothing.

use serde_json::{Value, json};
use slipway_tests::stack::Stack;
use slipway_tests::world::{Generation, Module, Sample, Variant};

const SLUG: &str = "corner-shop";

/// All of the server that a deployment may touch: files with their contents and times, containers, images, volumes,
/// rules, keys, and what lies in memory.
fn state(stack: &Stack) -> String {
    let look = "find /opt /dev/shm -mindepth 1 -printf '%p %m %T@ %s\\n' | sort; find /opt -type f -exec sha256sum {} + | sort; \
                docker ps -a --no-trunc --format '{{.ID}} {{.State}}' | sort; docker volume ls -q; \
                docker images --no-trunc --format '{{.Repository}}:{{.Tag}} {{.ID}}' | sort; \
                ufw show added; cat /root/.ssh/authorized_keys; mount | wc -l";
    stack.world.target(0).sh(look).unwrap()
}

/// Fails with the lines that differ.
fn unchanged(stack: &Stack, before: &str) {
    let after = state(stack);
    let only = |of: &str, other: &str| -> Vec<String> {
        of.lines().filter(|line| !other.lines().any(|o| o == *line)).map(str::to_owned).collect()
    };
    assert!(after == before, "before: {:#?}\nafter: {:#?}", only(before, &after), only(&after, before));
}

fn written(stack: &Stack, data: &Value) -> String {
    let file = stack.world.folder().join("request.json");
    std::fs::write(&file, data.to_string()).unwrap();
    file.display().to_string()
}

fn plan(stack: &Stack, data: &Value) -> Value {
    serde_json::from_str(&stack.slipway(&["plan", "--json", &written(stack, data)]).unwrap()).unwrap()
}

fn actions(plan: &Value) -> Vec<(String, String)> {
    let services = plan["services"].as_array().unwrap().iter();
    services.map(|s| (s["service"].as_str().unwrap().to_owned(), s["action"].as_str().unwrap().to_owned())).collect()
}

/// How services would be replaced that would be.
fn replacements(plan: &Value) -> Value {
    let services = plan["services"].as_array().unwrap().iter().filter(|service| !service["replacement"].is_null());
    services.map(|s| (s["service"].as_str().unwrap().to_owned(), s["replacement"].clone())).collect()
}

/// Service and id of every container of the project.
fn containers(stack: &Stack) -> Vec<(String, String)> {
    let look = format!(
        "docker ps -a --no-trunc --filter label=com.docker.compose.project={SLUG} \
         --format '{{{{.Label \"com.docker.compose.service\"}}}} {{{{.ID}}}}' | sort"
    );
    let text = stack.world.target(0).sh(&look).unwrap();
    text.lines().filter_map(|l| l.split_once(' ')).map(|(s, id)| (s.to_owned(), id.to_owned())).collect()
}

#[test]
fn a_plan_comes_true_and_changes_nothing() {
    let mut stack = Stack::start(1).unwrap();
    stack.worker(&[]).unwrap();
    stack.enlist(0).unwrap();
    stack.slipway(&["servers", "add", "target-0", "--front-door", "off"]).unwrap();
    let sample = Sample::new(Generation::One, "Acme-Org", "Corner.Shop");
    let commit = stack.publish(&sample, Variant::Healthy).unwrap();
    let first = stack.ready(&sample, &commit, SLUG, 0, 8080).unwrap();

    let before = state(&stack);
    let planned = plan(&stack, &first);
    unchanged(&stack, &before);
    assert_eq!(planned["from"], Value::Null);
    assert_eq!(replacements(&planned), json!({}), "nothing is there to be replaced");
    assert!(actions(&planned).iter().all(|(_, action)| action == "create"), "{planned:#}");
    assert_eq!(planned["open"], json!([8080]));
    let bounds = json!({ "log": "10m x 3", "processes": 1024, "no_new_privileges": true });
    assert!(planned["services"].as_array().unwrap().iter().all(|s| s["bounds"] == bounds), "{planned:#}");
    assert_eq!((&planned["new_deploy_key"], &planned["registry_credential"]), (&json!(true), &json!("fleet")));
    assert!(planned["secrets"].as_array().unwrap().contains(&json!("DEPLOY_HOST")), "{planned:#}");

    stack.slipway(&["submit", "--watch", &written(&stack, &first)]).unwrap();
    let before = state(&stack);
    let planned = plan(&stack, &first);
    unchanged(&stack, &before);
    assert!(actions(&planned).iter().all(|(_, action)| action == "keep"), "{planned:#}");
    for nothing in ["variables", "overrides", "open", "close", "secrets"] {
        assert_eq!(planned[nothing], json!([]), "{planned:#}");
    }
    // What publishes its port itself is taken over by the door.
    stack.slipway(&["servers", "add", "target-0", "--front-door", "on"]).unwrap();
    let planned = plan(&stack, &first);
    unchanged(&stack, &before);
    let taken_over = json!({ "how": "with_one_gap", "why": "its port becomes the front door's" });
    assert_eq!(replacements(&planned), json!({ "backend": taken_over }), "{planned:#}");

    let next = stack.publish(&sample.clone().with_file("README.md", "another"), Variant::Healthy).unwrap();
    let mut second = stack.ready(&sample, &next, SLUG, 0, 8081).unwrap();
    second["variables"]["ADDED"] = json!("a value that no plan shows");
    let planned = plan(&stack, &second);
    unchanged(&stack, &before);
    assert_eq!((&planned["from"], &planned["to"]), (&json!(commit.sha), &json!(next.sha)));
    assert!(planned["files"].as_str().unwrap().contains("1 file"), "{planned:#}");
    assert_eq!(replacements(&planned), json!({ "backend": { "how": "without_gap" } }), "{planned:#}");
    assert_eq!((&planned["open"], &planned["close"]), (&json!([8081]), &json!([8080])));
    assert!(planned["variables"].as_array().unwrap().contains(&json!({ "name": "ADDED", "change": "added" })));
    let shown = stack.slipway(&["plan", &written(&stack, &second)]).unwrap();
    assert!(shown.contains("pulled first, without a gap (log 10m x 3"), "{shown}");
    assert!(shown.contains("+ ADDED") && !shown.contains("a value that no plan shows"), "{shown}");

    // One that can't be made changes nothing either, though there is an image that the next deployment will remove.
    let ours = format!("ghcr.io/{}", sample.image(Module::Backend));
    stack.world.target(0).sh(&format!("docker tag {ours}:{} {ours}:sha-9999999", commit.tag())).unwrap();
    let before = state(&stack);
    let mut incomplete = second.clone();
    incomplete["repository"]["commit"] = json!("0123456789abcdef0123456789abcdef01234567");
    stack.slipway(&["plan", &written(&stack, &incomplete)]).unwrap_err();
    assert_eq!(state(&stack), before);
    another_projects_image_is_not_to_be_had(&stack, &sample, &second);
    assert_eq!(state(&stack), before);

    let old = containers(&stack);
    stack.slipway(&["submit", "--watch", &written(&stack, &second)]).unwrap();
    let new = containers(&stack);
    for (service, action) in actions(&planned) {
        let id = |of: &[(String, String)]| of.iter().find(|(s, _)| *s == service).map(|(_, id)| id.clone());
        let became = if id(&old) == id(&new) { "keep" } else { "recreate" };
        assert_eq!(action, became, "{service}: {planned:#}");
    }
    // Back to the first one, as a rollback would go.
    let before = state(&stack);
    let back: Value =
        serde_json::from_str(&stack.slipway(&["--json", "rollback", SLUG, "--dry-run"]).unwrap()).unwrap();
    unchanged(&stack, &before);
    assert_eq!((&back["from"], &back["to"]), (&json!(next.sha), &json!(commit.sha)));
    assert!(
        back["variables"].as_array().unwrap().contains(&json!({ "name": "ADDED", "change": "removed" })),
        "{back:#}"
    );

    // What a request leaves out goes.
    second["variables"].as_object_mut().unwrap().remove("ADDED");
    assert_eq!(plan(&stack, &second)["variables"], json!([{ "name": "ADDED", "change": "removed" }]));
}

/// The workers' credential could read it.
fn another_projects_image_is_not_to_be_had(stack: &Stack, sample: &Sample, request: &Value) {
    let other = Sample::new(Generation::Two, "bakery", "api");
    let theirs = stack.publish(&other, Variant::Healthy).unwrap();
    let image = format!("ghcr.io/{}:{}", other.image(Module::Backend), theirs.tag());
    let folder = tempfile::tempdir().unwrap();
    sample.write(folder.path()).unwrap();
    let prod = std::fs::read_to_string(folder.path().join("infra/compose.prod.yml")).unwrap();
    let peek = format!("services:\n  peek:\n    image: {image}\n");
    let peeking = sample.clone().with_file("infra/compose.prod.yml", &prod.replacen("services:\n", &peek, 1));
    let commit = stack.world.publish_variant(&peeking, Variant::Healthy).unwrap();
    let mut request = request.clone();
    request["repository"]["commit"] = json!(commit.sha);
    let refused = stack.slipway(&["plan", &written(stack, &request)]).unwrap_err().to_string();
    assert!(refused.contains("compose-not-allowed") && refused.contains(&image), "{refused}");
}
