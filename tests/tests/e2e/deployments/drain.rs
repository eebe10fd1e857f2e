//! A worker that is asked to stop in the middle of a deployment: it ends the running stage while there's time for that,
//! kills it when there isn't, and hands the deployment on. After that, on the same server, one that dies there.

use std::time::Duration;

use anyhow::{Result, ensure};
use serde_json::Value;
use slipway_protocol::Stage;
use slipway_tests::world::{Generation, Variant, eventually};

use crate::deployments::environment;
use crate::deployments::killed::{Death, Play};
use crate::deployments::scene::ProjectScene;

/// How often `kind` is told.
fn count(events: &[Value], kind: &str) -> usize {
    events.iter().filter(|event| event["data"]["kind"] == kind).count()
}

/// Asks worker `number` to stop while stage compose runs.
fn drain_during_compose(scene: &mut ProjectScene, number: usize, deployment: &str) -> Result<()> {
    let compose = |e: &Value| e["data"]["kind"] == "stage_started" && e["data"]["stage"] == "compose";
    scene.listener.until(deployment, compose)?;
    let code = scene.stack.running(number).drain()?;
    ensure!(code == Some(0), "{code:?}:\n{}", scene.stack.running(number).log()?);
    Ok(())
}

#[test]
fn a_worker_that_is_asked_to_stop_or_dies_leaves_its_deployment_to_another() -> Result<()> {
    let mut scene = ProjectScene::new(Generation::Two, &[("SLIPWAY_DRAIN_TIMEOUT", "500ms")])?;
    let commit = scene.stack.publish(&scene.sample, Variant::Healthy)?;
    let deployment = scene.request(&scene.ready(&commit)?)?;
    drain_during_compose(&mut scene, 0, &deployment)?;

    // No time: it's handed on, and nothing of it goes on behind the worker's back.
    let shown = scene.shown(&deployment)?;
    ensure!(shown["state"] == "pending" && shown["interruptions"] == 1, "{shown}");
    eventually("the interrupted command is gone", Duration::from_secs(10), || {
        let processes = scene.server().processes()?;
        let command = processes.iter().find(|argv| argv.iter().any(|a| a.contains("--project-name") || a == "setsid"));
        ensure!(command.is_none(), "{command:?}");
        ensure!(scene.server().sh("ls -A /dev/shm")?.is_empty(), "the registry's credential is left");
        Ok(())
    })?;
    let second = scene.stack.worker(&[("SLIPWAY_DRAIN_TIMEOUT", "60s")])?;
    let story = scene.story(&deployment)?;
    ensure!(story.result()["outcome"] == "succeeded", "{}", story.result());
    ensure!(story.result()["attempts"] == 1, "an interruption costs no attempt: {}", story.result());
    ensure!(count(&story.0, "interrupted") == 1, "it's told once");
    ensure!(count(&story.0, "attempt_started") == 2, "by each worker");
    environment::check(&scene, &commit)?;
    ensure!(scene.health()?.1.contains(&commit.sha), "{:?}", scene.health()?);

    // Time enough: the stage that runs comes to its end, and the rest is handed on without doing it again.
    let next = scene.sample.clone().with_file("README.md", "another\n");
    let next = scene.stack.publish(&next, Variant::Healthy)?;
    let deployment = scene.request(&scene.ready(&next)?)?;
    drain_during_compose(&mut scene, second, &deployment)?;
    let third = scene.stack.worker(&[])?;
    let story = scene.story(&deployment)?;
    ensure!(story.result()["outcome"] == "succeeded", "{}", story.result());
    ensure!(story.result()["attempts"] == 1, "{}", story.result());
    let compose = |e: &&Value| e["data"]["kind"] == "stage_finished" && e["data"]["stage"] == "compose";
    let changes: Vec<_> = story.0.iter().filter(compose).map(|e| e["data"]["change"].as_str()).collect();
    ensure!(changes == [Some("changed"), Some("unchanged")], "{changes:?}");
    ensure!(count(&story.0, "interrupted") == 1, "it's told once");
    ensure!(scene.health()?.1.contains(&next.sha), "{:?}", scene.health()?);
    scene.stack.running(third).drain()?;
    Play::on(scene)?.round(Stage::Compose, Death::Within)
}
