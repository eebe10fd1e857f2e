//! The same deployment once more: what it costs where nothing has changed, and that each thing that isn't as it was left
//! is found and mended by its stage.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use slipway_deploy::DeploymentWork;
use slipway_protocol::names::Host;
use slipway_protocol::{Change, DeploymentId, ErrorCode, Stage};
use slipway_tests::world::{Commit, Generation, LongLine, Sample, Variant};

use crate::pipeline::scene::{AttemptScene, FinishedAttempt, PORT};

/// Programs that a deployment may start on the server where nothing has changed, the login shell among them.
const PROGRAMS: usize = 12;
/// So long that a slow start of sshd's own programs isn't taken for a round trip.
const DELAY: Duration = Duration::from_millis(100);
/// Round trips over SSH: one of TCP, five of the handshake, one for the channel, one until sshd takes what a program is to
/// read, and one for the script.
const ROUND_TRIPS: u32 = 9;

/// A project whose deployment asks for the same again and again, as an orchestrator would: with other ids, in another order.
struct Again<'a> {
    scene: &'a AttemptScene,
    sample: Sample,
    commit: Commit,
    digests: BTreeMap<String, String>,
    times: u64,
    address: Option<Ipv4Addr>,
}

impl Again<'_> {
    fn work(&mut self) -> DeploymentWork {
        self.times += 1;
        let mut work = self.scene.work(&self.sample, &self.commit, "shop", &self.digests);
        work.deployment = DeploymentId(uuid::Uuid::new_v4());
        work.request.sequence = Some(self.times);
        if let Some(address) = self.address {
            work.target.address = Host::new(address.to_string()).unwrap();
        }
        work
    }

    fn deploy(&mut self) -> FinishedAttempt {
        let work = self.work();
        let done = self.scene.run(work).unwrap();
        self.digests = done.reports[&Stage::Secrets].github_digests.clone().unwrap();
        done
    }
}

/// The stages that needn't run, and those that changed something.
fn told(done: &FinishedAttempt) -> (Vec<Stage>, Vec<Stage>) {
    let of = |keep: &dyn Fn(Stage) -> bool| Stage::ALL.into_iter().filter(|stage| keep(*stage)).collect();
    (
        of(&|stage| done.reports[&stage].facts.contains_key("as_left")),
        of(&|stage| done.reports[&stage].change == Change::Changed),
    )
}

const ALL_BUT_VERIFY: [Stage; 6] =
    [Stage::Preflight, Stage::Clone, Stage::Env, Stage::Compose, Stage::Firewall, Stage::Secrets];
const RELEASE: [Stage; 4] = [Stage::Preflight, Stage::Clone, Stage::Env, Stage::Compose];

#[test]
fn where_nothing_has_changed_little_is_asked_and_whatever_has_is_found() {
    let scene = AttemptScene::new();
    let server = scene.world.target(0);
    server.sh("ufw allow 22/tcp; ufw --force enable").unwrap();
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let commit = scene.publish(&sample, Variant::Healthy);
    let mut again = Again { scene: &scene, sample, commit, digests: BTreeMap::new(), times: 0, address: None };
    let first = again.deploy();
    assert_eq!(told(&first).0, []);
    let state = || server.sh("docker ps -q --no-trunc | sort; cat /root/.ssh/authorized_keys; ufw status").unwrap();
    let left = state();

    let counter = server.count_programs().unwrap();
    let done = again.deploy();
    let programs = counter.finish().unwrap();
    let why = done.reports[&Stage::Preflight].facts.get("not_as_left");
    assert_eq!(told(&done), (ALL_BUT_VERIFY.to_vec(), vec![]), "{why:?}");
    assert!(!programs.is_empty() && programs.len() <= PROGRAMS, "{}: {programs:?}", programs.len());
    assert_eq!(state(), left);
    same_facts(&first, &done);

    costs_few_round_trips(&mut again);
    each_thing_that_changed_is_found(&mut again);
    what_is_asked_for_counts_too(&mut again);
}

