"""A watched folder: songs that appear in it become tasks."""
