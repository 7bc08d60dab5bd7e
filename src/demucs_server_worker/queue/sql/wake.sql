-- A time further ahead than any retry is set for means that the clock went back since: such a task is due as well.
UPDATE task INDEXED BY task_waiting SET waiting = 0
WHERE state = 'queued' AND waiting = 1 AND (not_before <= :now OR not_before > :now + :longest_delay);
