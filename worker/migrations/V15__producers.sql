-- Who may ask for what. Nothing is restricted while no rule stands; one that was revoked stays for the record.
CREATE TABLE source_rules (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- Patterns, in which * stands for anything.
    source              text NOT NULL,
    projects            text NOT NULL,
    repositories        text NOT NULL,
    servers             text NOT NULL,
    -- NULL: every action.
    actions             text[],
    -- RabbitMQ's user, which the broker has checked; NULL: whoever it was.
    amqp_user           text,
    added_by            text NOT NULL,
    added_because       text NOT NULL,
    added_at            timestamptz NOT NULL DEFAULT now(),
    revoked_by          text,
    revoked_because     text,
    revoked_at          timestamptz
);

-- The user that the broker has checked, and the secrets that came in a form which any project could have used.
ALTER TABLE deployments
    ADD COLUMN amqp_user       text,
    ADD COLUMN unbound_secrets text[];
ALTER TABLE dead_letters ADD COLUMN amqp_user text;

CREATE INDEX deployments_unbound ON deployments (accepted_at) WHERE unbound_secrets IS NOT NULL;
