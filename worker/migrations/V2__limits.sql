-- Limits over all workers, and the circuits of servers that can't be reached.

ALTER TABLE deployments
    -- Where the attempt that runs, or ran last, pulls images from.
    ADD COLUMN registry text,
    -- Attempts that weren't counted, since the server couldn't be reached.
    ADD COLUMN waits integer NOT NULL DEFAULT 0;

-- No row: the last connection to this server was made.
CREATE TABLE server_circuits (
    server              text PRIMARY KEY,
    failures            integer NOT NULL,
    since               timestamptz NOT NULL,
    open_until          timestamptz
);

-- Each server's queue, in its order: a claim looks at the head of each.
DROP INDEX deployments_due;
CREATE INDEX deployments_queue ON deployments (server, run_at, arrival) WHERE state = 'pending';
