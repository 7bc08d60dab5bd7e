SELECT * FROM task WHERE file_id = :file_id;
