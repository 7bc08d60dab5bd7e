SELECT 1
    + (SELECT count(*) FROM task INDEXED BY task_next
       WHERE state = 'queued' AND waiting = 0 AND rank < self.rank)
    + (SELECT count(*) FROM task INDEXED BY task_next
       WHERE state = 'queued' AND waiting = 0 AND rank = self.rank AND seq < self.seq)
    AS place
FROM task AS self
WHERE id = :id AND state = 'queued';
