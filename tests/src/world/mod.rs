//! The test world: RabbitMQ, PostgreSQL, registries and target servers, real programs all, in namespaces of their own
//! without a way out. `tests/prepare` builds what it needs once; a world then starts in seconds and ends with the test.
//!
//! ```no_run
//! use slipway_tests::world::{Generation, Sample, World, WorldOptions};
//!
//! # fn main() -> anyhow::Result<()> {
//! let world = World::start(WorldOptions { targets: 1, nodes: 1, ..WorldOptions::default() })?;
//! let commit = world.publish(&Sample::new(Generation::Two, "acme", "shop"))?;
//! let worker = world.command("slipway-worker").env("AMQP_URL", world.amqp_url()).spawn()?;
//! # let _ = (commit, worker); Ok(()) }
//! ```
//!
//! Names (github.com, ghcr.io, …) resolve for [`World::command`]'s programs, for what [`World::block_on`] runs and on the
//! targets, not in the test process: [`World::enter`] changes a thread's network, not its files. The git server and GitHub's API are not here:
//! they are stand-ins that run in the test process.

mod authority;
mod broker;
mod cache;
mod cost;
mod database;
mod folder;
mod git;
mod holder;
mod http;
mod image;
mod modules;
pub mod net;
mod probe;
mod process_tree;
mod publish;
mod registry;
mod sample;
mod service;
mod target;
mod wait;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;

use anyhow::{Context, Result};

pub use authority::Authority;
pub use broker::{Broker, CLUSTER};
pub use cache::Cache;
pub use cost::{LongLine, ProgramCounter};
use folder::Folder;
pub use git::{Commit, Git};
use holder::MountHolder;
pub use http::HttpAnswer;
pub use image::{Image, Module, Variant};
pub use registry::{Registry, RegistryLogin};
pub use sample::{Generation, Sample};
pub use service::Service;
pub use target::TargetServer;
pub use wait::{ended, eventually, interrupt, is_interrupted, was_interrupted};

/// What a world shall have besides its network and its registries.
#[derive(Debug, Clone, Copy, Default)]
pub struct WorldOptions {
    /// How many target servers, numbered from 0. About a second and 150 MB each.
    pub targets: u8,
    /// How many nodes of RabbitMQ: one, or the three of a [`CLUSTER`]. Five seconds, or ten.
    pub nodes: usize,
    /// PostgreSQL: less than a second.
    pub database: bool,
}

/// A running world. Dropping it ends everything in it; so does the end of the test process, even by SIGKILL.
#[derive(Debug)]
pub struct World {
    // Dropped in this order: servers and services, then what holds them, then the folder.
    targets: Vec<TargetServer>,
    broker: Option<Broker>,
    database: Option<Service>,
    ghcr: Registry,
    docker_hub: Registry,
    front_door: String,
    credential: RegistryLogin,
    git: Git,
    holder: Arc<MountHolder>,
    cache: Arc<Cache>,
    folder: Folder,
}

impl World {
    /// Starts a world, all parts at once, and returns when every one of them answers.
    ///
    /// # Errors
    /// When `tests/prepare` has not run, or a part does not come up: with the tail of its log.
    pub fn start(options: WorldOptions) -> Result<Self> {
        let cache = Arc::new(Cache::open()?);
        let folder = Folder::create()?;
        let holder = Arc::new(MountHolder::start(folder.path())?);
        let (ghcr, credential) = Registry::ghcr(&holder, &cache)?;
        let docker_hub = Registry::docker_hub(&holder, &cache)?;
        let world = Self {
            targets: (0..options.targets)
                .map(|index| TargetServer::new(&holder, &cache, index))
                .collect::<Result<_>>()?,
            broker: (options.nodes > 0).then(|| Broker::new(&holder, options.nodes)).transpose()?,
            database: options.database.then(|| database::database(&holder, &cache)).transpose()?,
            front_door: docker_hub.put_pinned("library/caddy", "2.11.4-alpine", &Image::caddy())?,
            docker_hub,
            git: Git::new(folder.path().join("git"))?,
            ghcr,
            credential,
            holder,
            cache,
            folder,
        };
        world.power_on()?;
        Ok(world)
    }

