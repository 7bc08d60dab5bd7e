"""A small child process beside the server for short chores on audio, so that the server itself never decodes."""
