"""The shapes that cross HTTP, and the command line's `--json`: what the server writes and clients read."""
