-- How far what is kept has been pruned, and by whom: one worker of the fleet at a time.
CREATE TABLE chores (
    name                text PRIMARY KEY,
    -- Of the row `lease` alone: who does the chores, and until when nobody else does.
    owner               text,
    leased_until        timestamptz NOT NULL DEFAULT '-infinity',
    due_at              timestamptz NOT NULL DEFAULT now(),
    -- Where the pass that is under way goes on; NULL at its beginning.
    position            jsonb,
    -- Rows changed or removed by the pass that is under way, and by the one that ended last.
    changed             bigint NOT NULL DEFAULT 0,
    last_changed        bigint,
    ended_at            timestamptz,
    problem             text
);

INSERT INTO chores (name) VALUES ('lease');

-- What was taken out of an ended deployment: 1 its sealed secrets, 2 its journal, 3 both.
ALTER TABLE deployments ADD COLUMN pruned smallint NOT NULL DEFAULT 0;

-- Where there is little yet, indexes are made at once. On a large table that would make everybody wait: there a worker makes
-- them beside its work (`worker/src/store/connection/indexes.rs`, which has the same statements).
DO $$ BEGIN
    IF (SELECT count(*) FROM (SELECT FROM deployments LIMIT 1000) few) < 1000 THEN
        CREATE INDEX deployments_by_kind ON deployments (coalesce(project_id, '00000000-0000-0000-0000-000000000000'),
            coalesce(server, ''), coalesce(project_slug, ''), action,
            (CASE WHEN request IS NULL THEN '?' WHEN started_at IS NULL THEN '-' ELSE '+' END || state), arrival)
            WHERE finished_at IS NOT NULL;
        CREATE INDEX dead_letters_of_deployment ON dead_letters (deployment_id);
        CREATE INDEX dead_letters_closed ON dead_letters (updated_at, id) WHERE state <> 'open';
        CREATE INDEX dead_letters_with_body ON dead_letters (updated_at, id) WHERE state <> 'open' AND body IS NOT NULL;
        CREATE INDEX cancellations_by_time ON cancellations (requested_at);
    END IF;
END $$;
