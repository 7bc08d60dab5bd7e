-- What is still to be told to webhooks. The triggers write it in the transaction that changes the task, so that no crash
-- comes between the two. A delivery holds the task as it was then: it may have moved on, or be deleted, when it is told.
CREATE TABLE delivery (
    number       INTEGER PRIMARY KEY,                 -- rises within a task
    id           TEXT    NOT NULL UNIQUE,             -- the same over all tries
    task_id      TEXT    NOT NULL,
    event        TEXT    NOT NULL,
    url          TEXT    NOT NULL,
    origin       TEXT    NOT NULL,                    -- scheme, host and port of the url: what can be down
    happened_at  REAL    NOT NULL,                    -- this and the times below: epoch seconds
    task         TEXT    NOT NULL,                    -- JSON
    next         INTEGER NOT NULL CHECK (next IN (0, 1)),  -- whether the task has none before it
    tries        INTEGER NOT NULL DEFAULT 0,
    first_try_at REAL    CHECK ((first_try_at IS NULL) = (tries = 0)),
    due_at       REAL    NOT NULL DEFAULT 0.0
) STRICT;

CREATE INDEX delivery_of_task ON delivery (task_id, number);
CREATE INDEX delivery_next    ON delivery (origin, due_at) WHERE next = 1;
CREATE INDEX delivery_origin  ON delivery (origin);

-- The tasks with a webhook, as a delivery holds them. The URL is stored in its normal form: it has a slash after the host.
CREATE VIEW told_task AS
SELECT
    id,
    json_extract(CAST(request AS TEXT), '$.webhook.url') AS url,
    json_extract(CAST(request AS TEXT), '$.webhook.events') AS events,
    json_object(
        'id', id, 'request', json(CAST(request AS TEXT)), 'state', state, 'attempt', attempt,
        'max_attempts', max_attempts, 'claim', claim, 'progress', progress, 'stage', stage, 'worker_id', worker_id,
        'not_before', not_before, 'created_at', created_at, 'started_at', started_at, 'finished_at', finished_at,
        'duration_seconds', duration_seconds, 'stems', json(coalesce(CAST(stems AS TEXT), '[]')),
        'error', json(CAST(error AS TEXT)), 'history', json(coalesce(CAST(history AS TEXT), '[]')),
        'cached', json(iif(cached, 'true', 'false')), 'result_key', result_key
    ) AS snapshot
FROM task
WHERE json_extract(CAST(request AS TEXT), '$.webhook.url') IS NOT NULL;

-- Inserting into it is a procedure: it has a trigger and no rows.
CREATE VIEW told (task_id, event) AS SELECT NULL, NULL;

CREATE TRIGGER told_put INSTEAD OF INSERT ON told
BEGIN
    INSERT INTO delivery (id, task_id, event, url, origin, happened_at, task, next)
    SELECT
        lower(hex(randomblob(16))), id, NEW.event, url, substr(url, 1, 7 + instr(substr(url, 9), '/')),
        (julianday('now') - 2440587.5) * 86400.0, snapshot,
        NOT EXISTS (SELECT 1 FROM delivery WHERE task_id = NEW.task_id)
    FROM told_task
    WHERE id = NEW.task_id AND NEW.event IN (SELECT value FROM json_each(events));
END;

CREATE TRIGGER delivery_done AFTER DELETE ON delivery
BEGIN
    UPDATE delivery SET next = 1 WHERE number = (SELECT min(number) FROM delivery WHERE task_id = OLD.task_id);
END;

CREATE TRIGGER task_put_told AFTER INSERT ON task
BEGIN
    INSERT INTO told VALUES (NEW.id, 'queued');
END;

-- A running task that a shutdown puts back into the queue tells nothing: its attempt begins anew.
CREATE TRIGGER task_moved_told AFTER UPDATE OF state ON task
WHEN NOT (OLD.state = 'running' AND NEW.state = 'queued' AND NEW.attempt = OLD.attempt)
BEGIN
    INSERT INTO told VALUES (NEW.id, CASE
        WHEN NEW.state = 'running' THEN 'started'
        WHEN OLD.state = 'running' AND NEW.state = 'queued' THEN 'retrying'
        ELSE NEW.state END);
END;
