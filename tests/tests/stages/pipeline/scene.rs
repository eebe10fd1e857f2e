//! What the tests share: a world, a stand-in for GitHub, a deployer, and attempts that are run stage by stage.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use secrecy::SecretString;
use slipway_deploy::{
    Deployer, DeployerConfig, DeploymentWork, EarlierRequests, GithubCredential, HostKeyPolicy, LeaseGuard,
    ProjectLimits, RegistryCredential, RegistryCredentialSource, Reporter, StageError, StageReport, Target,
};
use slipway_protocol::names::{Host, HostKey, Port, ServerHandle, UserName, VariableName};
use slipway_protocol::{Action, DeploymentId, Failure, ProjectReady, Stage};
use slipway_tests::github::{GitHub, GitHubOptions, NewRepository, NewToken};
use slipway_tests::world::{Commit, Sample, Variant, World, WorldOptions, net};
use tokio_util::sync::CancellationToken;

pub const BOT_TOKEN: &str = "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0";
/// How many seconds an attempt waits until a project is healthy.
pub const PATIENCE: u64 = 40;
/// The host port of the backend in [`AttemptScene::work`].
pub const PORT: u16 = 8080;

/// Remembers what an attempt tells.
#[derive(Default)]
pub struct Heard {
    pub lines: Mutex<Vec<String>>,
    pub keys: Mutex<Vec<HostKey>>,
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
pub struct AttemptScene {
    pub world: World,
    pub github: GitHub,
    pub deployer: Deployer,
    pub(super) config: DeployerConfig,
    pub heard: Arc<Heard>,
    pub user: &'static str,
    pub policy: Option<HostKeyPolicy>,
}

/// An attempt that came to its end.
pub struct FinishedAttempt {
    pub reports: BTreeMap<Stage, StageReport>,
    pub round_trips: u32,
}

impl AttemptScene {
    pub fn new() -> Self {
        Self::with(1)
    }

    pub fn with(targets: u8) -> Self {
        let world = World::start(WorldOptions { targets, ..WorldOptions::default() }).unwrap();
        world.enter().unwrap();
        let github = GitHub::start(GitHubOptions {
            api_addr: SocketAddr::from((net::GITHUB_API, 80)),
            git_addr: SocketAddr::from((net::GITHUB, 80)),
            tls: None,
            git_root: world.git_root().to_owned(),
            app_key: Some(world.app_key()),
        })
        .unwrap();
        let token = github.add_token(&NewToken::classic(&["repo"]));
        let config = DeployerConfig {
            github_api: format!("http://{}", net::GITHUB_API),
            github_git: "http://github.com".to_owned(),
            github: GithubCredential::Token(token.into()),
            image_registry: "ghcr.io".to_owned(),
            registry_token_host: None,
            digest_key: SecretString::from("0123456789abcdef0123456789abcdef".to_owned()),
            ca_file: None,
            project_root: "/opt/services".to_owned(),
            command_timeout: Duration::from_secs(120),
            health_timeout: Duration::from_secs(PATIENCE),
            limits: ProjectLimits::DEFAULT,
            front_door: None,
        };
        let deployer = Deployer::new(config.clone()).unwrap();
        Self { world, github, deployer, config, heard: Arc::default(), user: "root", policy: None }
    }

    /// How long attempts wait from now on until a project is healthy: less for one that never will be.
    pub fn wait_for(&mut self, seconds: u64) {
        let health_timeout = Duration::from_secs(seconds);
        self.deployer = Deployer::new(DeployerConfig { health_timeout, ..self.config.clone() }).unwrap();
    }

    /// Lets attempts ask the world's registries from now on, whose authority the worker trusts then.
    pub fn trust_registries(&mut self) {
        self.config.ca_file = Some(self.world.ca_pem());
        self.deployer = Deployer::new(self.config.clone()).unwrap();
    }

    /// A deployer that lets a project have that much.
    pub fn deployer_with(&self, limits: ProjectLimits) -> Deployer {
        Deployer::new(DeployerConfig { limits, ..self.config.clone() }).unwrap()
    }

    /// A deployer whose commands on servers end after so many seconds.
    pub fn impatient(&self, seconds: u64) -> Deployer {
        let command_timeout = Duration::from_secs(seconds);
        Deployer::new(DeployerConfig { command_timeout, ..self.config.clone() }).unwrap()
    }

    pub fn publish(&self, sample: &Sample, variant: Variant) -> Commit {
        let commit = self.world.publish_variant(sample, variant).unwrap();
        let new = NewRepository { private: true, default_branch: "main".to_owned() };
        self.github.add_repository(sample.owner(), sample.repository(), &new).unwrap();
        commit
    }

    /// The credential that the world's registry accepts, as if it came from there.
    pub fn registry(&self, source: RegistryCredentialSource) -> RegistryCredential {
        let login = self.world.registry_credential();
        let password = SecretString::from(login.password.clone());
        RegistryCredential { username: login.username.clone(), password, source }
    }

    /// To deploy `commit` to target 0.
    pub fn work(
        &self,
        sample: &Sample,
        commit: &Commit,
        slug: &str,
        digests: &BTreeMap<String, String>,
    ) -> DeploymentWork {
        self.work_on((0, PORT), sample, commit, slug, digests)
    }

