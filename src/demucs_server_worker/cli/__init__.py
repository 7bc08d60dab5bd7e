"""The commands, one a file. What is slow to import is imported inside them, so that `--help` answers at once."""
