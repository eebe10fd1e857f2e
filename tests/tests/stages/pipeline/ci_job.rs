//! The project's own CI after a deployment: the job of its unmodified workflow, played by real clients with the secrets
//! that GitHub holds. And what else can be had with that key: nothing.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::ensure;
use slipway_deploy::DeploymentWork;
use slipway_protocol::Stage;
use slipway_tests::workflow::WorkflowRunner;
use slipway_tests::world::{Generation, Sample, Variant, eventually};

use crate::pipeline::scene::{AttemptScene, PORT};

const OPTIONS: [&str; 10] = [
    "-F",
    "none",
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "IdentitiesOnly=yes",
    "-o",
    "BatchMode=yes",
];

/// GitHub's runner, with the secrets of one repository.
struct Runner<'a> {
    scene: &'a AttemptScene,
    secrets: BTreeMap<String, String>,
    key: PathBuf,
}

impl<'a> Runner<'a> {
    fn new(scene: &'a AttemptScene, repository: &str) -> Self {
        let secrets = scene.github.secrets(repository);
        let key = scene.world.folder().join(format!("ci-{}", uuid::Uuid::new_v4()));
        fs::write(&key, &secrets["DEPLOY_SSH_KEY"]).unwrap();
        fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
        Self { scene, secrets, key }
    }

    fn place(&self) -> String {
        format!("{}@{}", self.secrets["DEPLOY_USER"], self.secrets["DEPLOY_HOST"])
    }

    fn client(&self, program: &str) -> Command {
        let mut command = self.scene.world.command(program);
        command.args(OPTIONS).arg("-i").arg(&self.key);
        command
    }

