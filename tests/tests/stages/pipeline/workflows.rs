//! The unmodified workflows of each template generation, played by a runner as GitHub's would, from the push to the job
//! that deploys: a good image is deployed, a bad one is refused, and the release before serves on. Each generation by two
//! servers: as root by the usual port of SSH, and as another user by another port.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::ensure;
use slipway_protocol::names::{Port, UserName};
use slipway_tests::workflow::{JobOutcome, WorkflowRun, WorkflowRunner};
use slipway_tests::world::{Commit, Generation, Module, Sample, TargetServer, Variant, eventually};

use crate::pipeline::prober::{Answers, Prober};
use crate::pipeline::scene::{AttemptScene, BOT_TOKEN, PORT};

/// What generation 2's workflow logs in to the registry with.
const PUSHER: [(&str, &str); 3] =
    [("REGISTRY_URL", "ghcr.io"), ("REGISTRY_USER", "acme-robot"), ("REGISTRY_PASSWORD", "may-push-7c1d")];

/// A deployed project and the runner of its repository.
struct Pushes<'a> {
    scene: &'a AttemptScene,
    target: usize,
    sample: Sample,
    runner: WorkflowRunner<'a>,
}

impl<'a> Pushes<'a> {
    /// On server 0 as root by port 22, on server 1 as another user by another port.
    fn deploy(scene: &'a AttemptScene, generation: Generation, target: usize) -> Self {
        let (name, server) = (if target == 0 { "shop" } else { "bakery" }, scene.world.target(target));
        let mut sample = Sample::new(generation, "acme", name);
        if generation == Generation::Two && target > 0 {
            sample = logging_in_by_its_port(sample);
        }
        let commit = scene.publish(&sample, Variant::Healthy);
        for (name, value) in PUSHER {
            scene.github.set_secret(&format!("acme/{}", sample.repository()), name, value);
        }
        let mut work = scene.work_on((target, PORT), &sample, &commit, name, &BTreeMap::new());
        if target > 0 {
            server.add_user("deployer", &["sudo"]).unwrap();
            server.sh("kill $(cat /run/sshd.pid)").unwrap();
            scene.start_sshd(target, 2222, "");
            work.target.ssh_user = UserName::new("deployer").unwrap();
            work.target.ssh_port = Port::new(2222).unwrap();
        }
        let ssh_port = work.target.ssh_port.to_string();
        scene.run(work).unwrap();
        let secrets = scene.github.secrets(&format!("acme/{name}"));
        let deploy_port = if generation == Generation::One { ssh_port } else { PORT.to_string() };
        assert_eq!(secrets["DEPLOY_PORT"], deploy_port);
        let heard = scene.heard.lines.lock().unwrap().join("\n");
        assert!(!heard.contains("CI's job logs in on port 22"), "each workflow here knows its port: {heard}");
        let [registry, user, password] = PUSHER.map(|(_, value)| value);
        let runner = WorkflowRunner::new(&scene.world, secrets).who_may_push(registry, user, password);
        scene.note_starts(target, "tg_bot");
        Self { scene, target, sample, runner }
    }

    fn server(&self) -> &TargetServer {
        self.scene.world.target(self.target)
    }

    /// A push, and in generation 2 then the start by hand of the workflow that deploys.
    fn push(&self, change: impl FnOnce(Sample) -> Sample) -> (Commit, Vec<WorkflowRun>) {
        let sample = change(self.sample.clone());
        let commit = self.scene.world.git().publish(&sample).unwrap();
        let mut runs = self.runner.push(&sample, &commit).unwrap();
        let deploying = sample.generation().deploying_workflow();
        if runs.iter().all(|run| run.passed() && run.file != deploying) {
            runs.push(self.runner.dispatch(&sample, &commit, deploying).unwrap());
        }
        (commit, runs)
    }

