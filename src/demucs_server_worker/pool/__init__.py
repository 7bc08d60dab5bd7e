"""The pool: keeps N workers alive and hands jobs to them."""
