"""The queue: the durable truth about every task."""

from demucs_server_worker.queue.reader import Page, Publication, QueueCounts, TaskReader
from demucs_server_worker.queue.task_queue import TaskQueue

__all__ = ["Page", "Publication", "QueueCounts", "TaskQueue", "TaskReader"]
