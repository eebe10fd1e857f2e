-- A project goes to another server: the deployment of its version there, which takes it off the one where it is once it's proven.
-- Where from, where to (NULL: Slipway chooses), and what becomes of its data.
ALTER TABLE deployments
    ADD COLUMN moves_from text,
    ADD COLUMN moves_to text,
    ADD COLUMN move_data text CHECK (move_data IN ('refuse', 'copy'));

ALTER TABLE deployments DROP CONSTRAINT deployments_action_is_known;
ALTER TABLE deployments ADD CONSTRAINT deployments_action_is_known CHECK (
    action IN ('deploy', 'stop', 'start', 'rollback', 'undeploy', 'move', 'cancel', 'cordon')) NOT VALID;
ALTER TABLE deployments ADD CONSTRAINT deployments_move_from_somewhere CHECK (
    action <> 'move' OR request IS NULL OR (moves_from IS NOT NULL AND move_data IS NOT NULL)) NOT VALID;

ALTER TABLE deployments DROP CONSTRAINT deployments_open_are_whole;
ALTER TABLE deployments ADD CONSTRAINT deployments_open_are_whole CHECK (
    state NOT IN ('pending', 'running')
    OR (request IS NOT NULL AND project_id IS NOT NULL
        AND (server IS NOT NULL OR (state = 'pending' AND action IN ('deploy', 'move'))))) NOT VALID;

-- One that counts moves takes its place.
DROP INDEX IF EXISTS deployments_whole_versions;

-- With the end of a move the project is where it went, and no longer where it was: what it still has there is taken away by an
-- undeployment of its own.
CREATE OR REPLACE FUNCTION slipway_note_success() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE project_places SET touched = greatest(touched, NEW.arrival),
        begun = CASE WHEN NEW.action = 'move' THEN greatest(begun, NEW.arrival) ELSE begun END,
        begun_at = CASE WHEN NEW.action = 'move' THEN greatest(begun_at, NEW.accepted_at) ELSE begun_at END,
        succeeded = CASE WHEN NEW.action IN ('deploy', 'rollback', 'move') THEN greatest(succeeded, NEW.arrival) ELSE succeeded END,
        undeployed = CASE WHEN NEW.action = 'undeploy' THEN greatest(undeployed, NEW.arrival) ELSE undeployed END
    WHERE project_id = NEW.project_id AND project_slug = NEW.project_slug AND server = NEW.server;
    IF NEW.action = 'move' THEN
        UPDATE project_places SET undeployed = greatest(undeployed, NEW.arrival)
        WHERE project_id = NEW.project_id AND project_slug = NEW.project_slug AND server = NEW.moves_from;
    END IF;
    RETURN NULL;
END $$;

-- As long as a move hasn't succeeded, the project isn't where it goes.
CREATE OR REPLACE FUNCTION slipway_note_begin() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.action <> 'move' THEN
        UPDATE project_places SET begun = greatest(begun, NEW.arrival), begun_at = greatest(begun_at, NEW.accepted_at)
        WHERE project_id = NEW.project_id AND project_slug = NEW.project_slug AND server = NEW.server;
    END IF;
    -- What GitHub is to be told of, too: nobody has to look for it.
    IF NEW.repository IS NOT NULL AND NEW.commit_sha IS NOT NULL THEN
        INSERT INTO github_deployments (deployment_id) VALUES (NEW.id) ON CONFLICT DO NOTHING;
    END IF;
    RETURN NULL;
END $$;

DROP TRIGGER deployments_note_begin ON deployments;
CREATE TRIGGER deployments_note_begin AFTER UPDATE OF started_at ON deployments FOR EACH ROW
    WHEN (OLD.started_at IS NULL AND NEW.started_at IS NOT NULL AND NEW.request IS NOT NULL
        AND NEW.action IN ('deploy', 'rollback', 'move'))
    EXECUTE FUNCTION slipway_note_begin();

-- Whether the project was moved away from where this half has it.
ALTER TABLE project_halves ADD COLUMN place_left boolean NOT NULL DEFAULT false;
