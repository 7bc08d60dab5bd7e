-- The fence: a task that anyone has moved on since the caller saw it changes no row.
UPDATE task
SET state = :state, attempt = :attempt, claim = :claim, worker_id = :worker_id, waiting = :waiting,
    not_before = :not_before, started_at = :started_at, finished_at = :finished_at, progress = :progress,
    stage = :stage, duration_seconds = :duration_seconds, stems = :stems, error = :error, history = :history,
    cached = :cached, result_key = :result_key
WHERE id = :id AND state = :was_state AND attempt = :was_attempt AND claim = :was_claim;
