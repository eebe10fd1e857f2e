-- Whatever is asked of a project is a row of deployments: rows from before are deployments of a commit.
ALTER TABLE deployments
    ADD COLUMN action text NOT NULL DEFAULT 'deploy'
        CHECK (action IN ('deploy', 'stop', 'start', 'rollback', 'undeploy', 'cancel')),
    ADD COLUMN remove_volumes boolean NOT NULL DEFAULT false,
    -- The deployment whose request a command acts with; its `request` is a copy of that one's.
    ADD COLUMN acts_on uuid,
    ADD COLUMN reason text;

CREATE INDEX deployments_versions ON deployments (project_id, server, arrival DESC)
    WHERE state = 'succeeded' AND action IN ('deploy', 'rollback');

-- Who asked for what to be cancelled, when and why, and what it met. Kept also when nothing came of it.
CREATE TABLE cancellations (
    -- Derived from the event, so that its duplicate is recognised.
    id                  uuid PRIMARY KEY,
    deployment_id       uuid NOT NULL,
    source              text NOT NULL,
    event_id            text NOT NULL,
    reason              text,
    -- `unknown`, or the state that the deployment was in.
    found               text NOT NULL,
    requested_at        timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX cancellations_of_deployment ON cancellations (deployment_id);
