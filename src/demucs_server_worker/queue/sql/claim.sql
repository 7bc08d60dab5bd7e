-- The index is named because SQLite, without statistics, prefers to collect all queued rows and sort them.
UPDATE task
SET state = 'running', claim = claim + 1, worker_id = :worker_id, started_at = :now, progress = 0.0, stage = 'decoding'
WHERE number = (
    SELECT number FROM task INDEXED BY task_next
    WHERE state = 'queued' AND waiting = 0 ORDER BY rank, seq LIMIT 1
)
RETURNING *;
