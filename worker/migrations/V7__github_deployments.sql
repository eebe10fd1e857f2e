-- What the commits' pages on GitHub were told of deployments.
CREATE TABLE github_deployments (
    deployment_id       uuid PRIMARY KEY REFERENCES deployments ON DELETE CASCADE,
    -- GitHub's number of it; NULL until GitHub has taken it.
    github_id           bigint,
    told                text CHECK (told IN ('in_progress', 'success', 'failure', 'inactive')),
    -- Nothing more is to be told: GitHub knows the end, or doesn't want to hear.
    done                boolean NOT NULL DEFAULT false,
    problem             text,
    tries               integer NOT NULL DEFAULT 0,
    -- In the future while a worker is at it, too: one that dies is followed by another.
    next_try_at         timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX github_deployments_open ON github_deployments (next_try_at) WHERE NOT done;
