SELECT * FROM task INDEXED BY task_by_state WHERE state = :state AND number < :before ORDER BY number DESC LIMIT :limit;