/// What subscribers read of a deployment that changed nothing.
fn same_facts(first: &FinishedAttempt, done: &FinishedAttempt) {
    let facts = |done: &FinishedAttempt, stage| done.reports[&stage].facts.clone();
    for (stage, name) in [
        (Stage::Preflight, "os"),
        (Stage::Preflight, "system"),
        (Stage::Preflight, "docker"),
        (Stage::Preflight, "compose"),
        (Stage::Preflight, "ufw"),
        (Stage::Preflight, "user"),
        (Stage::Preflight, "stopped_containers_with_the_ports"),
        (Stage::Clone, "commit"),
        (Stage::Env, "images"),
        (Stage::Env, "proof"),
        (Stage::Compose, "services"),
        (Stage::Compose, "proof"),
        (Stage::Firewall, "ufw"),
        (Stage::Verify, "services"),
    ] {
        assert_eq!(facts(done, stage)[name], facts(first, stage)[name], "{stage} {name}");
    }
    assert!(facts(done, Stage::Preflight)["disk_free_kb"].as_u64().unwrap() > 0);
    assert_eq!(facts(done, Stage::Firewall)["opened"], serde_json::json!([]));
    assert_eq!(facts(done, Stage::Firewall)["exposed"], facts(first, Stage::Verify)["exposed"]);
    assert_eq!(facts(done, Stage::Secrets)["written"], serde_json::json!([]));
    assert_eq!(facts(done, Stage::Secrets)["new_deploy_key"], false);
    assert_eq!(done.reports[&Stage::Compose].services, first.reports[&Stage::Compose].services);
    assert_eq!(done.reports[&Stage::Verify].url, first.reports[&Stage::Verify].url);
}

#[expect(clippy::print_stderr, reason = "shown when a test fails")]
fn costs_few_round_trips(again: &mut Again<'_>) {
    let server = again.scene.world.target(0).ip();
    let line = LongLine::lay(Ipv4Addr::LOCALHOST, server, &[22, PORT], DELAY).unwrap();
    again.address = Some(line.address());
    // Its address is part of what is asked for.
    assert_eq!(told(&again.deploy()).0, []);
    let _ = (line.take(22), line.take(PORT));
    let began = std::time::Instant::now();
    let done = again.deploy();
    let took = began.elapsed();
    let (trips, bytes) = line.take(22);
    eprintln!(
        "nothing changed, {DELAY:?} each way: {took:?}, {trips} round trips over SSH, {bytes} bytes, {:?} over HTTP",
        line.take(PORT)
    );
    let why = done.reports[&Stage::Preflight].facts.get("not_as_left");
    assert_eq!(told(&done), (ALL_BUT_VERIFY.to_vec(), vec![]), "{why:?}");
    assert!(trips <= ROUND_TRIPS, "{trips}");
    assert_eq!(done.round_trips, trips, "as they are counted");
    again.address = None;
    again.deploy();
}

