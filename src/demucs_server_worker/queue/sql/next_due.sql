SELECT min(not_before) AS due FROM task INDEXED BY task_waiting
WHERE state = 'queued' AND waiting = 1 AND not_before > :now AND not_before <= :now + :longest_delay;
