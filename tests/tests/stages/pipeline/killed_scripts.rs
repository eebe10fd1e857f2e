//! A server's script is killed before each command that it runs, as a power cut or a lack of memory would: whatever is
//! half done then, the next try makes it right.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use slipway_deploy::{DeploymentWork, RestoreOutcome};
use slipway_protocol::names::Port;
use slipway_protocol::{ErrorCode, Stage};
use slipway_tests::github::RateLimits;
use slipway_tests::world::{Generation, Sample, Variant};
use tokio_util::sync::CancellationToken;

use crate::pipeline::dying::{Points, count_commands, dies_before_each_command};
use crate::pipeline::scene::{AttemptScene, PORT};

/// One stage, which the attempt itself tries again.
fn stage(scene: &AttemptScene, stage: Stage, work: DeploymentWork) -> Result<(), String> {
    scene.run_stages(work, &[stage]).map(drop).map_err(|e| format!("{e:?}"))
}

/// What an attempt has touched is put back, by one that begins anew after each death.
fn put_back(scene: &AttemptScene, work: &DeploymentWork) -> Result<(), String> {
    let settle = async || {
        let mut attempt = scene.deployer.begin(work.clone(), scene.heard.clone(), CancellationToken::new());
        let settled = attempt.restore_previous(true, CancellationToken::new()).await;
        attempt.close().await;
        settled
    };
    let again = async || match settle().await {
        RestoreOutcome::Unknown(error) if error.code == ErrorCode::ServerConnectionLost => settle().await,
        settled => settled,
    };
    let settled = scene.world.block_on(again()).map_err(|e| format!("{e:#}"))?;
    settled.is_complete().then_some(()).ok_or_else(|| format!("{settled:?}"))
}

const README: [&str; 2] = ["one\n", "two\n"];

/// A server and two commits of one project, whose scripts' commands are counted once the first one is deployed up to
/// that stage.
fn scene(stages: &[Stage]) -> (AttemptScene, [DeploymentWork; 2]) {
    let scene = AttemptScene::new();
    let sample = Sample::new(Generation::One, "acme", "shop");
    let before = "ufw allow 22/tcp; ufw --force enable; echo 'ssh-ed25519 AAAA somebody' >>/root/.ssh/authorized_keys";
    scene.world.target(0).sh(before).unwrap();
    let commits = README.map(|text| scene.publish(&sample.clone().with_file("README.md", text), Variant::Healthy));
    let [first, second] = commits.map(|commit| scene.work(&sample, &commit, "shop", &BTreeMap::new()));
    let done = scene.run_stages(first.clone(), stages).unwrap();
    count_commands(&scene);
    let digests =
        done.reports.get(&Stage::Secrets).and_then(|report| report.github_digests.clone()).unwrap_or_default();
    let works = [first, second].map(|work| DeploymentWork { github_digests: digests.clone(), ..work });
    (scene, works)
}

/// A command in the project's directory.
fn sh(scene: &AttemptScene, script: &str) -> String {
    scene.world.target(0).sh(&format!("PATH=/usr/sbin:/usr/bin:/sbin:/bin; cd /opt/services/shop; {script}")).unwrap()
}

/// Clone, into a directory that is there or, where `anew` says so, is not.
fn clone_dies(anew: impl Fn(usize) -> bool) {
    let (scene, works) = scene(&[Stage::Clone]);
    // What its script looks at for stage env is no part of it.
    scene.world.target(0).sh("touch /run/until-env").unwrap();
    let deaths = dies_before_each_command(
        &scene,
        Points::All,
        |at| {
            if anew(at) {
                scene.world.target(0).sh("rm -r /opt/services/shop").unwrap();
            }
        },
        |at| stage(&scene, Stage::Clone, works[at % 2].clone()),
        |at| {
            let git = "git() { command git -c safe.directory='*' \"$@\"; }; git rev-parse HEAD; git status -s -uno; git fsck 2>&1";
            assert_eq!(sh(&scene, git).trim(), works[at % 2].request.repository.commit.as_str());
            assert_eq!(sh(&scene, "cat README.md"), README[at % 2]);
        },
    );
    assert!(deaths > 30, "{deaths}");
}

