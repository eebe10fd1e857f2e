-- A request's place in its project is fixed at the door. What came without a number takes the highest one of what
-- happened before it; what an older worker stored without a time has the time of its arrival.

UPDATE deployments d SET producer_sequence = k.highest
FROM (SELECT id, max(producer_sequence) OVER (PARTITION BY project_id
                 ORDER BY coalesce(event_time, accepted_at), arrival) AS highest
      FROM deployments WHERE request IS NOT NULL) k
WHERE d.id = k.id AND d.producer_sequence IS NULL AND k.highest IS NOT NULL;

CREATE INDEX deployments_order
    ON deployments (project_id, coalesce(producer_sequence, -1), coalesce(event_time, accepted_at), arrival)
    WHERE request IS NOT NULL;
