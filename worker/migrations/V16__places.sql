-- Where projects are: one row for each project, by id and slug, and each server that it was ever asked for on. Kept by
-- triggers, so that workers of the version before keep it as well and nobody forgets it; nothing else writes it.
CREATE TABLE project_places (
    project_id          uuid NOT NULL,
    project_slug        text NOT NULL,
    -- Empty for refused requests that didn't tell.
    server              text NOT NULL,
    -- The newest deployment or rollback that began, by its arrival, and the latest acceptance of those.
    begun               bigint,
    begun_at            timestamptz,
    -- The newest of them that succeeded; and the newest undeployment that did.
    succeeded           bigint,
    undeployed          bigint,
    -- The newest one of any kind that came further than preflight, unless it was refused since the slug is another's.
    touched             bigint,
    -- When the slug there was last handed over to another project.
    lost_at             timestamptz,
    PRIMARY KEY (project_id, project_slug, server)
) WITH (fillfactor = 70);

CREATE INDEX project_places_of_slug ON project_places (project_slug);

-- Every repository that a project was ever asked for from, on a server.
CREATE TABLE project_repositories (
    project_id          uuid NOT NULL,
    server              text NOT NULL,
    repository          text NOT NULL CHECK (repository = lower(repository)),
    PRIMARY KEY (project_id, server, repository)
);

CREATE INDEX project_repositories_by_name ON project_repositories (repository);

-- Projects whose newest request carried secrets in an old form.
CREATE TABLE unbound_projects (
    project_id          uuid PRIMARY KEY,
    accepted_at         timestamptz NOT NULL
);

-- A request is stored under the lock of its project. The place's row isn't locked here: whoever ends a deployment locks
-- that after the deployment's, and whoever stores a request ends older ones.
CREATE FUNCTION slipway_note_request() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO project_places (project_id, project_slug, server)
    VALUES (NEW.project_id, NEW.project_slug, coalesce(NEW.server, '')) ON CONFLICT DO NOTHING;
    IF NEW.repository IS NOT NULL AND NEW.server IS NOT NULL THEN
        INSERT INTO project_repositories (project_id, server, repository)
        VALUES (NEW.project_id, NEW.server, lower(NEW.repository)) ON CONFLICT DO NOTHING;
    END IF;
    IF NEW.unbound_secrets IS NOT NULL THEN
        INSERT INTO unbound_projects (project_id, accepted_at) VALUES (NEW.project_id, NEW.accepted_at)
        ON CONFLICT (project_id) DO UPDATE SET accepted_at = NEW.accepted_at;
    ELSIF NEW.action = 'deploy' AND NEW.request IS NOT NULL THEN
        DELETE FROM unbound_projects WHERE project_id = NEW.project_id;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION slipway_note_begin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE project_places SET begun = greatest(begun, NEW.arrival), begun_at = greatest(begun_at, NEW.accepted_at)
    WHERE project_id = NEW.project_id AND project_slug = NEW.project_slug AND server = NEW.server;
    -- What GitHub is to be told of, too: nobody has to look for it.
    IF NEW.repository IS NOT NULL AND NEW.commit_sha IS NOT NULL THEN
        INSERT INTO github_deployments (deployment_id) VALUES (NEW.id) ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;

CREATE FUNCTION slipway_note_success() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE project_places SET touched = greatest(touched, NEW.arrival),
        succeeded = CASE WHEN NEW.action IN ('deploy', 'rollback') THEN greatest(succeeded, NEW.arrival) ELSE succeeded END,
        undeployed = CASE WHEN NEW.action = 'undeploy' THEN greatest(undeployed, NEW.arrival) ELSE undeployed END
    WHERE project_id = NEW.project_id AND project_slug = NEW.project_slug AND server = NEW.server;
    RETURN NULL;
END $$;

