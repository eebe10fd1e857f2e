//! The events of a deployment, numbered: each takes the next number of its deployment under the lock of its row, so
//! that there are no gaps, and is put into the outbox.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;
use slipway_protocol::{
    CONTENT_TYPE, CloudEvent, Correlation, DeploymentId, EventType, Progress, ProgressKind, topology,
};

use crate::message::Outgoing;
use crate::store::Result;
use crate::store::connection::value::readable;
use crate::store::deployment::locked::LockedDeployment;
use crate::store::outbox::enqueue::enqueue;

/// CloudEvents `source` of Slipway's own events.
const SOURCE: &str = "/slipway";

impl LockedDeployment<'_> {
    /// Puts an event of the deployment's progress into the outbox.
    pub(in crate::store) async fn enqueue_progress(&mut self, kind: ProgressKind) -> Result<()> {
        // Only a refused request has no project, and it makes no progress.
        let Some(project) = self.head.project.clone() else { return Ok(()) };
        let key = topology::progress_key(&project.slug, kind.stage());
        let (deployment_id, action) = (self.head.id, self.head.action);
        let progress = Progress { deployment_id, project, action, kind, correlation: self.head.correlation.clone() };
        self.enqueue_event(EventType::Progress, key, progress).await
    }

    /// Puts an event into the outbox with the next sequence number.
    pub(in crate::store) async fn enqueue_event<T: Serialize>(
        &mut self,
        kind: EventType,
        routing_key: String,
        data: T,
    ) -> Result<()> {
        let sequence = self.head.next_sequence;
        let traceparent = crate::telemetry::current_traceparent().or_else(|| self.head.traceparent.clone());
        let mut event =
            CloudEvent::new(kind, SOURCE, self.head.id.event_id(sequence).to_string(), data).with_sequence(sequence);
        event.subject = self.head.project.as_ref().map(|p| p.slug.to_string());
        event.time = Some(Timestamp::now());
        event.causationid = Some(self.head.event_id.clone());
        event.traceparent.clone_from(&traceparent);
        let message = Outgoing {
            exchange: topology::EVENTS.to_owned(),
            routing_key,
            message_id: event.id.clone(),
            event_type: event.event_type.clone(),
            correlation_id: Some(correlation_id(&self.head.correlation, self.head.id)),
            content_type: Some(CONTENT_TYPE.to_owned()),
            headers: BTreeMap::new(),
            body: readable("outbox", "body", serde_json::to_vec(&event))?,
        };
        // Nobody need ask for progress; a result is kept until somebody does.
        let must_route = kind == EventType::Result;
        enqueue(self.tx, Some((self.head.id, Some(sequence))), &message, traceparent, must_route).await?;
        self.head.next_sequence += 1;
        let next = i64::try_from(self.head.next_sequence).unwrap_or(i64::MAX);
        self.tx.execute("UPDATE deployments SET next_sequence = $2 WHERE id = $1", &[&self.head.id.0, &next]).await?;
        Ok(())
    }
}

/// The request's own correlation id where it has one, else the deployment's id.
fn correlation_id(correlation: &Correlation, deployment: DeploymentId) -> String {
    // AMQP's short strings end at 255 bytes.
    let own = correlation.get("correlation_id").and_then(|v| v.as_str()).filter(|v| !v.is_empty() && v.len() <= 255);
    own.map_or_else(|| deployment.to_string(), str::to_owned)
}