#[test]
#[ignore = "takes minutes: ./tests/soak"]
fn soak_a_killed_script_of_clone_env_firewall_or_secrets_is_mended_by_the_next_try() {
    clone_dies(|_| true);
    clone_dies(|_| false);
    let (scene, works) = scene(&Stage::ALL);
    let plain = &works[0];

    let deaths = dies_before_each_command(
        &scene,
        Points::All,
        |_| {},
        |at| {
            let mut work = plain.clone();
            work.request.variables.insert("GREETING".parse().unwrap(), at.to_string());
            stage(&scene, Stage::Env, work)
        },
        |at| {
            let files =
                "stat -c '%a %n' .env infra/compose.slipway.yml; readlink infra/.env; grep ^GREETING= infra/.env";
            let expected = format!("600 .env\n644 infra/compose.slipway.yml\n../.env\nGREETING=\"{at}\"\n");
            assert_eq!(sh(&scene, files), expected);
        },
    );
    assert!(deaths > 70, "env: {deaths}");

    let port = |at: usize| PORT + u16::try_from(at % 2).unwrap();
    let deaths = dies_before_each_command(
        &scene,
        Points::All,
        |_| {},
        |at| {
            let mut work = plain.clone();
            work.request.allocations[1].host_port = Port::new(port(at)).ok();
            stage(&scene, Stage::Firewall, work)
        },
        |at| {
            let rules = sh(&scene, "ufw show added");
            let ours: Vec<_> = rules.lines().filter(|rule| rule.contains("slipway:")).collect();
            assert_eq!(ours, [format!("ufw allow {}/tcp comment 'slipway:shop'", port(at))]);
            assert!(rules.contains("ufw allow 22/tcp\n"), "{rules}");
        },
    );
    assert!(deaths > 20, "firewall: {deaths}");

    // With a key that nobody knows of, and all else as GitHub has it. Deaths come faster than anybody may write there.
    scene.github.set_limits(RateLimits { writes_per_minute: usize::MAX, ..RateLimits::default() });
    let mut work = plain.clone();
    work.github_digests.remove("DEPLOY_SSH_KEY");
    let deaths = dies_before_each_command(
        &scene,
        Points::All,
        |_| drop(sh(&scene, "rm -f .slipway/ci-deploy")),
        |_| stage(&scene, Stage::Secrets, work.clone()),
        |_| {
            let keys = sh(&scene, "cat /root/.ssh/authorized_keys; [ -x .slipway/ci-deploy ]");
            let counts = (keys.matches("somebody\n").count(), keys.matches(" slipway:shop\n").count());
            assert_eq!(counts, (1, 1), "{keys}");
            let file = scene.world.folder().join("deploy-key");
            std::fs::write(&file, &scene.github.secrets("acme/shop")["DEPLOY_SSH_KEY"]).unwrap();
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
            let public = Command::new("ssh-keygen").arg("-y").arg("-f").arg(&file).output().unwrap().stdout;
            let public = String::from_utf8(public).unwrap();
            assert!(keys.contains(public.split_whitespace().nth(1).unwrap()), "GitHub holds {public}: {keys}");
        },
    );
    assert!(deaths > 20, "secrets: {deaths}");
}

/// That commit's release answers, and nothing of a rehearsal or of what was put back is left beside it.
fn serves(scene: &AttemptScene, work: &DeploymentWork) {
    let health = scene.get("/health");
    assert!(health.contains(work.request.repository.commit.as_str()), "{health}");
    let left = sh(scene, "docker ps -a --format '{{.Names}}' | grep -v '^shop-[a-z_]*-1$' || :; ls -A /dev/shm");
    assert_eq!(left, "");
}

#[test]
#[ignore = "takes minutes: ./tests/soak"]
fn soak_wherever_composes_script_is_killed_the_next_try_makes_it_right() {
    let (scene, works) = scene(&Stage::ALL);
    let deaths = dies_before_each_command(
        &scene,
        Points::All,
        |at| drop(scene.run_stages(works[at % 2].clone(), &[Stage::Clone, Stage::Env]).unwrap()),
        |at| stage(&scene, Stage::Compose, works[at % 2].clone()),
        |at| {
            serves(&scene, &works[at % 2]);
            sh(&scene, "rm -r .slipway/served");
        },
    );
    assert!(deaths > 40, "{deaths}");
}

#[test]
#[ignore = "takes minutes: ./tests/soak"]
fn soak_wherever_putting_back_is_killed_the_next_try_makes_it_right() {
    let (scene, [served, refused]) = scene(&Stage::ALL);
    let deaths = dies_before_each_command(
        &scene,
        Points::All,
        |_| drop(scene.run_stages(refused.clone(), &[Stage::Clone, Stage::Env, Stage::Compose]).unwrap()),
        |_| put_back(&scene, &refused),
        |_| serves(&scene, &served),
    );
    assert!(deaths > 30, "{deaths}");
}

#[test]
#[ignore = "takes minutes: ./tests/soak"]
fn soak_wherever_cis_job_is_killed_the_next_job_or_deployment_makes_it_right() {
    let (scene, works) = scene(&Stage::ALL);
    let sample = Sample::new(Generation::One, "acme", "shop");
    let pushed = RefCell::new(works[1].clone());
    let job = "SSH_ORIGINAL_COMMAND='docker compose pull; docker compose up -d' setsid -w \
               /opt/services/shop/.slipway/ci-deploy";
    let job = || scene.world.target(0).sh(job).map(drop).map_err(|e| format!("{e:#}"));
    let deaths = dies_before_each_command(
        &scene,
        Points::All,
        |at| {
            let next = sample.clone().with_file("README.md", &format!("push {at}\n"));
            let commit = scene.publish(&next, Variant::Healthy);
            pushed.replace(scene.work(&sample, &commit, "shop", &works[1].github_digests));
        },
        |at| match job() {
            Ok(()) => Ok(()),
            Err(_) if at % 3 > 0 => job(),
            Err(_) => scene.run(pushed.borrow().clone()).map(drop).map_err(|e| format!("{e:?}")),
        },
        |_| {
            serves(&scene, &pushed.borrow());
            sh(&scene, "[ ! -e .slipway/served ]");
        },
    );
    assert!(deaths > 60, "{deaths}");
}
