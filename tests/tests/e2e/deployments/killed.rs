//! A worker that dies without a word while it works on a real server: before, after and within the script of a stage.
//! Another one finishes, nothing goes on behind its back, and nobody's lock is left.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use slipway_protocol::Stage;
use slipway_tests::scripted_world::was_killed;
use slipway_tests::world::{Generation, Variant, eventually};

use crate::deployments::environment;
use crate::deployments::held_stage;
use crate::deployments::scene::{DIRECTORY, ProjectScene};

/// Short, so that the next worker needn't wait long.
const LEASE: (&str, &str) = ("SLIPWAY_LEASE", "5s");
/// The longest that a death is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// Where in a stage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Death {
    /// Its intent is in the journal, nothing is done.
    Before,
    /// It is at work on the server, or at GitHub.
    Within,
    /// All is done, nothing is in the journal.
    After,
}

/// A play on one scene: deployment after deployment, each with a worker that dies in it.
pub struct Play {
    scene: ProjectScene,
    rounds: u32,
}

impl Play {
    /// On a scene without a worker.
    pub fn on(mut scene: ProjectScene) -> Result<Self> {
        scene.listener.expect_repeats();
        held_stage::install(scene.server())?;
        Ok(Self { scene, rounds: 0 })
    }

    /// A new commit; its worker dies, another one finishes.
    pub fn round(&mut self, stage: Stage, death: Death) -> Result<()> {
        self.rounds += 1;
        let scene = &mut self.scene;
        let sample = scene.sample.clone().with_file("README.md", &format!("round {}\n", self.rounds));
        let commit = scene.stack.publish(&sample, Variant::Healthy)?;
        let number = Stage::ALL.iter().position(|s| *s == stage).context("a stage")? + 1;
        let at = match death {
            Death::Before => format!("stage:before#{number}"),
            Death::After => format!("stage:after#{number}"),
            Death::Within => String::new(),
        };
        let first = scene.stack.worker(&[LEASE, ("SLIPWAY_CRASH_AT", &at)])?;
        if death == Death::Within {
            held_stage::hold(scene.server(), stage)?;
        }
        let data = scene.ready(&commit)?;
        let deployment = scene.request(&data)?;
        if death == Death::Within {
            held_stage::wait_until_held(scene, stage, &deployment)?;
            scene.stack.running(first).kill()?;
            held_stage::let_others_pass(scene.server(), stage)?;
        } else {
            self.wait_for_death(first)?;
        }
        let scene = &mut self.scene;
        let second = scene.stack.worker(&[LEASE])?;
        let story = scene.story(&deployment)?;
        let result = story.result();
        ensure!(result["outcome"] == "succeeded" && result["attempts"] == 1, "{result}");
        let interrupted = story.0.iter().filter(|event| event["data"]["kind"] == "interrupted").count();
        ensure!(interrupted == 1, "interrupted {interrupted} times");
        let (status, body) = scene.health()?;
        ensure!(status == 200 && body.contains(&commit.sha), "{status}: {body}");
        environment::check(scene, &commit)?;
        let code = scene.stack.running(second).drain()?;
        ensure!(code == Some(0), "the drain ended with {code:?}");
        eventually("nothing goes on", Duration::from_secs(20), || {
            ensure!(!script_runs(scene)?, "a script still runs");
            let locked = scene.server().sh(&format!("flock -n {DIRECTORY}/.slipway/lock true || echo locked"))?;
            ensure!(locked.is_empty(), "the project is locked");
            ensure!(scene.server().sh("ls -A /dev/shm")?.is_empty(), "the registry's credential is left");
            Ok(())
        })
    }

    fn wait_for_death(&mut self, worker: usize) -> Result<()> {
        let begun = Instant::now();
        loop {
            let worker = self.scene.stack.running(worker);
            if let Some(status) = worker.ended()? {
                ensure!(was_killed(status), "it ended with {status}:\n{}", worker.log()?);
                return Ok(());
            }
            ensure!(begun.elapsed() < PATIENCE, "it doesn't die:\n{}", worker.log()?);
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Whether a script of ours is a process of the server; its watchdog and what it started count as well.
fn script_runs(scene: &ProjectScene) -> Result<bool> {
    Ok(scene.server().processes()?.iter().flatten().any(|argument| argument.contains("read -r mark size")))
}

#[test]
#[ignore = "takes minutes: ./tests/soak"]
fn soak_a_worker_dies_before_within_and_after_every_stage() -> Result<()> {
    let mut scene = ProjectScene::new(Generation::Two, &[LEASE])?;
    scene.stack.running(0).drain()?;
    let mut play = Play::on(scene)?;
    for stage in Stage::ALL {
        for death in [Death::Before, Death::Within, Death::After] {
            play.round(stage, death).with_context(|| format!("{death:?} {stage}"))?;
        }
    }
    Ok(())
}
