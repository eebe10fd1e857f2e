//! Taking a half in, with all that follows from it in one transaction: it's kept, ends, or makes a deployment together with
//! the other one.

use std::time::Duration;

use slipway_protocol::names::VariableName;
use slipway_protocol::{DeploymentId, Failure, HalfKind, PartialEnvelope, ProjectHalf, Request};
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::failpoint::TransactionKind;
use crate::message::Incoming;
use crate::scheduler::Order;
use crate::store::connection::deadline::deadline;
use crate::store::connection::transaction::{StoreTransaction, commit_many};
use crate::store::connection::value::seconds;
use crate::store::dead_letter::insert::NewDeadLetter;
use crate::store::dead_letter::refusal::RefusedMessage;
use crate::store::deployment::cancel::{is_precancelled, lock_cancellation};
use crate::store::deployment::project_lock::lock_project;
use crate::store::deployment::refuse::{RequestEnd, end_at_once, end_refused};
use crate::store::deployment::superseding::Admission;
use crate::store::halves::rows::{KnownHalves, stored};
use crate::store::halves::withdraw::envelope;
use crate::store::{Result, Store};

/// A half that arrives.
#[derive(Debug, Clone, Copy)]
pub struct ArrivingHalf<'a> {
    /// What it says.
    pub request: &'a Request<ProjectHalf>,
    /// The message as it was delivered.
    pub incoming: &'a Incoming,
    /// The place that it gets.
    pub place: Order,
    /// What was known of its project when it was decided about.
    pub known: &'a KnownHalves,
}

/// What follows from it.
#[derive(Debug, Clone, Copy)]
pub enum HalfStep<'a> {
    /// It ends as superseded, here by what, and isn't kept.
    Stale(Option<DeploymentId>),
    /// It's kept, and ends as superseded by this deployment, which says the same.
    Unchanged(DeploymentId),
    /// It's kept, and waits for so long.
    Waits(Duration),
    /// It's kept, and makes this deployment together with the other one.
    Joins {
        /// What both ask for.
        request: &'a Request,
        /// The message that would have asked for it.
        incoming: &'a Incoming,
        /// Secrets in a form that any project could have used.
        unbound_secrets: &'a [VariableName],
    },
    /// It's kept, and what both ask for is refused.
    Fails {
        /// Why, and what it's about.
        refusal: &'a RefusedMessage,
        /// The message that would have asked for it.
        incoming: &'a Incoming,
    },
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HalfOutcome {
    /// It's written.
    Taken,
    /// It's written, and this became of what both ask for.
    Joined(Admission),
    /// It was here before; nothing was written.
    Duplicate,
    /// What is known has changed meanwhile; nothing was written, and it's to be decided anew.
    Outdated,
    /// What both ask for can't be accepted; nothing was written, and it's to be refused with this.
    Refused(Failure),
}

impl Store {
    /// Takes a half in. A half of its kind whose place it takes ends as superseded if it was waiting, and is remembered as
    /// known in any case.
    ///
    /// # Errors
    /// When the database fails; then nothing was written and the message must not be acknowledged.
    pub async fn take_half(&self, half: ArrivingHalf<'_>, step: HalfStep<'_>) -> Result<HalfOutcome> {
        deadline(async {
            let mut client = self.client().await?;
            let tx = StoreTransaction::begin(&mut client).await?;
            let project = half.request.event.data.project();
            // As whoever accepts a request for the project: two halves are taken in one after the other.
            lock_project(&tx, project.id).await?;
            let id = half.request.deployment_id();
            lock_cancellation(&tx, id).await?;
            if is_known(&tx, id).await? {
                return Ok(HalfOutcome::Duplicate);
            }
            if !is_as_known(&tx, half).await? {
                return Ok(HalfOutcome::Outdated);
            }
            let mut writes = vec![TransactionKind::Half];
            let known = PartialEnvelope::of_half(half.request);
            let user = half.incoming.user.as_deref();
            let outcome = match step {
                // Whoever cancels it may be faster than it.
                _ if is_precancelled(&tx, id).await? => {
                    end_at_once(&tx, &known, RequestEnd::Cancelled, user).await?;
                    HalfOutcome::Taken
                }
                HalfStep::Stale(by) => {
                    end_at_once(&tx, &known, RequestEnd::Superseded(by), user).await?;
                    HalfOutcome::Taken
                }
                HalfStep::Unchanged(by) => {
                    keep(&tx, half, None, Some(by)).await?;
                    end_at_once(&tx, &known, RequestEnd::Superseded(Some(by)), user).await?;
                    HalfOutcome::Taken
                }
                HalfStep::Waits(limit) => {
                    keep(&tx, half, Some(limit), None).await?;
                    HalfOutcome::Taken
                }
                HalfStep::Joins { request, incoming, unbound_secrets } => {
                    keep(&tx, half, None, Some(request.deployment_id())).await?;
                    writes.push(TransactionKind::Accept);
                    match self.accept_in(&tx, request, incoming, unbound_secrets).await? {
                        Admission::Refused(failure) => return Ok(HalfOutcome::Refused(failure)),
                        admission => HalfOutcome::Joined(admission),
                    }
                }
                HalfStep::Fails { refusal, incoming } => {
                    keep(&tx, half, None, refusal.known.deployment_id()).await?;
                    writes.push(TransactionKind::Refuse);
                    if end_refused(&tx, refusal, incoming.user.as_deref()).await? {
                        NewDeadLetter::of_refused(refusal, incoming).insert(&tx, self).await?;
                    }
                    HalfOutcome::Taken
                }
            };
            commit_many(tx, &writes).await?;
            Ok(outcome)
        })
        .await
    }

