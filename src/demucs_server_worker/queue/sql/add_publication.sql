INSERT INTO publication (task_id, staging, output_dir, files) VALUES (:task_id, :staging, :output_dir, :files);
