//! The events of one deployment, as operators read them.

use jiff::Timestamp;
use slipway_protocol::DeploymentId;
use tokio_postgres::Row;

use crate::message::Outgoing;
use crate::store::connection::deadline::deadline;
use crate::store::outbox::render::{MESSAGE_COLUMNS, messages};
use crate::store::{Result, Store};

/// An event of a deployment.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredEvent {
    /// Its place among the deployment's events, from 1 without gaps.
    pub sequence: u64,
    /// CloudEvents `type`.
    pub event_type: String,
    /// The whole CloudEvent, as published.
    pub event: serde_json::Value,
    /// When it was written.
    pub created_at: Timestamp,
    /// When the broker confirmed it.
    pub published_at: Option<Timestamp>,
}

impl Store {
    /// The events of a deployment after `sequence`, in order; one that can't be read, as of a later version, is null.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn events(&self, id: DeploymentId, after: u64) -> Result<Vec<StoredEvent>> {
        deadline(async {
            let from = i64::try_from(after).unwrap_or(i64::MAX).saturating_add(1);
            let client = self.client().await?;
            let rows = client
                .query(
                    &format!(
                        "SELECT {MESSAGE_COLUMNS}, o.published_at FROM outbox o JOIN deployments d ON d.id = o.deployment_id
                         WHERE o.deployment_id = $1 AND o.sequence + coalesce(o.events, 1) > $2
                           AND o.sequence >= coalesce(
                               (SELECT max(sequence) FROM outbox WHERE deployment_id = $1 AND sequence <= $2), 0)
                         ORDER BY o.sequence"
                    ),
                    &[&id.0, &from],
                )
                .await?;
            Ok(rows.iter().flat_map(events_of).filter(|event| event.sequence > after).collect())
        })
        .await
    }
}

/// The events of a row of the outbox.
fn events_of(row: &Row) -> Vec<StoredEvent> {
    let messages = messages(row).unwrap_or_else(|_| vec![Outgoing::default()]);
    let first = u64::try_from(row.get::<_, i64>("sequence")).unwrap_or(0);
    let event = |(sequence, message): (u64, Outgoing)| StoredEvent {
        sequence,
        event_type: row.get("type"),
        event: serde_json::from_slice(&message.body).unwrap_or_default(),
        created_at: row.get("created_at"),
        published_at: row.get("published_at"),
    };
    (first..).zip(messages).map(event).collect()
}
