"""What runs inside a worker process: its main loop, and the messages that cross the pipe."""
