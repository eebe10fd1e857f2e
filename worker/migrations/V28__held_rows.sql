-- What the database fails at though it answers others: deployments that can't be claimed or ended, and events that were sent
-- and can't be marked. They're tried again beside the others, some times, and no more after that: 'infinity'. Of a deployment it's the
-- end that is tried once it has failed often enough.
CREATE TABLE held_deployments (
    deployment_id       uuid PRIMARY KEY,
    project_slug        text,
    -- What it failed with last, and how often it has failed.
    reason              text NOT NULL,
    tries               integer NOT NULL DEFAULT 1,
    since               timestamptz NOT NULL DEFAULT now(),
    next_try_at         timestamptz NOT NULL,
    -- When others had to wait for it last.
    tried_at            timestamptz,
    -- The database has taken it since. It may fail at it again, which then counts with what was before.
    goes_on             boolean NOT NULL DEFAULT false
);

CREATE INDEX held_deployments_due ON held_deployments (next_try_at);

CREATE TABLE held_marks (
    -- The place in the outbox.
    position            bigint PRIMARY KEY,
    deployment_id       uuid,
    project_slug        text,
    unrouted            boolean NOT NULL,
    reason              text NOT NULL,
    tries               integer NOT NULL DEFAULT 1,
    since               timestamptz NOT NULL DEFAULT now(),
    next_try_at         timestamptz NOT NULL
);

CREATE INDEX held_marks_due ON held_marks (next_try_at);
