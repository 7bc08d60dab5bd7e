SELECT task_id, staging, output_dir, files FROM publication ORDER BY rowid;
