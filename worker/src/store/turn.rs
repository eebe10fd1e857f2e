//! The statement of a turn of the fleet; what it's for is in `workers`.

/// Gives a turn away and tells what is due. A turn is no further away than one for each worker: those of workers that
/// are gone don't count. Who is gone for good, and has left nothing that runs, is forgotten: a name of no use would alarm
/// people, and whoever was only cut off comes back with its next turn.
pub(super) const TAKE_TURN: &str = "
    WITH RECURSIVE alive AS (
        SELECT count(*) + 1 AS workers FROM workers
        WHERE name <> $1 AND greatest(seen_at, next_turn_at) > now() - $3 * interval '3 seconds'
    ), mine AS (
        -- Who asks before its turn keeps that: a fleet that asks at once would have all of its turns at once from then on.
        -- A turn further away is of another clock: that of a database which has failed over.
        SELECT next_turn_at AS at FROM workers WHERE name = $1 AND next_turn_at > now()
            AND next_turn_at <= now() + (SELECT workers FROM alive) * $3 * interval '1 second'
    ), own AS MATERIALIZED (
        -- Before the row of all: whoever waits for its own keeps nobody else waiting.
        SELECT FROM workers WHERE name = $1 FOR UPDATE
    ), turn AS (
        UPDATE fleet SET last_turn_at = CASE WHEN EXISTS (SELECT FROM mine) THEN last_turn_at
            ELSE least(greatest(last_turn_at, now()) + $3 * interval '1 second',
                       now() + (SELECT workers FROM alive) * $3 * interval '1 second') END
        FROM (SELECT count(*) FROM own) locked
        RETURNING coalesce((SELECT at FROM mine), last_turn_at) AS at
    ), seen AS (
        INSERT INTO workers (name, version, next_turn_at) SELECT $1, $2, at FROM turn
        ON CONFLICT (name) DO UPDATE SET version = $2, seen_at = now(), next_turn_at = excluded.next_turn_at
        RETURNING next_turn_at
    ), forgotten AS (
        DELETE FROM workers w
        WHERE w.name <> $1 AND greatest(w.seen_at, w.next_turn_at) < now() - $5 * interval '1 second'
          AND NOT EXISTS (SELECT FROM deployments d WHERE d.state = 'running' AND d.owner = w.name)
          AND w.name IN (SELECT name FROM workers WHERE name <> $1 FOR UPDATE SKIP LOCKED)
        RETURNING w.name
    ), queue (server) AS (
        SELECT min(server) FROM deployments WHERE state = 'pending'
        UNION ALL
        SELECT (SELECT min(d.server) FROM deployments d WHERE d.state = 'pending' AND d.server > q.server)
        FROM queue q WHERE q.server IS NOT NULL
    ), due AS (
        SELECT min((SELECT run_at FROM deployments d WHERE d.state = 'pending' AND d.server = q.server
                    ORDER BY run_at LIMIT 1)) AS at
        FROM queue q
    ), expiring AS (
        SELECT min(coalesce(l.expires_at, now())) AS at FROM deployments d LEFT JOIN project_leases l
            ON l.project_slug = d.project_slug AND l.server = d.server AND l.fence = d.fence
        WHERE d.state = 'running'
    ), backlog AS (
        SELECT coalesce(sum(coalesce(events, 1)), 0)::bigint AS depth, min(created_at) AS since
        -- More are counted by nobody who has to say soon that he lives.
        FROM (SELECT events, created_at FROM outbox WHERE published_at IS NULL AND set_aside_at IS NULL
              AND position NOT IN (SELECT position FROM held_marks) ORDER BY position LIMIT 10000) first
    )
    SELECT extract(epoch FROM (SELECT next_turn_at FROM seen) - now())::float8,
        extract(epoch FROM (SELECT at FROM due) - now())::float8,
        extract(epoch FROM (SELECT at FROM expiring) - now())::float8,
        extract(epoch FROM (SELECT min(look_at) FROM watched_branches) - now())::float8,
        extract(epoch FROM (SELECT min(next_try_at) FROM github_deployments WHERE NOT done) - now())::float8,
        EXISTS (SELECT 1 FROM server_circuits WHERE open_until IS NOT NULL),
        (SELECT depth FROM backlog),
        coalesce(extract(epoch FROM now() - (SELECT since FROM backlog)), 0)::float8,
        (SELECT workers FROM alive),
        extract(epoch FROM (SELECT min(ask_at) FROM server_facts) - now())::float8,
        EXISTS (SELECT FROM deployments WHERE state = 'pending' AND server IS NULL),
        pg_notify($4, '')::text, (SELECT array_agg(name) FROM forgotten),
        extract(epoch FROM (SELECT min(waits_until) FROM project_halves WHERE waits_until IS NOT NULL) - now())::float8,
        EXISTS (SELECT FROM held_messages) OR EXISTS (SELECT FROM held_deployments) OR EXISTS (SELECT FROM held_marks)";
