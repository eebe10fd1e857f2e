//! A step of an attempt: what it ends, what it begins, and what it tells. It's decided beforehand and written by one
//! statement, alone or together with the steps of other attempts.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use slipway_protocol::{Action, Change, DeploymentId, EventType, ProgressKind, ProjectId, Stage};
use tokio_postgres::Row;
use tokio_postgres::types::Json;
use uuid::Uuid;

use crate::failpoint::TransactionKind;
use crate::store::connection::wakeups;
use crate::store::deployment::lease::Lease;
use crate::store::deployment::stage::{StageEnd, StageIntent};
use crate::store::deployment::state::Boundary;
use crate::store::deployment::unproven::leaves_unproven;
use crate::store::outbox::event_sequence::told;
use crate::store::{Result, Store};

/// A step, decided.
#[derive(Debug, Clone)]
pub(in crate::store) struct AttemptStep {
    lease: Lease,
    write: TransactionKind,
    ended: Option<EndedStage>,
    begun: Option<(Stage, Vec<u8>)>,
    /// What GitHub holds of a project's secrets now.
    digests: Option<(ProjectId, BTreeMap<String, String>)>,
    /// What it tells, in order, and what has to be new for that.
    news: Vec<(Novelty, Vec<u8>)>,
    traceparent: Option<String>,
}

#[derive(Debug, Clone)]
struct EndedStage {
    stage: Stage,
    change: &'static str,
    facts: serde_json::Map<String, serde_json::Value>,
    duration_ms: i64,
}

/// What is told only if it's new: an outcome or an intent that is there already belongs to a call that is repeated since
/// its answer was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Novelty {
    End = 0,
    Begin = 1,
    Always = 2,
}

/// Whether a statement waits for rows that others have locked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Locked {
    /// It does.
    Wait,
    /// It leaves them out: whoever shares a statement with many waits for nobody while it holds locks.
    Skip,
}

/// What is done to the digests of a project's secrets at GitHub, where a step of a group is about these.
const DIGESTS: &str = "
         doubted AS (
             UPDATE github_digests g SET digest = ''
             FROM held h JOIN begun b ON b.deployment_id = h.id
             WHERE h.next_stage = 'secrets' AND g.project_id = h.project_id),
         forgotten AS (
             DELETE FROM github_digests g USING held h JOIN ended USING (number)
             WHERE g.project_id = h.holder AND NOT (g.server = h.server AND EXISTS (
                 SELECT FROM known k WHERE k.number = h.number AND k.name = g.name))),
         saved AS (
             INSERT INTO github_digests (project_id, server, name, digest)
             SELECT h.holder, h.server, k.name, k.digest
             FROM held h JOIN ended USING (number) JOIN known k USING (number)
             ON CONFLICT (project_id, server, name) DO UPDATE SET digest = excluded.digest, updated_at = now()),";

/// Whether nobody else has locked what a step `d` of a group doubts.
const DIGESTS_ARE_FREE: &str = "(d.next_stage IS DISTINCT FROM 'secrets' OR
    (SELECT count(*) FROM github_digests g WHERE g.project_id = d.project_id)
        = (SELECT count(*) FROM (SELECT FROM github_digests g WHERE g.project_id = d.project_id
           ORDER BY g.server, g.name FOR UPDATE SKIP LOCKED) free))";

