-- Halves of requests to deploy: of each project and spelling the newest of either kind, byte for byte as it came. One waits
-- for the other; afterwards it's kept for what comes later alone.
CREATE TABLE project_halves (
    project_id          uuid NOT NULL,
    project_slug        text NOT NULL,
    half                text NOT NULL CHECK (half IN ('engineering', 'resources')),
    -- As of a deployment: by its source, its event's id and its replay. A duplicate is recognised by it.
    id                  uuid NOT NULL UNIQUE,
    source              text NOT NULL,
    event_id            text NOT NULL,
    replay_id           uuid,
    body                bytea NOT NULL,
    content_type        text,
    headers             jsonb NOT NULL DEFAULT '{}',
    exchange            text NOT NULL,
    routing_key         text NOT NULL,
    amqp_user           text,
    -- Its place among the halves of its kind. Neither becomes smaller when a newer half takes its place.
    producer_sequence   bigint,
    event_time          timestamptz NOT NULL,
    received_at         timestamptz NOT NULL DEFAULT now(),
    -- While it waits for the other half: until when.
    waits_until         timestamptz,
    -- When its project was told that the other half is missing.
    missed_at           timestamptz,
    -- The last deployment that it has made together with the other half.
    joined_as           uuid,
    PRIMARY KEY (project_id, project_slug, half)
);

CREATE INDEX project_halves_waiting ON project_halves (waits_until) WHERE waits_until IS NOT NULL;
CREATE INDEX project_halves_alone ON project_halves (received_at) WHERE joined_as IS NULL;
CREATE INDEX project_halves_by_time ON project_halves (received_at);
