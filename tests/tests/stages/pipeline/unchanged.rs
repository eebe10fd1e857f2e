//! The same deployment once more: what it costs where nothing has changed, and that each thing that isn't as it was left
//! is found and mended by its stage.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use slipway_deploy::DeploymentWork;
use slipway_protocol::names::Host;
use slipway_protocol::{
    Change, DeploymentId, ErrorCode, HealthCheck, Replacement, ReplacementWay, ServiceReport, Stage,
};
use slipway_tests::world::{Commit, Generation, LongLine, Sample, Variant};

use crate::pipeline::scene::{AttemptScene, BOT_TOKEN, FinishedAttempt, PORT};

/// Programs that a deployment may start on the server where nothing has changed, the login shell among them.
pub(super) const PROGRAMS: usize = 10;
/// So long that a slow start of sshd's own programs isn't taken for a round trip.
const DELAY: Duration = Duration::from_millis(100);
/// Round trips over SSH: one of TCP, five of the handshake, one for the channel, and one for the script.
const ROUND_TRIPS: u32 = 8;

/// A project whose deployment asks for the same again and again, as an orchestrator would: with other ids, in another order.
pub(super) struct Again<'a> {
    pub scene: &'a AttemptScene,
    pub sample: Sample,
    pub commit: Commit,
    pub digests: BTreeMap<String, String>,
    pub times: u64,
    pub address: Option<Ipv4Addr>,
}

impl Again<'_> {
    pub fn work(&mut self) -> DeploymentWork {
        self.times += 1;
        let mut work = self.scene.work(&self.sample, &self.commit, "shop", &self.digests);
        work.deployment = DeploymentId(uuid::Uuid::new_v4());
        work.request.sequence = Some(self.times);
        work.request.allocations[1].health = Some(HealthCheck { timeout_seconds: Some(5), ..HealthCheck::default() });
        if let Some(address) = self.address {
            work.target.address = Host::new(address.to_string()).unwrap();
        }
        work
    }

    pub fn deploy(&mut self) -> FinishedAttempt {
        let work = self.work();
        let done = self.scene.run(work).unwrap();
        self.digests = done.reports[&Stage::Secrets].github_digests.clone().unwrap();
        done
    }

    /// Changes the server like this, in the project's directory.
    pub fn change(&self, what: &str, how: &str) {
        let how = how.replace("CONTAINER", "$(docker ps -aq --filter name=shop-backend-1)");
        let how = how.replace("TAG", &format!("ghcr.io/acme/shop-backend:{}", self.commit.tag()));
        let how = format!("cd /opt/services/shop; {how}");
        self.scene.world.target(0).sh(&how).unwrap_or_else(|e| panic!("{what}: {e:#}"));
    }

    /// Why all stages would run, as preflight tells it; `None`: what the release has left is proven.
    fn look(&self, work: DeploymentWork) -> Option<String> {
        let facts = self.scene.run_stages(work, &[Stage::Preflight]).unwrap().reports[&Stage::Preflight].facts.clone();
        let why = || facts.get("not_as_left").map_or("isn't what was asked for then", |why| why.as_str().unwrap());
        (!facts.contains_key("as_left")).then(|| why().to_owned())
    }

    pub fn finds(&mut self, what: &str, why: Option<&str>) {
        let work = self.work();
        assert_eq!(self.look(work).as_deref(), why, "{what}");
    }

    /// The next deployment mends all that was changed, and the one after it has nothing to do.
    pub fn mends(&mut self, what: &str, proven: &[Stage], changed: &[Stage]) {
        let found = told(&self.deploy());
        // What follows from a stage's change, later ones change as well.
        assert_eq!((found.0.as_slice(), found.1.get(..changed.len())), (proven, Some(changed)), "{what}: {found:?}");
        assert!(!changed.is_empty() || found.1.is_empty(), "{what}: {found:?}");
        let done = self.deploy();
        let why = done.reports[&Stage::Preflight].facts.get("not_as_left");
        assert_eq!(told(&done), (ALL_BUT_VERIFY.to_vec(), vec![]), "{what}, afterwards: {why:?}");
    }
}

