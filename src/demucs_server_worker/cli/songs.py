"""From what stands on the command line to the songs to separate: files, folders and patterns, and names for each."""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from demucs_server_worker.cli.exits import UsageError
from demucs_server_worker.separation.naming import stem_path, track_name
from demucs_server_worker.song_files import holds_stems, is_song

# A name that is told apart by a suffix must still have it after names of stems are cut to what file systems allow.
_MAX_SUFFIXED_BYTES = 160


@dataclass(frozen=True)
class Song:
    """A file to separate.

    Attributes:
        path: where it is; a file that was named need not exist.
        shown: the path as the user knows it.
        output_dir: the folder below which its stems belong.
        input_name: its name for `{track}`.
    """

    path: Path
    shown: str
    output_dir: Path
    input_name: str


@dataclass(frozen=True)
class Found:
    """What names on the command line stand for: the songs, and the folders and patterns without any."""

    songs: list[Song]
    empty: list[str]


def find_songs(named: Sequence[str], output_dir: Path) -> Found:
    """The songs that `named` stands for, each once, in order.

    Args:
        named: files, folders (walked to their ends, hidden names left out, sorted), and patterns such as `*.mp3`.
        output_dir: the folder for stems. Below it, the folders inside a named folder are kept; where several folders
            are named, each has its own name on top. It is not searched for songs itself.
    """
    expanded = [(name, _expand(name)) for name in named]
    folders = {os.path.abspath(target) for _, targets in expanded for target in targets if os.path.isdir(target)}
    songs: dict[str, Song] = {}
    empty: list[str] = []
    for name, targets in expanded:
        found = [song for target in targets for song in _songs_of(target, output_dir, several=len(folders) > 1)]
        empty += [] if found else [name]
        for song in found:
            songs.setdefault(os.path.abspath(song.path), song)
    return Found(list(songs.values()), list(dict.fromkeys(empty)))


def tell_apart(songs: Iterable[Song], *, filename: str, project: str | None, ext: str, model: str) -> list[Song]:
    """The same songs, with a number in the names of those whose stems would otherwise be written over another's.

    Args:
        songs: as found.
        filename, project, ext, model: what the path of a stem is made from.

    Raises:
        UsageError: when `filename` gives several songs the same place whatever they are called.
    """

    def place(song: Song) -> tuple[str, str]:
        track, trackext = track_name(song.input_name)
        path = stem_path(
            filename, project=project, track=track, trackext=trackext, stem="stem", ext=ext, model=model
        )  # fmt: skip
        # Some file systems do not tell upper from lower case.
        return str(song.output_dir), path.casefold()

    songs = list(songs)
    natural = [place(song) for song in songs]
    occupied = set(natural)
    seen: set[tuple[str, str]] = set()
    apart = []
    for song, home in zip(songs, natural, strict=True):
        if home in seen:
            song = _renamed(song, occupied, place, filename)
            occupied.add(place(song))
        seen.add(home)
        apart.append(song)
    return apart


def _renamed(
    song: Song, occupied: set[tuple[str, str]], place: Callable[[Song], tuple[str, str]], filename: str
) -> Song:
    for number in range(2, len(occupied) + 3):
        renamed = replace(song, input_name=_numbered(song.input_name, number))
        if place(renamed) not in occupied:
            return renamed
    raise UsageError(f"--filename {filename} would write the stems of several songs to the same place; add {{track}}.")


def _numbered(name: str, number: int) -> str:
    track, ext = track_name(name)
    short = os.fsencode(track)[:_MAX_SUFFIXED_BYTES].decode(errors="ignore")
    return f"{short} ({number})" + (f".{ext}" if ext else "")


def _songs_of(target: str, output_dir: Path, *, several: bool) -> Iterable[Song]:
    if os.path.isdir(target):
        return _in_folder(target, output_dir, several)
    return [Song(Path(target), target, output_dir, os.path.basename(target) or target)]


def _expand(name: str) -> list[str]:
    """A pattern becomes what it matches, as a shell would do it; anything else stays."""
    if os.path.lexists(name) or not glob.has_magic(name):
        return [name]
    matches = sorted(glob.glob(name, recursive=True))
    if not matches and not set(name) & {"*", "?"}:
        return [name]  # brackets alone are more often part of a name, here of a file that is missing
    ending = os.path.splitext(name)[1]
    if not ending or glob.has_magic(ending):
        matches = [match for match in matches if os.path.isdir(match) or is_song(match)]
    return matches


def _in_folder(folder: str, output_dir: Path, several: bool) -> Iterator[Song]:
    base = output_dir / Path(folder).resolve().name if several else output_dir
    shunned = os.path.realpath(output_dir)
    for where, folders, names in os.walk(folder):
        # Walking goes on into what is left in this very list.
        folders[:] = sorted(
            name
            for name in folders
            if not name.startswith(".") and os.path.realpath(os.path.join(where, name)) != shunned
        )
        if holds_stems(where, names):
            continue
        inner = os.path.relpath(where, folder)
        for name in sorted(names):
            path = os.path.join(where, name)
            if not name.startswith(".") and is_song(name) and os.path.isfile(path):
                yield Song(Path(path), path, base if inner == os.curdir else base / inner, name)
