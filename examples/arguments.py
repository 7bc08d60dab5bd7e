"""What the examples take on the command line: SONG… [OUT]."""

import sys
from pathlib import Path


def songs_and_out(usage: str) -> tuple[list[Path], Path]:
    """The songs, and the folder for their stems: the last argument if that is no file, else `stems`."""
    paths = [Path(argument) for argument in sys.argv[1:]]
    out = Path("stems") if not paths or paths[-1].is_file() else paths.pop()
    if not paths:
        sys.exit(usage)
    return paths, out
