SELECT * FROM task WHERE number < :before ORDER BY number DESC LIMIT :limit;