-- A result is written with the failure that it tells.
CREATE FUNCTION slipway_note_failure() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE project_places SET touched = greatest(touched, NEW.arrival)
    WHERE project_id = NEW.project_id AND project_slug = NEW.project_slug AND server = NEW.server
      AND (touched < NEW.arrival OR touched IS NULL)
      AND EXISTS (SELECT FROM stage_journal WHERE deployment_id = NEW.id AND stage <> 'preflight');
    RETURN NULL;
END $$;

CREATE FUNCTION slipway_note_hand_over() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE project_places SET lost_at = greatest(lost_at, NEW.at)
    WHERE project_slug || ' on ' || server = NEW.subject AND project_id IN (
        SELECT value::uuid FROM jsonb_array_elements_text(NEW.details -> 'from'));
    RETURN NULL;
END $$;

-- What is there already is read once, without any lock. What changes meanwhile is noted once more, by the indexes of
-- what hadn't ended and of what came lately, under the short lock with which the triggers are made. No transaction of
-- a worker is older than that.
CREATE TEMPORARY TABLE unsettled_before ON COMMIT DROP AS
SELECT id FROM deployments WHERE state = 'running' UNION ALL SELECT id FROM deployments WHERE state = 'pending';

SET LOCAL statement_timeout = 0;

DO $$
DECLARE
    since constant timestamptz := clock_timestamp() - interval '10 minutes';
    lately constant text := '(SELECT * FROM deployments WHERE accepted_at > $1
        UNION ALL SELECT d.* FROM unsettled_before u JOIN deployments d USING (id) WHERE accepted_at <= $1)';
    part text;
BEGIN
    FOREACH part IN ARRAY ARRAY['deployments', lately] LOOP
        IF part = lately THEN
            LOCK TABLE deployments, operator_audit IN SHARE ROW EXCLUSIVE MODE;
        END IF;
        EXECUTE format($sql$
            INSERT INTO project_places AS p (project_id, project_slug, server, begun, begun_at, succeeded, undeployed, touched)
            SELECT project_id, project_slug, coalesce(server, ''),
                max(arrival) FILTER (WHERE deploys AND started_at IS NOT NULL),
                max(accepted_at) FILTER (WHERE deploys AND started_at IS NOT NULL),
                max(arrival) FILTER (WHERE deploys AND success),
                max(arrival) FILTER (WHERE action = 'undeploy' AND success),
                max(arrival) FILTER (WHERE success)
            FROM (SELECT project_id, project_slug, server, arrival, accepted_at, started_at, action,
                      request IS NOT NULL AND action IN ('deploy', 'rollback') AS deploys,
                      state IN ('succeeded', 'already_deployed') AS success FROM %s d) d
            WHERE project_id IS NOT NULL AND project_slug IS NOT NULL GROUP BY 1, 2, 3
            ON CONFLICT (project_id, project_slug, server) DO UPDATE SET
                begun = greatest(p.begun, excluded.begun), begun_at = greatest(p.begun_at, excluded.begun_at),
                succeeded = greatest(p.succeeded, excluded.succeeded), touched = greatest(p.touched, excluded.touched),
                undeployed = greatest(p.undeployed, excluded.undeployed)$sql$, part) USING since;
        EXECUTE format($sql$
            INSERT INTO project_repositories (project_id, server, repository)
            SELECT DISTINCT project_id, server, lower(repository) FROM %s d
            WHERE project_id IS NOT NULL AND server IS NOT NULL AND repository IS NOT NULL
            ON CONFLICT DO NOTHING$sql$, part) USING since;
        -- A slug that was proven stays its project's whatever fails. For the others it matters how far they came.
        EXECUTE format($sql$
            UPDATE project_places p SET touched = greatest(p.touched, far.arrival)
            FROM (SELECT d.project_id, d.project_slug, d.server, max(d.arrival) AS arrival
                  FROM %s d JOIN slug_owners o USING (project_id, project_slug, server)
                  WHERE NOT o.proven AND d.failure ->> 'code' IS DISTINCT FROM 'slug-taken' AND EXISTS (
                      SELECT FROM stage_journal j WHERE j.deployment_id = d.id AND j.stage <> 'preflight')
                  GROUP BY d.project_id, d.project_slug, d.server) far
            WHERE far.project_id = p.project_id AND far.project_slug = p.project_slug AND far.server = p.server$sql$,
            part) USING since;
        EXECUTE format($sql$
            DELETE FROM unbound_projects u USING %s d WHERE d.project_id = u.project_id AND d.accepted_at >= u.accepted_at
              AND d.action = 'deploy' AND d.request IS NOT NULL AND d.unbound_secrets IS NULL$sql$, part) USING since;
        INSERT INTO unbound_projects (project_id, accepted_at)
        SELECT u.project_id, max(u.accepted_at) FROM deployments u
        WHERE u.unbound_secrets IS NOT NULL AND u.project_id IS NOT NULL
          AND u.accepted_at > CASE WHEN part = lately THEN since ELSE since - interval '8 days' END
          AND NOT EXISTS (SELECT FROM deployments n WHERE n.project_id = u.project_id AND n.arrival > u.arrival
                          AND n.action = 'deploy' AND n.request IS NOT NULL AND n.unbound_secrets IS NULL)
        GROUP BY u.project_id
        ON CONFLICT (project_id) DO UPDATE SET accepted_at = excluded.accepted_at;
    END LOOP;
