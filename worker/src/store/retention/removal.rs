//! What is taken out of deployments, and their removal, as SQL. Which of them is due is decided in `deployments`.

/// In the column `pruned`: what was taken out.
pub(super) const SECRETS: i16 = 1;
pub(super) const JOURNAL: i16 = 2;

/// Nobody waits: what somebody has locked is left for the next pass.
const UNLOCKED: &str = "SELECT id FROM deployments WHERE id = ANY($1) ORDER BY id FOR UPDATE SKIP LOCKED";

/// References stay: they hold no secret. A credential for images goes as a whole, since a part of it can't be read.
pub(super) fn take_out_secrets() -> String {
    format!(
        "UPDATE deployments d SET pruned = d.pruned | {SECRETS}::smallint, body = NULL, request = CASE
             WHEN jsonb_typeof(s.request #> '{{data,secrets}}') = 'object' THEN jsonb_set(s.request, '{{data,secrets}}', coalesce(
                 (SELECT jsonb_object_agg(key, value) FROM jsonb_each(s.request #> '{{data,secrets}}')
                  WHERE NOT value ? 'sealed'), '{{}}'))
             ELSE s.request END
         FROM (SELECT id, CASE WHEN request #> '{{data,registry,password}}' ? 'sealed' THEN request #- '{{data,registry}}'
                          ELSE request END AS request
               FROM deployments WHERE id IN ({UNLOCKED})) s
         WHERE d.id = s.id"
    )
}

/// A replay may resume what its dead letter's journal tells.
pub(super) fn remove_journals() -> String {
    format!(
        "WITH old AS (SELECT id FROM ({UNLOCKED}) o WHERE NOT EXISTS (SELECT FROM dead_letters l WHERE l.id = o.id)),
              removed AS (DELETE FROM stage_journal WHERE deployment_id IN (SELECT id FROM old))
         UPDATE deployments SET pruned = pruned | {JOURNAL}::smallint WHERE id IN (SELECT id FROM old)"
    )
}

/// With its journal and its events; its id stays, so that a duplicate is recognised.
pub(super) fn remove() -> String {
    format!(
        "WITH old AS (SELECT id FROM ({UNLOCKED}) o
                      WHERE NOT EXISTS (SELECT FROM dead_letters l WHERE l.id = o.id)
                        AND NOT EXISTS (SELECT FROM outbox e WHERE e.deployment_id = o.id AND e.published_at IS NULL)),
              removed AS (DELETE FROM deployments WHERE id IN (SELECT id FROM old) RETURNING id)
         INSERT INTO ended_requests (id) SELECT id FROM removed ON CONFLICT DO NOTHING"
    )
}
