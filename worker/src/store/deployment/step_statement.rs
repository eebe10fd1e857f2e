//! The statement of a step: what ends, what begins and what is told, for one attempt or for many.

use std::sync::LazyLock;

use crate::store::outbox::event_sequence::next_number;

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
    let next = next_number("h.id", "h.next_sequence");
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
             SELECT n.number, count(*) AS events, string_agg(n.told, ',' ORDER BY n.place) AS told
             FROM unnest($15::bigint[], $16::int[], $17::int[], $18::bytea[]) AS n (number, place, novelty, told)
             WHERE CASE n.novelty WHEN 0 THEN n.number IN (SELECT number FROM ended)
                 WHEN 1 THEN n.number IN (SELECT h.number FROM held h JOIN begun b ON b.deployment_id = h.id)
                 ELSE true END
             GROUP BY n.number),
         told AS (
             INSERT INTO outbox (deployment_id, sequence, events, type, told, traceparent, must_route)
             SELECT h.id, {next}, n.events, $19,
                 CASE n.events WHEN 1 THEN n.told ELSE '['::bytea || n.told || ']'::bytea END,
                 nullif(h.traceparent, h.asked_in), false
             FROM held h JOIN news n USING (number) ORDER BY h.number RETURNING 1),
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
             (SELECT pg_notify($23, '') FROM told WHERE $23::text IS NOT NULL LIMIT 1),
             (SELECT pg_notify($24, '') FROM closed WHERE open_until IS NOT NULL LIMIT 1),
             server IN (SELECT server FROM closed WHERE open_until IS NOT NULL) AS reached_again
         FROM held"
    )
}

/// By whether it waits, and by whether a step is about digests: what a statement names costs something each time.
static STATEMENTS: LazyLock<[[String; 2]; 2]> =
    LazyLock::new(|| ["", "SKIP LOCKED"].map(|clause| ["", DIGESTS].map(|digests| statement(clause, digests))));

/// The statement: one for steps of which none is about secrets costs less.
pub(in crate::store) fn of(locked: Locked, is_about_secrets: bool) -> &'static str {
    &STATEMENTS[usize::from(locked == Locked::Skip)][usize::from(is_about_secrets)]
}
