-- Events are kept as what they tell; the relay makes the message of that and the deployment's row. Written as whole
-- messages, and once more when they were marked as published, they were four fifths of all that was written.
ALTER TABLE outbox
    -- Progress as JSON. Of a result it's absent: that is in the deployment's row.
    ADD COLUMN told bytea,
    ALTER COLUMN message_id DROP NOT NULL,
    ALTER COLUMN exchange DROP NOT NULL,
    ALTER COLUMN routing_key DROP NOT NULL,
    ALTER COLUMN body DROP NOT NULL;

-- Only a relay that knows such events may publish: one of an older version can't name this column, and gets no lease.
ALTER TABLE relay_lease ADD COLUMN renders boolean NOT NULL DEFAULT true;
ALTER TABLE relay_lease ALTER COLUMN renders DROP DEFAULT;

-- A deployment's row is changed at each step. With its request, its body and its result out of line, and room on the page,
-- a step writes some hundred bytes and no index.
ALTER TABLE deployments SET (toast_tuple_target = 256, fillfactor = 70);
ALTER TABLE stage_journal SET (fillfactor = 70);
ALTER TABLE project_leases SET (fillfactor = 50);
