"""Flags that the benches share."""

from __future__ import annotations

import argparse
from pathlib import Path


def parser(description: str | None) -> argparse.ArgumentParser:
    """A parser with the flags that choose the weights."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--repo", type=Path, default=None, help="folder of local models (.th), instead of seeded ones")
    made.add_argument("--published", action="store_true", help="the weights that Demucs publishes, on this machine")
    return made


def repository(arguments: argparse.Namespace, model: str) -> Path | None:
    """The folder that was named; None for published weights; else that of the seeded ones."""
    if arguments.published:
        return None
    if arguments.repo is not None:
        return Path(arguments.repo).absolute()
    from bench import seeded  # and torch with it, where models must be made

    return seeded.repository(model)
