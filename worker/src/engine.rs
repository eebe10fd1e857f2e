//! The engine: starts intake, runner and relay, and ends them in the right order when the drain begins. What each of
//! them does is in its own module.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use slipway_deploy::backoff::RetryPolicy;
use slipway_deploy::github::GithubClient;
use slipway_deploy::secrets::seal::KeyRing;
use slipway_deploy::{CredentialSource, Deployer};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::amqp::BrokerEndpoints;
use crate::config::Config;
use crate::housekeeping::Housekeeping;
use crate::intake::{Admitter, DeadLetterConsumer, HeldMessages, Holding, MissingHalves, RequestConsumer};
use crate::placement::{Placer, ServerAsker};
use crate::process::{Condition, Drain, Readiness, WorkerHeartbeat, wait_for};
use crate::publish::Relay;
use crate::publish::github_status::GithubStatusPublisher;
use crate::pushes::{PushLooker, WebhookServer};
use crate::run::{Credentials, Pipeline, RegistryCredentials, Runner, RunnerSettings};
use crate::store::{AttemptWriter, HELD_RETRIES, Store};

/// Without a heartbeat for so long no worker has taken webhooks.
const SILENCE: Duration = Duration::from_secs(10);
/// Branches that a worker looks at at once: a slow answer mustn't hold up all others.
const LOOKERS: usize = 2;
/// Messages that the broker delivers before the first is acknowledged.
pub(crate) const PREFETCH: u16 = 128;

/// Works until the drain has ended.
///
/// # Errors
/// When the worker itself fails; absent dependencies are waited for.
pub async fn run(config: Config, readiness: Readiness, drain: Drain) -> anyhow::Result<()> {
    let deployer = Deployer::new(config.deployer.clone()).context("can't set up the pipeline")?;
    let github = GithubClient::new(&config.deployer)?;
    let outside = Outside { github, deployer: deployer.clone() };
    work(config, Arc::new(deployer), Some(outside), readiness, drain).await
}

/// What is asked beside the pipeline.
struct Outside {
    github: GithubClient,
    deployer: Deployer,
}

/// As [`run`], with another pipeline; neither GitHub nor any server is asked anything beside it.
///
/// # Errors
/// As [`run`].
pub async fn run_with(
    config: Config,
    pipeline: Arc<dyn Pipeline>,
    readiness: Readiness,
    drain: Drain,
) -> anyhow::Result<()> {
    work(config, pipeline, None, readiness, drain).await
}

