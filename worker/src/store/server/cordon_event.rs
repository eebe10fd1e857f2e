//! `slipway.server.cordon.v1`: it's carried out when it's taken in, and its result is written in the same transaction.

use jiff::Timestamp;
use slipway_protocol::{Action, DeploymentResult, ErrorCode, EventType, Failure, Outcome, Request, ServerCordon};
use tokio_postgres::types::Json;

use crate::failpoint::TransactionKind;
use crate::message::Incoming;
use crate::store::audit::{Operator, OperatorOrigin};
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit};
use crate::store::connection::wakeups;
use crate::store::deployment::state::State;
use crate::store::deployment::superseding::Admission;
use crate::store::server::cordoning::{CordonOutcome, cordon};
use crate::store::{Result, Store};

impl Store {
    /// Cordons a server, or uncordons it, as the event asks, unless something later was said of it. The inner error: the inventory doesn't have the server; nothing was
    /// written, and the event is to be refused.
    ///
    /// # Errors
    /// When the database fails; then nothing was written and the message must not be acknowledged.
    pub async fn accept_cordon(
        &self,
        request: &Request<ServerCordon>,
        incoming: &Incoming,
    ) -> Result<std::result::Result<Admission, Failure>> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let (event, data) = (&request.event, &request.event.data);
            let traceparent = crate::telemetry::current_traceparent().or_else(|| event.traceparent.clone());
            let sql = "INSERT INTO deployments (id, source, event_id, replay_id, server, correlation, state, traceparent,
                           finished_at, action, amqp_user, reason)
                       VALUES ($1, $2, $3, $4, $5, $6, 'succeeded', $7, now(), $8, $9, $10)
                       ON CONFLICT (id) DO NOTHING RETURNING accepted_at";
            let id = request.deployment_id();
            let values: [&(dyn tokio_postgres::types::ToSql + Sync); 10] = [
                &id.0,
                &event.source,
                &event.id,
                &request.replay,
                &data.server.as_str(),
                &Json(&data.correlation),
                &traceparent,
                &Action::Cordon.as_str(),
                &incoming.user,
                &data.reason,
            ];
            let Some(row) = tx.query_opt(sql, &values).await? else { return Ok(Ok(Admission::Duplicate)) };
            let operator = Operator {
                who: event.source.clone(),
                why: data.reason.clone(),
                origin: OperatorOrigin { user: incoming.user.clone(), ..OperatorOrigin::default() },
            };
            let Some(done) = cordon(&tx, &data.server, data.cordoned, &operator, event.time).await? else {
                let message = format!("the inventory doesn't hold {}", data.server);
                return Ok(Err(Failure::new(ErrorCode::UnknownServer, None, message)));
            };
            let outcome = match done {
                CordonOutcome::Changed | CordonOutcome::Already => Outcome::Succeeded,
                CordonOutcome::Outdated => Outcome::Superseded,
            };
            let result = cordoned(request, outcome, row.get(0));
            let sql = "WITH told AS (INSERT INTO outbox (deployment_id, sequence, events, type, must_route)
                                     SELECT id, next_sequence, 1, $4, true FROM deployments WHERE id = $1),
                           ended AS (UPDATE deployments SET state = $2, result = $3, next_sequence = next_sequence + 1 WHERE id = $1)
                       SELECT pg_notify($5, '')";
            let (state, kind) = (State::Ended(outcome), EventType::Result);
            tx.execute(sql, &[&id.0, &state.as_str(), &Json(&result), &kind.as_str(), &wakeups::OUTBOX]).await?;
            tx.count_end(outcome);
            commit(tx, TransactionKind::Accept).await?;
            Ok(Ok(Admission::New))
        })
        .await
    }
}

fn cordoned(request: &Request<ServerCordon>, outcome: Outcome, accepted_at: Timestamp) -> DeploymentResult {
    let data = &request.event.data;
    DeploymentResult {
        server: Some(data.server.clone()),
        correlation: data.correlation.clone(),
        ..DeploymentResult::at_once(request.deployment_id(), Action::Cordon, outcome, accepted_at)
    }
}
