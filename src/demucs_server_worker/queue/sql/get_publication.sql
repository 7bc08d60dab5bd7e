SELECT task_id, staging, output_dir, files FROM publication WHERE task_id = :task_id;
