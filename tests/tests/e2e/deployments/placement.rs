//! Events that leave their server to Slipway, over real servers.

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use slipway_tests::stack::Stack;
use slipway_tests::world::{Generation, Sample, Variant, eventually};

use crate::deployments::events::Listener;
use crate::deployments::scene::{ProjectScene, SLUG};

/// Servers are asked once, so that what happens there later is found by deployments alone.
const ASKED_ONCE: (&str, &str) = ("SLIPWAY_SERVER_FACTS_INTERVAL", "24h");

/// A scene with more servers, all of them asked for what they have.
fn scene(targets: u8) -> Result<ProjectScene> {
    let mut stack = Stack::start(targets)?;
    let listener = Listener::start(&stack.world)?;
    stack.worker(&[ASKED_ONCE])?;
    (0..usize::from(targets)).try_for_each(|target| stack.enlist(target))?;
    eventually("every server's facts", Duration::from_secs(30), || {
        let seen = servers(&stack)?;
        ensure!(seen.iter().all(|server| server["room"]["facts"]["free_ram_mb"].as_u64() > Some(0)), "{seen:?}");
        Ok(())
    })?;
    Ok(ProjectScene { listener, sample: Sample::new(Generation::Two, "Acme-Org", "Corner.Shop"), stack })
}

fn servers(stack: &Stack) -> Result<Vec<Value>> {
    Ok(serde_json::from_str(&stack.slipway(&["--json", "servers", "list"])?)?)
}

/// The request without its server and its ports.
fn unplaced(mut data: Value, wish: Value) -> Value {
    let fields = data.as_object_mut().into_iter();
    for fields in fields {
        fields.remove("server");
        fields.insert("placement".to_owned(), wish.clone());
        fields["allocations"] = json!([
            { "service": "db", "container_port": 5432 }, { "service": "backend", "container_port": 8000 },
        ]);
    }
    data
}

#[test]
fn an_event_without_a_server_ends_at_an_answering_url_and_says_why_there() {
    chooses().unwrap();
}

fn chooses() -> Result<()> {
    let mut scene = scene(2)?;
    scene.stack.slipway(&["servers", "label", "target-1", "--region", "eu", "--label", "ssd"])?;
    let commit = scene.stack.publish(&scene.sample, Variant::Healthy)?;
    let ready = scene.stack.ready(&scene.sample, &commit, SLUG, 0, 8080)?;
    let wanted = unplaced(ready, json!({ "required": { "labels": ["ssd"] } }));
    let file = scene.stack.world.folder().join("explained.json");
    std::fs::write(&file, wanted.to_string())?;
    let explained = scene.stack.slipway(&["--json", "placement", "explain", &file.display().to_string()])?;
    let explained: Value = serde_json::from_str(&explained)?;
    ensure!(explained["server"] == "target-1" && explained["placement"]["ports"]["backend"] == 20_000, "{explained:#}");

    // A stranger takes the port before it's tried.
    let hold =
        "setsid python3 -m http.server 20000 >/dev/null 2>&1 </dev/null & until ss -Hltn | grep -q :20000; do :; done";
    scene.stack.world.target(1).sh(hold)?;
    let deployment = scene.request(&wanted)?;
    let story = scene.story(&deployment)?;
    let result = story.result();
    ensure!(result["outcome"] == "succeeded" && result["server"] == "target-1", "{result:#}");
    ensure!(result["attempts"] == 1, "a port that was left costs no attempt: {result:#}");
    let placement = &result["placement"];
    ensure!(placement["reason"] == "best_score" && placement["left_ports"] == json!([20_000]), "{placement:#}");
    ensure!(placement["ports"] == json!({ "backend": 20_002, "db": 20_001 }), "{placement:#}");
    let lacks = placement["servers"].as_array().into_iter().flatten().find(|server| server["server"] == "target-0");
    ensure!(lacks.is_some_and(|server| server["lacks"][0]["what"] == "labels"), "{placement:#}");
    let url = result["url"].as_str().context("a URL")?.to_owned();
    ensure!(url == format!("http://{}:20002", scene.stack.world.target(1).ip()), "{url}");
    let answer = scene.stack.world.get(&format!("{url}/health"))?;
    ensure!(answer.status == 200 && answer.body.contains(&commit.sha), "{}: {}", answer.status, answer.body);

    // It stays there, though it would be chosen elsewhere now.
    scene.stack.slipway(&["servers", "label", "target-0", "--label", "ssd"])?;
    scene.stack.slipway(&["servers", "label", "target-1"])?;
    scene.stack.slipway(&["servers", "cordon", "target-1", "--why", "a new disk"])?;
    let again = scene.request(&wanted)?;
    let story = scene.story(&again)?;
    let result = story.result();
    ensure!(result["outcome"] == "already_deployed" && result["server"] == "target-1", "{result:#}");
    ensure!(result["placement"]["reason"] == "lives_there" && result["url"] == url.as_str(), "{result:#}");

    // A server on which projects live can't be removed.
    let refused = scene.stack.slipway(&["servers", "remove", "target-1"]).err().context("it's refused")?;
    ensure!(refused.to_string().contains(SLUG), "{refused}");
    waits_for_room(&mut scene)?;
    scene.end(0)
}

