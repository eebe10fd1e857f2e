-- A message that the broker can't take is put aside, so that others go out: how often it has broken a channel, since when
-- it's aside, and why.
ALTER TABLE outbox
    ADD COLUMN breaks            integer NOT NULL DEFAULT 0,
    ADD COLUMN set_aside_at      timestamptz,
    ADD COLUMN set_aside_because text;

CREATE INDEX outbox_set_aside ON outbox (position) WHERE set_aside_at IS NOT NULL AND published_at IS NULL;
