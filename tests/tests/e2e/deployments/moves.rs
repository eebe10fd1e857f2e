//! Projects that go to another server, while somebody asks them all the time: without data, with data that is copied, and moves
//! that come to nothing.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use slipway_tests::prober::{ProbeKind, ProbeReport, Probes};
use slipway_tests::stack::Stack;
use slipway_tests::world::{Commit, Generation, Module, Sample, Variant, eventually};

use crate::deployments::events::{Listener, Story};
use crate::deployments::scene::{DIRECTORY, PORT, ProjectScene, SLUG};

/// A scene with so many servers, all asked for what they have.
pub fn scene(targets: u8) -> Result<ProjectScene> {
    let mut stack = Stack::start(targets)?;
    let listener = Listener::start(&stack.world)?;
    stack.worker(&[])?;
    (0..usize::from(targets)).try_for_each(|target| stack.enlist(target))?;
    eventually("all servers' facts", Duration::from_secs(30), || {
        let seen: Value = serde_json::from_str(&stack.slipway(&["--json", "servers", "list"])?)?;
        let servers = seen.as_array().context("a list")?;
        ensure!(servers.iter().all(|s| s["room"]["facts"]["free_ram_mb"].as_u64() > Some(0)), "{seen}");
        Ok(())
    })?;
    let sample = Sample::new(Generation::Two, "Acme-Org", "Corner.Shop").of(&[Module::Backend]);
    Ok(ProjectScene { listener, sample, stack })
}

/// The sample with nothing that outlives its database's container.
pub fn without_data(sample: Sample) -> Result<Sample> {
    let (folder, path) = (tempfile::tempdir()?, "infra/compose.base.yml");
    sample.write(folder.path())?;
    let base = std::fs::read_to_string(folder.path().join(path))?;
    let kept = "    volumes:\n      - db_data:/var/lib/postgresql/data\n";
    let bare = base.replace(kept, "    tmpfs:\n      - /var/lib/postgresql/data\n");
    let bare = bare.replace("\nvolumes:\n  db_data:\n", "\n");
    ensure!(bare.len() < base.len() && !bare.contains("db_data"), "{bare}");
    Ok(sample.with_file(path, &bare))
}

pub fn deploy(scene: &mut ProjectScene) -> Result<Commit> {
    let commit = scene.stack.publish(&scene.sample, Variant::Healthy)?;
    let mut ready = scene.ready(&commit)?;
    ready["modules"] = json!(["backend"]);
    let deployment = scene.request(&ready)?;
    let story = scene.story(&deployment)?;
    ensure!(story.result()["outcome"] == "succeeded", "{}", story.result());
    Ok(commit)
}

/// Moves the project by the command line, and waits for the result.
pub fn moved(scene: &mut ProjectScene, arguments: &[&str]) -> Result<Story> {
    let said = scene.stack.slipway(&[&["--json", "projects", "move", SLUG, "--why", "a test"], arguments].concat())?;
    let said: Value = serde_json::from_str(&said)?;
    let id = said["deployment_id"].as_str().context("the id")?.to_owned();
    let story = scene.listener.story(&id)?;
    ensure!(story.result()["action"] == "move", "{}", story.result());
    Ok(story)
}

fn probes(scene: &ProjectScene, server: usize, port: u16) -> Result<Probes> {
    scene.stack.world.enter()?;
    Probes::start_with(SocketAddr::from((scene.stack.world.target(server).ip(), port)), &[ProbeKind::Fresh])
}

/// How many requests failed before the move's end; whoever asks the old server later may find that nothing is there.
pub fn failed_before(asked: &ProbeReport, end: &Value) -> Result<usize> {
    let end: Timestamp = end.as_str().context("the move's end")?.parse()?;
    let begun = Timestamp::now() - SignedDuration::try_from(asked.begun.elapsed())?;
    let until = Duration::try_from(end.duration_since(begun))?;
    Ok(asked.failed().into_iter().filter(|answer| answer.asked < until).count())
}

