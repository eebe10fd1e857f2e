//! A worker that is frozen in the middle of a stage for longer than its lease, and wakes after another one has finished
//! its deployment: it must change nothing any more, on the server, at GitHub or in the events. In every stage.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use slipway_protocol::Stage;
use slipway_tests::world::{Commit, Generation, Target, Variant, eventually};

use crate::scene::{DIRECTORY, Scene};

/// Programs that can be made to hang: the first call whose arguments match a token does, until it's told to go on.
const TRAPS: &str = r#"
mkdir -p /run/trap
for program in git docker ufw getent; do
    path=$(command -v "$program")
    cat >"/usr/local/bin/$program" <<END
#!/bin/sh
if [ -e /run/trap/$program ]; then
    case "\$*" in
    \$(cat /run/trap/$program)) if mv /run/trap/$program /run/trap/sprung 2>/dev/null; then
        until [ -e /run/trap/go ]; do sleep 0.1; done
    fi ;;
    esac
fi
exec $path "\$@"
END
    chmod 755 "/usr/local/bin/$program"
done
"#;

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

/// Which call to trap for a stage. Verify runs nothing on the server: there, its port falls silent.
fn trap(stage: Stage) -> (&'static str, &'static str) {
    match stage {
        Stage::Preflight => ("ufw", "status"),
        Stage::Clone => ("git", "*rev-parse*"),
        Stage::Env => ("docker", "volume*"),
        Stage::Compose => ("docker", "*up -d*"),
        Stage::Firewall | Stage::Verify => ("ufw", "show*"),
        Stage::Secrets => ("getent", "passwd*"),
    }
}

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
    let mut scene = Scene::new(Generation::Two, &environment)?;
    scene.listener.expect_repeats();
    scene.stack.worker(&environment)?;
    let first = scene.stack.publish(&scene.sample, Variant::Healthy)?;
    let second = scene.sample.clone().with_file("README.md", "another\n");
    let commits = [first, scene.stack.publish(&second, Variant::Healthy)?];
    let deployment = scene.request(&scene.ready(&commits[0])?)?;
    ensure!(scene.story(&deployment)?.result()["outcome"] == "succeeded", "the first deployment");
    scene.server().sh(TRAPS)?;
    for (round, &stage) in (1..).zip(stages) {
        zombie(&mut scene, stage, round, &commits[round % 2]).with_context(|| format!("frozen in stage {stage}"))?;
    }
    scene.stack.running(1).drain()?;
    scene.end(0)
}

fn zombie(scene: &mut Scene, stage: Stage, round: usize, commit: &Commit) -> Result<()> {
    let (program, arguments) = trap(stage);
    scene.server().sh(&format!("rm -f /run/trap/*; printf %s {arguments:?} >/run/trap/{program}"))?;
    let mut data = scene.ready(commit)?;
    data["variables"]["ROUND"] = round.to_string().into();
    let deployment = scene.request(&data)?;
    eventually("the stage is under way", Duration::from_secs(90), || {
        scene.server().sh("[ -e /run/trap/sprung ]").map(drop)
    })?;
    if stage == Stage::Verify {
        scene.server().sh("docker pause $(docker ps -q --filter name=backend); touch /run/trap/go")?;
        let begun = |e: &Value| e["data"]["kind"] == "stage_started" && e["data"]["stage"] == "verify";
        scene.listener.until(&deployment, begun)?;
    }
    let owner = scene.shown(&deployment)?["worker"].as_str().context("its worker")?.to_owned();
    let frozen: usize = owner.trim_start_matches("worker-").parse()?;
    let heard = scene.stack.running(frozen).log()?.len();
    signal(scene, frozen, Signal::STOP)?;
    if stage == Stage::Verify {
        scene.server().sh("docker unpause $(docker ps -q --filter name=backend)")?;
    }

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

fn signal(scene: &mut Scene, worker: usize, signal: Signal) -> Result<()> {
    let pid = i32::try_from(scene.stack.running(worker).pid())?;
    Ok(kill_process(Pid::from_raw(pid).context("a process id")?, signal)?)
}

fn state(server: &Target) -> Result<String> {
    server.sh(&format!("cd {DIRECTORY}\n{STATE}"))
}
