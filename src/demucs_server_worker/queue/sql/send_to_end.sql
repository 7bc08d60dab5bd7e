UPDATE task SET seq = :seq WHERE id = :id;
