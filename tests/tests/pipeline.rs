//! The seven stages against a real target server, without AMQP and without a database: what one attempt does and what
//! a second one finds.
#![expect(clippy::unwrap_used, reason = "a test may panic")]

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secrecy::SecretString;
use slipway_deploy::{
    Deployer, DeployerConfig, Done as Journalled, GithubCredential, Hold, HostKeyPolicy, RegistryCredential, Reporter,
    Settled, StageError, StageReport, Target, Work,
};
use slipway_protocol::names::{Host, HostKey, Port, ServerHandle, UserName, VariableName};
use slipway_protocol::{Change, DeploymentId, ErrorCode, Failure, ProjectReady, Stage};
use slipway_tests::github::{GitHub, GitHubOptions, NewRepository, NewToken};
use slipway_tests::world::{Commit, Generation, Sample, Variant, World, WorldOptions, net};
use tokio_util::sync::CancellationToken;

const BOT_TOKEN: &str = "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0";

/// Remembers what an attempt tells.
#[derive(Default)]
struct Heard {
    lines: Mutex<Vec<String>>,
    keys: Mutex<Vec<HostKey>>,
}

impl Reporter for Heard {
    fn line(&self, stage: Stage, line: &str) {
        self.lines.lock().unwrap().push(format!("{stage}: {line}"));
    }
    fn retrying(&self, stage: Stage, failure: &Failure, delay: Duration) {
        self.lines.lock().unwrap().push(format!("{stage} again in {delay:?}: {failure:?}"));
    }
    fn host_key_learned(&self, key: &HostKey) {
        self.keys.lock().unwrap().push(key.clone());
    }
}

/// A world with one server, a stand-in for GitHub and a deployer.
struct Scene {
    world: World,
    github: GitHub,
    deployer: Deployer,
    heard: Arc<Heard>,
    user: &'static str,
    policy: Option<HostKeyPolicy>,
}

/// An attempt that came to its end.
struct Done {
    reports: BTreeMap<Stage, StageReport>,
    round_trips: u32,
}

impl Done {
    fn changed(&self) -> Vec<Stage> {
        self.reports.iter().filter(|(_, r)| r.change == Change::Changed).map(|(stage, _)| *stage).collect()
    }
}

impl Scene {
    fn new() -> Self {
        let world = World::start(WorldOptions { targets: 1, ..WorldOptions::default() }).unwrap();
        world.enter().unwrap();
        let github = GitHub::start(GitHubOptions {
            api_addr: SocketAddr::from((net::GITHUB_API, 80)),
            git_addr: SocketAddr::from((net::GITHUB, 80)),
            tls: None,
            git_root: world.git_root().to_owned(),
        })
        .unwrap();
        let token = github.add_token(&NewToken::classic(&["repo"]));
        let registry = world.registry_credential();
        let deployer = Deployer::new(DeployerConfig {
            github_api: format!("http://{}", net::GITHUB_API),
            github_git: "http://github.com".to_owned(),
            github: GithubCredential::Token(SecretString::from(token)),
            registry: Some(RegistryCredential {
                registry: "ghcr.io".to_owned(),
                username: registry.username.clone(),
                password: SecretString::from(registry.password.clone()),
            }),
            image_registry: "ghcr.io".to_owned(),
            digest_key: SecretString::from("0123456789abcdef0123456789abcdef".to_owned()),
            ca_file: None,
            project_root: "/opt/services".to_owned(),
            command_timeout: Duration::from_secs(120),
            health_timeout: Duration::from_secs(40),
        })
        .unwrap();
        Self { world, github, deployer, heard: Arc::default(), user: "root", policy: None }
    }

    fn publish(&self, sample: &Sample, variant: Variant) -> Commit {
        let commit = self.world.publish_variant(sample, variant).unwrap();
        let new = NewRepository { private: true, default_branch: "main".to_owned() };
        self.github.add_repository(sample.owner(), sample.repository(), &new).unwrap();
        commit
    }

