//! Writing a dead letter: its row, and its message to the dead-letter exchange, byte for byte as it came and with the
//! reason in its headers.

use jiff::Timestamp;
use slipway_protocol::{DeploymentId, Failure, holds_credential, topology};
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::message::{Incoming, Outgoing};
use crate::store::connection::transaction::StoreTransaction;
use crate::store::connection::value::number;
use crate::store::dead_letter::refusal::{BrokerDeadLetter, RefusedMessage};
use crate::store::deployment::head::DeploymentHead;
use crate::store::outbox::enqueue::enqueue;
use crate::store::{Result, Store};

/// How long the header `dlq-error-message` may be, in bytes; the database has all of it. With what is kept of the
/// message's own headers it has to fit one frame.
const MAX_ERROR_MESSAGE: usize = 8 * 1024;

/// Media type of what stands in the place of a body that is withheld.
const JSON: &str = "application/json";

/// A dead letter to be written.
pub(in crate::store) struct NewDeadLetter {
    id: Uuid,
    deployment: Option<DeploymentId>,
    project: Option<String>,
    incoming: Incoming,
    withhold: bool,
    reason: &'static str,
    stage: &'static str,
    failure: Failure,
    attempts: u32,
    first_failed_at: Option<Timestamp>,
    /// The replay, or the id of an event that may be an edited one.
    replay: Option<Uuid>,
    traceparent: Option<String>,
}

impl NewDeadLetter {
    /// Of a deployment that has failed.
    pub(in crate::store) async fn of_deployment(
        tx: &StoreTransaction<'_>,
        head: &DeploymentHead,
        failure: &Failure,
        reason: &'static str,
    ) -> Result<Self> {
        let row = tx
            .query_one(
                "SELECT body, content_type, headers, exchange, routing_key, amqp_user FROM deployments WHERE id = $1",
                &[&head.id.0],
            )
            .await?;
        let Json(headers) = row.get("headers");
        Ok(Self {
            id: head.id.0,
            deployment: Some(head.id),
            project: head.project.as_ref().map(|p| p.slug.to_string()),
            incoming: Incoming {
                body: row.get::<_, Option<Vec<u8>>>("body").unwrap_or_default(),
                content_type: row.get("content_type"),
                headers,
                exchange: row.get("exchange"),
                routing_key: row.get("routing_key"),
                user: row.get("amqp_user"),
            },
            withhold: false,
            reason,
            stage: failure.stage.map_or("engine", |s| s.as_str()),
            failure: failure.clone(),
            attempts: head.attempt,
            first_failed_at: head.first_failed_at,
            replay: head.replay.or_else(|| head.event_id.parse().ok()),
            traceparent: crate::telemetry::current_traceparent().or_else(|| head.traceparent.clone()),
        })
    }

    /// Of a message that the broker gave up.
    pub(in crate::store) fn of_given_up(given_up: &BrokerDeadLetter) -> Self {
        Self { reason: given_up.reason, ..Self::of_refused(&given_up.refusal, &given_up.incoming) }
    }

    /// Of a message that a worker refused.
    pub(in crate::store) fn of_refused(refusal: &RefusedMessage, incoming: &Incoming) -> Self {
        let known = &refusal.known;
        let deployment = known.deployment_id();
        Self {
            // The same unreadable bytes are one dead letter, however often they come.
            id: deployment.map_or_else(|| Uuid::new_v5(&Uuid::NAMESPACE_OID, &incoming.body), |id| id.0),
            deployment,
            project: known.project.as_ref().map(|p| p.slug.to_string()),
            incoming: if refusal.withhold { without_secrets(incoming) } else { incoming.clone() },
            withhold: refusal.withhold,
            reason: "rejected",
            stage: "intake",
            failure: refusal.failure.clone(),
            attempts: 0,
            first_failed_at: None,
            replay: known.replay.or_else(|| known.id.as_ref()?.parse().ok()),
            traceparent: crate::telemetry::current_traceparent().or_else(|| known.traceparent.clone()),
        }
    }

    /// Beside the deployments: where there is no row of the one that it would belong to.
    pub(in crate::store) fn apart(self) -> Self {
        Self { deployment: None, ..self }
    }

    /// Writes and publishes it; false when it was there, and then only its last time is brought up to date.
    pub(in crate::store) async fn insert(mut self, tx: &StoreTransaction<'_>, store: &Store) -> Result<bool> {
        let row = self.write(tx, store).await?;
        if !row.get::<_, bool>("new") {
            return Ok(false);
        }
        let traceparent = self.traceparent.clone();
        let about = self.deployment.map(|id| (id, None));
        enqueue(tx, about, &self.message(&row, &store.name), traceparent, true).await?;
        Ok(true)
    }

