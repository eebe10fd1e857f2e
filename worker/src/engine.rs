//! The engine, so far only its start: it waits for the database and the broker and stays unready.

use secrecy::ExposeSecret as _;
use slipway_deploy::retry::Policy;

use crate::config::Config;
use crate::lifecycle::{Drain, wait_for};
use crate::readiness::Readiness;

/// Works until the drain has ended.
///
/// # Errors
/// When the worker itself fails; absent dependencies are waited for.
pub async fn run(config: Config, readiness: Readiness, drain: Drain) -> anyhow::Result<()> {
    let _ = readiness;
    let database = config.database.url.secret().expose_secret();
    let connect = || async { tokio_postgres::connect(database, tokio_postgres::NoTls).await.map(drop) };
    if wait_for("database", Policy::RECONNECT, &drain, connect).await.is_none() {
        return Ok(());
    }
    let broker = config.broker.url.secret().expose_secret();
    let connect =
        || async { lapin::Connection::connect(broker, lapin::ConnectionProperties::default()).await.map(drop) };
    if wait_for("broker", Policy::RECONNECT, &drain, connect).await.is_none() {
        return Ok(());
    }
    drain.token().cancelled().await;
    Ok(())
}
