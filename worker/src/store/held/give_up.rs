//! Giving up a message for which not even a failed deployment can be written: its dead letter, its result and the record
//! that it has ended, all in tables beside the deployments.

use std::collections::BTreeMap;

use jiff::Timestamp;
use slipway_protocol::{CONTENT_TYPE, CloudEvent, DeploymentId, EventType, Outcome, topology};

use crate::failpoint::TransactionKind;
use crate::message::{Incoming, Outgoing};
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::value::readable;
use crate::store::dead_letter::insert::NewDeadLetter;
use crate::store::dead_letter::refusal::RefusedMessage;
use crate::store::deployment::refuse::refused_result;
use crate::store::outbox::enqueue::enqueue;
use crate::store::{Result, Store};

impl Store {
    /// As [`Store::refuse`], without a row among the deployments: where that can't be written, this is what is left. False
    /// when the request had ended before; then nothing was written.
    ///
    /// # Errors
    /// When the database fails; then nothing was written.
    pub async fn refuse_apart(&self, refusal: &RefusedMessage, incoming: &Incoming) -> Result<bool> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            if let Some(id) = refusal.known.deployment_id() {
                let ended = "INSERT INTO ended_requests (id) SELECT $1 WHERE NOT EXISTS (
                                 SELECT FROM deployments WHERE id = $1) ON CONFLICT DO NOTHING";
                if tx.execute(ended, &[&id.0]).await? == 0 {
                    return Ok(false);
                }
                let traceparent = crate::telemetry::current_traceparent().or_else(|| refusal.known.traceparent.clone());
                enqueue(&tx, None, &result(id, refusal, traceparent.as_ref())?, traceparent, true).await?;
                tx.count_end(Outcome::Failed);
            }
            let new = NewDeadLetter::of_refused(refusal, incoming).apart().insert(&tx, self).await?;
            commit(tx, TransactionKind::Refuse).await?;
            Ok(new)
        })
        .await
    }
}

/// The one event of a request that never was a deployment.
fn result(id: DeploymentId, refusal: &RefusedMessage, traceparent: Option<&String>) -> Result<Outgoing> {
    let known = &refusal.known;
    let now = Timestamp::now();
    let kind = EventType::Result;
    let data = refused_result(id, refusal, now);
    let mut event = CloudEvent::new(kind, "/slipway", id.event_id(1).to_string(), data).with_sequence(1);
    event.subject = known.project.as_ref().map(|project| project.slug.to_string());
    event.time = Some(now);
    event.causationid.clone_from(&known.id);
    event.traceparent = traceparent.cloned();
    Ok(Outgoing {
        exchange: topology::EVENTS.to_owned(),
        routing_key: topology::result_key(known.project.as_ref().map(|project| &project.slug), Outcome::Failed),
        message_id: event.id.clone(),
        event_type: event.event_type.clone(),
        correlation_id: Some(id.to_string()),
        content_type: Some(CONTENT_TYPE.to_owned()),
        headers: BTreeMap::new(),
        body: readable("outbox", "body", serde_json::to_vec(&event))?,
    })
}