    /// Writes what has been published already.
    pub(in crate::store) async fn insert_unpublished(mut self, tx: &StoreTransaction<'_>, store: &Store) -> Result<()> {
        self.write(tx, store).await.map(drop)
    }

    async fn write(&mut self, tx: &StoreTransaction<'_>, store: &Store) -> Result<Row> {
        let left_out = self.incoming.fit_headers();
        if !left_out.is_empty() {
            tracing::warn!(dead_letter.id = %self.id, left_out = left_out.len(), "headers are too large to be kept");
            self.incoming.headers.insert("dlq-headers-left-out".to_owned(), left_out.len().to_string());
        }
        let body = (!self.withhold).then_some(&self.incoming.body);
        let row = tx
            .query_one(
                "INSERT INTO dead_letters (id, deployment_id, project_slug, body, content_type, headers, reason, stage,
                     code, class, message, attempts, first_failed_at, original_exchange, original_routing_key, worker,
                     replay_count, amqp_user)
                 VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, coalesce($13, now()), $14, $15, $16,
                     coalesce((SELECT replay_count + 1 FROM dead_letters WHERE replayed_as = $17), 0), $18)
                 ON CONFLICT (id) DO UPDATE SET last_failed_at = now(), state = 'open', updated_at = now()
                 RETURNING xmax = 0 AS new, replay_count, first_failed_at, last_failed_at",
                &[
                    &self.id,
                    &self.deployment.map(|d| d.0),
                    &self.project,
                    &body,
                    &self.incoming.content_type,
                    &Json(&self.incoming.headers),
                    &self.reason,
                    &self.stage,
                    &self.failure.code.as_str(),
                    &self.failure.class.as_str(),
                    &self.failure.message,
                    &i32::try_from(self.attempts).unwrap_or(i32::MAX),
                    &self.first_failed_at,
                    &self.incoming.exchange,
                    &self.incoming.routing_key,
                    &store.name,
                    &self.replay,
                    &self.incoming.user,
                ],
            )
            .await?;
        Ok(row)
    }

    fn message(self, row: &Row, worker: &str) -> Outgoing {
        let mut headers = self.incoming.headers;
        let mut dlq = |name: &str, value: String| headers.insert(format!("dlq-{name}"), value);
        dlq("reason", self.reason.to_owned());
        dlq("stage", self.stage.to_owned());
        dlq("error-code", self.failure.code.as_str().to_owned());
        dlq("error-message", cut(self.failure.message, MAX_ERROR_MESSAGE));
        dlq("attempts", self.attempts.to_string());
        dlq("first-failed-at", row.get::<_, Timestamp>("first_failed_at").to_string());
        dlq("last-failed-at", row.get::<_, Timestamp>("last_failed_at").to_string());
        dlq("original-exchange", self.incoming.exchange);
        dlq("original-routing-key", self.incoming.routing_key.clone());
        dlq("id", self.id.to_string());
        if let Some(deployment) = self.deployment {
            dlq("deployment-id", deployment.to_string());
        }
        dlq("worker", worker.to_owned());
        dlq("replay-count", number(row, "replay_count").to_string());
        Outgoing {
            exchange: topology::DEAD_LETTER_EXCHANGE.to_owned(),
            routing_key: self.incoming.routing_key,
            message_id: self.id.to_string(),
            event_type: String::new(),
            correlation_id: self.deployment.map(|d| d.to_string()),
            content_type: self.incoming.content_type,
            headers,
            body: self.incoming.body,
        }
    }
}

/// What may be kept of a message that holds a secret in plain text: nothing of its body.
fn without_secrets(incoming: &Incoming) -> Incoming {
    let note =
        format!("{{\"withheld\":\"the message held a secret in plain text\",\"bytes\":{}}}", incoming.body.len());
    let mut kept = Incoming { body: note.into_bytes(), content_type: Some(JSON.to_owned()), ..incoming.clone() };
    kept.headers.retain(|name, value| !holds_credential(name) && !holds_credential(value));
    kept
}

/// At most `limit` bytes and a mark that says so.
fn cut(mut text: String, limit: usize) -> String {
    if text.len() > limit {
        let left_out = text.len() - text.floor_char_boundary(limit);
        text.truncate(text.floor_char_boundary(limit));
        text.push_str(&format!("… ({left_out} bytes left out)"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_error_message_is_cut_and_says_so() {
        assert_eq!(cut("ab".to_owned(), 2), "ab");
        assert_eq!(cut("aéb".to_owned(), 2), "a… (3 bytes left out)");
    }
}
