-- Whose a slug on a server is: its directory, volumes and containers there. Claimed when a request is accepted, given up
-- when nothing of it is left.
CREATE TABLE slug_owners (
    server              text NOT NULL,
    project_slug        text NOT NULL,
    project_id          uuid NOT NULL,
    -- Whether a deployment of this project has succeeded there.
    proven              boolean NOT NULL DEFAULT false,
    -- The projects that it was handed over from: the server's own record may still name one of them.
    former              uuid[] NOT NULL DEFAULT '{}',
    since               timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (server, project_slug)
);

CREATE INDEX slug_owners_of_project ON slug_owners (project_id);

-- Whose CI secrets a repository holds. GitHub tells no capitals from small letters in names.
CREATE TABLE repository_owners (
    repository          text PRIMARY KEY CHECK (repository = lower(repository)),
    project_id          uuid NOT NULL,
    since               timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX repository_owners_of_project ON repository_owners (project_id);

-- What is there already belongs to whoever was deployed last with success, or else began last. Once it was taken off with
-- all its data, it's nobody's.
INSERT INTO slug_owners (server, project_slug, project_id, proven, since)
SELECT DISTINCT ON (d.server, d.project_slug) d.server, d.project_slug, d.project_id,
    d.state IN ('succeeded', 'already_deployed'), d.accepted_at
FROM deployments d
WHERE d.request IS NOT NULL AND d.action IN ('deploy', 'rollback')
  AND (d.started_at IS NOT NULL OR d.state = 'pending')
  AND d.arrival > coalesce((SELECT max(u.arrival) FROM deployments u
      WHERE u.project_id = d.project_id AND u.project_slug = d.project_slug AND u.server = d.server
        AND u.action = 'undeploy' AND u.remove_volumes AND u.state IN ('succeeded', 'already_deployed')), 0)
ORDER BY d.server, d.project_slug, d.state IN ('succeeded', 'already_deployed') DESC, d.arrival DESC;

INSERT INTO repository_owners (repository, project_id, since)
SELECT DISTINCT ON (lower(d.repository)) lower(d.repository), d.project_id, g.updated_at
FROM (SELECT project_id, max(updated_at) AS updated_at FROM github_digests GROUP BY project_id) g
CROSS JOIN LATERAL (
    SELECT o.project_id, o.repository FROM deployments o
    WHERE o.project_id = g.project_id AND o.request IS NOT NULL AND o.repository IS NOT NULL
    ORDER BY o.arrival DESC LIMIT 1
) d
ORDER BY lower(d.repository), g.updated_at DESC;

-- Whatever operators do, for ever, and not with dead letters alone.
ALTER TABLE dead_letter_audit RENAME TO operator_audit;
ALTER INDEX dead_letter_audit_of_letter RENAME TO operator_audit_of_letter;
ALTER TABLE operator_audit
    DROP CONSTRAINT dead_letter_audit_action_check,
    ALTER COLUMN dead_letter_id DROP NOT NULL,
    -- What it was done to, as the command line names it.
    ADD COLUMN subject text,
    -- From where: user, host, terminal, and the client of an SSH session.
    ADD COLUMN origin jsonb NOT NULL DEFAULT '{}';
UPDATE operator_audit SET action = 'dead-letters ' || action, subject = dead_letter_id::text;
ALTER TABLE operator_audit ALTER COLUMN subject SET NOT NULL;

CREATE INDEX operator_audit_by_time ON operator_audit (at);
