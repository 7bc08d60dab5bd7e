-- A time further ahead than any retry is set for means that the clock went back since: such a task is due as well.
UPDATE task SET waiting = 0
WHERE number IN (
    SELECT number FROM task INDEXED BY task_waiting
    WHERE state = 'queued' AND waiting = 1 AND not_before <= :now
    UNION ALL
    SELECT number FROM task INDEXED BY task_waiting
    WHERE state = 'queued' AND waiting = 1 AND not_before > :now + :longest_delay
);
