SELECT * FROM delivery INDEXED BY delivery_next
WHERE next = 1 AND origin = :origin AND due_at <= :now
    -- The stems of a completed task are first moved to their place.
    AND (event <> 'completed' OR NOT EXISTS (SELECT 1 FROM publication WHERE publication.task_id = delivery.task_id))
ORDER BY due_at LIMIT :limit;
