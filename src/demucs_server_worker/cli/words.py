"""Words and figures as people read them, and text that comes from files made safe to print. Pure."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

from demucs_server_worker.task import Stage

# Control and format characters (they can move the cursor, change the title, turn the reading direction), halves of
# characters, and line ends of all kinds.
_UNPRINTABLE = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})
# Spelling and emoji need these two: the zero-width non-joiner and joiner.
_JOINERS = frozenset({"\u200c", "\u200d"})

STAGE_WORDS: dict[Stage, str] = {
    Stage.QUEUED: "waiting",
    Stage.DECODING: "reading",
    Stage.SEPARATING: "separating",
    Stage.ENCODING: "writing",
    Stage.DONE: "done",
}


def printable(text: str) -> str:
    """`text` on one line and without a character that a terminal acts upon: such a one reads as its escape, `\\x1b`."""
    return "".join(_escaped(char) if _acts(char) else char for char in text)


def _acts(char: str) -> bool:
    return unicodedata.category(char) in _UNPRINTABLE and char not in _JOINERS


def _escaped(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")


def clock(seconds: float) -> str:
    """A length of audio or a time to wait: `0:07`, `3:12`, `1:02:03`."""
    whole = max(0, round(seconds))
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def taken(seconds: float) -> str:
    """A time that something took: `8.3 s`, or from two minutes on as `clock`."""
    return f"{seconds:.1f} s" if seconds < 120 else clock(seconds)


def pace(audio_seconds: float | None, seconds: float | None) -> str:
    """How many times faster than real time: `3.1×`; a dash where that cannot be told."""
    if not audio_seconds or not seconds:
        return "–"
    return f"{audio_seconds / seconds:.1f}×"


def size(count: int | None) -> str:
    """A number of bytes: `1.2 MB`; a dash for None."""
    if count is None:
        return "–"
    for unit, scale in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if count >= scale:
            return f"{count / scale:.1f} {unit}"
    return f"{count} B"


def files(count: int) -> str:
    """`1 file`, `2 files`."""
    return f"{count} file" if count == 1 else f"{count} files"


def near(path: Path) -> str:
    """A path as its user would type it: relative, where it lies below the current folder; safe to print."""
    try:
        here = Path.cwd()
    except OSError:
        return printable(str(path))
    return printable(os.path.relpath(path, here) if path.is_relative_to(here) else str(path))
