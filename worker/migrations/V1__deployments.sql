-- Everything Slipway remembers. Times are the database's own; states are checked in store/state.rs as well.

CREATE TABLE servers (
    handle              text PRIMARY KEY,
    address             text NOT NULL,
    ssh_port            integer NOT NULL DEFAULT 22 CHECK (ssh_port BETWEEN 1 AND 65535),
    ssh_user            text NOT NULL DEFAULT 'root',
    host_key            text,
    trust_on_first_use  boolean NOT NULL DEFAULT false,
    ssh_key_enc         text,
    notes               text,
    created_at          timestamptz NOT NULL DEFAULT now(),
    updated_at          timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE deployments (
    id                  uuid PRIMARY KEY,
    source              text NOT NULL,
    event_id            text NOT NULL,
    replay_id           uuid,
    -- Absent when a refused request didn't tell.
    project_id          uuid,
    project_slug        text,
    repository          text,
    commit_sha          text,
    server              text,
    -- The envelope; its secrets are sealed boxes and references. Absent for a refused request.
    request             jsonb,
    correlation         jsonb NOT NULL DEFAULT '{}',
    -- The message as it came, byte by byte, for the dead letter; a refused request's is in dead_letters alone.
    body                bytea,
    content_type        text,
    headers             jsonb NOT NULL DEFAULT '{}',
    exchange            text NOT NULL DEFAULT '',
    routing_key         text NOT NULL DEFAULT '',
    producer_sequence   bigint,
    event_time          timestamptz,
    arrival             bigint GENERATED ALWAYS AS IDENTITY,
    state               text NOT NULL CHECK (state IN ('pending', 'running', 'succeeded', 'already_deployed', 'failed',
                                                       'missing_secret', 'cancelled', 'superseded')),
    attempt             integer NOT NULL DEFAULT 0,
    interruptions       integer NOT NULL DEFAULT 0,
    run_at              timestamptz NOT NULL DEFAULT now(),
    fence               bigint,
    owner               text,
    next_sequence       bigint NOT NULL DEFAULT 1,
    traceparent         text,
    superseded_by       uuid,
    cancel_requested_at timestamptz,
    failure             jsonb,
    result              jsonb,
    ssh_round_trips     integer,
    first_failed_at     timestamptz,
    last_failed_at      timestamptz,
    accepted_at         timestamptz NOT NULL DEFAULT now(),
    started_at          timestamptz,
    finished_at         timestamptz,
    CHECK (state <> 'running' OR (fence IS NOT NULL AND owner IS NOT NULL)),
    CHECK (state NOT IN ('pending', 'running') OR (request IS NOT NULL AND project_id IS NOT NULL AND server IS NOT NULL))
);

CREATE INDEX deployments_due ON deployments (run_at) WHERE state = 'pending';
CREATE INDEX deployments_running ON deployments (id) WHERE state = 'running';
CREATE INDEX deployments_of_project ON deployments (project_id, arrival DESC);
CREATE INDEX deployments_recent ON deployments (accepted_at DESC);

CREATE TABLE stage_journal (
    deployment_id       uuid NOT NULL REFERENCES deployments ON DELETE CASCADE,
    fence               bigint NOT NULL,
    attempt             integer NOT NULL,
    stage               text NOT NULL,
    input_hash          bytea NOT NULL,
    intent_at           timestamptz NOT NULL DEFAULT now(),
    -- NULL while only the intent is known: the stage runs, or its worker died in it.
    outcome             text CHECK (outcome IN ('done', 'failed', 'interrupted')),
    outcome_at          timestamptz,
    change              text,
    facts               jsonb,
    failure             jsonb,
    duration_ms         bigint,
    PRIMARY KEY (deployment_id, fence, stage)
);

-- One row for each project directory on each server: that is what two attempts must never touch at once.
CREATE TABLE project_leases (
    project_slug        text NOT NULL,
    server              text NOT NULL,
    owner               text NOT NULL,
    fence               bigint NOT NULL,
    expires_at          timestamptz NOT NULL,
    PRIMARY KEY (project_slug, server)
);

CREATE TABLE relay_lease (
    only                boolean PRIMARY KEY DEFAULT true CHECK (only),
    owner               text NOT NULL,
    fence               bigint NOT NULL,
    expires_at          timestamptz NOT NULL
);

-- What is to be published, and, for events, what was.
CREATE TABLE outbox (
    position            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    deployment_id       uuid REFERENCES deployments ON DELETE CASCADE,
    sequence            bigint,
    message_id          text NOT NULL,
    type                text NOT NULL,
    exchange            text NOT NULL,
    routing_key         text NOT NULL,
    correlation_id      text,
    content_type        text,
    headers             jsonb NOT NULL DEFAULT '{}',
    traceparent         text,
    body                bytea NOT NULL,
    -- A returned message that must be routed is sent again; any other found nobody who asked for it.
    must_route          boolean NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now(),
    published_at        timestamptz,
    unrouted            boolean NOT NULL DEFAULT false,
    UNIQUE (deployment_id, sequence)
);

CREATE INDEX outbox_waiting ON outbox (position) WHERE published_at IS NULL;

CREATE TABLE github_digests (
    project_id          uuid NOT NULL,
    server              text NOT NULL,
    name                text NOT NULL,
    digest              text NOT NULL,
    updated_at          timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (project_id, server, name)
);

CREATE TABLE dead_letters (
    id                  uuid PRIMARY KEY,
    deployment_id       uuid REFERENCES deployments ON DELETE SET NULL,
    project_slug        text,
    -- NULL when it holds a secret in plain text, which no table keeps; the dead-letter queue has it.
    body                bytea,
    content_type        text,
    headers             jsonb NOT NULL DEFAULT '{}',
    reason              text NOT NULL,
    stage               text NOT NULL,
    code                text NOT NULL,
    class               text NOT NULL,
    message             text NOT NULL,
    attempts            integer NOT NULL,
    first_failed_at     timestamptz NOT NULL DEFAULT now(),
    last_failed_at      timestamptz NOT NULL DEFAULT now(),
    original_exchange   text NOT NULL,
    original_routing_key text NOT NULL,
    worker              text NOT NULL,
    replay_count        integer NOT NULL DEFAULT 0,
    replayed_as         uuid,
    state               text NOT NULL DEFAULT 'open' CHECK (state IN ('open', 'replayed', 'archived')),
    note                text,
    updated_at          timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX dead_letters_open ON dead_letters (last_failed_at DESC) WHERE state = 'open';
CREATE UNIQUE INDEX dead_letters_replayed_as ON dead_letters (replayed_as);