    fn work(&self, sample: &Sample, commit: &Commit, slug: &str, digests: &BTreeMap<String, String>) -> Work {
        let target = self.world.target(0);
        let request: ProjectReady = serde_json::from_value(serde_json::json!({
            "project": { "id": "0f9e2c4a-1c57-4c55-9a0e-6d7f0a6b2c11", "slug": slug },
            "repository": {
                "name": format!("{}/{}", sample.owner(), sample.repository()),
                "commit": commit.sha,
                "branch": "main",
            },
            "server": { "handle": "target-0" },
            "allocations": [
                { "service": "db", "host_port": 15432, "container_port": 5432 },
                { "service": "backend", "host_port": 8080, "container_port": 8000 },
            ],
            "modules": ["backend", "tg_bot"],
            "variables": { "GREETING": "it's $5 \"now\" \\" },
        }))
        .unwrap();
        Work {
            deployment: DeploymentId(uuid::Uuid::new_v4()),
            request,
            target: Target {
                handle: ServerHandle::new("target-0").unwrap(),
                address: Host::new(target.ip().to_string()).unwrap(),
                ssh_port: Port::new(target.ssh_port()).unwrap(),
                ssh_user: UserName::new(self.user).unwrap(),
                host_key: self
                    .policy
                    .clone()
                    .unwrap_or_else(|| HostKeyPolicy::Pinned(HostKey::new(target.host_key()).unwrap())),
                ssh_key: SecretString::from(std::fs::read_to_string(self.world.ssh_key()).unwrap()),
            },
            secrets: [(VariableName::new("TELEGRAM_BOT_TOKEN").unwrap(), SecretString::from(BOT_TOKEN.to_owned()))]
                .into(),
            github_digests: digests.clone(),
            hold: Hold::endless(1),
        }
    }

    fn run(&self, work: Work) -> Result<Done, Box<(Stage, StageError)>> {
        let heard = self.heard.clone();
        let deployer = self.deployer.clone();
        self.world
            .block_on(async move {
                let mut attempt = deployer.begin(work, heard, CancellationToken::new());
                let mut reports = BTreeMap::new();
                for stage in Stage::ALL {
                    let began = std::time::Instant::now();
                    let report = attempt.run(stage).await.map_err(|e| Box::new((stage, e)))?;
                    eprintln_stage(stage, &report, began.elapsed(), attempt.round_trips());
                    reports.insert(stage, report);
                }
                let round_trips = attempt.round_trips();
                attempt.close().await;
                Ok(Done { reports, round_trips })
            })
            .unwrap()
    }

