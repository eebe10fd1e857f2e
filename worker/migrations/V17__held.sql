-- Messages that couldn't be taken in though the database answered others, byte for byte as they came: they're tried again
-- beside the others, some times, and then become dead letters.
CREATE TABLE held_messages (
    number              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- What it's about, where that could be read.
    project_id          uuid,
    project_slug        text,
    source              text,
    event_id            text,
    body                bytea NOT NULL,
    content_type        text,
    headers             jsonb NOT NULL DEFAULT '{}',
    exchange            text NOT NULL,
    routing_key         text NOT NULL,
    amqp_user           text,
    -- What it failed with last, and how often it has failed.
    reason              text NOT NULL,
    tries               integer NOT NULL DEFAULT 1,
    received_at         timestamptz NOT NULL DEFAULT now(),
    -- In the future while a worker is at it, too: one that dies is followed by another.
    next_try_at         timestamptz NOT NULL
);

CREATE INDEX held_messages_due ON held_messages (next_try_at);

-- Requests that have ended and have no row of deployments any more, or never had one: their duplicates are recognised all
-- the same.
CREATE TABLE ended_requests (
    id                  uuid PRIMARY KEY,
    ended_at            timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX ended_requests_by_time ON ended_requests (ended_at);

-- Every way in asks `ON CONFLICT (id) DO NOTHING` whether a request is known. This adds those without a row to that answer,
-- also for workers of the version before.
CREATE FUNCTION slipway_skip_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM ended_requests WHERE id = NEW.id) THEN
        RETURN NULL;
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER deployments_skip_ended BEFORE INSERT ON deployments
    FOR EACH ROW EXECUTE FUNCTION slipway_skip_ended();