END $$;

-- Each state by its own index.
INSERT INTO github_deployments (deployment_id)
SELECT id FROM (SELECT * FROM deployments WHERE state = 'running' UNION ALL
                SELECT * FROM deployments WHERE state = 'pending') open
WHERE started_at IS NOT NULL AND action IN ('deploy', 'rollback') AND repository IS NOT NULL AND commit_sha IS NOT NULL
ON CONFLICT DO NOTHING;

UPDATE project_places p SET lost_at = a.at
FROM (SELECT subject, (jsonb_array_elements_text(details -> 'from'))::uuid AS project_id, max(at) AS at
      FROM operator_audit WHERE action = 'projects hand-over' GROUP BY 1, 2) a
WHERE a.project_id = p.project_id AND a.subject = p.project_slug || ' on ' || p.server;

CREATE TRIGGER deployments_note_request AFTER INSERT ON deployments FOR EACH ROW
    WHEN (NEW.project_id IS NOT NULL AND NEW.project_slug IS NOT NULL)
    EXECUTE FUNCTION slipway_note_request();
CREATE TRIGGER deployments_note_begin AFTER UPDATE OF started_at ON deployments FOR EACH ROW
    WHEN (OLD.started_at IS NULL AND NEW.started_at IS NOT NULL AND NEW.request IS NOT NULL
        AND NEW.action IN ('deploy', 'rollback'))
    EXECUTE FUNCTION slipway_note_begin();
CREATE TRIGGER deployments_note_success AFTER UPDATE OF state ON deployments FOR EACH ROW
    WHEN (NEW.state IN ('succeeded', 'already_deployed') AND NEW.state <> OLD.state)
    EXECUTE FUNCTION slipway_note_success();
CREATE TRIGGER deployments_note_failure AFTER UPDATE OF result ON deployments FOR EACH ROW
    WHEN (OLD.result IS NULL AND NEW.result IS NOT NULL AND NEW.state NOT IN ('succeeded', 'already_deployed')
        AND NEW.started_at IS NOT NULL AND NEW.failure ->> 'code' IS DISTINCT FROM 'slug-taken')
    EXECUTE FUNCTION slipway_note_failure();
CREATE TRIGGER operator_audit_note_hand_over AFTER INSERT ON operator_audit FOR EACH ROW
    WHEN (NEW.action = 'projects hand-over')
    EXECUTE FUNCTION slipway_note_hand_over();
