SELECT * FROM task INDEXED BY task_by_result
WHERE result_key = :result_key AND state = 'completed' AND result_key IS NOT NULL
ORDER BY number DESC LIMIT :limit;
