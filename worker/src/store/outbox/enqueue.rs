//! Putting a message into the outbox, in the transaction of what it is about.

use slipway_protocol::DeploymentId;
use tokio_postgres::types::Json;

use crate::message::Outgoing;
use crate::store::Result;
use crate::store::connection::transaction::StoreTransaction;
use crate::store::connection::wakeups;

/// Puts a message into the outbox and wakes the relay at commit.
pub(in crate::store) async fn enqueue(
    tx: &StoreTransaction<'_>,
    about: Option<(DeploymentId, Option<u64>)>,
    message: &Outgoing,
    traceparent: Option<String>,
    must_route: bool,
) -> Result<()> {
    let deployment = about.map(|(id, _)| id.0);
    let sequence = about.and_then(|(_, sequence)| sequence).map(|s| i64::try_from(s).unwrap_or(i64::MAX));
    tx.execute(
        "INSERT INTO outbox (deployment_id, sequence, message_id, type, exchange, routing_key, correlation_id,
                             content_type, headers, traceparent, body, must_route)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)",
        &[
            &deployment,
            &sequence,
            &message.message_id,
            &message.event_type,
            &message.exchange,
            &message.routing_key,
            &message.correlation_id,
            &message.content_type,
            &Json(&message.headers),
            &traceparent,
            &message.body,
            &must_route,
        ],
    )
    .await?;
    tx.execute("SELECT pg_notify($1, '')", &[&wakeups::OUTBOX]).await?;
    Ok(())
}
