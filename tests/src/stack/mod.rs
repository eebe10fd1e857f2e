//! All of Slipway on real parts: a world, GitHub's stand-in, workers as processes, and the command line.
//!
//! What a test does with it stands in the tests; how the parts are configured stands here, once, for tests and demo.

mod worker;

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::github::{GitHub, GitHubOptions, Level, NewRepository, TlsFiles};
use crate::world::{Commit, Sample, Variant, World, WorldOptions, eventually, net};
pub use worker::WorkerProcess;

/// Id of the key that secrets are sealed to.
pub const SEALING_KEY: &str = "stack";
/// The mounted secret that every stack has for repositories of `acme`, and its value.
pub const MOUNTED_SECRET: (&str, &str) = ("stack.payment", "mounted-value-5d1f");
/// What GitHub signs webhooks with; no worker takes any unless it's told where.
pub const WEBHOOK_SECRET: &str = "stack webhook secret 0123456789abcdef";
/// Where each worker's admin server listens: every worker has an address of its own in 127.0.0.0/8.
const ADMIN_PORT: u16 = 9090;

/// A world with Slipway in it. Workers end with it.
#[derive(Debug)]
pub struct Stack {
    workers: Vec<WorkerProcess>,
    /// GitHub's stand-in.
    pub github: GitHub,
    /// The world.
    pub world: World,
    sealing_public: [u8; 32],
}

impl Stack {
    /// Starts a world with a broker of one node and a database, the stand-in for GitHub, declares the topology and
    /// writes the workers' configuration. No worker runs yet.
    ///
    /// # Errors
    /// When a part doesn't come up.
    pub fn start(targets: u8) -> Result<Self> {
        Self::with_nodes(1, targets)
    }

    /// The same with so many nodes of RabbitMQ.
    ///
    /// # Errors
    /// When a part doesn't come up.
    pub fn with_nodes(nodes: usize, targets: u8) -> Result<Self> {
        let world = World::start(WorldOptions { targets, nodes, database: true })?;
        let tls = TlsFiles { certificate: world.server_cert(), key: world.server_key() };
        let options = GitHubOptions {
            api_addr: SocketAddr::from((net::GITHUB_API, 443)),
            git_addr: SocketAddr::from((net::GITHUB, 443)),
            tls: Some(tls),
            git_root: world.git_root().to_owned(),
            app_key: Some(world.app_key()),
        };
        let github =
            std::thread::scope(|scope| scope.spawn(|| world.enter().and_then(|()| GitHub::start(options))).join())
                .map_err(|_| anyhow::anyhow!("the thread that starts GitHub's stand-in panicked"))??;
        let sealing = crypto_box::SecretKey::generate(&mut crypto_box::aead::OsRng);
        let stack = Self { workers: Vec::new(), github, sealing_public: *sealing.public_key().as_bytes(), world };
        stack.write_configuration(&sealing)?;
        stack.slipway(&["topology", "apply"])?;
        Ok(stack)
    }

    fn configuration(&self) -> PathBuf {
        self.world.folder().join("slipway")
    }

