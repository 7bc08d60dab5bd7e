-- The places of several tasks by one walk along the queue's index, which holds no ids: :ids is a JSON list.
WITH wanted AS MATERIALIZED (
    SELECT id, seq FROM task WHERE id IN (SELECT value FROM json_each(:ids))
),
queue AS MATERIALIZED (
    SELECT seq, row_number() OVER (ORDER BY rank, seq) AS place
    FROM task INDEXED BY task_next
    WHERE state = 'queued' AND waiting = 0
)
SELECT wanted.id AS id, queue.place AS place FROM queue JOIN wanted ON wanted.seq = queue.seq;
