"""Addresses and names that several parts of the server must agree on."""

from __future__ import annotations

API_PREFIX = "/api/"
# The one address to which a song may be sent.
UPLOAD_PATH = "/api/v1/tasks"
# Whoever asks whether the server lives has no key to show; and a session is begun by showing one.
HEALTH_PATHS = frozenset({"/api/v1/health/live", "/api/v1/health/ready"})
OPEN_PATHS = HEALTH_PATHS | {"/api/v1/session"}
SESSION_COOKIE = "demucs_server_worker_session"