    fn write_configuration(&self, sealing: &crypto_box::SecretKey) -> Result<()> {
        use base64::Engine as _;
        let folder = self.configuration();
        fs::create_dir_all(folder.join("sealing"))?;
        fs::create_dir_all(folder.join("secrets/owners/acme"))?;
        let key = base64::engine::general_purpose::STANDARD.encode(sealing.to_bytes());
        let identity = slipway_deploy::secrets::keys::AgeIdentity::generate();
        use secrecy::ExposeSecret as _;
        let files = [
            (format!("sealing/{SEALING_KEY}.key"), key),
            (format!("secrets/owners/acme/{}", MOUNTED_SECRET.0), format!("{}\n", MOUNTED_SECRET.1)),
            ("github-app.pem".to_owned(), self.github.app_private_key_pem().to_owned()),
            ("registry-password".to_owned(), self.world.registry_credential().password.clone()),
            ("webhook-secret".to_owned(), WEBHOOK_SECRET.to_owned()),
            ("digest-key".to_owned(), "stack digest key 0123456789abcdef0123456789".to_owned()),
            (
                "age-identity".to_owned(),
                format!("# public key: {}\n{}\n", identity.recipient, identity.identity.expose_secret()),
            ),
        ];
        for (name, content) in files {
            let path = folder.join(name);
            fs::write(&path, content)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
        Ok(())
    }

    /// Where the world's ends of everything are, as the environment that workers and command line read.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let file = |name: &str| self.configuration().join(name).display().to_string();
        vec![
            ("SLIPWAY_AMQP_URL", self.world.amqp_url().to_owned()),
            ("SLIPWAY_DATABASE_URL", self.world.database_url().to_owned()),
            ("SLIPWAY_CA_FILE", self.world.ca_pem().display().to_string()),
            ("SLIPWAY_SSH_KEY_FILE", self.world.ssh_key().display().to_string()),
            ("SLIPWAY_AGE_IDENTITY_FILE", file("age-identity")),
            ("SLIPWAY_SEALING_KEYS_DIR", file("sealing")),
            ("SLIPWAY_SECRETS_DIR", file("secrets")),
            ("SLIPWAY_GITHUB_APP_ID", self.github.app_id().to_string()),
            ("SLIPWAY_GITHUB_APP_KEY_FILE", file("github-app.pem")),
            ("SLIPWAY_REGISTRY_USERNAME", self.world.registry_credential().username.clone()),
            ("SLIPWAY_REGISTRY_PASSWORD_FILE", file("registry-password")),
            ("SLIPWAY_DIGEST_KEY_FILE", file("digest-key")),
            ("SLIPWAY_WEBHOOK_SECRET_FILE", file("webhook-secret")),
            ("SLIPWAY_HEALTH_TIMEOUT", "60s".to_owned()),
            ("SLIPWAY_FRONT_DOOR_IMAGE", self.world.front_door_image().to_owned()),
            // As long as without a door.
            ("SLIPWAY_PROVING_TIME", "5s".to_owned()),
            ("SLIPWAY_RETRY_INITIAL", "200ms".to_owned()),
            ("SLIPWAY_RETRY_MAX", "1s".to_owned()),
            // Each target has the load of this machine and all that it tests.
            ("SLIPWAY_PLACEMENT_LOAD", "1000".to_owned()),
            ("SLIPWAY_LOG_FORMAT", "text".to_owned()),
        ]
    }

    /// A program of the workspace inside the world, with the environment of [`Self::environment`] and nothing else. It
    /// doesn't outlive the thread that starts it, not even when that is killed.
    ///
    /// # Errors
    /// When the program isn't built.
    pub fn program(&self, name: &str) -> Result<Command> {
        let path = binaries()?.join(name);
        ensure!(path.exists(), "{} isn't built; run `cargo build --workspace`", path.display());
        let mut command = self.world.command("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(path);
        command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").envs(self.environment());
        Ok(command)
    }

    /// Runs the command line with `arguments` and gives what it wrote to standard output.
    ///
    /// # Errors
    /// When it fails: with what it wrote to standard error.
    pub fn slipway(&self, arguments: &[&str]) -> Result<String> {
        let output = self.program("slipway")?.args(arguments).stdin(Stdio::null()).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "slipway {}: {}\n{said}", arguments.join(" "), output.status);
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Starts one more worker, with more environment on top, and returns its number once it's ready.
    ///
    /// # Errors
    /// When it doesn't become ready: with the end of its log.
    pub fn worker(&mut self, environment: &[(&str, &str)]) -> Result<usize> {
        let number = self.workers.len();
        let log = self.world.folder().join(format!("worker-{number}.log"));
        let admin = SocketAddr::from(([127, 0, 1, u8::try_from(number + 1)?], ADMIN_PORT));
        let child = self
            .program("slipway-worker")?
            .env("SLIPWAY_WORKER_NAME", format!("worker-{number}"))
            .env("SLIPWAY_ADMIN_ADDR", admin.to_string())
            .envs(environment.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log)?)
            .spawn()?;
        self.workers.push(WorkerProcess { child, log: log.clone(), admin });
        eventually("a worker that is ready", Duration::from_secs(30), || {
            match self.world.get(&format!("http://{admin}/readyz")) {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => bail!("/readyz says {}: {}", answer.status, answer.body),
                Err(error) => Err(error),
            }
        })
        .with_context(|| fs::read_to_string(&log).unwrap_or_default())?;
        Ok(number)
    }

    /// Worker `number`.
    pub fn running(&mut self, number: usize) -> &mut WorkerProcess {
        &mut self.workers[number]
    }

    /// Tells GitHub's stand-in of the sample's repository and installs the App on it, then publishes a commit with its
    /// images.
    ///
    /// # Errors
    /// When git or the registry refuse.
    pub fn publish(&self, sample: &Sample, variant: Variant) -> Result<Commit> {
        self.publish_as(sample, variant, true)
    }

