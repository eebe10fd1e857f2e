-- Who works: a sign of life of each worker, every few seconds. Nothing is decided by it.
CREATE TABLE workers (
    name                text PRIMARY KEY,
    version             text NOT NULL,
    started_at          timestamptz NOT NULL DEFAULT now(),
    seen_at             timestamptz NOT NULL DEFAULT now()
);

-- Old events are found without reading those that are kept.
CREATE INDEX outbox_published ON outbox (published_at) WHERE published_at IS NOT NULL;