async fn work(
    config: Config,
    pipeline: Arc<dyn Pipeline>,
    outside: Option<Outside>,
    readiness: Readiness,
    drain: Drain,
) -> anyhow::Result<()> {
    let (name, ca_file) = (config.worker.name.as_str(), config.deployer.ca_file.as_deref());
    let store = Store::over(config.database.url.secret(), &config.database.route, ca_file, name)?;
    let broker = BrokerEndpoints::new(config.broker.url.secret(), ca_file, name)?;
    let credentials = Arc::new(load_credentials(&config)?);
    let webhooks = config.pushes.webhooks.as_ref();
    let webhooks = webhooks.map(|hooks| WebhookServer::bind(hooks.address, &hooks.secret)).transpose()?;
    let Some(()) = wait_for("database", RetryPolicy::RECONNECT, &drain, || store.migrate()).await else {
        return Ok(());
    };
    readiness.set_met(Condition::Database);

    let (canary, canary_queue) = watch::channel(None);
    let flushed = CancellationToken::new();
    let relay = Relay {
        store: store.clone(),
        broker: broker.clone(),
        readiness: readiness.clone(),
        canary: canary_queue,
        lease: config.worker.lease,
        finish: flushed.clone(),
    };
    let relay = tokio::spawn(relay.run());
    let heartbeat = WorkerHeartbeat {
        store: store.clone(),
        readiness: readiness.clone(),
        lease: config.worker.lease,
        stop: drain.token().clone(),
    };
    let dead_letters = DeadLetterConsumer { store: store.clone(), broker: broker.clone(), drain: drain.clone() };
    let admitter = Admitter {
        store: store.clone(),
        credentials: credentials.clone(),
        versions: config.worker.versions,
        half_timeout: config.worker.half_timeout,
    };
    let missing_halves = MissingHalves { store: store.clone(), drain: drain.clone() };
    let (holding, chores) = (Holding::default(), broker.clone());
    let held = HeldMessages {
        admitter: admitter.clone(),
        holding: holding.clone(),
        retries: HELD_RETRIES,
        readiness: readiness.clone(),
        drain: drain.clone(),
    };
    let requests =
        RequestConsumer { admitter, holding, broker, readiness, drain: drain.clone(), prefetch: PREFETCH, canary };
    let settings = RunnerSettings {
        concurrency: config.worker.concurrency,
        lease: config.worker.lease,
        attempts: config.worker.attempts,
        limits: config.worker.limits,
        registry: config.deployer.image_registry.clone(),
        deadlines: config.worker.deadlines,
        placement: config.worker.placement,
    };
    let writer = AttemptWriter::new(store.clone());
    let runner = Runner {
        store: store.clone(),
        writer,
        pipeline,
        credentials: credentials.clone(),
        settings,
        drain: drain.clone(),
    };
    let mut parts = JoinSet::new();
    parts.spawn(heartbeat.run());
    parts.spawn(requests.run());
    parts.spawn(held.run());
    parts.spawn(missing_halves.run());
    parts.spawn(dead_letters.run());
    parts.spawn(runner.run());
    let limits = config.worker.placement;
    parts.spawn(Placer { store: store.clone(), limits, drain: drain.clone() }.run());
    if let Some(Outside { github, deployer }) = outside {
        let asker = ServerAsker {
            store: store.clone(),
            deployer,
            credentials: credentials.clone(),
            interval: limits.facts_interval,
            drain: drain.clone(),
        };
        parts.spawn(asker.run());
        let (wakeups, interval) = (Arc::new(store.listen()), config.pushes.interval);
        let looker =
            PushLooker { store: store.clone(), github: github.clone(), wakeups, interval, drain: drain.clone() };
        match store.catch_up(SILENCE).await {
            Ok(branches) => tracing::debug!(branches, "branches are looked at that nobody has watched for a while"),
            Err(error) => tracing::warn!(%error, "what was pushed while no worker lived is found a little later"),
        }
        (0..LOOKERS).for_each(|_| drop(parts.spawn(looker.clone().run())));
        if config.worker.announce {
            parts.spawn(GithubStatusPublisher { store: store.clone(), github, drain: drain.clone() }.run());
        }
    }
    if let Some(webhooks) = webhooks {
        parts.spawn(webhooks.run(store.clone(), drain.clone()));
    }
    parts.spawn(Housekeeping { store, broker: chores, retention: config.retention, drain: drain.clone() }.run());
    wait_until_drained(parts, relay, flushed, &drain).await
}

/// Waits for all parts to end and then for the relay to publish what they wrote last. A part that ends too early is an
/// error: a process that restarts is better than one that does half of its work.
async fn wait_until_drained(
    mut parts: JoinSet<()>,
    relay: JoinHandle<()>,
    flushed: CancellationToken,
    drain: &Drain,
) -> anyhow::Result<()> {
    let mut relay = relay;
    loop {
        tokio::select! {
            ended = parts.join_next() => match ended {
                Some(ended) => {
                    ended.context("a part of the engine panicked")?;
                    anyhow::ensure!(drain.has_begun(), "a part of the engine ended though nothing asked it to");
                }
                None => break,
            },
            ended = &mut relay => {
                ended.context("the relay panicked")?;
                anyhow::bail!("the relay ended though nothing asked it to");
            }
        }
    }
    flushed.cancel();
    relay.await.context("the relay panicked")
}

/// Loads what a deployment needs from this process, as configured.
///
/// # Errors
/// When the sealing keys can't be read.
pub fn load_credentials(config: &Config) -> anyhow::Result<Credentials> {
    let sealing = config.secrets.sealing_keys_dir.as_deref().map(KeyRing::load).transpose();
    Ok(Credentials {
        sealing: sealing.context("SLIPWAY_SEALING_KEYS_DIR")?.unwrap_or_default(),
        mounted_dir: config.secrets.mounted_dir.clone(),
        ssh_key: config.servers.ssh_key_file.clone().map(CredentialSource::File),
        age_identity_file: config.servers.age_identity_file.clone(),
        trust_new_servers: config.servers.trust_new,
        registry: RegistryCredentials::new(&config.registry),
        servers_from_events: config.servers.from_events,
        unbound_boxes: config.secrets.unbound_boxes,
        unscoped_references: config.secrets.unscoped_references,
    })
}
