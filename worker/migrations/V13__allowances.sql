-- What operators allow projects beyond what every project gets. Rows stay when they're taken back: they are the record.
CREATE TABLE allowances (
    number              bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- All projects of a server, or one project wherever it is, by id and slug: neither by itself gives it to another one.
    server              text,
    project_id          uuid,
    project_slug        text,
    -- As `slipway_deploy::Allowance` writes it.
    allowance           text NOT NULL,
    who                 text NOT NULL,
    why                 text NOT NULL,
    at                  timestamptz NOT NULL DEFAULT now(),
    revoked_by          text,
    revoked_why         text,
    revoked_at          timestamptz,
    CHECK ((server IS NULL) <> (project_id IS NULL)),
    CHECK ((project_id IS NULL) = (project_slug IS NULL))
);

CREATE UNIQUE INDEX allowances_standing ON allowances (coalesce(project_id::text, server), allowance, coalesce(project_slug, ''))
    WHERE revoked_at IS NULL;
