-- Whose stems a task has: those of an earlier one when the same was asked again, which `result_key` tells.
ALTER TABLE task ADD COLUMN cached INTEGER NOT NULL DEFAULT 0 CHECK (cached = 0 OR state = 'completed');
ALTER TABLE task ADD COLUMN result_key TEXT;

CREATE INDEX task_by_result ON task (result_key, number) WHERE state = 'completed' AND result_key IS NOT NULL;
CREATE INDEX task_finished ON task (finished_at) WHERE finished_at IS NOT NULL;
