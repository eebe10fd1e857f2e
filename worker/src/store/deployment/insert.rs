//! Writing a deployment: the one insert of whatever is asked of a project, with its place among the project's others.

use slipway_protocol::names::{CommitSha, RepositoryName, ServerHandle, VariableName};
use slipway_protocol::{Action, Correlation, DeploymentId, Project, Request};
use tokio_postgres::types::Json;

use crate::message::Incoming;
use crate::scheduler::{CLOCK_AHEAD, Order};
use crate::store::Result;
use crate::store::connection::transaction::StoreTransaction;
use crate::store::deployment::move_order::NewMove;
use crate::store::deployment::order::order;

/// A deployment to be stored as pending, beside its envelope.
pub(in crate::store) struct NewDeployment<'a> {
    pub project: &'a Project,
    pub repository: &'a RepositoryName,
    pub commit: &'a CommitSha,
    /// None: it waits until one is chosen.
    pub server: Option<&'a ServerHandle>,
    /// The request that it acts with.
    pub acting: serde_json::Value,
    pub correlation: &'a Correlation,
    pub sequence: Option<u64>,
    pub action: Action,
    pub remove_volumes: bool,
    pub acts_on: Option<DeploymentId>,
    pub moves: Option<NewMove<'a>>,
    pub reason: Option<&'a str>,
    /// Secrets in a form that any project could have used.
    pub unbound_secrets: &'a [VariableName],
}

impl NewDeployment<'_> {
    /// Inserts it and fixes its place; `None` when it exists. Under the lock of its project, so that all that came
    /// before it is to be seen.
    pub(in crate::store) async fn insert<T>(
        &self,
        tx: &StoreTransaction<'_>,
        request: &Request<T>,
        incoming: &Incoming,
    ) -> Result<Option<Order>> {
        let event = &request.event;
        let sequence = self.sequence.map(|s| i64::try_from(s).unwrap_or(i64::MAX));
        let traceparent = crate::telemetry::current_traceparent().or_else(|| event.traceparent.clone());
        let unbound: Vec<&str> = self.unbound_secrets.iter().map(VariableName::as_str).collect();
        let unbound = (!unbound.is_empty()).then_some(unbound);
        let row = tx
            .query_opt(
                "INSERT INTO deployments (id, source, event_id, replay_id, project_id, project_slug, repository,
                     commit_sha, server, request, correlation, body, content_type, headers, exchange, routing_key,
                     producer_sequence, event_time, state, traceparent, action, remove_volumes, acts_on, reason,
                     amqp_user, unbound_secrets, moves_from, moves_to, move_data)
                 SELECT $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16,
                     coalesce($17, (SELECT o.producer_sequence FROM deployments o
                         WHERE o.project_id = $5 AND o.request IS NOT NULL
                           AND coalesce(o.event_time, o.accepted_at) <= happened_at
                           -- Of a project that tells no numbers none is read, however late this comes.
                           AND coalesce(o.producer_sequence, -1) >= 0
                         ORDER BY coalesce(o.producer_sequence, -1) DESC LIMIT 1)),
                     happened_at, 'pending', $19, $20, $21, $22, $23, $24, $25, $26, $27, $28
                 FROM (SELECT CASE WHEN $18 <= now() + $29 * interval '1 second' THEN $18 ELSE now() END AS happened_at) own
                 ON CONFLICT (id) DO NOTHING RETURNING producer_sequence, event_time, arrival",
                &[
                    &request.deployment_id().0,
                    &event.source,
                    &event.id,
                    &request.replay,
                    &self.project.id.0,
                    &self.project.slug.as_str(),
                    &self.repository.as_str(),
                    &self.commit.as_str(),
                    &self.server.map(ServerHandle::as_str),
                    &self.acting,
                    &Json(self.correlation),
                    &incoming.body,
                    &incoming.content_type,
                    &Json(&incoming.headers),
                    &incoming.exchange,
                    &incoming.routing_key,
                    &sequence,
                    &event.time,
                    &traceparent,
                    &self.action.as_str(),
                    &self.remove_volumes,
                    &self.acts_on.map(|id| id.0),
                    &self.reason,
                    &incoming.user,
                    &unbound,
                    &self.moves.as_ref().map(|moves| moves.from.as_str()),
                    &self.moves.as_ref().and_then(|moves| moves.to).map(ServerHandle::as_str),
                    &self.moves.as_ref().map(|moves| moves.data.as_str()),
                    &CLOCK_AHEAD.as_secs_f64(),
                ],
            )
            .await?;
        Ok(row.as_ref().map(order))
    }
}
