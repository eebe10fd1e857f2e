-- What operators do with dead letters, for ever; and what a replay is to do, until the worker that accepts it reads it.

CREATE TABLE dead_letter_audit (
    number              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- No foreign key: the record outlives the letter.
    dead_letter_id      uuid NOT NULL,
    action              text NOT NULL CHECK (action IN ('replay', 'edit', 'archive', 'restore', 'note', 'export')),
    who                 text NOT NULL,
    why                 text,
    at                  timestamptz NOT NULL DEFAULT now(),
    details             jsonb NOT NULL DEFAULT '{}'
);

CREATE INDEX dead_letter_audit_of_letter ON dead_letter_audit (dead_letter_id, number);

ALTER TABLE dead_letters
    ADD COLUMN replay_from_start boolean NOT NULL DEFAULT false,
    ADD COLUMN replay_forced     boolean NOT NULL DEFAULT false;

-- The failed deployment whose journal tells what needn't be done again.
ALTER TABLE deployments ADD COLUMN resumes uuid;
