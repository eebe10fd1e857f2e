//! A server that is emptied while its projects are asked all the time; and workers that die in the middle of moves.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use slipway_tests::prober::{ProbeKind, Probes};
use slipway_tests::world::{Commit, Generation, Module, Sample, Variant, eventually};

use crate::deployments::moves::{answers, deploy, failed_before, moved, query, scene, without_data};
use crate::deployments::scene::{DIRECTORY, PORT, ProjectScene, SLUG};

/// Projects on the first server, with the ports that they are asked on; every second one has data.
fn fill(scene: &mut ProjectScene, projects: u16) -> Result<BTreeMap<String, (Commit, u16)>> {
    let mut filled = BTreeMap::new();
    for number in 0..projects {
        let (slug, port) = (format!("project-{number}"), PORT + number);
        let sample = Sample::new(Generation::Two, "Acme-Org", &slug).of(&[Module::Backend]);
        let sample = if number % 2 == 0 { without_data(sample)? } else { sample };
        let commit = scene.stack.publish(&sample, Variant::Healthy)?;
        let mut ready = scene.stack.ready(&sample, &commit, &slug, 0, port)?;
        ready["modules"] = json!(["backend"]);
        ready["allocations"][0]["host_port"] = (15432 + number).into();
        let deployment = scene.request(&ready)?;
        let story = scene.story(&deployment)?;
        ensure!(story.result()["outcome"] == "succeeded", "{}", story.result());
        filled.insert(slug, (commit, port));
    }
    Ok(filled)
}

fn drain(targets: u8, projects: u16) -> Result<()> {
    let mut scene = scene(targets)?;
    let filled = fill(&mut scene, projects)?;
    scene.stack.world.enter()?;
    let ip = scene.stack.world.target(0).ip();
    let asking = filled
        .iter()
        .map(|(slug, (_, port))| Ok((slug, Probes::start_with(SocketAddr::from((ip, *port)), &[ProbeKind::Fresh])?)));
    let asking = asking.collect::<Result<Vec<_>>>()?;
    // What has data stays as long as nobody says what becomes of it.
    let drained =
        scene.stack.program("slipway")?.args(["servers", "drain", "target-0", "--why", "it's given back"]).output()?;
    let (said, code) = (String::from_utf8_lossy(&drained.stdout).into_owned(), drained.status.code());
    let with_data = usize::from(projects / 2);
    ensure!(
        code == Some(1) && said.contains(&format!("Moved {} of {projects}", usize::from(projects) - with_data)),
        "{said}"
    );
    ensure!(said.matches("stays on target-0: data-in-volumes").count() == with_data, "{said}");
    // Run again, it goes on with what is left.
    let said = scene.stack.slipway(&["--json", "servers", "drain", "target-0", "--data", "copy"])?;
    let drained: Value = serde_json::from_str(&said)?;
    ensure!(drained["projects"] == with_data && drained["moved"] == with_data, "{drained:#}");
    for row in drained["moves"].as_array().into_iter().flatten() {
        ensure!(row["move"]["gap_ms"].as_u64() > Some(0) && row["move"]["bytes"].as_u64() > Some(0), "{row}");
    }
    for ((slug, probes), number) in asking.into_iter().zip(0..) {
        let report = probes.stop()?;
        let listed = scene.stack.slipway(&["--json", "deployments", "list", "--project", slug])?;
        let listed: Vec<Value> = serde_json::from_str(&listed)?;
        let ended = listed.iter().find(|d| d["action"] == "move" && d["state"] == "succeeded");
        let shown = scene.shown(ended.and_then(|d| d["deployment_id"].as_str()).context("its move")?)?;
        let result = &shown["result"];
        let early = failed_before(&report, &result["finished_at"])?;
        ensure!(number % 2 == 1 || early == 0, "{slug}: {early} requests failed before it had moved: {report}");
        let (commit, _) = filled.get(slug).context("its commit")?;
        answers(&scene, result["url"].as_str().context("a URL")?, commit).context(slug.clone())?;
    }
    let left = scene.stack.world.target(0).sh("docker ps -aq; ls /opt/services")?;
    ensure!(left.trim().is_empty(), "{left}");
    scene.stack.slipway(&["servers", "remove", "target-0", "--why", "it's given back"])?;
    scene.end(0)
}

#[test]
fn a_server_is_drained_of_its_projects_while_they_are_asked() {
    drain(2, 2).unwrap();
}

#[test]
#[ignore = "takes minutes: ./tests/soak"]
fn soak_a_server_with_six_projects_is_drained_to_two_others_while_they_are_asked() {
    drain(3, 6).unwrap();
}