/// What a server has of the project, by kind.
fn traces(scene: &ProjectScene, server: usize) -> Result<BTreeMap<&'static str, String>> {
    let of_project = format!("--filter label=com.docker.compose.project={SLUG}");
    let looks = [
        ("containers", format!("docker ps -aq {of_project}")),
        ("networks", format!("docker network ls -q {of_project}")),
        ("volumes", format!("docker volume ls -q {of_project}")),
        ("rule", format!("ufw show added | grep slipway:{SLUG} || :")),
        ("key", format!("grep slipway:{SLUG} /root/.ssh/authorized_keys || :")),
        ("directory", format!("ls -d {DIRECTORY} 2>/dev/null || :")),
    ];
    let told = looks.into_iter();
    let told = told.map(|(kind, look)| Ok((kind, scene.stack.world.target(server).sh(&look)?.trim().to_owned())));
    let mut found = told.collect::<Result<BTreeMap<_, _>>>()?;
    found.retain(|_, trace| !trace.is_empty());
    Ok(found)
}

/// Asks the project's database, with the project's own password.
pub fn query(scene: &ProjectScene, server: usize, sql: &str) -> Result<String> {
    let query = format!(
        "PATH=/usr/lib/postgresql/15/bin:$PATH PGPASSWORD=$POSTGRES_PASSWORD psql -h 127.0.0.1 -U postgres -d service -Atc '{sql}'"
    );
    scene.stack.world.target(server).sh(&format!("docker exec {SLUG}-db-1 sh -c \"{}\"", query.replace('$', "\\$")))
}

pub fn answers(scene: &ProjectScene, url: &str, commit: &Commit) -> Result<()> {
    let answer = scene.stack.world.get(&format!("{url}/health"))?;
    ensure!(answer.status == 200 && answer.body.contains(&commit.sha), "{url}: {} {}", answer.status, answer.body);
    Ok(())
}

#[test]
fn a_project_without_data_moves_and_nobody_who_asks_the_old_server_is_left_out() -> Result<()> {
    let mut scene = scene(2)?;
    scene.sample = without_data(scene.sample)?;
    let commit = deploy(&mut scene)?;
    let by_hand = format!("echo 'BY_HAND=\"kept\"' >>{DIRECTORY}/.env");
    scene.server().sh(&by_hand)?;
    let probes = probes(&scene, 0, PORT)?;
    let story = moved(&mut scene, &["--to", "target-1"])?;
    let asked = probes.stop()?;
    let result = story.result();
    ensure!(result["outcome"] == "succeeded" && result["server"] == "target-1", "{result:#}");
    let told = &result["move"];
    ensure!(told["from"] == "target-0" && told["to"] == "target-1" && told["data"] == "refuse", "{told}");
    ensure!(told["gap_ms"] == 0 && told["bytes"] == 0, "{told}");
    let url = result["url"].as_str().context("a URL")?.to_owned();
    answers(&scene, &url, &commit)?;

    // It's taken off the old server by a deployment of its own, and only then nobody answers there.
    let undeployment = told["undeployment"].as_str().context("the undeployment")?.to_owned();
    let story = scene.listener.story(&undeployment)?;
    ensure!(story.result()["outcome"] == "succeeded" && story.result()["action"] == "undeploy", "{}", story.result());
    ensure!(traces(&scene, 0)?.is_empty(), "{:?}", traces(&scene, 0)?);
    let answered = asked.by_commit();
    ensure!(answered.iter().any(|(sha, number)| *sha == commit.sha && *number > 100), "{asked}");
    ensure!(failed_before(&asked, &result["finished_at"])? == 0, "{asked}");
    let kept = scene.stack.world.target(1).sh(&format!("grep BY_HAND {DIRECTORY}/.env"))?;
    ensure!(kept.contains("kept"), "{kept}");

    // From here on it's where it went, for whoever names no server.
    let stopped: Value = serde_json::from_str(&scene.stack.slipway(&["--json", "stop", SLUG])?)?;
    let story = scene.listener.story(stopped["deployment_id"].as_str().context("the id")?)?;
    ensure!(story.result()["server"] == "target-1", "{}", story.result());
    let refused = moved(&mut scene, &["--to", "target-1"])?;
    ensure!(refused.result()["failure"]["code"] == "already-on-server", "{}", refused.result());
    scene.end(0)
}

