-- What the database fails at though it answers others: deployments that can't be claimed or ended, and events that were sent
-- and can't be marked. They're tried again beside the others, some times, and no more after that: 'infinity'.
CREATE TABLE held_deployments (
    deployment_id       uuid PRIMARY KEY,
    project_slug        text,
    -- What it failed with last, and how often it has failed.
    reason              text NOT NULL,
    tries               integer NOT NULL DEFAULT 1,
    since               timestamptz NOT NULL DEFAULT now(),
    next_try_at         timestamptz NOT NULL,
    -- When its end couldn't be written either: from then on it waits for people.
    given_up_at         timestamptz
);

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