/// The stages that needn't run, and those that changed something.
pub(super) fn told(done: &FinishedAttempt) -> (Vec<Stage>, Vec<Stage>) {
    let of = |keep: &dyn Fn(Stage) -> bool| Stage::ALL.into_iter().filter(|stage| keep(*stage)).collect();
    (
        of(&|stage| done.reports[&stage].facts.contains_key("as_left")),
        of(&|stage| done.reports[&stage].change == Change::Changed),
    )
}

pub(super) const ALL_BUT_VERIFY: [Stage; 6] =
    [Stage::Preflight, Stage::Clone, Stage::Env, Stage::Compose, Stage::Firewall, Stage::Secrets];
pub(super) const ALL_BUT_SECRETS: [Stage; 5] =
    [Stage::Preflight, Stage::Clone, Stage::Env, Stage::Compose, Stage::Firewall];
pub(super) const RELEASE: [Stage; 4] = [Stage::Preflight, Stage::Clone, Stage::Env, Stage::Compose];

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

    each_file_that_was_changed_is_found(&mut again);
    each_container_that_was_changed_is_found(&mut again);
    each_way_in_that_was_changed_is_found(&mut again);
    what_a_server_lacks_is_told_as_ever(&mut again);
    what_is_asked_for_counts_too(&mut again);
    costs_few_round_trips(&mut again);
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
    let services = |done: &FinishedAttempt| done.reports[&Stage::Compose].services.clone();
    let replaced = Some(Replacement { how: ReplacementWay::Kept, why: None, gap_ms: None });
    let kept = services(first).into_iter().map(|service| ServiceReport { replaced: replaced.clone(), ..service });
    assert_eq!(services(done), kept.collect::<Vec<_>>());
    assert_eq!(done.reports[&Stage::Verify].url, first.reports[&Stage::Verify].url);
}

fn each_file_that_was_changed_is_found(again: &mut Again<'_>) {
    for (what, how) in [
        ("a variable by hand", "echo 'A=1' >>.env"),
        ("the override", "echo '# x' >>infra/compose.slipway.yml"),
        ("a file of the commit", "echo >>README.md"),
        ("a file that is gone", "rm infra/compose.prod.yml"),
        ("another commit", "git -c safe.directory='*' -c user.name=x -c user.email=x commit -q --allow-empty -m x"),
        ("a file beside", "echo x >notes"),
        ("Docker's settings", "mkdir -p /etc/docker; touch /etc/docker/daemon.json"),
    ] {
        // As if the last deployment had left all of it.
        again.change(what, "touch .slipway/at_clone .slipway/at_env .slipway/at_key");
        again.finds(&format!("before {what}"), None);
        again.change(what, how);
        again.finds(what, Some("a file was changed"));
    }
    again.mends("files", &[], &[Stage::Clone, Stage::Env]);
}

fn each_container_that_was_changed_is_found(again: &mut Again<'_>) {
    let restarted = Some("a container isn't as it was");
    again.change("a restart", "docker tag TAG kept; docker restart -t 0 CONTAINER");
    again.finds("a restart", restarted);
    // Each of them is worse than a restart, which is all that is left once it was taken back.
    for (what, how, back) in [
        (
            "a container more",
            "docker create --label com.docker.compose.project=shop --label com.docker.compose.service=x \
             --label com.docker.compose.oneoff=True --name shop_rehearsal_x redis:7-alpine",
            "docker rm shop_rehearsal_x",
        ),
        ("a stopped container", "docker stop -t 0 CONTAINER", "docker start CONTAINER"),
        ("a tag that has moved", "docker commit CONTAINER TAG", "docker tag kept TAG"),
        ("a container that is gone", "docker rm -f CONTAINER", ":"),
    ] {
        again.finds(&format!("before {what}"), restarted);
        again.change(what, how);
        again.finds(what, Some("there are other containers, or their images' tags have moved"));
        again.change(what, back);
    }
    again.mends("containers", &[], &[Stage::Compose]);
}