    fn power_on(&self) -> Result<()> {
        let services = [Some(self.ghcr.service()), Some(self.docker_hub.service()), self.database.as_ref()];
        thread::scope(|scope| {
            let services = services.into_iter().flatten().map(|service| scope.spawn(|| service.start()));
            let broker = self.broker.iter().map(|broker| scope.spawn(|| broker.begin()));
            let targets = self.targets.iter().map(|target| scope.spawn(|| target.start()));
            let starts: Vec<_> = services.chain(broker).chain(targets).collect();
            starts
                .into_iter()
                .try_for_each(|start| start.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
        })
    }

    /// Target server `index`, from 0.
    ///
    /// # Panics
    /// When the world was started with fewer.
    #[must_use]
    pub fn target(&self, index: usize) -> &TargetServer {
        &self.targets[index]
    }

    /// All target servers.
    #[must_use]
    pub fn targets(&self) -> &[TargetServer] {
        &self.targets
    }

    /// RabbitMQ, all of it or node by node, to stop, kill, freeze and start.
    ///
    /// # Errors
    /// When the world was started without.
    pub fn broker(&self) -> Result<&Broker> {
        self.broker.as_ref().context("this world has no broker")
    }

    /// Where RabbitMQ's nodes listen, inside the world, with commas between them; empty when the world has none.
    #[must_use]
    pub fn amqp_url(&self) -> &str {
        self.broker.as_ref().map_or("", Broker::urls)
    }

    /// Postgres, to stop, kill, freeze and start.
    ///
    /// # Errors
    /// When the world was started without.
    pub fn database(&self) -> Result<&Service> {
        self.database.as_ref().context("this world has no database")
    }

    /// Where Postgres listens, inside the world.
    #[must_use]
    pub fn database_url(&self) -> &'static str {
        database::URL
    }

    /// The private registry, ghcr.io.
    #[must_use]
    pub fn ghcr(&self) -> &Registry {
        &self.ghcr
    }

    /// Docker Hub.
    #[must_use]
    pub fn docker_hub(&self) -> &Registry {
        &self.docker_hub
    }

    /// The image of the servers' front door, on Docker Hub, pinned by its digest: what stands for the official one.
    #[must_use]
    pub fn front_door_image(&self) -> &str {
        &self.front_door
    }

    /// The login that ghcr.io accepts.
    #[must_use]
    pub fn registry_credential(&self) -> &RegistryLogin {
        &self.credential
    }

    /// The git repositories, to publish projects in.
    #[must_use]
    pub fn git(&self) -> &Git {
        &self.git
    }

    /// The folder of bare repositories, `<owner>/<repository>.git`, for a git server.
    #[must_use]
    pub fn git_root(&self) -> &Path {
        self.git.root()
    }

    /// A program in the world's network and with its names, in the current folder. The child IS the program: its PID
    /// and its signals are the program's. It is a process of the machine: end it before the world.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        self.holder.command(program)
    }

    /// Moves the current thread, for good, and every thread that it starts from now on into the world's network: a
    /// tokio runtime built here afterwards talks to the broker, Postgres and the targets, and listens on the world's
    /// addresses.
    ///
    /// # Errors
    /// When the world is gone.
    pub fn enter(&self) -> Result<()> {
        self.holder.enter()
    }

    /// Runs a future to its end on a runtime of its own inside the world's network, with its names.
    ///
    /// # Errors
    /// When the world is gone.
    pub fn block_on<F>(&self, future: F) -> Result<F::Output>
    where
        F: Future + Send,
        F::Output: Send,
    {
        self.holder.inside(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
            Ok(runtime.block_on(future))
        })
    }

    /// A GET from the workers' place in the world, at most five seconds. Names resolve; certificates are checked.
    ///
    /// # Errors
    /// When there is no answer.
    pub fn get(&self, url: &str) -> Result<HttpAnswer> {
        http::get(self.command("curl"), &self.ca_pem(), url)
    }

    /// The CA that signed every stand-in's certificate; targets trust it.
    #[must_use]
    pub fn ca_pem(&self) -> PathBuf {
        self.cache.key("ca.pem")
    }

    /// The certificate for ghcr.io, github.com, api.github.com and registry-1.docker.io.
    #[must_use]
    pub fn server_cert(&self) -> PathBuf {
        self.cache.key("server.pem")
    }

    /// The private key of [`World::server_cert`], PKCS#8.
    #[must_use]
    pub fn server_key(&self) -> PathBuf {
        self.cache.key("server.key")
    }

    /// The private key of the GitHub App, PEM, PKCS#1.
    #[must_use]
    pub fn app_key(&self) -> PathBuf {
        self.cache.key("app.pem")
    }

    /// The workers' private SSH key (OpenSSH format); root of every target accepts it.
    #[must_use]
    pub fn ssh_key(&self) -> PathBuf {
        self.cache.key("worker")
    }

    /// What `tests/prepare` has built.
    #[must_use]
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// The world's folder, gone after the test; logs are here.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // At once, rather than server by server.
        self.holder.end();
    }
}
