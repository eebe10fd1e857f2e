//! What operators say of a server beside how it's logged in to: its region and labels, how many projects it may have, whether
//! it gets new ones, and when it's being maintained.

use jiff::Timestamp;
use serde_json::json;
use slipway_protocol::ServerTraits;
use slipway_protocol::names::ServerHandle;
use tokio_postgres::Row;

use crate::failpoint::TransactionKind;
use crate::store::audit::{Operator, OperatorAction, record};
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::value::readable;
use crate::store::placement::signed;
use crate::store::server::cordoning::{CordonOutcome, cordon};
use crate::store::server::inventory::locked_server;
use crate::store::{Result, Store};

/// Whether a server gets new projects, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAvailability {
    /// Which server.
    pub server: ServerHandle,
    /// Its region and labels.
    pub traits: ServerTraits,
    /// How many projects it may have, where operators said so.
    pub project_limit: Option<u32>,
    /// Since when it gets no new projects, and why.
    pub cordoned: Option<(Timestamp, Option<String>)>,
    /// Its windows that haven't ended, the next first.
    pub windows: Vec<MaintenanceWindow>,
}

/// A time in which nothing is done on a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MaintenanceWindow {
    /// Its number.
    pub id: i64,
    /// When it begins.
    pub starts_at: Timestamp,
    /// When it ends.
    pub ends_at: Timestamp,
    /// Why.
    pub reason: Option<String>,
}

impl Store {
    /// What operators said of all servers of the inventory, by their names.
    ///
    /// # Errors
    /// When the database fails, or holds what can't be read.
    pub async fn server_availability(&self) -> Result<Vec<ServerAvailability>> {
        deadline(async {
            let client = self.client().await?;
            let sql =
                "SELECT handle, region, labels, project_limit, cordoned_at, cordon_reason FROM servers ORDER BY handle";
            let mut servers = client.query(sql, &[]).await?.iter().map(availability).collect::<Result<Vec<_>>>()?;
            let sql = "SELECT id, server, starts_at, ends_at, reason FROM maintenance_windows WHERE ends_at > now()
                       ORDER BY starts_at, id";
            for row in client.query(sql, &[]).await? {
                let of: String = row.get("server");
                if let Some(server) = servers.iter_mut().find(|server| server.server.as_str() == of) {
                    server.windows.push(window(&row));
                }
            }
            Ok(servers)
        })
        .await
    }

    /// Says what a server is and how much it may have, in the place of what was said before; false when the inventory doesn't
    /// have it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn label_server(
        &self,
        server: &ServerHandle,
        traits: &ServerTraits,
        project_limit: Option<u32>,
        operator: &Operator,
    ) -> Result<bool> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let labels: Vec<&str> = traits.labels.iter().map(|label| label.as_str()).collect();
            let region = traits.region.as_ref().map(|region| region.as_str());
            let sql =
                "UPDATE servers SET region = $2, labels = $3, project_limit = $4, updated_at = now() WHERE handle = $1";
            let changed = tx.execute(sql, &[&server.as_str(), &region, &labels, &project_limit.map(signed)]).await?;
            if changed == 0 {
                return Ok(false);
            }
            let details = json!({ "region": region, "labels": labels, "project_limit": project_limit });
            record(&tx, OperatorAction::LabelServer, server.as_str(), operator, &details).await?;
            commit(tx, TransactionKind::Operate).await?;
            Ok(true)
        })
        .await
    }

    /// Keeps new projects off a server, or lets it have them again. `None` when the inventory doesn't have it; otherwise whether
    /// that's a change.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn cordon_server(
        &self,
        server: &ServerHandle,
        cordoned: bool,
        operator: &Operator,
    ) -> Result<Option<bool>> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let changed = cordon(&tx, server, cordoned, operator, None).await?.map(CordonOutcome::is_change);
            commit(tx, TransactionKind::Operate).await?;
            Ok(changed)
        })
        .await
    }

    /// Announces a time in which nothing is done on a server; gives its number, or nothing when the inventory doesn't have the
    /// server.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn add_maintenance(
        &self,
        server: &ServerHandle,
        starts_at: Timestamp,
        ends_at: Timestamp,
        operator: &Operator,
    ) -> Result<Option<i64>> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let sql = "INSERT INTO maintenance_windows (server, starts_at, ends_at, reason)
                       SELECT handle, $2, $3, $4 FROM servers WHERE handle = $1 RETURNING id";
            let row = tx.query_opt(sql, &[&server.as_str(), &starts_at, &ends_at, &operator.why]).await?;
            let Some(id) = row.map(|row| row.get::<_, i64>(0)) else { return Ok(None) };
            let details = json!({ "window": id, "starts_at": starts_at, "ends_at": ends_at });
            record(&tx, OperatorAction::MaintainServer, server.as_str(), operator, &details).await?;
            commit(tx, TransactionKind::Operate).await?;
            Ok(Some(id))
        })
        .await
    }

    /// Ends a server's windows that are under way or to come; gives how many there were, or nothing when the inventory doesn't
    /// have the server.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn end_maintenance(&self, server: &ServerHandle, operator: &Operator) -> Result<Option<u64>> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            if locked_server(&tx, server).await?.is_none() {
                return Ok(None);
            }
            let sql = "DELETE FROM maintenance_windows WHERE server = $1 AND ends_at > now()";
            let ended = tx.execute(sql, &[&server.as_str()]).await?;
            if ended > 0 {
                let details = json!({ "ended": ended });
                record(&tx, OperatorAction::MaintainServer, server.as_str(), operator, &details).await?;
                // What waited for its end may be claimed.
                tx.wake_runner().await?;
            }
            commit(tx, TransactionKind::Operate).await?;
            Ok(Some(ended))
        })
        .await
    }

    /// The projects that live on a server, or are being deployed there, by their slugs.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn projects_on(&self, server: &ServerHandle) -> Result<Vec<String>> {
        deadline(async {
            let sql =
                "SELECT project_slug FROM project_places WHERE server = $1 AND succeeded > coalesce(undeployed, 0)
                       UNION SELECT d.project_slug FROM reservations r JOIN deployments d ON d.id = r.deployment_id
                           WHERE r.server = $1 AND r.succeeded_at IS NULL
                       ORDER BY 1";
            let rows = self.client().await?.query(sql, &[&server.as_str()]).await?;
            Ok(rows.iter().map(|row| row.get(0)).collect())
        })
        .await
    }
}

fn availability(row: &Row) -> Result<ServerAvailability> {
    let label = |text: String| readable("servers", "labels", text.parse());
    let since: Option<Timestamp> = row.get("cordoned_at");
    Ok(ServerAvailability {
        server: readable("servers", "handle", ServerHandle::new(row.get::<_, String>("handle")))?,
        traits: ServerTraits {
            region: row.get::<_, Option<String>>("region").map(label).transpose()?,
            labels: row.get::<_, Vec<String>>("labels").into_iter().map(label).collect::<Result<_>>()?,
        },
        project_limit: row.get::<_, Option<i32>>("project_limit").and_then(|n| u32::try_from(n).ok()),
        cordoned: since.map(|since| (since, row.get("cordon_reason"))),
        windows: Vec::new(),
    })
}

fn window(row: &Row) -> MaintenanceWindow {
    MaintenanceWindow {
        id: row.get("id"),
        starts_at: row.get("starts_at"),
        ends_at: row.get("ends_at"),
        reason: row.get("reason"),
    }
}
