"""Webhooks: events of a task told to a URL that its submitter named, on a host that the administrator allowed."""