    fn deploys(&self, readme: &str) -> Commit {
        let prober = Prober::start(SocketAddr::from((self.server().ip(), PORT)), "/health");
        let (commit, runs) = self.push(|sample| sample.with_file("README.md", readme));
        assert!(runs.iter().all(WorkflowRun::passed), "{}", log(&runs));
        self.serves(&commit, "the new image");
        let answers = prober.stop();
        tell(self.sample.generation(), &answers);
        assert!(answers.asked > 50 && answers.longest < Duration::from_secs(30), "{answers:?}");
        assert_eq!(self.scene.starts(self.target, "tg_bot"), 1, "starts of the new bot: {}", log(&runs));
        let inspect =
            format!("docker inspect --format '{{{{json .Config.Labels}}}}' {}-backend-1", self.sample.repository());
        assert!(self.server().sh(&inspect).unwrap().contains(&commit.sha), "the image has no label of its commit");
        commit
    }

    fn serves(&self, commit: &Commit, what: &str) {
        eventually(what, Duration::from_secs(10), || {
            let body = self.scene.get_from((self.target, PORT), "/health");
            ensure!(body.contains(&commit.sha), "{body}");
            Ok(())
        })
        .unwrap();
    }

    /// The container of a service, and the files that CI's job works with.
    fn state(&self, service: &str) -> String {
        let format = "{{.Id}} {{.Image}} {{.State.Running}}";
        let (name, path) = (self.sample.repository(), format!("/opt/services/{}", self.sample.repository()));
        let script =
            format!("docker inspect --format '{format}' {name}-{service}-1; cat {path}/.env; ls -A {path}/.slipway");
        self.server().sh(&script).unwrap()
    }

    /// A push whose images are built, and whose job that deploys is red: the release before serves on, its web service's
    /// very container. Gives the log.
    fn refuses(&self, module: Module, variant: Variant, code: &str, serving: &Commit) -> String {
        let web = self.state("backend");
        let (_, runs) = self.push(|sample| sample.behaving(module, variant));
        let (log, run) = (log(&runs), runs.last().unwrap());
        assert_eq!(run.file, self.sample.generation().deploying_workflow());
        assert_eq!(runs[0].outcome("build-and-push"), Some(JobOutcome::Passed), "{log}");
        assert_eq!(run.outcome("deploy"), Some(JobOutcome::Failed), "{log}");
        assert!(log.contains(&format!("({code})")), "{code}: {log}");
        assert!(log.contains("the release before serves on"), "{log}");
        assert!(!log.contains(BOT_TOKEN), "a secret is in the job's log: {log}");
        self.serves(serving, "the release before");
        assert_eq!(self.state("backend"), web, "the backend was touched: {log}");
        log
    }

    /// Without a rehearsal and without a health check it shows when the new release is there: it's asked as after a deployment.
    fn goes_back_where_the_page_is_not_there(&self, serving: &Commit) {
        let env = format!("/opt/services/{}/.env", self.sample.repository());
        self.server().sh(&format!("echo 'SLIPWAY_REHEARSAL=\"off\"' >>{env}")).unwrap();
        let (_, runs) = self.push(|sample| sample.behaving(Module::Backend, Variant::NotFound));
        let log = log(&runs);
        assert_eq!(runs.last().unwrap().outcome("deploy"), Some(JobOutcome::Failed), "{log}");
        let told = "service backend doesn't answer as it must: the release before serves on";
        assert!(log.contains(told) && log.contains("(not-healthy)"), "{log}");
        self.serves(serving, "the release before");
    }

    /// Where an image can't be built, nothing is pushed and nothing is deployed.
    fn stays_as_it_is_where_a_build_fails(&self) {
        let before = self.state("backend");
        let broken = "FROM python:3.12-slim\nRUN false\n";
        let (commit, runs) = self.push(|sample| sample.with_file("services/backend/Dockerfile", broken));
        let log = log(&runs);
        assert_eq!(runs.len(), 1, "{log}");
        assert_eq!(runs[0].outcome("build-and-push"), Some(JobOutcome::Failed), "{log}");
        let deploy = (self.sample.generation() == Generation::One).then_some(JobOutcome::Skipped);
        assert_eq!(runs[0].outcome("deploy"), deploy, "{log}");
        assert!(self.scene.world.ghcr().remove(&self.sample.image(Module::TgBot), &commit.tag()).is_err());
        assert_eq!(self.state("backend"), before);
    }
}

