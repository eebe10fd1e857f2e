-- Which server a project gets whose request doesn't name one. What operators say of a server:
ALTER TABLE servers
    ADD COLUMN region text,
    ADD COLUMN labels text[] NOT NULL DEFAULT '{}',
    -- How many projects it may have. NULL: as the workers are configured.
    ADD COLUMN project_limit integer CHECK (project_limit >= 0),
    -- Since when it gets no new projects, and why.
    ADD COLUMN cordoned_at timestamptz,
    ADD COLUMN cordon_reason text;

-- From and until when nothing is done on a server.
CREATE TABLE maintenance_windows (
    id                  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    server              text NOT NULL REFERENCES servers ON DELETE CASCADE,
    starts_at           timestamptz NOT NULL,
    ends_at             timestamptz NOT NULL,
    reason              text,
    CHECK (starts_at < ends_at)
);

CREATE INDEX maintenance_windows_of_server ON maintenance_windows (server, ends_at);

-- What was seen of a server last, and when it's asked again. Each server of the inventory has a row.
CREATE TABLE server_facts (
    server              text PRIMARY KEY REFERENCES servers ON DELETE CASCADE,
    seen_at             timestamptz,
    ram_mb              integer,
    free_ram_mb         integer,
    disk_mb             integer,
    free_disk_mb        integer,
    free_inodes         bigint,
    cpus                integer,
    load                real,
    -- Directories of projects, and what Docker itself takes of the disk.
    project_directories integer,
    docker_mb           integer,
    ports               integer[] NOT NULL DEFAULT '{}',
    -- Why it can't take any project.
    unfit               text,
    -- Why it couldn't be asked, where nobody could since.
    problem             text,
    problem_at          timestamptz,
    ask_at              timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 70);

CREATE INDEX server_facts_due ON server_facts (ask_at);

INSERT INTO server_facts (server) SELECT handle FROM servers;

CREATE FUNCTION slipway_note_server() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO server_facts (server) VALUES (NEW.handle) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;

CREATE TRIGGER servers_note_server AFTER INSERT ON servers FOR EACH ROW EXECUTE FUNCTION slipway_note_server();

-- How the server was chosen; of a request that waits for one, why none has room.
ALTER TABLE deployments ADD COLUMN placement jsonb;

-- A request to deploy may wait without a server. Whoever claims looks at servers, and so at none of these.
ALTER TABLE deployments DROP CONSTRAINT deployments_check1;
ALTER TABLE deployments ADD CONSTRAINT deployments_open_are_whole CHECK (
    state NOT IN ('pending', 'running')
    OR (request IS NOT NULL AND project_id IS NOT NULL
        AND (server IS NOT NULL OR (state = 'pending' AND action = 'deploy')))) NOT VALID;

-- What is done to a server, and not to a project, is a row as well: its duplicate is recognised, and it has a result.
ALTER TABLE deployments DROP CONSTRAINT deployments_action_check;
ALTER TABLE deployments ADD CONSTRAINT deployments_action_is_known CHECK (
    action IN ('deploy', 'stop', 'start', 'rollback', 'undeploy', 'cancel', 'cordon')) NOT VALID;

-- What is set aside on a server for a deployment, from the choice to its end. After a success it counts until the server was
-- asked once more, since then it's among what was seen.
CREATE TABLE reservations (
    deployment_id       uuid PRIMARY KEY REFERENCES deployments ON DELETE CASCADE,
    project_id          uuid NOT NULL,
    server              text NOT NULL,
    ram_mb              integer NOT NULL,
    disk_mb             integer NOT NULL,
    succeeded_at        timestamptz
);

CREATE INDEX reservations_of_server ON reservations (server);

-- No port of a server is given away twice. What serves has its ports in the request that it was deployed with.
CREATE TABLE reserved_ports (
    server              text NOT NULL,
    port                integer NOT NULL CHECK (port BETWEEN 1 AND 65535),
    deployment_id       uuid NOT NULL REFERENCES reservations ON DELETE CASCADE,
    -- Whether Slipway has chosen it, so that it may be exchanged.
    chosen              boolean NOT NULL,
    PRIMARY KEY (server, port)
);

CREATE INDEX reserved_ports_of_deployment ON reserved_ports (deployment_id);

-- Whoever ends a deployment frees what was set aside for it, and nobody can forget it.
CREATE FUNCTION slipway_free_reservation() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.state IN ('succeeded', 'already_deployed') THEN
        UPDATE reservations SET succeeded_at = now() WHERE deployment_id = NEW.id;
        DELETE FROM reserved_ports WHERE deployment_id = NEW.id;
    ELSE
        DELETE FROM reservations WHERE deployment_id = NEW.id;
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER deployments_free_reservation AFTER UPDATE OF state ON deployments FOR EACH ROW
    WHEN (NEW.placement IS NOT NULL AND OLD.state IN ('pending', 'running') AND NEW.state NOT IN ('pending', 'running'))
    EXECUTE FUNCTION slipway_free_reservation();

-- A request that gets its server has a place from then on.
CREATE TRIGGER deployments_note_server AFTER UPDATE OF server ON deployments FOR EACH ROW
    WHEN (OLD.server IS NULL AND NEW.server IS NOT NULL AND NEW.project_id IS NOT NULL AND NEW.project_slug IS NOT NULL)
    EXECUTE FUNCTION slipway_note_request();

-- Where projects live is asked for each server at once, and whose a slug is, on all of them.
CREATE INDEX project_places_living ON project_places (server) WHERE succeeded > coalesce(undeployed, 0);
CREATE INDEX slug_owners_of_slug ON slug_owners (project_slug);
