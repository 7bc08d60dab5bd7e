"""How a command ends: its exit codes, and the errors that end it early."""

from __future__ import annotations

import typer

DONE = 0
SOME_FAILED = 1
USAGE = 2
INTERRUPTED = 130

# What typer raises for every misuse, by way of its own copy of click or the real one, depending on its version.
Misuse: type[Exception] = next(base for base in typer.BadParameter.__mro__ if base.__name__ == "ClickException")


class UsageError(Exception):
    """The command was called in a way that makes no sense; the message is one sentence for its user."""


class Interrupted(Exception):
    """The user asked the command to stop."""
