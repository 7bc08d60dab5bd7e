INSERT INTO task (
    number, id, file_id, state, rank, seq, attempt, max_attempts, claim, worker_id, waiting, not_before,
    created_at, started_at, finished_at, progress, stage, duration_seconds, request, stems, error, history,
    cached, result_key
) VALUES (
    :seq, :id, :file_id, :state, :rank, :seq, :attempt, :max_attempts, :claim, :worker_id, :waiting, :not_before,
    :created_at, :started_at, :finished_at, :progress, :stage, :duration_seconds, :request, :stems, :error, :history,
    :cached, :result_key
);
