SELECT state, rank, tasks FROM tally
UNION ALL
SELECT name, 0, value FROM counter WHERE name = 'retried';
