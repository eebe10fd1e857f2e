-- What was said to come from the future is no newer than what came after it: it counts as of when it arrived. Newer versions
-- take in nothing like that; what's here already would go on superseding all else until its time has come. Project by project,
-- by the index of their order, since nobody reads a history of millions for it.
WITH RECURSIVE projects (id) AS (
    (SELECT project_id FROM deployments WHERE project_id IS NOT NULL ORDER BY project_id LIMIT 1)
    UNION ALL
    SELECT (SELECT d.project_id FROM deployments d WHERE d.project_id > p.id ORDER BY d.project_id LIMIT 1)
    FROM projects p WHERE p.id IS NOT NULL
)
UPDATE deployments d SET event_time = d.accepted_at
FROM projects p
WHERE d.project_id = p.id AND coalesce(d.event_time, d.accepted_at) > now() + interval '5 minutes';

UPDATE project_halves SET event_time = received_at WHERE event_time > now() + interval '5 minutes';
