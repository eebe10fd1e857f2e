-- The branches whose pushes Slipway deploys itself: one for each project that asks for it, for the server of its latest
-- deployment.
CREATE TABLE watched_branches (
    project_id          uuid PRIMARY KEY,
    project_slug        text NOT NULL,
    server              text NOT NULL,
    repository          text NOT NULL,
    branch              text NOT NULL,
    deployed_by         text NOT NULL CHECK (deployed_by IN ('webhook', 'both')),
    -- With the next one, it makes the ids of the deployments unique, also after the row was removed and came back.
    number              bigint GENERATED ALWAYS AS IDENTITY,
    deployments         integer NOT NULL DEFAULT 0,
    -- What the branch pointed to at the last look, since when that is known, and GitHub's mark of that answer.
    head                text,
    head_since          timestamptz,
    etag                text,
    -- The last commit about which it was decided whether it's deployed. NULL since a rollback, until the look after it.
    considered          text,
    waits_for           text,
    problem             text,
    failures            integer NOT NULL DEFAULT 0,
    -- Grows when somebody says that there is something to see. A look that began before doesn't count for it.
    marks               bigint NOT NULL DEFAULT 0,
    -- What it was at the last look.
    marks_seen          bigint NOT NULL DEFAULT 0,
    -- Grows when a look begins: what an earlier one has seen is older, and isn't written any more.
    looks               bigint NOT NULL DEFAULT 0,
    -- Somebody is at it until `look_at`.
    looking             boolean NOT NULL DEFAULT false,
    look_at             timestamptz NOT NULL DEFAULT now(),
    looked_at           timestamptz
);

CREATE INDEX watched_branches_due ON watched_branches (look_at);
CREATE INDEX watched_branches_of_repository ON watched_branches (lower(repository));

-- Webhooks that were taken, so that one that is sent again is recognised: by GitHub's id of it, or by the signature, which
-- is over all of its content. Nothing else of the content is kept.
CREATE TABLE webhook_deliveries (
    id                  text PRIMARY KEY,
    signature           text NOT NULL UNIQUE,
    event               text NOT NULL,
    action              text,
    repository          text,
    outcome             text NOT NULL,
    received_at         timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX webhook_deliveries_received ON webhook_deliveries (received_at);