    /// As [`Self::publish`], in a repository that everybody may read unless it's `private`.
    ///
    /// # Errors
    /// As [`Self::publish`].
    pub fn publish_as(&self, sample: &Sample, variant: Variant, private: bool) -> Result<Commit> {
        let commit = self.world.publish_variant(sample, variant)?;
        let full = format!("{}/{}", sample.owner(), sample.repository());
        let new = NewRepository { private, default_branch: sample.branch().to_owned() };
        self.github.add_repository(sample.owner(), sample.repository(), &new)?;
        let permissions = [
            ("contents", Level::Read),
            ("secrets", Level::Write),
            ("deployments", Level::Write),
            ("actions", Level::Read),
            ("metadata", Level::Read),
        ];
        self.github.install_app(sample.owner(), &[full.as_str()], &permissions);
        Ok(commit)
    }

    /// Puts target `index` into the inventory as `target-<index>`, its host key pinned.
    ///
    /// # Errors
    /// When the command line refuses.
    pub fn enlist(&self, index: usize) -> Result<()> {
        let target = self.world.target(index);
        let (handle, ip) = (format!("target-{index}"), target.ip().to_string());
        self.slipway(&["servers", "add", &handle, "--address", &ip, "--host-key", target.host_key()])?;
        Ok(())
    }

    /// `value` as `data.secrets` carries it, for one variable of one project: sealed to the workers' key.
    ///
    /// # Errors
    /// When it can't be sealed.
    pub fn sealed_for(&self, project: uuid::Uuid, name: &str, value: &str) -> Result<Value> {
        let content = json!({ "project": project, "name": name, "value": value });
        self.sealed(&format!("slipway.sealed.v1:{content}"))
    }

    /// `value` in the old form: sealed to the workers' key, for whoever uses the box.
    ///
    /// # Errors
    /// When it can't be sealed.
    pub fn sealed(&self, value: &str) -> Result<Value> {
        use base64::Engine as _;
        let sealed = crypto_box::PublicKey::from(self.sealing_public)
            .seal(&mut crypto_box::aead::OsRng, value.as_bytes())
            .map_err(|_| anyhow::anyhow!("the value can't be sealed"))?;
        let sealed = base64::engine::general_purpose::STANDARD.encode(sealed);
        Ok(json!({ "sealed": { "key_id": SEALING_KEY, "sealed_box": sealed } }))
    }

    /// The `data` of a `ProjectReady` for `commit` of `sample` on target `index`: backend on `port`, a bot, a database.
    ///
    /// # Errors
    /// When the bot's token can't be sealed.
    pub fn ready(&self, sample: &Sample, commit: &Commit, slug: &str, index: usize, port: u16) -> Result<Value> {
        let project = uuid::Uuid::new_v5(&uuid::Uuid::NAMESPACE_URL, slug.as_bytes());
        Ok(json!({
            "project": { "id": project, "slug": slug },
            "repository": {
                "name": format!("{}/{}", sample.owner(), sample.repository()),
                "commit": commit.sha,
                "branch": commit.branch,
            },
            "server": { "handle": format!("target-{index}") },
            "allocations": [
                { "service": "db", "host_port": 15432, "container_port": 5432 },
                { "service": "backend", "host_port": port, "container_port": 8000 },
            ],
            "modules": ["backend", "tg_bot"],
            "variables": { "GREETING": "it's $5 \"now\" \\" },
            "secrets": { "TELEGRAM_BOT_TOKEN": self.sealed_for(project, "TELEGRAM_BOT_TOKEN", BOT_TOKEN)? },
            "correlation": { "correlation_id": "c-17", "chat": { "id": -100 }, "story_id": null },
        }))
    }
}

/// The bot's token in [`Stack::ready`].
pub const BOT_TOKEN: &str = "123456789:AAHdqTcvCH1vGWJxfSeofSAs0K5PALDsaw0";

/// The folder that cargo puts the workspace's programs into: the one of this program, or the one above for a test.
///
/// # Errors
/// When this program can't tell where it is.
pub fn binaries() -> Result<PathBuf> {
    let this = std::env::current_exe()?;
    let folder = this.parent().context("this program has no folder")?;
    let folder = if folder.ends_with("deps") { folder.parent().unwrap_or(folder) } else { folder };
    Ok(Path::new(folder).to_owned())
}
