UPDATE delivery SET tries = :tries, first_try_at = :first_try_at, due_at = :due_at WHERE number = :number;
