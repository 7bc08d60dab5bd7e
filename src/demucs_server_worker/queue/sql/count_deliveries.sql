SELECT count(*) AS deliveries FROM delivery WHERE origin = :origin;
