-- Whether a server has a front door, where operators said so for this one alone.
ALTER TABLE servers ADD COLUMN front_door boolean;

-- What was seen of a server's front door. Servers that the inventory doesn't hold have one, too.
CREATE TABLE front_doors (
    server              text PRIMARY KEY,
    -- What a stage has told of it last, and when.
    facts               jsonb,
    seen_at             timestamptz,
    -- Why it couldn't be used, where nobody has seen it work since.
    problem             text,
    problem_at          timestamptz
);

-- Whose a domain is, and where it's to be served. Claimed when a request is accepted, given up once no release and no
-- request of the project has it any more.
CREATE TABLE domains (
    domain              text PRIMARY KEY CHECK (domain = lower(domain)),
    project_id          uuid NOT NULL,
    project_slug        text NOT NULL,
    server              text NOT NULL,
    since               timestamptz NOT NULL DEFAULT now()
);

CREATE INDEX domains_of_project ON domains (project_id);
