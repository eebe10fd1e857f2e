-- Whether a release was begun in this project's directory that has neither proven itself nor been put back.
ALTER TABLE project_leases ADD COLUMN unsettled boolean NOT NULL DEFAULT false;

-- What workers of the version before have left. Where it was put back already, putting back finds nothing to do.
UPDATE project_leases l SET unsettled = true
FROM (
    SELECT d.project_slug, d.server
    FROM deployments d
    LEFT JOIN (SELECT DISTINCT deployment_id FROM stage_journal WHERE stage <> 'preflight') touched
        ON touched.deployment_id = d.id AND d.action IN ('deploy', 'rollback')
    WHERE d.action IN ('deploy', 'rollback', 'undeploy')
    GROUP BY d.project_slug, d.server
    HAVING max(d.arrival) FILTER (WHERE touched.deployment_id IS NOT NULL)
        > coalesce(max(d.arrival) FILTER (WHERE d.state IN ('succeeded', 'already_deployed')), 0)
) left_behind
WHERE l.project_slug = left_behind.project_slug AND l.server = left_behind.server;

-- What came after an undeployment that is half done waits for it.
CREATE INDEX deployments_undeploying ON deployments (server, project_slug)
    WHERE state = 'pending' AND action = 'undeploy';
