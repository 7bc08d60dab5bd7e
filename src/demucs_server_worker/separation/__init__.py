"""Audio in, stems out. Knows nothing of tasks, queues or processes, and is the only importer of torch."""
