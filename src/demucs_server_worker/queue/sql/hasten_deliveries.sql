UPDATE delivery SET due_at = 0.0 WHERE due_at > 0.0;
