DELETE FROM publication WHERE task_id = :task_id;
