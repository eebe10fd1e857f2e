//! The orchestrator's state as two events: the example of the page for its authors, run as it stands there, up to the project
//! that answers.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};
use slipway_protocol::{
    Allocation, DeploymentId, EngineeringDone, Message, Metadata, ProjectHalf, ResourcesAllocated, join, schema,
};
use slipway_tests::stack::{BOT_TOKEN, Stack};
use slipway_tests::world::{Cache, Generation, Sample, Variant, eventually};

use crate::python::{Consumer, program, root, tell};

/// What the orchestrator knows of a project, by the names of its own state.
fn state(slug: &str, repository: &str, commit: &str, server: &str, key: &str) -> Value {
    let resource = |service: &str, port: u16| json!({ "port": port, "server_handle": server, "server_ip": "203.0.113.10", "service_name": service, "application_id": 17 });
    json!({
        "key": key,
        "secrets": { "TELEGRAM_BOT_TOKEN": BOT_TOKEN },
        "run_id": "eng-41",
        "commit_sha": commit,
        "project_spec": {
            "id": uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, slug.as_bytes()),
            "title": "The Shop",
            "slug": slug,
            "status": "active",
            "config": {
                "modules": ["backend", "tg_bot"],
                "secrets": { "TELEGRAM_BOT_TOKEN": "gAAAAABl" },
                "env_overrides": { "GREETING": "hello" },
            },
        },
        "repo_info": { "full_name": repository, "html_url": format!("https://github.com/{repository}") },
        "allocated_resources": {
            format!("{server}:8081"): resource("tg_bot", 8081),
            format!("{server}:8080"): resource("backend", 8080),
        },
    })
}

/// Runs the page's example; with `more` it publishes one of its events.
fn run(python: Command, state: &Value, more: &[&str]) -> Value {
    tell(program(python, "halves.py").arg(root().join("protocol/ORCHESTRATOR.md")).args(more), state)
}

fn half(body: &Value) -> slipway_protocol::CloudEvent<ProjectHalf> {
    let body = body.as_str().unwrap();
    let Message::Half(half) = slipway_protocol::read(body.as_bytes(), &Metadata::default()).unwrap() else {
        panic!("no half: {body}")
    };
    let schema = jsonschema::draft202012::new(&schema::of(half.event.data.kind().event_type())).unwrap();
    let errors: Vec<String> =
        schema.iter_errors(&serde_json::from_str(body).unwrap()).map(|error| error.to_string()).collect();
    assert!(errors.is_empty(), "{errors:?}: {body}");
    half.event
}

#[test]
fn the_pages_example_makes_both_events_of_the_orchestrators_state() {
    let python = Command::new(Cache::open().unwrap().python());
    let key = format!("2026-11:{}", "A".repeat(43) + "=");
    let mut state = state("shop-1f", "Acme-Org/shop-1f", &"a".repeat(40), "vps-267179", &key);
    state["secrets"] = json!({});
    state["project_spec"]["config"]["modules"] = json!(["backend", "notifications"]);
    let told = run(python, &state, &[]);
    let (code, place) = (half(&told["engineering"]), half(&told["resources"]));
    let (ProjectHalf::Engineering(done), ProjectHalf::Resources(allocated)) = (code.data.clone(), place.data.clone())
    else {
        panic!("{told}")
    };
    let (done, allocated): (EngineeringDone, ResourcesAllocated) = (done, allocated);
    assert_eq!(done.modules.iter().map(|m| m.as_str()).collect::<Vec<_>>(), ["backend", "notifications_worker"]);
    assert_eq!((done.repository.branch.as_str(), done.variables.len()), ("main", 1));
    let port = |a: &Allocation| Some((a.service.to_string(), a.host_port?.get()));
    let ports: Vec<_> = allocated.allocations.iter().filter_map(port).collect();
    assert_eq!(
        (allocated.server.handle.as_str(), ports),
        ("vps-267179", vec![("backend".to_owned(), 8080), ("tg_bot".to_owned(), 8081)])
    );
    let joined = join(&code.map(|_| done), &place.map(|_| allocated));
    assert_eq!(told["joined"], json!({ "source": joined.source, "id": joined.id }), "Python knows what comes of them");
    assert_eq!(told["deployment_id"], json!(DeploymentId::of(&joined.source, &joined.id, None)));
    assert_eq!(told["read"], json!([true, true]));
}

#[test]
fn two_branches_of_an_orchestrator_in_python_deploy_a_project_together() {
    let mut stack = Stack::start(1).unwrap();
    let sample = Sample::new(Generation::Two, "Acme-Org", "corner.Shop");
    let commit = stack.publish(&sample, Variant::Healthy).unwrap();
    stack.worker(&[]).unwrap();
    stack.enlist(0).unwrap();
    let key = stack.slipway(&["keys", "public"]).unwrap();
    let mut state = state("shop", "Acme-Org/corner.Shop", &commit.sha, "target-0", key.trim());
    state["repo_info"]["default_branch"] = json!(commit.branch);
    let python = || stack.world.command(&stack.world.cache().python().display().to_string());
    let url = stack.world.amqp_url().to_owned();

    let consumer = Consumer::start(&stack, "shop");
    run(python(), &state, &[&url, "resources"]);
    let pending = || -> Value { serde_json::from_str(&stack.slipway(&["pending", "--json"]).unwrap()).unwrap() };
    eventually("the half waits", Duration::from_secs(30), || {
        anyhow::ensure!(pending().as_array().is_some_and(|listed| listed.len() == 1));
        Ok(())
    })
    .unwrap();
    let pending = pending()[0].clone();
    assert_eq!(
        (&pending["here"], &pending["missing_type"]),
        (&json!("resources"), &json!("slipway.engineering.done.v1"))
    );
    let told = run(python(), &state, &[&url, "engineering"]);
    // Once more, as a branch that was restarted would.
    run(python(), &state, &[&url, "resources"]);
    let events = consumer.rest();
    let result = events.last().unwrap();
    assert_eq!(result["deployment_id"], told["deployment_id"], "{result:#}");
    assert_eq!(result["result"], "succeeded", "{result:#}\n{}", stack.running(0).log().unwrap());
    assert_eq!(result["causationid"], told["joined"]["id"]);
    assert_eq!(result["correlation"], json!({ "run_id": "eng-41", "application_ids": [17] }));
    let answer = stack.world.get(&format!("{}/health", result["url"].as_str().unwrap())).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(stack.slipway(&["pending", "--json"]).unwrap().trim(), "[]");
    let environment = stack.world.target(0).sh("cat /opt/services/shop/.env").unwrap();
    assert!(environment.contains(BOT_TOKEN) && environment.contains("GREETING"), "{environment}");
}
