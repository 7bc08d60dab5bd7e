SELECT max(finished_at) AS finished_at FROM task INDEXED BY task_finished
WHERE finished_at IS NOT NULL;