/// Generation 2 with what Slipway's warning asks for: its own workflow knows no port but 22.
fn logging_in_by_its_port(sample: Sample) -> Sample {
    let (folder, path) = (tempfile::tempdir().unwrap(), ".github/workflows/deploy.yml");
    sample.write(folder.path()).unwrap();
    let workflow = fs::read_to_string(folder.path().join(path)).unwrap();
    let port = "${{ secrets.DEPLOY_SSH_PORT }}";
    let by_script = workflow.replace("-o ConnectTimeout=30", &format!("-o ConnectTimeout=30 -o Port={port}"));
    let by_action = by_script.replace("          envs: ", &format!("          port: {port}\n          envs: "));
    assert_eq!(by_action.matches(port).count(), 2, "{by_action}");
    sample.with_file(path, &by_action)
}

fn log(runs: &[WorkflowRun]) -> String {
    runs.iter().map(WorkflowRun::log).collect()
}

/// How long a push costs those who ask.
#[expect(clippy::print_stderr, reason = "measurements, shown with --nocapture")]
fn tell(generation: Generation, answers: &Answers) {
    eprintln!("a push by CI, {generation:?}: {answers:?}");
}

/// Both servers at once.
fn on_two_servers(check: impl Fn(&AttemptScene, usize) + Sync) {
    let scene = AttemptScene::with(2);
    thread::scope(|scope| {
        let (scene, check) = (&scene, &check);
        let checks = [0, 1].map(|target| {
            scope.spawn(move || {
                scene.world.enter().unwrap();
                check(scene, target);
            })
        });
        checks.into_iter().for_each(|check| check.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
    });
}

#[test]
fn a_push_of_generation_1_is_built_and_deployed_and_a_bad_one_refused() {
    on_two_servers(|scene, target| {
        let pushes = Pushes::deploy(scene, Generation::One, target);
        let good = pushes.deploys("one");
        pushes.refuses(Module::Backend, Variant::CrashLoop, "crash-loop", &good);
        if target == 0 {
            pushes.stays_as_it_is_where_a_build_fails();
            return;
        }
        // A bot can't be rehearsed: it's started before the web service is touched, fails, and goes back to the image
        // that has lost its tag.
        let bot = pushes.state("tg_bot");
        let log = pushes.refuses(Module::TgBot, Variant::CrashLoop, "crash-loop", &good);
        assert!(log.contains("service tg_bot exits"), "{log}");
        let unnamed = |state: &str| state.split_once(' ').map(|(_, rest)| rest.to_owned()).unwrap();
        assert_eq!(unnamed(&pushes.state("tg_bot")), unnamed(&bot), "the bot isn't what it was");
        pushes.goes_back_where_the_page_is_not_there(&good);
    });
}

#[test]
fn a_push_of_generation_2_is_built_and_deployed_and_a_bad_one_refused() {
    on_two_servers(|scene, target| {
        let pushes = Pushes::deploy(scene, Generation::Two, target);
        let good = pushes.deploys("one");
        pushes.refuses(Module::Backend, Variant::Unhealthy, "unhealthy", &good);
        if target > 0 {
            pushes.refuses(Module::TgBot, Variant::CrashLoop, "crash-loop", &good);
            return;
        }
        pushes.stays_as_it_is_where_a_build_fails();
        // The next good one isn't held up, nor by a job that was killed halfway.
        let killed = "cd /opt/services/shop/.slipway && mkdir -m 700 served && cp ../.env served/env && git -C .. rev-parse HEAD >served/commit && touch served/by-ci served/running";
        pushes.server().sh(killed).unwrap();
        pushes.deploys("three");
        pushes.server().sh("[ ! -e /opt/services/shop/.slipway/served ]").unwrap();
    });
}
