-- A history as years of CI leave it, in a database with the schema: `history.rows` finished deployments of as many projects
-- as make 500 for each, on 50 servers, one in ten of one project, `p0`; two a second, so that the last day and the last hour
-- are full. One in a hundred failed, one in a hundred of those waits for somebody. `history.request` is what they asked for.
-- Pruning has come from the first tenth, where it begins, to the last five hundred.
-- What the database keeps by itself is filled in the way of the migration that began to keep it, by whoever runs this.
SET session_replication_role = replica;
SET synchronous_commit = off;
SET maintenance_work_mem = '256MB';

CREATE TEMPORARY TABLE history_indexes AS
SELECT indexname, indexdef FROM pg_indexes i
WHERE schemaname = current_schema() AND tablename IN ('deployments', 'dead_letters', 'outbox', 'stage_journal', 'github_deployments')
  AND NOT EXISTS (SELECT FROM pg_constraint c WHERE c.conname = i.indexname);
DO $$
DECLARE name text;
BEGIN
    FOR name IN SELECT indexname FROM history_indexes LOOP EXECUTE format('DROP INDEX %I', name); END LOOP;
END $$;

CREATE TEMPORARY TABLE history AS
SELECT i, md5('deployment ' || i)::uuid AS id, p, md5('project ' || p)::uuid AS project_id, 'p' || p AS project_slug,
    's' || p % 50 AS server, now() - (n - i) * interval '0.5 s' - interval '1 s' AS at,
    CASE WHEN i % 100 = 0 THEN 'failed' WHEN i % 33 = 0 THEN 'superseded' WHEN i % 7 = 0 THEN 'already_deployed'
        ELSE 'succeeded' END AS state,
    CASE WHEN i % 97 = 1 THEN 'stop' WHEN i % 97 = 2 THEN 'start' WHEN i % 997 = 3 THEN 'undeploy' ELSE 'deploy' END AS action
FROM (SELECT i, n, CASE WHEN i % 10 = 0 THEN 0 ELSE 1 + i % greatest(n / 500, 1) END AS p
      FROM (SELECT current_setting('history.rows')::bigint AS n) asked, generate_series(1, n) i) numbered;

INSERT INTO deployments (id, source, event_id, project_id, project_slug, repository, commit_sha, server, request,
    producer_sequence, event_time, state, action, attempt, fence, owner, next_sequence, accepted_at,
    started_at, finished_at, run_at, pruned)
SELECT id, '/history', i::text, project_id, project_slug, 'acme/' || project_slug, md5(i::text) || '00000000', server,
    CASE WHEN i % 20 = 0 OR i > current_setting('history.rows')::bigint - 20000 THEN current_setting('history.request')::jsonb
        ELSE '{}' END,
    NULL, at, state, action, 1, i, 'history', 12, at, at, at + interval '1 s', at,
    (i BETWEEN current_setting('history.rows')::bigint / 10 AND current_setting('history.rows')::bigint - 500)::int
FROM history ORDER BY history.i;

INSERT INTO stage_journal (deployment_id, fence, attempt, stage, input_hash, outcome, outcome_at, change, facts)
SELECT id, i, 1, 'compose', 'x', 'done', at, 'changed', '{}' FROM history;

INSERT INTO github_deployments (deployment_id, github_id, told, done, next_try_at)
SELECT id, i, 'success', true, at FROM history WHERE action = 'deploy';

INSERT INTO outbox (deployment_id, sequence, message_id, type, exchange, routing_key, body, must_route, created_at, published_at)
SELECT id, 1, id || '-1', 'slipway.deployment.result.v1', 'slipway.events', 'x', '{}', false, at, at FROM history WHERE i % 5 = 0;

INSERT INTO dead_letters (id, deployment_id, project_slug, body, reason, stage, code, class, message, attempts,
    first_failed_at, last_failed_at, original_exchange, original_routing_key, worker, state)
SELECT CASE WHEN i % 100 = 0 THEN id ELSE md5('letter ' || i)::uuid END, CASE WHEN i % 100 = 0 THEN id END, project_slug, '{}', 'exhausted', CASE WHEN i % 100 = 0 THEN 'compose' ELSE 'intake' END,
    CASE WHEN i % 700 = 0 THEN 'crash-loop' ELSE 'pull-failed' END, CASE WHEN i % 700 = 0 THEN 'permanent' ELSE 'transient' END,
    'x', 1, at, at, 'slipway.requests', 'slipway.project.ready.v1', 'history', CASE WHEN i % 1000 = 0 THEN 'open' ELSE 'archived' END
FROM history WHERE i % 10 = 0;

INSERT INTO cancellations (id, deployment_id, source, event_id, found, requested_at)
SELECT id, id, '/history', i::text, 'succeeded', at FROM history WHERE i % 100 = 0;

INSERT INTO operator_audit (action, subject, who, at)
SELECT 'cancel', id::text, 'ada', at FROM history WHERE i % 100 = 0 ORDER BY i;

INSERT INTO slug_owners (server, project_slug, project_id, proven, since)
SELECT DISTINCT ON (server, project_slug) server, project_slug, project_id, true, at FROM history ORDER BY server, project_slug, i DESC;

INSERT INTO project_leases (project_slug, server, owner, fence, expires_at)
SELECT project_slug, server, 'history', max(i), max(at) FROM history GROUP BY 1, 2;

INSERT INTO github_digests (project_id, server, name, digest)
SELECT DISTINCT project_id, server, 'DEPLOY_HOST', 'x' FROM history WHERE p % 2 = 1;

-- Both halves of each project, joined, and a crowd of halves that wait or have waited in vain.
INSERT INTO project_halves (project_id, project_slug, half, id, source, event_id, body, exchange, routing_key, event_time,
    received_at, joined_as)
SELECT project_id, project_slug, half, md5(half || project_slug)::uuid, '/history', half || project_slug,
    convert_to(repeat('x', 800), 'UTF8'), 'slipway.requests', 'x', at, at, id
FROM (SELECT DISTINCT ON (project_slug) * FROM history ORDER BY project_slug, i DESC) newest,
    (VALUES ('engineering'), ('resources')) halves (half);
INSERT INTO project_halves (project_id, project_slug, half, id, source, event_id, body, exchange, routing_key, event_time,
    received_at, waits_until, missed_at)
SELECT md5('lonely ' || i)::uuid, 'lonely', 'resources', md5('lonely half ' || i)::uuid, '/history', i::text,
    convert_to(repeat('x', 800), 'UTF8'), 'slipway.requests', 'x', now(), now() - i * interval '1 s',
    CASE WHEN i % 2 = 0 THEN now() + i * interval '1 s' END, CASE WHEN i % 2 = 1 THEN now() END
FROM generate_series(1, 5000) i;

-- Each deployment in ten followed a push.
INSERT INTO webhook_deliveries (id, signature, event, repository, outcome, received_at)
SELECT id::text, md5('signature ' || i), 'push', 'acme/' || project_slug, 'marked 1', at FROM history WHERE i % 10 = 0;

DO $$
DECLARE definition text;
BEGIN
    FOR definition IN SELECT indexdef FROM history_indexes LOOP EXECUTE definition; END LOOP;
END $$;
SET session_replication_role = origin;
DROP TABLE history, history_indexes;
