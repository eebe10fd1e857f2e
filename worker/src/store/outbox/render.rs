//! The messages of the outbox's rows. A dead letter or a replay is there as it goes out; an event is made of what it tells
//! and of its deployment's row, the same bytes each time. What one step tells is one row.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use slipway_protocol::names::Slug;
use slipway_protocol::{
    Action, CONTENT_TYPE, CloudEvent, Correlation, DeploymentId, DeploymentResult, EventType, Progress, ProgressKind,
    Project, ProjectId, topology,
};
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::message::Outgoing;
use crate::store::Result;
use crate::store::connection::value::readable;

/// CloudEvents `source` of Slipway's own events.
const SOURCE: &str = "/slipway";

/// What [`messages`] needs of a row `o` of the outbox and of its deployment `d`, joined from the left. Rows of versions
/// before hold the message as it goes out.
pub(in crate::store) const MESSAGE_COLUMNS: &str = "o.deployment_id, o.sequence, o.type, o.message_id, o.exchange, o.routing_key, o.correlation_id, o.content_type, \
     o.headers, coalesce(o.traceparent, d.traceparent) AS traceparent, o.body, o.told, o.created_at, d.event_id, \
     d.project_id, d.project_slug, d.action, d.correlation, \
     CASE WHEN o.body IS NULL AND o.told IS NULL THEN d.result END AS result";

/// The messages of a row, in order; of events, the first one has the row's number, and those after it the next ones.
///
/// # Errors
/// When the row holds what can't be read.
pub(in crate::store) fn messages(row: &Row) -> Result<Vec<Outgoing>> {
    match row.get::<_, Option<Vec<u8>>>("body") {
        Some(body) => Ok(vec![stored(row, body)]),
        None => events(row),
    }
}

fn stored(row: &Row, body: Vec<u8>) -> Outgoing {
    let Json(mut headers) = row.get::<_, Json<BTreeMap<String, String>>>("headers");
    if let Some(traceparent) = row.get("traceparent") {
        headers.insert("traceparent".to_owned(), traceparent);
    }
    let text = |column: &str| row.get::<_, Option<String>>(column).unwrap_or_default();
    Outgoing {
        exchange: text("exchange"),
        routing_key: text("routing_key"),
        message_id: text("message_id"),
        event_type: row.get("type"),
        correlation_id: row.get("correlation_id"),
        content_type: row.get("content_type"),
        headers,
        body,
    }
}

/// What all events of a deployment have in common.
struct Envelope {
    deployment: DeploymentId,
    project: Option<Project>,
    causation: Option<String>,
    traceparent: Option<String>,
    time: Timestamp,
}

/// What a row tells: one event, or a list of them.
fn kinds(told: &[u8]) -> Result<Vec<ProgressKind>> {
    match told.first() {
        Some(b'[') => readable("outbox", "told", serde_json::from_slice(told)),
        _ => Ok(vec![readable("outbox", "told", serde_json::from_slice(told))?]),
    }
}

fn events(row: &Row) -> Result<Vec<Outgoing>> {
    const TABLE: &str = "deployments";
    let slug = row.get::<_, Option<String>>("project_slug").map(Slug::new).transpose();
    let slug = readable(TABLE, "project_slug", slug)?;
    let Json(correlation) = readable(TABLE, "correlation", row.try_get::<_, Json<Correlation>>("correlation"))?;
    let deployment = row.get::<_, Option<Uuid>>("deployment_id").map(DeploymentId);
    let envelope = Envelope {
        deployment: readable("outbox", "deployment_id", deployment.ok_or("an event without a deployment"))?,
        project: row
            .get::<_, Option<Uuid>>("project_id")
            .map(ProjectId)
            .zip(slug)
            .map(|(id, slug)| Project { id, slug }),
        causation: row.get("event_id"),
        traceparent: row.get("traceparent"),
        time: row.get("created_at"),
    };
    let correlation_id = correlation_id(&correlation, envelope.deployment);
    let first = u64::try_from(row.get::<_, Option<i64>>("sequence").unwrap_or_default()).unwrap_or_default();
    let Some(told) = row.get::<_, Option<Vec<u8>>>("told") else {
        let result = readable(TABLE, "result", row.try_get::<_, Option<Json<DeploymentResult>>>("result"))?;
        let Json(result) = readable(TABLE, "result", result.ok_or("a result that isn't there"))?;
        let key = topology::result_key(envelope.project.as_ref().map(|project| &project.slug), result.outcome);
        return Ok(vec![envelope.message(EventType::Result, first, key, correlation_id, result)?]);
    };
    let project = readable(TABLE, "project_slug", envelope.project.clone().ok_or("progress of no project"))?;
    let action: Action = readable(TABLE, "action", row.get::<_, &str>("action").parse())?;
    let deployment_id = envelope.deployment;
    let message = |(sequence, kind): (u64, ProgressKind)| {
        let key = topology::progress_key(&project.slug, kind.stage());
        let (project, correlation) = (project.clone(), correlation.clone());
        let progress = Progress { deployment_id, project, action, kind, correlation };
        envelope.message(EventType::Progress, sequence, key, correlation_id.clone(), progress)
    };
    (first..).zip(kinds(&told)?).map(message).collect()
}

impl Envelope {
    fn message<T: Serialize>(
        &self,
        kind: EventType,
        sequence: u64,
        routing_key: String,
        correlation_id: String,
        data: T,
    ) -> Result<Outgoing> {
        let id = self.deployment.event_id(sequence).to_string();
        let mut event = CloudEvent::new(kind, SOURCE, id.clone(), data).with_sequence(sequence);
        event.subject = self.project.as_ref().map(|p| p.slug.to_string());
        event.time = Some(self.time);
        event.causationid.clone_from(&self.causation);
        event.traceparent.clone_from(&self.traceparent);
        let mut headers = BTreeMap::new();
        headers.extend(self.traceparent.clone().map(|traceparent| ("traceparent".to_owned(), traceparent)));
        Ok(Outgoing {
            exchange: topology::EVENTS.to_owned(),
            routing_key,
            message_id: id,
            event_type: kind.as_str().to_owned(),
            correlation_id: Some(correlation_id),
            content_type: Some(CONTENT_TYPE.to_owned()),
            headers,
            body: readable("outbox", "told", serde_json::to_vec(&event))?,
        })
    }
}

/// The request's own correlation id where it has one, else the deployment's id.
fn correlation_id(correlation: &Correlation, deployment: DeploymentId) -> String {
    // AMQP's short strings end at 255 bytes.
    let own = correlation.get("correlation_id").and_then(|v| v.as_str()).filter(|v| !v.is_empty() && v.len() <= 255);
    own.map_or_else(|| deployment.to_string(), str::to_owned)
}
