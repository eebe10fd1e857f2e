-- What `slipway notify` has to tell, and what it has told: one row for each event and channel. The row is there before the
-- event is acknowledged, so that nothing is lost, and it stays after it was told, so that nothing is told again.
CREATE TABLE notifications (
    event_id            text NOT NULL,
    channel             text NOT NULL,
    -- To whom within the channel, such as a chat. Empty: whom the channel itself names.
    target              text NOT NULL,
    -- What waits for one target with the same key is told together.
    group_key           text,
    -- The event as it came; absent once it was told or given up.
    event               bytea,
    -- Whether it's told in quiet hours, too.
    urgent              boolean NOT NULL,
    created_at          timestamptz NOT NULL DEFAULT now(),
    due_at              timestamptz NOT NULL,
    tries               integer NOT NULL DEFAULT 0,
    -- Since when a try is under way, or how the last one ended isn't known: it may have been told.
    begun_at            timestamptz,
    problem             text,
    ended_at            timestamptz,
    told                boolean NOT NULL DEFAULT false,
    PRIMARY KEY (event_id, channel)
);

CREATE INDEX notifications_waiting ON notifications (channel, due_at, event_id) WHERE ended_at IS NULL;
CREATE INDEX notifications_grouped ON notifications (channel, target, group_key, ended_at) WHERE group_key IS NOT NULL;
CREATE INDEX notifications_waiting_since ON notifications (created_at) WHERE ended_at IS NULL;
CREATE INDEX notifications_ended ON notifications (ended_at) WHERE ended_at IS NOT NULL;
CREATE INDEX notifications_given_up ON notifications (ended_at) WHERE ended_at IS NOT NULL AND NOT told;

-- One process at a time sends to a channel: so its rate is kept, and what the other side asks for is heard by all.
CREATE TABLE notification_channels (
    name                text PRIMARY KEY,
    owner               text,
    leased_until        timestamptz NOT NULL DEFAULT '-infinity',
    -- Nothing is sent before: the channel's own rate, or what the other side has asked for.
    limited_until       timestamptz NOT NULL DEFAULT '-infinity',
    -- How often in a row the channel as a whole didn't work, and until when it's left alone.
    failures            integer NOT NULL DEFAULT 0,
    paused_until        timestamptz NOT NULL DEFAULT '-infinity',
    problem             text
);
