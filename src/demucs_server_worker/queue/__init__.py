"""The queue: the durable truth about every task."""
