-- A task's JSON columns hold what only Python reads; what SQL decides by stands in columns of its own.
-- The checks and triggers repeat the table of transitions of task.py: a bug in Python cannot store what it forbids.
CREATE TABLE task (
    number           INTEGER PRIMARY KEY,             -- order of creation, never used twice
    id               TEXT    NOT NULL UNIQUE,
    file_id          TEXT,
    state            TEXT    NOT NULL CHECK (state IN ('queued', 'running', 'completed', 'failed', 'cancelled')),
    rank             INTEGER NOT NULL CHECK (rank BETWEEN 0 AND 2),      -- of the priority: 0 is started first
    seq              INTEGER NOT NULL,                -- place within the rank; a new one only when a caller retries it
    attempt          INTEGER NOT NULL CHECK (attempt BETWEEN 1 AND max_attempts),
    max_attempts     INTEGER NOT NULL,
    claim            INTEGER NOT NULL CHECK (claim >= 0),
    worker_id        TEXT    CHECK ((worker_id IS NOT NULL) = (state = 'running')),
    waiting          INTEGER NOT NULL CHECK (waiting = 0 OR (waiting = 1 AND state = 'queued')), -- for not_before
    not_before       REAL    NOT NULL,                -- this and the times below: epoch seconds
    created_at       REAL    NOT NULL,
    started_at       REAL    CHECK (CASE state WHEN 'running' THEN started_at IS NOT NULL AND claim >= 1
                                               WHEN 'queued' THEN started_at IS NULL ELSE 1 END),
    finished_at      REAL    CHECK ((finished_at IS NOT NULL) = (state IN ('completed', 'failed', 'cancelled'))),
    progress         REAL    NOT NULL CHECK (progress BETWEEN 0 AND 1),
    stage            TEXT    NOT NULL,
    duration_seconds REAL,
    request          BLOB    NOT NULL,
    stems            BLOB    CHECK (stems IS NULL OR state = 'completed'),
    error            BLOB    CHECK (CASE state WHEN 'completed' THEN error IS NULL
                                               WHEN 'failed' THEN error IS NOT NULL ELSE 1 END),
    history          BLOB
) STRICT;

CREATE UNIQUE INDEX task_by_file_id ON task (file_id) WHERE file_id IS NOT NULL;
CREATE INDEX task_next    ON task (rank, seq)   WHERE state = 'queued' AND waiting = 0;
CREATE INDEX task_waiting ON task (not_before)  WHERE state = 'queued' AND waiting = 1;
CREATE INDEX task_by_state ON task (state);

-- Stems that a completed task has in its temporary folder and not yet, as far as the database knows, at their place.
CREATE TABLE publication (
    task_id    TEXT NOT NULL PRIMARY KEY REFERENCES task (id),
    staging    TEXT NOT NULL,
    output_dir TEXT NOT NULL,
    files      BLOB NOT NULL
) STRICT;

CREATE TABLE counter (name TEXT NOT NULL PRIMARY KEY, value INTEGER NOT NULL) STRICT, WITHOUT ROWID;
INSERT INTO counter (name, value) VALUES ('seq', 0), ('retried', 0);

-- How many tasks are queued and running, and how many ended how (the deleted ones too), so that nobody counts 100,000.
CREATE TABLE tally (
    state TEXT    NOT NULL,
    rank  INTEGER NOT NULL,
    tasks INTEGER NOT NULL CHECK (tasks >= 0),
    PRIMARY KEY (state, rank)
) STRICT, WITHOUT ROWID;
INSERT INTO tally (state, rank, tasks)
SELECT s.column1, r.column1, 0
FROM (VALUES ('queued'), ('running'), ('completed'), ('failed'), ('cancelled')) AS s, (VALUES (0), (1), (2)) AS r;

CREATE TRIGGER task_put BEFORE INSERT ON task WHEN NEW.state <> 'queued'
BEGIN
    SELECT RAISE(ABORT, 'a task begins as queued');
END;

CREATE TRIGGER task_counted AFTER INSERT ON task
BEGIN
    UPDATE tally SET tasks = tasks + 1 WHERE state = NEW.state AND rank = NEW.rank;
END;

CREATE TRIGGER task_moves BEFORE UPDATE OF state ON task
WHEN (OLD.state, NEW.state) NOT IN (VALUES
    ('queued', 'running'), ('queued', 'cancelled'),
    ('running', 'queued'), ('running', 'completed'), ('running', 'failed'), ('running', 'cancelled'),
    ('failed', 'queued'), ('cancelled', 'queued'))
BEGIN
    SELECT RAISE(ABORT, 'no such transition of a task');
END;

CREATE TRIGGER task_moved AFTER UPDATE OF state ON task
BEGIN
    UPDATE tally SET tasks = tasks - 1 WHERE state = OLD.state AND rank = OLD.rank;
    UPDATE tally SET tasks = tasks + 1 WHERE state = NEW.state AND rank = NEW.rank;
END;

CREATE TRIGGER task_retried AFTER UPDATE OF state ON task
WHEN OLD.state = 'running' AND NEW.state = 'queued' AND NEW.attempt > OLD.attempt
BEGIN
    UPDATE counter SET value = value + 1 WHERE name = 'retried';
END;

CREATE TRIGGER task_deleted BEFORE DELETE ON task WHEN OLD.state IN ('queued', 'running')
BEGIN
    SELECT RAISE(ABORT, 'only a task that ended can be deleted');
END;
