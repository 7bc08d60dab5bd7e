SELECT id FROM task INDEXED BY task_finished
WHERE finished_at < :before AND json_extract(CAST(request AS TEXT), '$.origin') = 'upload'
ORDER BY finished_at LIMIT :limit;