/// Moves the project with its data as often as there are points, there and back again, and has the worker die at one each time.
fn killed_at(points: &[String]) -> Result<()> {
    let mut scene = scene(2)?;
    scene.listener.expect_repeats();
    let commit = deploy(&mut scene)?;
    query(&scene, 0, "create table notes (note integer)")?;
    let mut living = 0;
    scene.stack.running(0).drain()?;
    for point in points {
        let (from, to) = (living, 1 - living);
        query(&scene, from, "insert into notes values (1)")?;
        let doomed = scene.stack.worker(&[("SLIPWAY_CRASH_AT", point), ("SLIPWAY_LEASE", "4s")])?;
        let said = scene.stack.slipway(&[
            "--json",
            "projects",
            "move",
            SLUG,
            "--to",
            &format!("target-{to}"),
            "--data",
            "copy",
        ])?;
        let said: Value = serde_json::from_str(&said)?;
        let id = said["deployment_id"].as_str().context("the id")?.to_owned();
        eventually("the worker's end", Duration::from_secs(120), || {
            let ended = scene.stack.running(doomed).ended()?;
            ensure!(ended.is_some(), "it lives at {point}: {:#}", scene.shown(&id)?);
            Ok(())
        })?;
        let heir = scene.stack.worker(&[("SLIPWAY_LEASE", "4s")])?;
        let story = scene.listener.story(&id)?;
        let result = story.result();
        ensure!(result["outcome"] == "succeeded" && result["server"] == format!("target-{to}"), "{point}: {result:#}");
        ensure!(result["move"]["gap_ms"].as_u64() > Some(500), "{point}: {result:#}");
        answers(&scene, result["url"].as_str().context("a URL")?, &commit)?;
        let undeployment = result["move"]["undeployment"].as_str().context("the undeployment")?.to_owned();
        let story = scene.listener.story(&undeployment)?;
        ensure!(story.result()["outcome"] == "succeeded", "{point}: {}", story.result());
        living = to;
        let notes: usize = query(&scene, living, "select count(*) from notes")?.trim().parse()?;
        let before = points.iter().position(|other| other == point).map_or(0, |at| at + 1);
        ensure!(notes == before, "{point}: {notes} of {before} notes are there");
        let gone = scene.stack.world.target(from).sh(&format!("ls -d {DIRECTORY} 2>/dev/null || :; docker ps -aq"))?;
        ensure!(gone.trim().is_empty(), "{point}: {gone}");
        scene.stack.running(heir).drain()?;
    }
    Ok(())
}

#[test]
fn a_worker_that_dies_while_data_are_copied_or_right_after_loses_none_of_them() {
    killed_at(&["stage:after#4", "commit-finish:before#1"].map(str::to_owned)).unwrap();
}

#[test]
#[ignore = "takes minutes: ./tests/soak"]
fn soak_a_worker_dies_before_and_after_each_stage_of_a_move() {
    let points = (1..=7).flat_map(|number| ["before", "after"].map(|side| format!("stage:{side}#{number}")));
    killed_at(&points.collect::<Vec<_>>()).unwrap();
}

#[test]
fn a_bot_is_silent_on_the_old_server_before_it_speaks_on_the_new_one() -> Result<()> {
    let mut scene = scene(2)?;
    scene.sample = without_data(Sample::new(Generation::Two, "Acme-Org", "Corner.Shop"))?;
    let commit = scene.stack.publish(&scene.sample, Variant::Healthy)?;
    let deployment = scene.request(&scene.ready(&commit)?)?;
    let story = scene.story(&deployment)?;
    ensure!(story.result()["outcome"] == "succeeded", "{}", story.result());
    let noting = |event: &str| {
        format!(
            "setsid docker events --filter type=container --filter event={event} --filter \
             label=com.docker.compose.service=tg_bot --format '{{{{.TimeNano}}}}' >>/root/{event} 2>/dev/null </dev/null &"
        )
    };
    scene.stack.world.target(0).sh(&noting("die"))?;
    scene.stack.world.target(1).sh(&noting("start"))?;
    let story = moved(&mut scene, &["--to", "target-1"])?;
    ensure!(story.result()["outcome"] == "succeeded", "{}", story.result());
    ensure!(story.result()["move"]["gap_ms"].as_u64() > Some(0), "{}", story.result());
    let first = |server: usize, event: &str| -> Result<u64> {
        let told = scene.stack.world.target(server).sh(&format!("head -n 1 /root/{event}"))?;
        told.trim().parse().with_context(|| format!("{event}: {told:?}"))
    };
    let (silent, speaks) = (first(0, "die")?, first(1, "start")?);
    ensure!(silent < speaks, "it spoke too early: {speaks}, and was silent at {silent}");
    scene.end(0)
}
