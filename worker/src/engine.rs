//! The engine's start: it waits for the database and the broker, brings the schema and the topology up to date, and
//! then runs until the drain. It never gives up on a dependency: a restart wouldn't bring it back.

use slipway_deploy::retry::Policy;

use crate::amqp::{self, AmqpError, Broker};
use crate::config::Config;
use crate::lifecycle::{Drain, wait_for};
use crate::readiness::{Condition, Readiness};
use crate::store::Store;

/// Works until the drain has ended.
///
/// # Errors
/// When the worker itself fails, or a CA file can't be used; absent dependencies are waited for.
pub async fn run(config: Config, readiness: Readiness, drain: Drain) -> anyhow::Result<()> {
    let (name, ca_file) = (&config.worker.name, config.deployer.ca_file.as_deref());
    let store = Store::new(config.database.url.secret(), ca_file, name)?;
    let broker = Broker::new(config.broker.url.secret(), ca_file, name)?;
    let Some(()) = wait_for("database", Policy::RECONNECT, &drain, || store.migrate()).await else { return Ok(()) };
    readiness.met(Condition::Database);
    let Some(()) = wait_for("broker", Policy::RECONNECT, &drain, || declare(&broker)).await else { return Ok(()) };
    drain.token().cancelled().await;
    Ok(())
}

async fn declare(broker: &Broker) -> Result<(), AmqpError> {
    let link = broker.connect("start").await?;
    let declared = amqp::declare(&link.channel().await?).await;
    link.close().await;
    declared
}
