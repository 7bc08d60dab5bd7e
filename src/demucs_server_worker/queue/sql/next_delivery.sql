SELECT min(due_at) AS due FROM delivery INDEXED BY delivery_next
WHERE next = 1 AND origin = :origin AND due_at > :now;