/// The deployment's row is locked first and the lease after it, as everywhere.
fn statement(clause: &str, digests: &str) -> String {
    let are_free = if clause.is_empty() || digests.is_empty() { "true" } else { DIGESTS_ARE_FREE };
    format!(
        "WITH step AS MATERIALIZED (
             SELECT * FROM unnest($1::uuid[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[], $7::jsonb[],
                     $8::bigint[], $9::int[], $10::text[], $11::bytea[], $12::text[], $13::text[], $14::uuid[])
                 WITH ORDINALITY AS s (id, fence, slug, server, stage, change, facts, duration_ms, attempt, next_stage,
                     input_hash, touching, traceparent, holder, number)),
         deployment AS MATERIALIZED (
             SELECT s.*, d.next_sequence, d.superseded_by, d.cancel_requested_at IS NOT NULL AS cancelled, d.action,
                 d.project_id, d.traceparent AS asked_in
             FROM step s JOIN deployments d ON d.id = s.id AND d.fence = s.fence AND d.state = 'running'
             ORDER BY s.id FOR UPDATE OF d {clause}),
         held AS MATERIALIZED (
             SELECT d.*, d.superseded_by IS NULL AND NOT d.cancelled AS goes_on
             FROM deployment d JOIN project_leases l
                 ON l.project_slug = d.slug AND l.server = d.server AND l.fence = d.fence
             WHERE {are_free} FOR SHARE OF l {clause}),
         ended AS (
             UPDATE stage_journal j
             SET outcome = 'done', outcome_at = now(), change = h.change, facts = h.facts, duration_ms = h.duration_ms
             FROM held h WHERE j.deployment_id = h.id AND j.fence = h.fence AND j.stage = h.stage AND j.outcome IS NULL
             RETURNING h.number),
         begun AS (
             INSERT INTO stage_journal (deployment_id, fence, attempt, stage, input_hash)
             SELECT id, fence, attempt, next_stage, input_hash FROM held WHERE next_stage IS NOT NULL AND goes_on
             ON CONFLICT DO NOTHING RETURNING deployment_id),
         news AS (
             SELECT n.number, n.place, n.told
             FROM unnest($15::bigint[], $16::int[], $17::int[], $18::bytea[]) AS n (number, place, novelty, told)
             WHERE CASE n.novelty WHEN 0 THEN n.number IN (SELECT number FROM ended)
                 WHEN 1 THEN n.number IN (SELECT h.number FROM held h JOIN begun b ON b.deployment_id = h.id)
                 ELSE true END),
         told AS (
             INSERT INTO outbox (deployment_id, sequence, type, told, traceparent, must_route)
             SELECT h.id, h.next_sequence + row_number() OVER (PARTITION BY h.number ORDER BY n.place) - 1, $19, n.told,
                 nullif(h.traceparent, h.asked_in), false
             FROM held h JOIN news n USING (number) ORDER BY h.number, n.place RETURNING deployment_id),
         counted AS (
             UPDATE deployments d SET next_sequence = d.next_sequence + t.events
             FROM (SELECT deployment_id, count(*) AS events FROM told GROUP BY deployment_id) t
             WHERE d.id = t.deployment_id),
         unproven AS (
             UPDATE project_leases l SET unsettled = true
             FROM held h WHERE l.project_slug = h.slug AND l.server = h.server AND NOT l.unsettled AND h.goes_on
                 AND h.action = ANY(string_to_array(h.touching, ','))),
         known AS (SELECT * FROM unnest($20::bigint[], $21::text[], $22::text[]) AS k (number, name, digest)),{digests}
         closed AS (
             DELETE FROM server_circuits WHERE server = ANY(ARRAY(
                 SELECT c.server FROM server_circuits c
                 WHERE c.server IN (SELECT h.server FROM held h JOIN ended USING (number))
                 ORDER BY c.server FOR UPDATE {clause}))
             RETURNING server, open_until)
         SELECT number, superseded_by, cancelled,
             (SELECT pg_notify($23, '') FROM told LIMIT 1),
             (SELECT pg_notify($24, '') FROM closed WHERE open_until IS NOT NULL LIMIT 1),
             server IN (SELECT server FROM closed WHERE open_until IS NOT NULL) AS reached_again
         FROM held"
    )
}

/// By whether it waits, and by whether a step is about digests: what a statement names costs something each time.
static STATEMENTS: LazyLock<[[String; 2]; 2]> =
    LazyLock::new(|| ["", "SKIP LOCKED"].map(|clause| ["", DIGESTS].map(|digests| statement(clause, digests))));

impl AttemptStep {
    /// A stage that is done, the intent to run the next one, or both.
    ///
    /// # Errors
    /// When it can't be written as JSON.
    pub(in crate::store) fn of_stage(
        lease: &Lease,
        end: Option<StageEnd<'_>>,
        next: Option<StageIntent<'_>>,
    ) -> Result<Self> {
        let write = match end {
            Some(_) => TransactionKind::StageFinished,
            None => TransactionKind::StageStarted,
        };
        let mut step = Self::of_progress(lease, &[])?;
        step.write = write;
        if let Some(StageEnd { summary, facts, digests }) = end {
            let change = match summary.change {
                Change::Changed => "changed",
                Change::Unchanged => "unchanged",
            };
            let duration_ms = i64::try_from(summary.duration_ms).unwrap_or(i64::MAX);
            step.ended = Some(EndedStage { stage: summary.stage, change, facts: facts.clone(), duration_ms });
            step.digests = digests.map(|(project, digests)| (project, digests.clone()));
            let finished = ProgressKind::StageFinished {
                stage: summary.stage,
                attempt: lease.attempt,
                change: summary.change,
                duration_ms: summary.duration_ms,
                facts: facts.clone(),
            };
            step.news.push((Novelty::End, told(&finished)?));
        }
        if let Some(StageIntent { stage, input_hash }) = next {
            step.begun = Some((stage, input_hash.to_vec()));
            step.news.push((Novelty::Begin, told(&ProgressKind::StageStarted { stage, attempt: lease.attempt })?));
        }
        Ok(step)
    }

    /// Progress within a stage.
    ///
    /// # Errors
    /// As [`Self::of_stage`].
    pub(in crate::store) fn of_progress(lease: &Lease, kinds: &[ProgressKind]) -> Result<Self> {
        let news = kinds.iter().map(|kind| Ok((Novelty::Always, told(kind)?))).collect::<Result<_>>()?;
        Ok(Self {
            lease: lease.clone(),
            write: TransactionKind::RecordProgress,
            ended: None,
            begun: None,
            digests: None,
            news,
            traceparent: crate::telemetry::current_traceparent(),
        })
    }