    fn get(&self, path: &str) -> String {
        let url = format!("http://{}:8080{path}", self.world.target(0).ip());
        let output =
            self.world.command("curl").args(["-s", "--noproxy", "*", "--max-time", "5", &url]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

#[expect(clippy::print_stderr, reason = "shown when a test fails")]
fn eprintln_stage(stage: Stage, report: &StageReport, took: Duration, round_trips: u32) {
    eprintln!("{stage} {took:?} {round_trips} {report:?}");
}

fn both_generations_deploy_and_a_second_time_changes_nothing(generation: Generation) {
    let scene = Scene::new();
    let sample = Sample::new(generation, "Acme-Org", "Corner.Shop");
    let commit = scene.publish(&sample, Variant::Healthy);
    let first = scene.run(scene.work(&sample, &commit, "corner-shop", &BTreeMap::new())).unwrap();
    assert!(scene.get("/health").contains(&commit.sha), "{}", scene.get("/health"));
    assert!(first.round_trips <= 30, "{} round trips", first.round_trips);
    let digests = first.reports[&Stage::Secrets].github_digests.clone().unwrap();
    assert!(first.changed().contains(&Stage::Compose));
    let heard = scene.heard.lines.lock().unwrap().join("\n");
    assert_eq!(first.reports[&Stage::Compose].services.len(), 4, "{heard}");

    let second = scene.run(scene.work(&sample, &commit, "corner-shop", &digests)).unwrap();
    assert_eq!(second.changed(), [], "{:?}", second.reports);
    assert!(second.round_trips <= 20, "{} round trips", second.round_trips);

    let lines = scene.heard.lines.lock().unwrap().join("\n");
    let password = scene.world.registry_credential().password.clone();
    for secret in [BOT_TOKEN, password.as_str()] {
        assert!(!lines.contains(secret), "{lines}");
    }

    let next = scene.publish(&sample.clone().with_file("README.md", "another"), Variant::Healthy);
    let third = scene.run(scene.work(&sample, &next, "corner-shop", &digests)).unwrap();
    assert!(third.changed().contains(&Stage::Compose));
    assert!(scene.get("/health").contains(&next.sha));
}

#[test]
fn generation_1_deploys_and_a_second_time_changes_nothing() {
    both_generations_deploy_and_a_second_time_changes_nothing(Generation::One);
}

#[test]
fn generation_2_deploys_and_a_second_time_changes_nothing() {
    both_generations_deploy_and_a_second_time_changes_nothing(Generation::Two);
}

#[test]
fn a_backend_that_fails_is_told_by_its_code() {
    let scene = Scene::new();
    let cases = [
        ("crash", Variant::CrashLoop, Stage::Compose, ErrorCode::CrashLoop),
        ("migration", Variant::FailingMigration, Stage::Compose, ErrorCode::CrashLoop),
        ("sick", Variant::Unhealthy, Stage::Compose, ErrorCode::Unhealthy),
    ];
    for (name, variant, stage, code) in cases {
        let sample = Sample::new(Generation::Two, "acme", name);
        let commit = scene.publish(&sample, variant);
        let (failed, error) = *scene.run(scene.work(&sample, &commit, name, &BTreeMap::new())).err().unwrap();
        assert_eq!((failed, error.code), (stage, code), "{error} {:?}", error.tail);
        let told: Vec<_> = error.services.iter().map(|s| s.service.as_str()).collect();
        assert!(told.contains(&"backend") && told.contains(&"db"), "{told:?}");
        scene.world.target(0).sh(&format!("docker compose -p {name} down -v")).unwrap();
    }
    // Generation 1 has no health check of its own: the answer from outside decides.
    let sample = Sample::new(Generation::One, "acme", "lost");
    let commit = scene.publish(&sample, Variant::NotFound);
    let (failed, error) = *scene.run(scene.work(&sample, &commit, "lost", &BTreeMap::new())).err().unwrap();
    assert_eq!((failed, error.code), (Stage::Verify, ErrorCode::NotHealthy), "{error}");
    scene.world.target(0).sh("docker compose -p lost down -v").unwrap();
}

#[test]
fn a_user_with_sudo_deploys_like_root() {
    let mut scene = Scene::new();
    scene.world.target(0).add_user("deployer", &["sudo"]).unwrap();
    scene.user = "deployer";
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let commit = scene.publish(&sample, Variant::Healthy);
    let done = scene.run(scene.work(&sample, &commit, "shop", &BTreeMap::new())).unwrap();
    assert!(done.round_trips <= 30);
    let keys = scene.world.target(0).sh("cat /home/deployer/.ssh/authorized_keys").unwrap();
    assert!(keys.contains("restrict,command=\"sudo -n /opt/services/shop/.slipway/ci-deploy\""), "{keys}");
}

#[test]
fn a_host_key_is_pinned_learned_or_refused() {
    let mut scene = Scene::new();
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let commit = scene.publish(&sample, Variant::Healthy);
    scene.policy = Some(HostKeyPolicy::Refuse);
    let (_, error) = *scene.run(scene.work(&sample, &commit, "shop", &BTreeMap::new())).err().unwrap();
    assert_eq!(error.code, ErrorCode::HostKeyUnknown);
    assert!(error.message.contains("SHA256:"), "{error}");

    let other = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ8yGbVJ0Zt0zZ0c5r3Nq8XqSg2o0yqv6g0u1Yp1cV9b";
    scene.policy = Some(HostKeyPolicy::Pinned(HostKey::new(other).unwrap()));
    let (_, error) = *scene.run(scene.work(&sample, &commit, "shop", &BTreeMap::new())).err().unwrap();
    assert_eq!(error.code, ErrorCode::HostKeyMismatch, "{error}");

    scene.policy = Some(HostKeyPolicy::TrustOnFirstUse);
    scene.run(scene.work(&sample, &commit, "shop", &BTreeMap::new())).unwrap();
    let keys = scene.heard.keys.lock().unwrap();
    assert_eq!(keys[0].as_str(), scene.world.target(0).host_key());
}

#[test]
fn the_job_of_ci_deploys_with_the_projects_own_key_and_can_do_nothing_else() {
    let scene = Scene::new();
    let sample = Sample::new(Generation::One, "acme", "shop");
    let commit = scene.publish(&sample, Variant::Healthy);
    scene.run(scene.work(&sample, &commit, "shop", &BTreeMap::new())).unwrap();
    let secrets = scene.github.secrets("acme/shop");
    let key = scene.world.folder().join("ci-key");
    std::fs::write(&key, &secrets["DEPLOY_SSH_KEY"]).unwrap();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let next = scene.publish(&sample.clone().with_file("README.md", "pushed"), Variant::Healthy);
    assert!(!scene.get("/health").contains(&next.sha));
    let files = secrets["DEPLOY_COMPOSE_FILES"].split(' ').map(|f| format!("-f {f} ")).collect::<String>();
    let job = format!(
        "cd {} && docker compose {files} pull && docker compose {files} up -d --remove-orphans; touch /tmp/intruder",
        secrets["DEPLOY_PROJECT_PATH"]
    );
    let output = scene
        .world
        .command("ssh")
        .args([
            "-F",
            "none",
            "-o",
            "StrictHostKeyChecking=no",
            "-o",
            "UserKnownHostsFile=/dev/null",
            "-o",
            "IdentitiesOnly=yes",
        ])
        .arg("-i")
        .arg(&key)
        .arg(format!("{}@{}", secrets["DEPLOY_USER"], secrets["DEPLOY_HOST"]))
        .arg(job)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    scene.world.target(0).sh("[ ! -e /tmp/intruder ]").unwrap();
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    while !scene.get("/health").contains(&next.sha) {
        assert!(std::time::Instant::now() < deadline, "{}", scene.get("/health"));
    }
}

#[test]
fn a_new_port_replaces_the_old_one_in_compose_and_in_ufw() {
    let scene = Scene::new();
    let server = scene.world.target(0);
    server.sh("ufw allow 22/tcp; ufw allow 9999/tcp comment 'not ours'; ufw --force enable").unwrap();
    let sample = Sample::new(Generation::One, "acme", "shop");
    let commit = scene.publish(&sample, Variant::Healthy);
    let work = scene.work(&sample, &commit, "shop", &BTreeMap::new());
    let first = scene.run(work.clone()).unwrap();
    assert_eq!(first.reports[&Stage::Firewall].facts["ufw"], "active");
    assert!(server.sh("ufw status").unwrap().contains("# slipway:shop"));

    let mut moved = work;
    moved.request.allocations[1].host_port = Port::new(8081).unwrap();
    moved.github_digests = first.reports[&Stage::Secrets].github_digests.clone().unwrap();
    let done = scene.run(moved).unwrap();
    assert_eq!(done.reports[&Stage::Verify].url.as_deref(), Some(format!("http://{}:8081", server.ip()).as_str()));
    let rules = server.sh("ufw show added").unwrap();
    assert!(rules.contains("8081/tcp comment 'slipway:shop'") && !rules.contains("8080"), "{rules}");
    assert!(rules.contains("9999/tcp comment 'not ours'"), "{rules}");
    assert_eq!(scene.get("/health"), "", "nobody answers on the old port");
}

#[test]
fn what_can_not_be_deployed_is_told_before_anything_runs() {
    let scene = Scene::new();
    let server = scene.world.target(0);
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let commit = scene.publish(&sample, Variant::Healthy);
    let work = |sample: &Sample, commit: &Commit| scene.work(sample, commit, "shop", &BTreeMap::new());
    let refused = |work: Work| {
        let (stage, error) = *scene.run(work).err().unwrap();
        (stage, error.code, error)
    };

    server.sh("setsid python3 -m http.server 8080 >/dev/null 2>&1 </dev/null & until ss -Hltn | grep -q :8080; do :; done").unwrap();
    let (stage, code, error) = refused(work(&sample, &commit));
    assert_eq!((stage, code), (Stage::Preflight, ErrorCode::PortOccupied), "{error}");
    assert!(error.message.contains("python3"), "{error}");
    server.sh("kill $(ss -Hltnp 'sport = :8080' | sed -n 's/.*pid=\\([0-9]*\\).*/\\1/p')").unwrap();

    let mut nowhere = work(&sample, &commit);
    nowhere.request.repository.commit = "0123456789abcdef0123456789abcdef01234567".parse().unwrap();
    let (stage, code, error) = refused(nowhere);
    assert_eq!((stage, code), (Stage::Clone, ErrorCode::CommitNotFound), "{error} {:?}", error.tail);

    let mut stranger = work(&sample, &commit);
    stranger.request.repository.name = "acme/unheard-of".parse().unwrap();
    let (stage, code, error) = refused(stranger);
    assert_eq!((stage, code), (Stage::Clone, ErrorCode::RepositoryNotFound), "{error} {:?}", error.tail);

    let leaky = Sample::new(Generation::Two, "acme", "leaky").with_file(".env", "A=1\n");
    let (stage, code, error) = refused(work(&leaky, &scene.publish(&leaky, Variant::Healthy)));
    assert_eq!((stage, code), (Stage::Clone, ErrorCode::EnvFileTracked), "{error}");

    let bare = Sample::new(Generation::Two, "acme", "bare").without_file("infra/compose.prod.yml");
    let (stage, code, error) = refused(work(&bare, &scene.publish(&bare, Variant::Healthy)));
    assert_eq!((stage, code), (Stage::Env, ErrorCode::ComposeFileMissing), "{error}");

    let mut mute = work(&sample, &commit);
    mute.secrets.clear();
    let (stage, code, error) = refused(mute);
    assert_eq!((stage, code), (Stage::Env, ErrorCode::MissingSecret), "{error}");
    assert_eq!(error.missing_secret.unwrap().as_str(), "TELEGRAM_BOT_TOKEN");

    scene.world.ghcr().remove("acme/shop-tg-bot", &commit.tag()).unwrap();
    let (stage, code, error) = refused(work(&sample, &commit));
    assert_eq!((stage, code), (Stage::Compose, ErrorCode::ImageNotFound), "{error} {:?}", error.tail);
    assert_eq!(server.sh("docker ps -aq").unwrap(), "", "nothing was started");
    assert_eq!(server.sh("ls -A /dev/shm").unwrap(), "", "no registry credential is left");
    assert_eq!(server.sh("stat -Lc %a /opt/services/shop/.env /opt/services/shop/infra/.env").unwrap(), "600\n600\n");
}

/// What an attempt could change, down to inodes and times: a file that is written anew with the same content counts.
const STATE: &str = "cd /opt/services/shop; find . -path ./.git -prune -o -path ./.slipway -prune -o -printf '%p %i %T@\\n' | sort; \
    cat .env infra/compose.slipway.yml .git/HEAD .slipway/fence; docker ps -aq --no-trunc | xargs -r docker inspect \
    --format '{{.Id}} {{.State.StartedAt}} {{.RestartCount}}' | sort; ufw show added; cat /root/.ssh/authorized_keys";

#[test]
fn a_newer_claim_ends_what_an_older_one_runs_and_the_older_one_is_refused_from_then_on() {
    let scene = Scene::new();
    let server = scene.world.target(0);
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let commit = scene.publish(&sample, Variant::Healthy);
    // The first command that asks for the project's volume hangs for ever and heeds no signal.
    server
        .sh("printf '%s\\n' '#!/bin/sh' 'if [ \"$1\" = volume ] && mv /run/hold /run/held 2>/dev/null; then trap \"\" TERM; \
             while :; do sleep 1000; done; fi' 'exec /usr/bin/docker \"$@\"' >/usr/local/bin/docker; \
             chmod 755 /usr/local/bin/docker; touch /run/hold")
        .unwrap();
    let of = |fence| Work { hold: Hold::endless(fence), ..scene.work(&sample, &commit, "shop", &BTreeMap::new()) };
    let (deployer, heard) = (scene.deployer.clone(), scene.heard.clone());
    let (older, newer) = (of(7), of(8));
    scene
        .world
        .block_on(async {
            let mut zombie = deployer.begin(older, heard.clone(), CancellationToken::new());
            for stage in [Stage::Preflight, Stage::Clone] {
                zombie.run(stage).await.unwrap();
            }
            let stuck = tokio::spawn(async move {
                let outcome = zombie.run(Stage::Env).await;
                (zombie, outcome)
            });
            while server.sh("[ -e /run/held ]").is_err() {}

            let mut attempt = deployer.begin(newer, heard.clone(), CancellationToken::new());
            let began = std::time::Instant::now();
            attempt.run(Stage::Clone).await.unwrap();
            assert!(began.elapsed() < Duration::from_secs(60), "it didn't wait for the lock: {:?}", began.elapsed());
            let (mut zombie, outcome) = stuck.await.unwrap();
            assert!(outcome.is_err(), "{outcome:?}");
            let left = server.processes().unwrap();
            assert!(!left.iter().any(|argv| argv.iter().any(|a| a == "1000")), "{left:?}");
            for stage in [Stage::Env, Stage::Compose, Stage::Firewall, Stage::Verify, Stage::Secrets] {
                attempt.run(stage).await.unwrap();
            }
            attempt.close().await;

            let all = format!("{STATE}; find .slipway -printf '%p %i %T@\\n' | sort");
            let before = server.sh(&all).unwrap();
            for stage in [Stage::Clone, Stage::Env, Stage::Compose, Stage::Firewall, Stage::Secrets] {
                assert_eq!(zombie.run(stage).await.unwrap_err().code, ErrorCode::StaleFence, "{stage}");
            }
            let settled = zombie.settle(false, CancellationToken::new()).await;
            assert!(matches!(&settled, Settled::Unknown(e) if e.code == ErrorCode::StaleFence), "{settled:?}");
            assert_eq!(server.sh(&all).unwrap(), before);
        })
        .unwrap();
}

#[test]
fn what_is_done_and_still_so_is_resumed_and_what_a_failure_touched_is_put_back() {
    let scene = Scene::new();
    let server = scene.world.target(0);
    let sample = Sample::new(Generation::Two, "acme", "shop");
    let commit = scene.publish(&sample, Variant::Healthy);
    let work = |commit: &Commit| scene.work(&sample, commit, "shop", &BTreeMap::new());
    let first = scene.run(work(&commit)).unwrap();
    let done: Journalled = first.reports.into_iter().map(|(stage, report)| (stage, report.facts)).collect();
    let resumed = |done: &Journalled| -> Vec<Stage> {
        let (deployer, heard, work) = (scene.deployer.clone(), scene.heard.clone(), work(&commit));
        let resume = async {
            let mut attempt = deployer.begin(work, heard, CancellationToken::new());
            attempt.resume(done).await.unwrap()
        };
        let reports = scene.world.block_on(resume).unwrap();
        assert!(reports.values().all(|r| r.change == Change::Unchanged && r.facts["resumed"] == true), "{reports:?}");
        assert!(reports.get(&Stage::Compose).is_none_or(|r| r.services.len() == 4), "{reports:?}");
        reports.into_keys().collect()
    };
    let before = server.sh(STATE).unwrap();
    assert_eq!(resumed(&done), [Stage::Clone, Stage::Env, Stage::Compose]);
    assert_eq!(server.sh(STATE).unwrap(), before, "looking changes nothing");
    // Nothing is resumed on the journal's word alone.
    assert_eq!(resumed(&Journalled::new()), []);
    let unproven: Journalled = done.keys().map(|stage| (*stage, serde_json::Map::new())).collect();
    server.sh("mkdir /opt/services/shop/.slipway/served").unwrap();
    assert_eq!(resumed(&unproven), [Stage::Clone]);
    server.sh("docker restart -t 0 $(docker ps -q --filter name=backend)").unwrap();
    assert_eq!(resumed(&done), [Stage::Clone, Stage::Env], "another start isn't the one that was proven");
    server.sh("echo '# by hand' >>/opt/services/shop/.env").unwrap();
    assert_eq!(resumed(&done), [Stage::Clone]);
    server.sh("echo >>/opt/services/shop/README.md").unwrap();
    assert_eq!(resumed(&done), []);
    server.sh("rmdir /opt/services/shop/.slipway/served").unwrap();
    scene.run(work(&commit)).unwrap();

    // A pull that fails touches no container, and leaves no file of the new commit.
    let files = "cd /opt/services/shop; git -c safe.directory='*' rev-parse HEAD; cat .env infra/compose.slipway.yml; \
                 docker ps -q --no-trunc | sort; ls .slipway";
    let serving = server.sh(files).unwrap();
    let next = scene.publish(&sample.clone().with_file("README.md", "next"), Variant::Healthy);
    scene.world.ghcr().remove("acme/shop-tg-bot", &next.tag()).unwrap();
    let (deployer, heard, failing) = (scene.deployer.clone(), scene.heard.clone(), work(&next));
    let fail = async {
        let mut attempt = deployer.begin(failing, heard, CancellationToken::new());
        for stage in [Stage::Preflight, Stage::Clone, Stage::Env] {
            attempt.run(stage).await.unwrap();
        }
        assert_eq!(attempt.run(Stage::Compose).await.unwrap_err().code, ErrorCode::ImageNotFound);
        attempt.settle(true, CancellationToken::new()).await
    };
    let settled = scene.world.block_on(fail).unwrap();
    let Settled::Untouched { commit: serves, services } = settled else { panic!("{settled:?}") };
    assert_eq!((serves.as_str(), services.len()), (commit.sha.as_str(), 4));
    assert_eq!(server.sh(files).unwrap(), serving);
}
