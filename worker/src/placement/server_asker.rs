//! Asks the servers of the inventory for what they have, one round trip each, and notes it with its age. Whose turn it is
//! stands in the database; a turn of the fleet tells when that is.

use std::sync::Arc;
use std::time::Duration;

use slipway_deploy::{Deployer, ServerMeasurement, StageError};
use slipway_protocol::Server;
use tokio::task::JoinSet;

use crate::process::Drain;
use crate::run::Credentials;
use crate::store::{ServerToAsk, Store, StoreError};
use crate::telemetry::OutageLog;

/// How many servers a worker asks at once.
pub(crate) const ASKED_AT_ONCE: u16 = 16;
/// How long to wait after the database failed.
const AFTER_FAILURE: Duration = Duration::from_secs(2);

/// Asks servers.
pub struct ServerAsker {
    /// Where it's written who is due, and what was seen.
    pub store: Store,
    /// Connects to servers.
    pub deployer: Deployer,
    /// Keys of servers.
    pub credentials: Arc<Credentials>,
    /// How long a server isn't asked again.
    pub interval: Duration,
    /// Ends the asking as soon as it begins.
    pub drain: Drain,
}

impl ServerAsker {
    /// Works until the drain begins. Who is being asked then is asked again by another worker.
    pub async fn run(self) {
        let (mut outages, wakeups) = (OutageLog::new("servers"), self.store.listen());
        let asker = Arc::new(self);
        while !asker.drain.has_begun() {
            let asked = tokio::select! {
                () = asker.drain.token().cancelled() => return,
                asked = ask_due(&asker) => asked,
            };
            let (more, failed) = (matches!(asked, Ok(true)), asked.is_err());
            outages.record(asked.map(drop));
            if !more {
                tokio::select! {
                    () = asker.drain.token().cancelled() => return,
                    () = wakeups.question() => {}
                    () = tokio::time::sleep(AFTER_FAILURE), if failed => {}
                }
            }
        }
    }

    async fn ask(&self, due: &ServerToAsk) -> Result<(), StoreError> {
        let handle = &due.server.handle;
        match self.facts(due).await {
            Ok(facts) => self.store.record_server_facts(handle, due.at, Ok(&facts)).await,
            Err(error) => {
                let why = format!("{}: {}", error.code, error.message);
                tracing::info!(server.handle = %handle, "the server couldn't be asked for what it has: {why}");
                self.store.record_server_facts(handle, due.at, Err(&why)).await
            }
        }
    }

    async fn facts(&self, due: &ServerToAsk) -> Result<ServerMeasurement, StageError> {
        let handle = due.server.handle.clone();
        let named = Server { handle, address: None, ssh_port: None, ssh_user: None, host_key: None };
        let target = self.credentials.resolve_target(&named, Some(due.server.clone()))?;
        self.deployer.server_facts(&target).await
    }
}

/// Asks all that are due, some at once; whether more may be due.
async fn ask_due(asker: &Arc<ServerAsker>) -> Result<bool, StoreError> {
    let due = asker.store.servers_to_ask(i64::from(ASKED_AT_ONCE), asker.interval).await?;
    let more = due.len() >= usize::from(ASKED_AT_ONCE);
    let mut asked = JoinSet::new();
    for server in due {
        let asker = asker.clone();
        asked.spawn(async move { asker.ask(&server).await });
    }
    while let Some(one) = asked.join_next().await {
        // A panic has been logged by its hook; that server is due again after the interval.
        one.unwrap_or(Ok(()))?;
    }
    Ok(more)
}