/// Another project asks for what no server has, and goes on by itself once one has it.
fn waits_for_room(scene: &mut ProjectScene) -> Result<()> {
    let sample = Sample::new(Generation::Two, "Acme-Org", "Bakery");
    let commit = scene.stack.publish(&sample, Variant::Healthy)?;
    let ready = scene.stack.ready(&sample, &commit, "bakery", 0, 8080)?;
    let wanted = unplaced(ready, json!({ "required": { "labels": ["gpu"] } }));
    let deployment = scene.request(&wanted)?;
    eventually("why it waits", Duration::from_secs(20), || {
        let shown = scene.shown(&deployment)?;
        ensure!(shown["state"] == "pending" && shown["placement"]["reason"] == "no_room", "{shown:#}");
        Ok(())
    })?;
    let shown = scene.stack.slipway(&["deployments", "show", &deployment])?;
    ensure!(shown.contains("waits for a server") && shown.contains("it isn't labelled gpu"), "{shown}");
    scene.stack.slipway(&["servers", "label", "target-0", "--label", "gpu"])?;
    let story = scene.story(&deployment)?;
    let result = story.result();
    ensure!(result["outcome"] == "succeeded" && result["server"] == "target-0", "{result:#}");
    // One that may not wait says what each server lacked.
    let other = Sample::new(Generation::Two, "Acme-Org", "Kiosk");
    let commit = scene.stack.publish(&other, Variant::Healthy)?;
    let ready = scene.stack.ready(&other, &commit, "kiosk", 0, 8080)?;
    let wish = json!({ "required": { "region": "mars" }, "wait_seconds": 0 });
    let deployment = scene.request(&unplaced(ready, wish))?;
    let story = scene.story(&deployment)?;
    let result = story.result();
    ensure!(result["failure"]["code"] == "no-capacity" && result["attempts"] == 0, "{result:#}");
    ensure!(result["placement"]["servers"].as_array().map(Vec::len) == Some(2), "{result:#}");
    Ok(())
}

#[test]
#[ignore = "takes minutes: ./tests/soak"]
fn soak_twenty_events_at_once_share_four_servers_while_workers_are_killed() {
    crowd().unwrap();
}

fn crowd() -> Result<()> {
    const PROJECTS: usize = 20;
    let mut scene = scene(4)?;
    let mut workers = vec![0, scene.stack.worker(&[ASKED_ONCE])?];
    scene.listener.expect_repeats();
    let mut deployments = Vec::new();
    for number in 0..PROJECTS {
        let sample = Sample::new(Generation::Two, "Acme-Org", &format!("Project-{number}"));
        let commit = scene.stack.publish(&sample, Variant::Healthy)?;
        let ready = scene.stack.ready(&sample, &commit, &format!("project-{number}"), 0, 8080)?;
        deployments.push(scene.request(&unplaced(ready, json!({})))?);
    }
    for _ in 0..4 {
        std::thread::sleep(Duration::from_secs(8));
        let victim = workers.remove(0);
        scene.stack.running(victim).kill()?;
        workers.push(scene.stack.worker(&[ASKED_ONCE])?);
    }
    let (mut ports, mut used) = (BTreeSet::new(), BTreeSet::new());
    for deployment in &deployments {
        let story = scene.listener.story(deployment)?;
        let result = story.result();
        ensure!(result["outcome"] == "succeeded", "{result:#}");
        let server = result["server"].as_str().context("a server")?.to_owned();
        for port in result["placement"]["ports"].as_object().context("ports")?.values() {
            ensure!(ports.insert((server.clone(), port.as_u64())), "{server} has {port} twice");
        }
        let answer = scene.stack.world.get(&format!("{}/health", result["url"].as_str().unwrap_or_default()))?;
        ensure!(answer.status == 200, "{}: {result:#}", answer.status);
        used.insert(server);
    }
    ensure!(used.len() == 4, "they are on {used:?}");
    let seen = servers(&scene.stack)?;
    ensure!(seen.iter().all(|server| server["room"]["reserved_ports"] == 0), "something is still set aside: {seen:?}");
    let projects: u64 = seen.iter().filter_map(|server| server["room"]["projects"].as_u64()).sum();
    ensure!(projects == PROJECTS as u64, "{seen:?}");
    Ok(())
}
