"""`python -m demucs_server_worker` is the command `demucs-server-worker`."""

from __future__ import annotations

import sys

from demucs_server_worker.cli.app import run


def main() -> None:
    """Run the command that the arguments name, and end with its exit code."""
    sys.exit(run(sys.argv[1:]))


if __name__ == "__main__":
    main()
