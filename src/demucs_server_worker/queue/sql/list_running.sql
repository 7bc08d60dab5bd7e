SELECT * FROM task INDEXED BY task_by_state WHERE state = 'running' ORDER BY number;
