//! The script of a deployment, of CI's job or of what is put back is killed before a command of the switch: no request is
//! dropped then, and the next try ends in one running release, with no leftover container, slot or route.

use std::cell::RefCell;

use slipway_protocol::Stage;
use slipway_tests::prober::{ProbeKind, ProbeReport, Probes};
use slipway_tests::world::{Commit, Generation, Variant};

use crate::front_door::scene::{DRAIN, DoorProject, PROVING, tell};
use crate::pipeline::dying::{Points, commands_of, count_commands, dies_before_each_command};
use crate::pipeline::scene::{AttemptScene, PORT};

/// A deployed project and those who ask it; its scripts' commands are counted.
struct Scene<'a> {
    project: DoorProject<'a>,
    probes: Probes,
    serving: RefCell<Commit>,
}

impl<'a> Scene<'a> {
    fn new(scene: &'a AttemptScene) -> Self {
        let project = DoorProject::new(scene, Generation::One, "shop", PORT);
        let serving = project.publish(Variant::Healthy);
        project.deploy(&serving);
        count_commands(scene);
        let probes = project.ask();
        Self { project, probes, serving: RefCell::new(serving) }
    }

    /// The next commit, cloned and configured, but not started.
    fn prepare(&self) {
        let next = self.project.publish(Variant::Healthy);
        let work = self.project.work(&next);
        self.project.scene.run_stages(work, &[Stage::Clone, Stage::Env]).unwrap_or_else(|failed| panic!("{failed:?}"));
        self.serving.replace(next);
    }

    fn start(&self) -> Result<(), String> {
        let work = self.project.work(&self.serving.borrow());
        self.project.scene.run_stages(work, &[Stage::Compose]).map(drop).map_err(|failed| format!("{failed:?}"))
    }

    fn is_proven(&self) {
        self.project.server().sh("rm -r /opt/services/shop/.slipway/served").map(drop).unwrap();
    }

    /// One release, and nobody has missed an answer up to now.
    fn is_whole(&self) {
        self.project.is_whole(&self.serving.borrow());
        none_failed(&self.probes.report());
    }

    fn ends(self, what: &str, deaths: usize) {
        let report = self.probes.stop().unwrap();
        tell(&format!("{what}, {deaths} deaths"), &report);
        none_failed(&report);
        for kind in ProbeKind::ALL {
            assert!(report.answered(kind) > 0, "{kind:?}: {report}");
        }
    }
}

fn none_failed(report: &ProbeReport) {
    assert_eq!(report.failed().len(), 0, "{report}");
    let early = report.early_breaks(std::time::Duration::from_secs(DRAIN));
    assert!(early.is_empty(), "{early:?}");
}

/// What the switch begins with.
const SWITCH: &str = "sync */routes/*";

/// A deployment's script dies before these of its commands, of those that come after one that looks like `from`.
fn deployment_dies(from: &'static str, which: impl Fn(&str) -> bool) -> usize {
    let mut scene = AttemptScene::new();
    scene.with_door(DRAIN, PROVING);
    let shop = Scene::new(&scene);
    shop.prepare();
    let mut commands = commands_of(&scene, from, || shop.start().unwrap());
    shop.is_proven();
    shop.is_whole();
    for command in &commands {
        tell("command", command);
    }
    commands.retain(|command| which(command));
    let deaths = dies_before_each_command(
        &scene,
        Points::These { from, commands },
        |_| shop.prepare(),
        |_| shop.start(),
        |_| {
            shop.is_proven();
            shop.is_whole();
        },
    );
    shop.ends("a deployment's script", deaths);
    deaths
}

#[test]
fn a_switch_that_is_killed_drops_no_request_and_the_next_try_ends_it() {
    // When the door has only just another file to look for, and when the old release is about to end. The soak has all.
    let some = |command: &str| {
        command.ends_with("/routes/shop") && command.starts_with("sync ") || command.starts_with("docker stop ")
    };
    let deaths = deployment_dies(SWITCH, some);
    assert_eq!(deaths, 2);
}

#[test]
#[ignore = "takes an hour: ./tests/soak"]
fn soak_wherever_a_switch_is_killed_no_request_is_dropped() {
    let deaths = deployment_dies(SWITCH, |_| true);
    assert!(deaths > 20, "{deaths}");
}

#[test]
#[ignore = "takes an hour: ./tests/soak"]
fn soak_wherever_a_deployment_behind_the_door_is_killed_no_request_is_dropped() {
    let deaths = deployment_dies("*", |_| true);
    assert!(deaths > 40, "{deaths}");
}

#[test]
#[ignore = "takes an hour: ./tests/soak"]
fn soak_wherever_cis_job_behind_the_door_is_killed_no_request_is_dropped() {
    let mut scene = AttemptScene::new();
    scene.with_door(DRAIN, PROVING);
    let shop = Scene::new(&scene);
    let push = || shop.project.push_by_ci().map_err(|error| format!("{error:#}"));
    let next = || drop(shop.serving.replace(shop.project.publish(Variant::Healthy)));
    next();
    let commands = commands_of(&scene, "*", || push().unwrap());
    shop.is_whole();
    let deaths = dies_before_each_command(
        &scene,
        Points::These { from: "*", commands },
        |_| next(),
        |at| match push() {
            Ok(()) => Ok(()),
            Err(_) if at % 3 > 0 => push(),
            Err(_) => {
                shop.project.run(shop.project.work(&shop.serving.borrow())).map(drop).map_err(|e| format!("{e:?}"))
            }
        },
        |_| shop.is_whole(),
    );
    shop.ends("CI's job", deaths);
    assert!(deaths > 40, "{deaths}");
}