    fn ssh(&self, arguments: &[&str], asked: &str) -> Output {
        let mut command = self.client("ssh");
        command.args(arguments).arg(self.place());
        if !asked.is_empty() {
            command.arg(asked);
        }
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// A shell that gets `script` over stdin.
    fn shell(&self, asked: &[&str], script: &str) -> Output {
        let mut command = self.client("ssh");
        command.arg(self.place()).args(asked);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// What `appleboy/ssh-action` sends for the sample's workflow: the variables in `envs`, then the script.
    fn job(&self, sample: &Sample) -> String {
        let player = WorkflowRunner::new(&self.scene.world, self.secrets.clone());
        player.remote_command(sample, sample.generation().deploying_workflow(), "deploy").unwrap()
    }

    /// What `appleboy/scp-action` does with the tar file that it has made.
    fn copies(&self, target: &str) {
        assert!(!self.ssh(&[], "ver").status.success(), "it would be taken for Windows");
        assert!(!self.ssh(&[], "uname").status.success());
        let mut command = self.client("ssh");
        command.arg(self.place()).arg("scp -tr aBcDeFgHiJ.tar");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // It waits for no answer, and its file is larger than SSH's window.
        stdin.write_all(b"C0644 4194304 aBcDeFgHiJ.tar\n").unwrap();
        stdin.write_all(&vec![b'\n'; 4_194_304]).unwrap();
        stdin.write_all(b"\0").unwrap();
        drop(stdin);
        assert!(child.wait_with_output().unwrap().status.success());
        for step in [
            format!("mkdir -p {target}"),
            format!("tar -xf aBcDeFgHiJ.tar -C {target}"),
            "rm -rf aBcDeFgHiJ.tar".to_owned(),
        ] {
            let output = self.ssh(&[], &step);
            assert!(output.status.success(), "{step}: {}", text(&output.stderr));
            let warnings = text(&output.stderr).replace("Warning: Permanently added", "");
            assert!(!warnings.contains("slipway"), "{step}: a word on stderr fails the step: {warnings}");
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn either_generations_job_deploys_with_the_projects_key_and_can_do_nothing_else() {
    let mut scene = AttemptScene::new();
    scene.world.target(0).add_user("deployer", &["sudo"]).unwrap();
    for (generation, user, slug, port) in
        [(Generation::One, "root", "shop", PORT), (Generation::Two, "deployer", "bakery", PORT + 1)]
    {
        scene.user = user;
        let sample = Sample::new(generation, "acme", slug);
        let commit = scene.publish(&sample, Variant::Healthy);
        let work = scene.work_on((0, port), &sample, &commit, slug, &BTreeMap::new());
        let done = scene.run(work).unwrap();
        let runner = Runner::new(&scene, &format!("acme/{slug}"));
        assert_eq!(runner.secrets["DEPLOY_USER"], user);
        assert!(done.round_trips <= 30, "{} round trips", done.round_trips);
        let keys = scene.world.target(0).sh(&format!("cat ~{user}/.ssh/authorized_keys")).unwrap();
        let sudo = if user == "root" { "" } else { "sudo -n --preserve-env=SSH_ORIGINAL_COMMAND " };
        let line = format!("restrict,command=\"{sudo}/opt/services/{slug}/.slipway/ci-deploy\" ssh-ed25519 ");
        assert_eq!(keys.matches(&line).count(), 1, "{keys}");

        let next = scene.publish(&sample.clone().with_file("README.md", "pushed"), Variant::Healthy);
        let (host, path) = (&runner.secrets["DEPLOY_HOST"], &runner.secrets["DEPLOY_PROJECT_PATH"]);
        let before =
            scene.world.target(0).sh(&format!("cd {path} && git status --porcelain && cat infra/*.yml")).unwrap();
        runner.copies(path);
        // To generation 1's workflow it's the port of SSH.
        let deploy_port = if generation == Generation::One { 22 } else { port };
        assert_eq!(runner.secrets["DEPLOY_PORT"], deploy_port.to_string());
        let health = || scene.world.get(&format!("http://{host}:{port}/health"));
        assert!(health().unwrap().body.contains(&commit.sha), "copying alone deployed");

        let output = runner.ssh(&[], &runner.job(&sample));
        let said = format!("{}{}", text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{said}");
        assert!(said.contains("backend runs ghcr.io/acme/"), "{said}");
        eventually("the new image's answer", Duration::from_secs(20), || {
            let body = health()?.body;
            ensure!(body.contains(&next.sha), "{body}");
            Ok(())
        })
        .unwrap();
        let after =
            scene.world.target(0).sh(&format!("cd {path} && git status --porcelain && cat infra/*.yml")).unwrap();
        assert_eq!(after, before, "what CI copies changes no file");
        // As others send a script.
        let asked: &[&str] = if generation == Generation::One { &[] } else { &["bash", "-s"] };
        let output = runner.shell(asked, &runner.job(&sample));
        assert!(output.status.success(), "{}", text(&output.stderr));
        let refused = runner.ssh(&[], "touch /tmp/intruder");
        assert_eq!(refused.status.code(), Some(1), "{}", text(&refused.stderr));
        if generation == Generation::One {
            what_somebody_has_stopped_stays_so(&runner, &sample);
        }
        // By the same program, but behind sudo: the longer way.
        if generation == Generation::Two {
            refuses_all_else(&runner);
            let digests = done.reports[&Stage::Secrets].github_digests.clone().unwrap();
            rotated(&scene, &runner, &sample, scene.work_on((0, port), &sample, &next, slug, &digests));
        }
    }
}

/// CI's job then pulls and makes the containers, and starts none.
fn what_somebody_has_stopped_stays_so(runner: &Runner<'_>, sample: &Sample) {
    let (server, path) = (runner.scene.world.target(0), &runner.secrets["DEPLOY_PROJECT_PATH"]);
    let name = sample.repository();
    let of = format!("--filter label=com.docker.compose.project={name}");
    server.sh(&format!("docker stop -t 0 $(docker ps -q {of}); touch {path}/.slipway/stopped")).unwrap();
    let next = runner.scene.publish(&sample.clone().with_file("README.md", "pushed again"), Variant::Healthy);
    let output = runner.ssh(&[], &runner.job(sample));
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(server.sh(&format!("docker ps -q {of}")).unwrap(), "", "something runs");
    let built = server.sh(&format!("docker inspect --format '{{{{.Config.Env}}}}' {name}-backend-1")).unwrap();
    assert!(built.contains(&format!("SAMPLE_COMMIT={}", next.sha)), "the new version isn't ready: {built}");
}

/// A key whose digest is forgotten is replaced, and the old one is worth nothing.
fn rotated(scene: &AttemptScene, old: &Runner<'_>, sample: &Sample, mut work: DeploymentWork) {
    work.github_digests.remove("DEPLOY_SSH_KEY").unwrap();
    let done = scene.run_stages(work, &[Stage::Secrets]).unwrap();
    assert_eq!(done.reports[&Stage::Secrets].facts["new_deploy_key"], true);
    let refused = old.ssh(&[], &old.job(sample));
    assert!(text(&refused.stderr).contains("Permission denied"), "{}", text(&refused.stderr));
    let new = Runner::new(scene, &format!("{}/{}", sample.owner(), sample.repository()));
    assert!(text(&new.ssh(&[], "ver").stderr).contains("slipway: this key can do one thing"));
    for value in new.secrets.values() {
        assert!(!is_the_fleets(scene, value), "the fleet's key has left");
    }
}

fn is_the_fleets(scene: &AttemptScene, value: &str) -> bool {
    let key = fs::read_to_string(scene.world.ssh_key()).unwrap();
    key.lines().filter(|line| line.len() > 60).skip(1).any(|line| value.contains(line))
}

fn refuses_all_else(runner: &Runner<'_>) {
    let server = runner.scene.world.target(0);
    let path = &runner.secrets["DEPLOY_PROJECT_PATH"];
    let commands = [
        "touch /tmp/intruder".to_owned(),
        "cat /etc/shadow".to_owned(),
        format!("rm -rf {path}"),
        format!("mkdir -p {path}; touch /tmp/intruder"),
        format!("mkdir -p {path}\ntouch /tmp/intruder"),
        "scp -f /etc/shadow".to_owned(),
        "docker ps".to_owned(),
        format!("docker compose -p {} down -v", runner.secrets["PROJECT_NAME"]),
    ];
    for command in commands {
        let output = runner.ssh(&[], &command);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{command}: {said}");
        assert!(said.contains("slipway: this key can do one thing") && output.stdout.is_empty(), "{command}: {said}");
    }
    let output = runner.shell(&[], "touch /tmp/intruder\n");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output.stderr));

    // What a key can be used for beside commands.
    let into = runner.scene.world.folder().join("loot");
    let mut sftp = runner.client("sftp");
    let output = sftp.args(["-b", "/dev/null"]).arg(runner.place()).output().unwrap();
    assert!(!output.status.success(), "sftp");
    let mut scp = runner.client("scp");
    let output = scp.arg("-O").arg(format!("{}:/etc/shadow", runner.place())).arg(&into).output().unwrap();
    assert!(!output.status.success() && !into.exists(), "scp");
    takes_files_and_keeps_none(runner);
    let output = runner.ssh(&["-W", "127.0.0.1:22"], "");
    assert!(!output.status.success() && output.stdout.is_empty(), "forwarding to the server's side");
    let output = runner.ssh(&["-o", "ExitOnForwardFailure=yes", "-R", "9999:127.0.0.1:22"], "docker compose pull");
    assert_eq!(output.status.code(), Some(255), "forwarding from the server's side: {}", text(&output.stderr));
    let output = runner.ssh(&["-tt"], "tty");
    assert!(text(&output.stderr).contains("PTY allocation request failed"), "{}", text(&output.stderr));
    no_agent_is_forwarded(runner);

    server.sh("[ ! -e /tmp/intruder ]").unwrap();
    let (host, port) = (&runner.secrets["DEPLOY_HOST"], &runner.secrets["DEPLOY_PORT"]);
    let answer = runner.scene.world.get(&format!("http://{host}:{port}/health")).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.body);
}

/// By SFTP, which OpenSSH's scp speaks: names in the project take files, and nothing else is answered.
fn takes_files_and_keeps_none(runner: &Runner<'_>) {
    let path = &runner.secrets["DEPLOY_PROJECT_PATH"];
    let (file, into) = (runner.scene.world.folder().join("intruder"), runner.scene.world.folder().join("loot"));
    fs::write(&file, vec![b'x'; 200_000]).unwrap();
    let scp = |from: &str, to: &str| runner.client("scp").args(["-s", from, to]).output().unwrap();
    let (file, loot) = (file.display().to_string(), into.display().to_string());
    let output = scp(&file, &format!("{}:{path}/infra/", runner.place()));
    assert!(output.status.success(), "{}", text(&output.stderr));
    for place in ["/tmp/".to_owned(), format!("{path}/../"), "/root/.ssh/authorized_keys".to_owned(), ".".to_owned()] {
        assert!(!scp(&file, &format!("{}:{place}", runner.place())).status.success(), "written to {place}");
    }
    for place in ["/etc/shadow".to_owned(), format!("{path}/.env"), format!("{path}/infra/compose.base.yml")] {
        let output = scp(&format!("{}:{place}", runner.place()), &loot);
        assert!(!output.status.success() && !into.exists(), "{place} was read");
    }
    let kept = runner.scene.world.target(0).sh("find /opt /tmp /root /home -name 'intruder*'").unwrap();
    assert_eq!(kept, "", "kept");
}

fn no_agent_is_forwarded(runner: &Runner<'_>) {
    let socket = runner.scene.world.folder().join("agent");
    let mut agent = Command::new("ssh-agent").arg("-D").arg("-a").arg(&socket).stdout(Stdio::null()).spawn().unwrap();
    eventually("an agent", Duration::from_secs(5), || {
        ensure!(socket.exists(), "no socket yet");
        Ok(())
    })
    .unwrap();
    let mut command = runner.client("ssh");
    command.env("SSH_AUTH_SOCK", &socket).arg("-A").arg(runner.place()).arg("scp -t .");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // The first byte says that the session is there; it lasts until its stdin ends.
    child.stdout.take().unwrap().read_exact(&mut [0]).unwrap();
    runner.scene.world.target(0).sh("! ls -d /tmp/ssh-*").unwrap();
    drop(child.stdin.take());
    child.wait().unwrap();
    agent.kill().unwrap();
    agent.wait().unwrap();
    let _ = fs::remove_file(socket);
}
