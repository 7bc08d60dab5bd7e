"""The routes, one file a noun. Each has a `router`; `server.app` mounts it under `/api/v1`."""