    /// Whether it may be written together with others: it says nothing new of what belongs to more than its deployment, and is
    /// told once also if it's written again, since a group's answer was lost.
    pub(in crate::store) fn may_be_grouped(&self) -> bool {
        self.digests.is_none() && self.write != TransactionKind::RecordProgress
    }

    fn is_about_secrets(&self) -> bool {
        self.digests.is_some() || self.begun.as_ref().is_some_and(|(stage, _)| *stage == Stage::Secrets)
    }

    /// The actions of which the release is unproven from here on.
    fn touching(&self) -> Option<String> {
        let (stage, _) = self.begun.as_ref()?;
        let actions = Action::ALL.into_iter().filter(|action| leaves_unproven(*action, *stage));
        Some(actions.map(Action::as_str).collect::<Vec<_>>().join(","))
    }
}

impl Store {
    /// Writes steps of different attempts by one statement; gives for each at which boundary it is, or nothing if its
    /// lease is lost or, with [`Locked::Skip`], somebody has locked it.
    ///
    /// # Errors
    /// When the database fails; then none was written.
    pub(in crate::store) async fn write_steps(
        &self,
        steps: &[Arc<AttemptStep>],
        locked: Locked,
    ) -> Result<Vec<Option<Boundary>>> {
        let each = |value: fn(&AttemptStep) -> &str| -> Vec<&str> { steps.iter().map(|step| value(step)).collect() };
        let ended = |value: fn(&EndedStage) -> &str| -> Vec<Option<&str>> {
            steps.iter().map(|step| step.ended.as_ref().map(value)).collect()
        };
        let (mut news, mut known) =
            ((Vec::new(), Vec::new(), Vec::new(), Vec::new()), (Vec::new(), Vec::new(), Vec::new()));
        for (number, step) in (1_i64..).zip(steps) {
            for (place, (novelty, told)) in (0_i32..).zip(&step.news) {
                news.0.push(number);
                news.1.push(place);
                news.2.push(*novelty as i32);
                news.3.push(told.as_slice());
            }
            for (name, digest) in step.digests.iter().flat_map(|(_, digests)| digests) {
                known.0.push(number);
                known.1.push(name.as_str());
                known.2.push(digest.as_str());
            }
        }
        let by_digests = usize::from(steps.iter().any(|step| step.is_about_secrets()));
        let sql = &STATEMENTS[usize::from(locked == Locked::Skip)][by_digests];
        let writes: Vec<TransactionKind> = steps.iter().map(|step| step.write).collect();
        let rows = self
            .client()
            .await?
            .write_many(
                &writes,
                sql,
                &[
                    &steps.iter().map(|step| step.lease.deployment.0).collect::<Vec<_>>(),
                    &steps.iter().map(|step| step.lease.fence.0).collect::<Vec<_>>(),
                    &each(|step| step.lease.slug.as_str()),
                    &each(|step| step.lease.server.as_str()),
                    &ended(|ended| ended.stage.as_str()),
                    &ended(|ended| ended.change),
                    &steps.iter().map(|step| step.ended.as_ref().map(|ended| Json(&ended.facts))).collect::<Vec<_>>(),
                    &steps.iter().map(|step| step.ended.as_ref().map(|ended| ended.duration_ms)).collect::<Vec<_>>(),
                    &steps.iter().map(|s| i32::try_from(s.lease.attempt).unwrap_or(i32::MAX)).collect::<Vec<_>>(),
                    &steps.iter().map(|s| s.begun.as_ref().map(|(stage, _)| stage.as_str())).collect::<Vec<_>>(),
                    &steps.iter().map(|s| s.begun.as_ref().map(|(_, hash)| hash.as_slice())).collect::<Vec<_>>(),
                    &steps.iter().map(|step| step.touching()).collect::<Vec<_>>(),
                    &steps.iter().map(|step| step.traceparent.as_deref()).collect::<Vec<_>>(),
                    &steps.iter().map(|s| s.digests.as_ref().map(|(project, _)| project.0)).collect::<Vec<_>>(),
                    &news.0,
                    &news.1,
                    &news.2,
                    &news.3,
                    &EventType::Progress.as_str(),
                    &known.0,
                    &known.1,
                    &known.2,
                    &wakeups::OUTBOX,
                    &wakeups::DEPLOYMENTS,
                ],
            )
            .await?;
        let mut boundaries = vec![None; steps.len()];
        for row in &rows {
            let number = row.get::<_, i64>("number");
            let Some(at) = usize::try_from(number - 1).ok().filter(|at| *at < steps.len()) else { continue };
            boundaries[at] = Some(boundary(row));
            if row.get("reached_again") {
                tracing::info!(server.handle = %steps[at].lease.server, "the server's circuit is closed");
            }
        }
        Ok(boundaries)
    }
}

fn boundary(row: &Row) -> Boundary {
    match row.get::<_, Option<Uuid>>("superseded_by") {
        _ if row.get("cancelled") => Boundary::Cancelled,
        Some(by) => Boundary::Superseded(DeploymentId(by)),
        None => Boundary::GoOn,
    }
}