    /// As [`Self::work`], to this target and host port.
    pub fn work_on(
        &self,
        (index, port): (usize, u16),
        sample: &Sample,
        commit: &Commit,
        slug: &str,
        digests: &BTreeMap<String, String>,
    ) -> DeploymentWork {
        let target = self.world.target(index);
        let request: ProjectReady = serde_json::from_value(serde_json::json!({
            "project": { "id": uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, slug.as_bytes()), "slug": slug },
            "repository": {
                "name": format!("{}/{}", sample.owner(), sample.repository()),
                "commit": commit.sha,
                "branch": "main",
            },
            "server": { "handle": target.name() },
            "allocations": [
                { "service": "db", "host_port": 15432, "container_port": 5432 },
                { "service": "backend", "host_port": port, "container_port": 8000 },
            ],
            "modules": ["backend", "tg_bot"],
            "variables": { "GREETING": "it's $5 \"now\" \\" },
        }))
        .unwrap();
        DeploymentWork {
            deployment: DeploymentId(uuid::Uuid::new_v4()),
            action: Action::Deploy,
            remove_volumes: false,
            moving: None,
            shares_repository: false,
            former_owners: Vec::new(),
            ci_taken: None,
            request,
            target: Target {
                handle: ServerHandle::new(target.name()).unwrap(),
                address: Host::new(target.ip().to_string()).unwrap(),
                ssh_port: Port::new(target.ssh_port()).unwrap(),
                ssh_user: UserName::new(self.user).unwrap(),
                host_key: self
                    .policy
                    .clone()
                    .unwrap_or_else(|| HostKeyPolicy::Pinned(HostKey::new(target.host_key()).unwrap())),
                ssh_key: SecretString::from(std::fs::read_to_string(self.world.ssh_key()).unwrap()),
                front_door: None,
            },
            secrets: [(VariableName::new("TELEGRAM_BOT_TOKEN").unwrap(), SecretString::from(BOT_TOKEN.to_owned()))]
                .into(),
            registry: Some(self.registry(RegistryCredentialSource::Fleet)),
            images: BTreeMap::new(),
            earlier: EarlierRequests::default(),
            github_digests: digests.clone(),
            allowances: Vec::new(),
            lease: LeaseGuard::endless(1),
        }
    }

    pub fn run(&self, work: DeploymentWork) -> Result<FinishedAttempt, Box<(Stage, StageError)>> {
        self.run_stages(work, &Stage::ALL)
    }

    pub fn run_stages(
        &self,
        work: DeploymentWork,
        stages: &[Stage],
    ) -> Result<FinishedAttempt, Box<(Stage, StageError)>> {
        let heard = self.heard.clone();
        let deployer = self.deployer.clone();
        self.world
            .block_on(async move {
                let mut attempt = deployer.begin(work, heard, CancellationToken::new());
                let mut reports = BTreeMap::new();
                for &stage in stages {
                    let began = std::time::Instant::now();
                    let report = attempt.run(stage).await.map_err(|e| Box::new((stage, e)))?;
                    eprintln_stage(stage, &report, began.elapsed(), attempt.round_trips());
                    reports.insert(stage, report);
                }
                let round_trips = attempt.round_trips();
                attempt.close().await;
                Ok(FinishedAttempt { reports, round_trips })
            })
            .unwrap()
    }

    /// Notes from now on each start of that service's containers on a target, but for those of a rehearsal.
    pub fn note_starts(&self, target: usize, service: &str) {
        let filters = format!(
            "--filter type=container --filter event=start --filter label=com.docker.compose.oneoff=False --filter \
             label=com.docker.compose.service={service}"
        );
        let noting = format!("docker events --since $(date +%s.%N) {filters} --format '{{{{.ID}}}}'");
        let script = format!("setsid {noting} >>/root/{service}.starts 2>/dev/null </dev/null &");
        self.world.target(target).sh(&script).unwrap();
    }

    /// How many starts [`Self::note_starts`] has noted since the last time.
    pub fn starts(&self, target: usize, service: &str) -> usize {
        let script = format!("cat /root/{service}.starts; : >/root/{service}.starts");
        self.world.target(target).sh(&script).unwrap().lines().count()
    }

    /// Starts one more sshd on a server, and waits until it listens: it goes to the background before.
    pub fn start_sshd(&self, target: usize, port: u16, options: &str) {
        let start = format!(
            "/usr/sbin/sshd -p {port} -E /var/log/sshd-{port}.log {options} && until ss -Hltn | grep -q :{port}; do :; done"
        );
        self.world.target(target).sh(&start).unwrap();
    }

    /// What target 0 answers on [`PORT`]; empty when nobody does.
    pub fn get(&self, path: &str) -> String {
        self.get_from((0, PORT), path)
    }

    pub fn get_from(&self, (index, port): (usize, u16), path: &str) -> String {
        let url = format!("http://{}:{port}{path}", self.world.target(index).ip());
        let output =
            self.world.command("curl").args(["-s", "--noproxy", "*", "--max-time", "5", &url]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }
}

#[expect(clippy::print_stderr, reason = "shown when a test fails")]
fn eprintln_stage(stage: Stage, report: &StageReport, took: Duration, round_trips: u32) {
    eprintln!("{stage} {took:?} {round_trips} {report:?}");
}