#[test]
fn a_project_with_data_moves_only_with_its_data_and_its_gap_is_told() -> Result<()> {
    let mut scene = scene(2)?;
    let commit = deploy(&mut scene)?;
    query(&scene, 0, "create table notes as select 41 + 1 as answer")?;
    let refused = moved(&mut scene, &["--to", "target-1"])?;
    let result = refused.result();
    ensure!(result["failure"]["code"] == "data-in-volumes", "{result:#}");
    let message = result["failure"]["message"].as_str().unwrap_or_default();
    ensure!(message.contains(&format!("{SLUG}_db_data")), "{message}");
    ensure!(traces(&scene, 1)?.is_empty(), "{:?}", traces(&scene, 1)?);
    answers(&scene, &format!("http://{}:{PORT}", scene.server().ip()), &commit)?;

    let probes = probes(&scene, 0, PORT)?;
    let story = moved(&mut scene, &["--to", "target-1", "--data", "copy"])?;
    let asked = probes.stop()?;
    let result = story.result();
    ensure!(result["outcome"] == "succeeded" && result["server"] == "target-1", "{result:#}");
    let told = &result["move"];
    ensure!(
        told["bytes"].as_u64() > Some(1_000_000) && told["volumes"] == json!([format!("{SLUG}_db_data")]),
        "{told}"
    );
    let gap = told["gap_ms"].as_u64().context("the gap")?;
    ensure!(gap > 500 && gap < 120_000, "{told}");
    let url = result["url"].as_str().context("a URL")?.to_owned();
    answers(&scene, &url, &commit)?;
    ensure!(query(&scene, 1, "select answer from notes")?.trim() == "42");
    ensure!(!asked.failed().is_empty(), "it was stopped while its data were copied: {asked}");

    let undeployment = told["undeployment"].as_str().context("the undeployment")?.to_owned();
    let story = scene.listener.story(&undeployment)?;
    ensure!(story.result()["outcome"] == "succeeded", "{}", story.result());
    let left = traces(&scene, 0)?;
    ensure!(left.keys().collect::<Vec<_>>() == [&"volumes"], "data are never removed without being asked: {left:?}");
    scene.end(0)
}

#[test]
fn a_move_that_fails_leaves_the_old_server_serving_and_nothing_on_the_new_one() -> Result<()> {
    let mut scene = scene(2)?;
    let commit = deploy(&mut scene)?;
    query(&scene, 0, "create table notes as select 7 as answer")?;
    // The last thing that's tried: data were copied, and all of it was started and proven.
    scene.stack.github.archive(&scene.repository(), true);
    let story = moved(&mut scene, &["--to", "target-1", "--data", "copy"])?;
    let result = story.result();
    ensure!(result["outcome"] == "failed" && result["failure"]["code"] == "github-archived", "{result:#}");
    ensure!(result["failure"]["stage"] == "secrets", "{result:#}");
    ensure!(result["move"]["from"] == "target-0" && result["move"].get("gap_ms").is_none(), "{result:#}");
    ensure!(result["serving"]["proven"] == true && result["serving"]["commit"] == commit.sha.as_str(), "{result:#}");
    answers(&scene, &format!("http://{}:{PORT}", scene.server().ip()), &commit)?;
    ensure!(query(&scene, 0, "select answer from notes")?.trim() == "7");
    ensure!(traces(&scene, 1)?.is_empty(), "{:?}", traces(&scene, 1)?);
    ensure!(!scene.server().sh(&format!("ls -A {DIRECTORY}/.slipway"))?.contains("moving"), "CI would wait for ever");
    let living: Value = serde_json::from_str(&scene.stack.slipway(&["--json", "projects", "owners"])?)?;
    ensure!(!living.to_string().contains("target-1"), "{living}");

    // Once that is repaired, it moves with all that came meanwhile; and CI's secrets go with it.
    scene.stack.github.archive(&scene.repository(), false);
    query(&scene, 0, "update notes set answer = 8")?;
    let story = moved(&mut scene, &["--data", "copy", "--to", "target-1"])?;
    ensure!(story.result()["outcome"] == "succeeded", "{}", story.result());
    ensure!(query(&scene, 1, "select answer from notes")?.trim() == "8");
    let secrets = scene.stack.github.secrets(&scene.repository());
    let host = secrets.get("DEPLOY_HOST").context("DEPLOY_HOST")?;
    ensure!(*host == scene.stack.world.target(1).ip().to_string(), "CI would deploy to {host}");
    scene.end(0)
}