    /// Forgets a half that holds what may not be kept.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_half(&self, id: DeploymentId) -> Result<()> {
        deadline(async {
            let sql = "WITH gone AS (DELETE FROM project_halves WHERE id = $1 RETURNING id)
                       INSERT INTO ended_requests (id) SELECT id FROM gone ON CONFLICT DO NOTHING";
            self.client().await?.execute(sql, &[&id.0]).await?;
            Ok(())
        })
        .await
    }
}

/// Whether a half was here before, whatever has become of it.
async fn is_known(tx: &StoreTransaction<'_>, id: DeploymentId) -> Result<bool> {
    let sql =
        "SELECT EXISTS (SELECT FROM project_halves WHERE id = $1) OR EXISTS (SELECT FROM deployments WHERE id = $1)
                   OR EXISTS (SELECT FROM ended_requests WHERE id = $1)";
    Ok(tx.query_one(sql, &[&id.0]).await?.get(0))
}

/// Whether the halves that are kept are those that it was decided by; they are locked.
async fn is_as_known(tx: &StoreTransaction<'_>, half: ArrivingHalf<'_>) -> Result<bool> {
    let project = half.request.event.data.project();
    let sql = "SELECT id FROM project_halves WHERE project_id = $1 AND project_slug = $2 ORDER BY id FOR UPDATE";
    let rows = tx.query(sql, &[&project.id.0, &project.slug.as_str()]).await?;
    let mut known: Vec<Uuid> = half.known.kept.iter().map(|(_, kept)| kept.id.0).collect();
    known.sort_unstable();
    Ok(rows.iter().map(|row| row.get::<_, Uuid>(0)).eq(known))
}

/// Keeps a half in the place of the one of its kind: it waits, or has made a deployment with the other one.
async fn keep(
    tx: &StoreTransaction<'_>,
    half: ArrivingHalf<'_>,
    waits: Option<Duration>,
    joined_as: Option<DeploymentId>,
) -> Result<()> {
    let kind = half.request.event.data.kind();
    // What says the same again doesn't say that the project is to come back.
    let says_the_same = waits.is_none() && half.known.of(kind).is_some_and(|kept| kept.joined_as == joined_as);
    let place_left = says_the_same && half.known.of(kind).is_some_and(|kept| kept.place_left);
    leave(tx, half, kind, joined_as).await?;
    let (event, incoming, project) = (&half.request.event, half.incoming, half.request.event.data.project());
    let expires = event.data.expires_at();
    tx.execute(
        "INSERT INTO project_halves (project_id, project_slug, half, id, source, event_id, replay_id, body, content_type,
             headers, exchange, routing_key, amqp_user, producer_sequence, event_time, waits_until, joined_as, place_left)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15,
             CASE WHEN $16::float8 IS NOT NULL THEN least(now() + $16 * interval '1 second', $17::timestamptz) END, $18, $19)",
        &[
            &project.id.0,
            &project.slug.as_str(),
            &kind.as_str(),
            &half.request.deployment_id().0,
            &event.source,
            &event.id,
            &half.request.replay,
            &incoming.body,
            &incoming.content_type,
            &Json(&incoming.headers),
            &incoming.exchange,
            &incoming.routing_key,
            &incoming.user,
            &half.place.sequence.map(|s| i64::try_from(s).unwrap_or(i64::MAX)),
            &half.place.time,
            &waits.map(seconds),
            &expires,
            &joined_as.map(|id| id.0),
            &place_left,
        ],
    )
    .await?;
    if let Some(joined_as) = joined_as {
        let sql = "WITH other AS (
                       UPDATE project_halves SET waits_until = NULL, joined_as = $4
                       WHERE project_id = $1 AND project_slug = $2 AND half = $3 RETURNING id)
                   UPDATE dead_letters l SET state = 'archived', updated_at = now(),
                       note = concat_ws(E'\n', note, 'The other half came late; both are deployment ' || $4)
                   FROM other WHERE l.id = other.id AND l.code = 'missing-half' AND l.state = 'open'";
        let other = kind.other().as_str();
        tx.execute(sql, &[&project.id.0, &project.slug.as_str(), &other, &joined_as.0]).await?;
    }
    Ok(())
}

/// Takes the half away whose place another one takes. One that waits ends by that; of any other it's remembered that it
/// was here.
async fn leave(
    tx: &StoreTransaction<'_>,
    half: ArrivingHalf<'_>,
    kind: HalfKind,
    by: Option<DeploymentId>,
) -> Result<()> {
    let project = half.request.event.data.project();
    let sql = "DELETE FROM project_halves WHERE project_id = $1 AND project_slug = $2 AND half = $3 RETURNING *";
    let Some(row) = tx.query_opt(sql, &[&project.id.0, &project.slug.as_str(), &kind.as_str()]).await? else {
        return Ok(());
    };
    let kept = stored(&row);
    if row.get::<_, Option<jiff::Timestamp>>("waits_until").is_some() {
        end_at_once(tx, &envelope(&kept), RequestEnd::Superseded(by), kept.incoming.user.as_deref()).await?;
    } else {
        let sql = "INSERT INTO ended_requests (id) SELECT $1 WHERE NOT EXISTS (SELECT FROM deployments WHERE id = $1)
                   ON CONFLICT DO NOTHING";
        tx.execute(sql, &[&kept.id.0]).await?;
    }
    Ok(())
}