fn each_thing_that_changed_is_found(again: &mut Again<'_>) {
    let server = again.scene.world.target(0);
    let container =
        "docker ps -q --filter label=com.docker.compose.project=shop --filter label=com.docker.compose.service=backend";
    let tag = format!("ghcr.io/acme/shop-backend:{}", again.commit.tag());
    let broken: &[(&str, &str, &[Stage], &[Stage])] = &[
        ("a variable by hand", "echo 'A=1' >>.env", &[], &[Stage::Env]),
        ("the override", "echo '# x' >>infra/compose.slipway.yml", &[], &[Stage::Env]),
        ("a file of the commit", "echo >>README.md", &[], &[Stage::Clone]),
        ("a file that is gone", "rm infra/compose.prod.yml", &[], &[Stage::Clone]),
        (
            "another commit",
            "git -c safe.directory='*' -c user.name=x -c user.email=x commit -q --allow-empty -m x",
            &[],
            &[Stage::Clone],
        ),
        ("a file beside", "echo x >notes", &[], &[]),
        ("a restart", "docker restart -t 0 $(CONTAINER)", &[], &[]),
        ("a container that is gone", "docker rm -f $(CONTAINER)", &[], &[Stage::Compose]),
        // It's the same one that is started again.
        ("a stopped container", "docker stop -t 0 $(CONTAINER)", &[], &[]),
        ("a tag that has moved", "docker commit $(CONTAINER) TAG", &[], &[Stage::Compose]),
        (
            "a container more",
            "docker create --label com.docker.compose.project=shop --label com.docker.compose.service=x \
             --label com.docker.compose.oneoff=True --name shop_rehearsal_x redis:7-alpine",
            &[],
            &[],
        ),
        ("a rule that is gone", "ufw delete allow 8080/tcp", &RELEASE, &[Stage::Firewall]),
        ("a firewall that is off", "ufw disable", &RELEASE, &[]),
        ("a firewall that is on", "ufw --force enable", &RELEASE, &[]),
        (
            "a key that is gone",
            "sed -i '/ slipway:shop$/d' /root/.ssh/authorized_keys",
            &ALL_BUT_SECRETS,
            &[Stage::Secrets],
        ),
        ("another command for the key", "echo >>.slipway/ci-deploy", &ALL_BUT_SECRETS, &[Stage::Secrets]),
        ("no login for the key", "rm /etc/slipway/registry/shop", &ALL_BUT_SECRETS, &[Stage::Secrets]),
        ("another rule", "ufw allow 9999/tcp", &ALL_BUT_VERIFY, &[]),
        ("Docker's settings", "mkdir -p /etc/docker; touch /etc/docker/daemon.json", &[], &[]),
    ];
    let mut wrong = Vec::new();
    for (what, how, proven, changed) in broken {
        let how = how.replace("CONTAINER", container).replace("TAG", &tag);
        server.sh(&format!("cd /opt/services/shop; {how}")).unwrap_or_else(|e| panic!("{what}: {e:#}"));
        let found = told(&again.deploy());
        // What follows from a stage's change, later ones change as well.
        if (found.0.as_slice(), found.1.first()) != (*proven, changed.first()) {
            wrong.push(format!("{what}: {found:?}"));
        }
        let done = again.deploy();
        if told(&done) != (ALL_BUT_VERIFY.to_vec(), vec![]) {
            let why = done.reports[&Stage::Preflight].facts.get("not_as_left");
            wrong.push(format!("{what}, afterwards: {why:?} {:?}", told(&done)));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");

    // What a server lacks is told as ever.
    for (program, how, code) in [
        ("stat", "case \"$*\" in '-f '*) echo 1 4096 100000; exit ;; esac", None),
        ("docker", "echo 'Cannot connect to the Docker daemon' >&2; exit 1", Some(ErrorCode::DockerNotRunning)),
    ] {
        let fake = format!("printf '%s\\n' '#!/bin/sh' {} 'exec /usr/bin/{program} \"$@\"'", quoted(how));
        server.sh(&format!("{fake} >/usr/local/bin/{program}; chmod 755 /usr/local/bin/{program}")).unwrap();
        let work = again.work();
        let outcome = again.scene.run(work);
        match code {
            Some(code) => assert_eq!(outcome.err().unwrap().1.code, code, "{program}"),
            None => assert_eq!(told(&outcome.unwrap()).0, [], "too little room on the disk"),
        }
        server.sh(&format!("rm /usr/local/bin/{program}")).unwrap();
    }
    again.deploy();
    // Whoever is newer has been here.
    let mut older = again.work();
    again.scene.world.target(0).sh("echo 5 >/opt/services/shop/.slipway/fence").unwrap();
    older.lease = slipway_deploy::LeaseGuard::endless(4);
    let (stage, error) = *again.scene.run(older).err().unwrap();
    assert_eq!((stage, error.code), (Stage::Clone, ErrorCode::StaleFence), "{error}");
    again.scene.world.target(0).sh("echo 1 >/opt/services/shop/.slipway/fence").unwrap();
}

const ALL_BUT_SECRETS: [Stage; 5] = [Stage::Preflight, Stage::Clone, Stage::Env, Stage::Compose, Stage::Firewall];

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

fn what_is_asked_for_counts_too(again: &mut Again<'_>) {
    let mut other = again.work();
    other.request.variables.values_mut().for_each(|value| "else".clone_into(value));
    let done = again.scene.run(other).unwrap();
    let (proven, changed) = told(&done);
    assert!(proven.is_empty() && changed.contains(&Stage::Env), "{proven:?} {changed:?}");
    again.digests = done.reports[&Stage::Secrets].github_digests.clone().unwrap();
    again.deploy();
    // What GitHub is known to hold isn't what it was.
    again.digests.remove("DEPLOY_HOST");
    assert_eq!(told(&again.deploy()), (ALL_BUT_SECRETS.to_vec(), vec![Stage::Secrets]));
}
