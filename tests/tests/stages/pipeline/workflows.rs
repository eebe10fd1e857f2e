//! The unmodified workflow of each template generation, played by a runner as GitHub's would: a good image is deployed, a
//! bad one is refused, and the release before serves on.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::ensure;
use slipway_deploy::DeploymentWork;
use slipway_protocol::names::Port;
use slipway_tests::workflow::{JobRun, WorkflowRunner};
use slipway_tests::world::{Commit, Generation, Image, Module, Sample, TargetServer, Variant, eventually};

use crate::pipeline::scene::{AttemptScene, BOT_TOKEN, PORT};

/// A deployed project and the runner of its repository.
struct Pushes<'a> {
    scene: &'a AttemptScene,
    sample: Sample,
    runner: WorkflowRunner<'a>,
    name: &'static str,
}

impl<'a> Pushes<'a> {
    fn deploy(scene: &'a AttemptScene, generation: Generation, change: impl Fn(&mut DeploymentWork)) -> Self {
        let name = "shop";
        let sample = Sample::new(generation, "acme", name);
        let commit = scene.publish(&sample, Variant::Healthy);
        let mut work = scene.work(&sample, &commit, name, &BTreeMap::new());
        change(&mut work);
        scene.run(work).unwrap();
        let runner = WorkflowRunner::new(&scene.world, scene.github.secrets("acme/shop")).unwrap();
        Self { scene, sample, runner, name }
    }

    fn server(&self) -> &TargetServer {
        self.scene.world.target(0)
    }

    /// A commit with images, as the other job leaves it, then the job that deploys.
    fn push(&self, readme: &str, variant: Variant) -> (Commit, JobRun) {
        let commit = self.scene.publish(&self.sample.clone().with_file("README.md", readme), variant);
        (commit, self.play())
    }

    fn play(&self) -> JobRun {
        self.runner.play(&self.sample, self.sample.generation().deploying_workflow(), "deploy").unwrap()
    }

    fn deploys(&self, readme: &str) -> Commit {
        let (commit, job) = self.push(readme, Variant::Healthy);
        assert!(job.passed, "{}", job.log);
        self.serves(&commit, "the new image");
        commit
    }

    fn serves(&self, commit: &Commit, what: &str) {
        eventually(what, Duration::from_secs(10), || {
            let body = self.scene.get("/health");
            ensure!(body.contains(&commit.sha), "{body}");
            Ok(())
        })
        .unwrap();
    }

    /// Containers and images of the web service and the bot, and the files that CI's job works with.
    fn state(&self, service: &str) -> String {
        let format = "{{.Id}} {{.Image}} {{.State.Running}}";
        let (name, path) = (self.name, format!("/opt/services/{}", self.name));
        let script =
            format!("docker inspect --format '{format}' {name}-{service}-1; cat {path}/.env; ls -A {path}/.slipway");
        self.server().sh(&script).unwrap()
    }

    /// The release before serves on: its very container, where `untouched`.
    fn refuses(&self, job: &JobRun, code: &str, serving: &Commit) {
        assert!(!job.passed, "green: {}", job.log);
        assert!(job.log.contains(&format!("({code})")), "{code}: {}", job.log);
        assert!(job.log.contains("the release before serves on"), "{}", job.log);
        assert!(!job.log.contains(BOT_TOKEN), "a secret is in the job's log: {}", job.log);
        self.serves(serving, "the release before");
    }
}

#[test]
fn generation_1s_workflow_deploys_as_a_user_by_another_ssh_port() {
    let mut scene = AttemptScene::new();
    scene.user = "deployer";
    let server = scene.world.target(0);
    server.add_user("deployer", &["sudo"]).unwrap();
    let sshd = "kill $(cat /run/sshd.pid); /usr/sbin/sshd -p 2222 -E /var/log/sshd.log; until ss -Hltn | grep -q :2222; do :; done";
    server.sh(sshd).unwrap();
    let pushes = Pushes::deploy(&scene, Generation::One, |work| work.target.ssh_port = Port::new(2222).unwrap());
    assert_eq!(scene.github.secrets("acme/shop")["DEPLOY_PORT"], "2222");

    let good = pushes.deploys("one");
    let (web, bot) = (pushes.state("backend"), pushes.state("tg_bot"));
    let (_, job) = pushes.push("two", Variant::CrashLoop);
    pushes.refuses(&job, "crash-loop", &good);
    assert_eq!(pushes.state("backend"), web, "something was touched");

    // What isn't rehearsed is started, fails, and goes back to the image that has lost its tag.
    let image = Image::module(Module::TgBot, Variant::CrashLoop, None);
    let bad = scene.publish(&pushes.sample.clone().with_file("README.md", "three"), Variant::Healthy);
    scene.world.push_image("acme/shop-tg-bot", "latest", &image).unwrap();
    let job = pushes.play();
    pushes.refuses(&job, "crash-loop", &good);
    assert!(job.log.contains("service tg_bot exits"), "{}", job.log);
    let unnamed = |state: &str| state.split_once(' ').map(|(_, rest)| rest.to_owned()).unwrap();
    assert_eq!(unnamed(&pushes.state("tg_bot")), unnamed(&bot), "the bot isn't what it was");
    assert_eq!(unnamed(&pushes.state("backend")), unnamed(&web), "the backend isn't what it was");
    assert!(!scene.get("/health").contains(&bad.sha));
}

#[test]
fn generation_2s_workflow_deploys_as_root_and_refuses_an_unhealthy_image() {
    let scene = AttemptScene::new();
    let pushes = Pushes::deploy(&scene, Generation::Two, |_| {});
    assert_eq!(scene.github.secrets("acme/shop")["DEPLOY_PORT"], PORT.to_string());

    let good = pushes.deploys("one");
    let web = pushes.state("backend");
    let (_, job) = pushes.push("two", Variant::Unhealthy);
    pushes.refuses(&job, "unhealthy", &good);
    assert_eq!(pushes.state("backend"), web, "something was touched");
    // The next good one isn't held up, nor by a job that was killed halfway.
    let server = pushes.server();
    server.sh("cd /opt/services/shop/.slipway && mkdir -m 700 served && cp ../.env served/env && git -C .. rev-parse HEAD >served/commit && touch served/by-ci served/running").unwrap();
    pushes.deploys("three");
    server.sh("[ ! -e /opt/services/shop/.slipway/served ]").unwrap();
}
