-- Workers take turns: each takes the next one that is free, so that a fleet of any size asks the database as often as a
-- single worker does.
CREATE TABLE fleet (
    the_one             boolean PRIMARY KEY DEFAULT true CHECK (the_one),
    -- The last turn that was given away.
    last_turn_at        timestamptz NOT NULL DEFAULT now()
);
INSERT INTO fleet DEFAULT VALUES;

-- When the worker gives its next sign of life. NULL: every two seconds, as workers of the version before do.
ALTER TABLE workers ADD COLUMN next_turn_at timestamptz;
