SELECT * FROM task INDEXED BY task_next WHERE state = 'queued' AND waiting = 0 ORDER BY rank, seq LIMIT 1;
