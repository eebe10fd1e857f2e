-- What a step tells is one row of the outbox, and a row is written, marked and removed for half of what it took. All of this
-- changes the catalogue alone. Relays take the locks in another order: where one is in the way, this is tried again.
LOCK TABLE deployments, stage_journal, outbox, relay_lease IN ACCESS EXCLUSIVE MODE;

-- Only a relay that knows rows of several events may publish: one of an older version can't name this column, and gets no
-- lease. What one has in hand it can't mark any more, and nothing it sees puts it aside.
ALTER TABLE relay_lease ADD COLUMN splits boolean NOT NULL DEFAULT true;
ALTER TABLE relay_lease ALTER COLUMN splits DROP DEFAULT;
UPDATE relay_lease SET fence = fence + 1;

-- Nobody asks for a row by its position once it's published. With room on its page, a mark is written beside the row.
ALTER TABLE outbox
    DROP CONSTRAINT outbox_pkey,
    DROP CONSTRAINT outbox_deployment_id_fkey,
    SET (fillfactor = 60);
-- Where somebody replicates the database by its log, rows without a key are told apart by all that they hold.
ALTER TABLE outbox REPLICA IDENTITY FULL;

-- How many events a row tells, from its number on. NULL: one, as workers of the version before write it.
ALTER TABLE outbox ADD COLUMN events smallint;

-- The next number of a deployment's events follows from those that are there. Workers of the version before take it from the
-- deployment's row, where newer ones don't count each step.
CREATE FUNCTION slipway_number_event() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.sequence := greatest(NEW.sequence, (
        SELECT sequence + coalesce(events, 1) FROM outbox
        WHERE deployment_id = NEW.deployment_id AND sequence IS NOT NULL ORDER BY sequence DESC LIMIT 1));
    RETURN NEW;
END $$;

CREATE TRIGGER outbox_number_event BEFORE INSERT ON outbox FOR EACH ROW
    WHEN (NEW.sequence IS NOT NULL AND NEW.events IS NULL)
    EXECUTE FUNCTION slipway_number_event();

-- Each row that referred to a deployment locked it once more. Whoever writes one holds the deployment's lock as it is, and
-- what goes with a deployment is removed once for all that go.
ALTER TABLE stage_journal DROP CONSTRAINT stage_journal_deployment_id_fkey;

CREATE FUNCTION slipway_remove_with_deployments() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM stage_journal WHERE deployment_id IN (SELECT id FROM removed);
    DELETE FROM outbox WHERE deployment_id IN (SELECT id FROM removed);
    RETURN NULL;
END $$;

CREATE TRIGGER deployments_remove_with AFTER DELETE ON deployments REFERENCING OLD TABLE AS removed
    FOR EACH STATEMENT EXECUTE FUNCTION slipway_remove_with_deployments();

-- What is large of a deployment is out of line. What is small stays in its row, since each piece out of line is a row and an
-- entry of an index for itself.
ALTER TABLE deployments
    ALTER COLUMN source SET STORAGE MAIN,
    ALTER COLUMN event_id SET STORAGE MAIN,
    ALTER COLUMN project_slug SET STORAGE MAIN,
    ALTER COLUMN repository SET STORAGE MAIN,
    ALTER COLUMN commit_sha SET STORAGE MAIN,
    ALTER COLUMN server SET STORAGE MAIN,
    ALTER COLUMN correlation SET STORAGE MAIN,
    ALTER COLUMN content_type SET STORAGE MAIN,
    ALTER COLUMN exchange SET STORAGE MAIN,
    ALTER COLUMN routing_key SET STORAGE MAIN,
    ALTER COLUMN state SET STORAGE MAIN,
    ALTER COLUMN owner SET STORAGE MAIN,
    ALTER COLUMN registry SET STORAGE MAIN,
    ALTER COLUMN traceparent SET STORAGE MAIN,
    ALTER COLUMN action SET STORAGE MAIN,
    ALTER COLUMN amqp_user SET STORAGE MAIN;
