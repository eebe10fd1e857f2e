//! A worker that is frozen in the middle of a stage for longer than its lease, and wakes after another one has finished
//! its deployment: it must change nothing any more, on the server, at GitHub or in the events. In every stage.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use slipway_protocol::Stage;
use slipway_tests::world::{Commit, Generation, TargetServer, Variant, eventually};

use crate::deployments::held_stage;
use crate::deployments::scene::{DIRECTORY, ProjectScene};

/// Everything that a worker could change on the server, down to inodes and times: the same content, written anew,
/// counts.
const STATE: &str = r#"
find . -path ./.git -prune -o -printf '%p %i %m %T@\n' | sort
stat -c '%n %i %y' .git .git/HEAD .git/index
cat .env infra/compose.slipway.yml .git/HEAD .slipway/fence
docker ps -aq --no-trunc | xargs docker inspect --format '{{.Id}} {{.State.StartedAt}} {{.RestartCount}} {{.Image}}' | sort
docker images -q --no-trunc | sort
/usr/sbin/ufw show added
stat -c '%n %i %y' /root/.ssh/authorized_keys
cat /root/.ssh/authorized_keys
"#;

/// One for each way to do harm: by files on the server, by containers, at GitHub.
#[test]
fn a_frozen_worker_that_wakes_after_its_lease_changes_nothing() -> Result<()> {
    zombies(&[Stage::Clone, Stage::Compose, Stage::Secrets])
}

#[test]
#[ignore = "takes minutes: ./tests/soak"]
fn soak_a_frozen_worker_that_wakes_after_its_lease_changes_nothing_in_any_stage() -> Result<()> {
    zombies(&Stage::ALL)
}

fn zombies(stages: &[Stage]) -> Result<()> {
    let environment = [("SLIPWAY_LEASE", "4s"), ("SLIPWAY_DRAIN_TIMEOUT", "60s")];
    let mut scene = ProjectScene::new(Generation::Two, &environment)?;
    scene.listener.expect_repeats();
    scene.stack.worker(&environment)?;
    let first = scene.stack.publish(&scene.sample, Variant::Healthy)?;
    let second = scene.sample.clone().with_file("README.md", "another\n");
    let commits = [first, scene.stack.publish(&second, Variant::Healthy)?];
    let deployment = scene.request(&scene.ready(&commits[0])?)?;
    ensure!(scene.story(&deployment)?.result()["outcome"] == "succeeded", "the first deployment");
    held_stage::install(scene.server())?;
    for (round, &stage) in (1..).zip(stages) {
        zombie(&mut scene, stage, round, &commits[round % 2]).with_context(|| format!("frozen in stage {stage}"))?;
    }
    scene.stack.running(1).drain()?;
    scene.end(0)
}

fn zombie(scene: &mut ProjectScene, stage: Stage, round: usize, commit: &Commit) -> Result<()> {
    held_stage::hold(scene.server(), stage)?;
    let mut data = scene.ready(commit)?;
    data["variables"]["ROUND"] = round.to_string().into();
    let deployment = scene.request(&data)?;
    held_stage::wait_until_held(scene, stage, &deployment)?;
    let owner = scene.shown(&deployment)?["worker"].as_str().context("its worker")?.to_owned();
    let frozen: usize = owner.trim_start_matches("worker-").parse()?;
    let heard = scene.stack.running(frozen).log()?.len();
    signal(scene, frozen, Signal::STOP)?;
    held_stage::let_others_pass(scene.server(), stage)?;

    let story = scene.story(&deployment)?;
    ensure!(story.result()["outcome"] == "succeeded" && story.result()["attempts"] == 1, "{}", story.result());
    let finisher = scene.shown(&deployment)?["worker"].clone();
    ensure!(finisher != owner.as_str(), "{finisher} finished what {owner} had begun");
    let before = (state(scene.server())?, scene.stack.github.secret_writes().len());

    signal(scene, frozen, Signal::CONT)?;
    eventually("the zombie has found out and given up", Duration::from_secs(60), || {
        let log = scene.stack.running(frozen).log()?;
        let since = &log[heard..];
        ensure!(since.contains("the lease is lost"), "{since}");
        ensure!(since.contains("its lease expires"), "it still winds up:\n{since}");
        Ok(())
    })?;
    let after = (state(scene.server())?, scene.stack.github.secret_writes().len());
    ensure!(after == before, "the zombie changed something:\n{before:?}\n{after:?}");
    eventually("nothing of it runs any more", Duration::from_secs(15), || {
        let processes = scene.server().processes()?;
        let left: Vec<_> = processes.iter().filter(|argv| argv.first().is_some_and(|a| a == "setsid")).collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
}

fn signal(scene: &mut ProjectScene, worker: usize, signal: Signal) -> Result<()> {
    let pid = i32::try_from(scene.stack.running(worker).pid())?;
    Ok(kill_process(Pid::from_raw(pid).context("a process id")?, signal)?)
}

fn state(server: &TargetServer) -> Result<String> {
    server.sh(&format!("cd {DIRECTORY}\n{STATE}"))
}