fn each_way_in_that_was_changed_is_found(again: &mut Again<'_>) {
    let broken: &[(&str, &str, &[Stage], &[Stage])] = &[
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
        ("a move that nobody has ended", "touch .slipway/moving", &[], &[]),
    ];
    for (what, how, proven, changed) in broken {
        again.change(what, how);
        again.mends(what, proven, changed);
    }
}

fn what_a_server_lacks_is_told_as_ever(again: &mut Again<'_>) {
    for (program, how, code) in [
        ("stat", "'case \"$1\" in -f) echo 1 4096 100000; exit ;; esac'", ErrorCode::DiskFull),
        ("docker", "'echo Cannot connect to the Docker daemon >&2; exit 1'", ErrorCode::DockerNotRunning),
    ] {
        let fake = format!("printf '%s\\n' '#!/bin/sh' {how} 'exec /usr/bin/{program} \"$@\"'");
        again.change(program, &format!("{fake} >/usr/local/bin/{program}; chmod 755 /usr/local/bin/{program}"));
        let work = again.work();
        assert_eq!(again.scene.run_stages(work, &[Stage::Preflight]).err().unwrap().1.code, code);
        again.change(program, &format!("rm /usr/local/bin/{program}"));
    }
    // Whoever is newer has been here.
    let mut older = again.work();
    again.change("another claim", "echo 5 >.slipway/fence");
    older.lease = slipway_deploy::LeaseGuard::endless(4);
    let (stage, error) = *again.scene.run(older).err().unwrap();
    assert_eq!((stage, error.code), (Stage::Clone, ErrorCode::StaleFence), "{error}");
    again.change("another claim", "echo 1 >.slipway/fence");
    again.mends("what had failed", &[], &[]);
    // All is as it was left, and somebody else answers.
    let other = "setsid python3 -m http.server -d /srv 9009 >/dev/null 2>&1 </dev/null & until ss -Hltn | grep -q :9009; do :; done";
    let leads = "iptables -I INPUT -p tcp --dport 9009 -j ACCEPT; iptables -t nat -I PREROUTING -p tcp --dport 8080 -j REDIRECT --to-port 9009";
    again.change("who answers", &format!("{other}; {leads}"));
    let work = again.work();
    let (stage, error) = *again.scene.run(work).err().unwrap();
    assert_eq!((stage, error.code), (Stage::Verify, ErrorCode::NotHealthy), "{error}");
    let serves = format!("commit {}, which served before, serves on, and doesn't answer", again.commit.sha);
    assert!(error.message.ends_with(&serves), "{error}");
    again.change("who answers", &leads.replace("-I", "-D"));
    again.mends("a release that has seemed to be as it was left, and failed", &[], &[]);
}

fn what_is_asked_for_counts_too(again: &mut Again<'_>) {
    type Ask = fn(&mut DeploymentWork);
    let asks: [(&str, Ask); 3] = [
        ("a variable", |work| work.request.variables.values_mut().for_each(|value| "else".clone_into(value))),
        ("a secret", |work| {
            work.secrets.values_mut().for_each(|value| *value = format!("{BOT_TOKEN}x").into());
        }),
        ("a module", |work| work.request.modules.retain(|module| module.as_str() == "backend")),
    ];
    for (what, ask) in asks {
        let mut other = again.work();
        ask(&mut other);
        assert_eq!(again.look(other).as_deref(), Some("isn't what was asked for then"), "{what}");
    }
    // What GitHub is known to hold isn't what it was.
    again.digests.remove("DEPLOY_HOST");
    assert_eq!(told(&again.deploy()), (ALL_BUT_SECRETS.to_vec(), vec![Stage::Secrets]));
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
}
