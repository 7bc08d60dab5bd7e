"""What lies in a watched folder, by looking: works on every file system, network folders too."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
from dataclasses import dataclass
from pathlib import Path

from demucs_server_worker.song_files import holds_stems, is_song


@dataclass(frozen=True)
class Sighting:
    """A song as it was seen.

    Attributes:
        path: absolute.
        folders: names of the folders between the watched folder and the song.
        size: bytes.
        modified_ns: time of its last change, nanoseconds.
        twins: whether another song beside it differs in its ending only.
    """

    path: str
    folders: tuple[str, ...]
    size: int
    modified_ns: int
    twins: bool = False

    @property
    def name(self) -> str:
        """The file's name."""
        return os.path.basename(self.path)


def look(watched: Path, output: Path) -> list[Sighting]:
    """All songs below `watched`, by their paths.

    Hidden names and links are passed over, and so is everything below `output` and in folders that hold stems.

    Raises:
        OSError: the folder itself cannot be read; one inside that cannot is passed over.
    """
    with os.scandir(watched):
        pass
    found: list[Sighting] = []
    for where, folders, names in os.walk(watched):
        # Walking goes on into what is left in this very list.
        folders[:] = sorted(
            name for name in folders if not name.startswith(".") and Path(where, name) != output
        )  # fmt: skip
        if not holds_stems(where, names):
            found += _songs(where, names, Path(where).relative_to(watched).parts)
    return found


def _songs(where: str, names: list[str], folders: tuple[str, ...]) -> list[Sighting]:
    songs = sorted(name for name in names if not name.startswith(".") and is_song(name))
    tracks = [os.path.splitext(name)[0].casefold() for name in songs]
    found = []
    for name, track in zip(songs, tracks, strict=True):
        path = os.path.join(where, name)
        try:
            status = os.lstat(path)
        except OSError:
            continue  # gone since, or not to be read
        if stat.S_ISREG(status.st_mode):
            found.append(Sighting(path, folders, status.st_size, status.st_mtime_ns, tracks.count(track) > 1))
    return found


def is_being_written(path: str) -> bool | None:
    """Whether a program has the file open for writing; None where the system does not tell.

    Linux tells it of files of this user's own on a local file system: it grants a read lease only where nobody
    writes (fcntl(2), "Leases").
    """
    if not hasattr(fcntl, "F_SETLEASE"):
        return None
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        # Should a writer come in just this moment, the kernel tells us by a signal: by one that is ignored, and not
        # by SIGIO, which would end this process.
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
    except OSError as error:
        return True if error.errno == errno.EAGAIN else None
    finally:
        os.close(fd)
    return False
