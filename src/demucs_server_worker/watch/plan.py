"""What the settings say of a watched folder, and the task that a song in it becomes. Pure, but for resolving paths."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from demucs_server_worker.errors import InvalidOption, InvalidSetting
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.settings import Settings
from demucs_server_worker.task import Origin, TaskRequest
from demucs_server_worker.watch.folder import Sighting

WATCH, OUTPUT, OPTIONS = "DEMUCS_WORKER_WATCH", "DEMUCS_WORKER_WATCH_OUTPUT", "DEMUCS_WORKER_WATCH_OPTIONS"


@dataclass(frozen=True)
class Plan:
    """A watched folder.

    Attributes:
        watched: where songs appear; absolute, links followed.
        output: below which the stems go; likewise.
        options: of all its tasks.
    """

    watched: Path
    output: Path
    options: SeparationOptions

    @classmethod
    def of(cls, settings: Settings) -> Plan | None:
        """What the settings ask for; None where they ask for no watched folder.

        Raises:
            InvalidSetting: the folders or the options do not fit.
        """
        if settings.watch is None and settings.watch_output is None:
            return None
        if settings.watch is None or settings.watch_output is None:
            missing, other = (WATCH, OUTPUT) if settings.watch is None else (OUTPUT, WATCH)
            raise InvalidSetting(setting=missing, value="", allowed=f"with {other}, this folder is needed too")
        watched, output = settings.watch.expanduser().resolve(), settings.watch_output.expanduser().resolve()
        if not watched.is_dir():
            raise InvalidSetting(setting=WATCH, value=settings.watch, allowed="a folder that is there is needed")
        if watched == output or watched.is_relative_to(output):
            allowed = f"a folder that neither is nor holds {WATCH}, or stems would be taken for songs"
            raise InvalidSetting(setting=OUTPUT, value=settings.watch_output, allowed=allowed)
        return cls(watched, output, _options(settings))

    def request_for(self, song: Sighting) -> TaskRequest:
        """The task of a song. Its stems lie below the output folder as the song lies below the watched one: the last
        folder is the project, those above it lead there.

        Raises:
            InvalidOption: its name is not in UTF-8.
        """
        *above, project = song.folders or ("",)
        wanted = TaskRequest.parse(
            {
                "input_path": song.path,
                "output_dir": self.output.joinpath(*above),
                "input_name": _told_apart(song.name) if song.twins else song.name,
                "project_name": project,
                "file_id": file_id_of(song),
            }
        )
        return msgspec.structs.replace(wanted, options=self.options, origin=Origin.WATCH)


def file_id_of(song: Sighting) -> str:
    """What a song in a watched folder is remembered by: its path, size and time. One that changes is a new one."""
    text = f"{song.path}\0{song.size}\0{song.modified_ns}".encode("utf-8", "surrogateescape")
    return f"watch-{hashlib.sha256(text).hexdigest()[:32]}"


def _told_apart(name: str) -> str:
    """`song.mp3` beside `song.wav` becomes the track `song (mp3)`."""
    track, ending = os.path.splitext(name)
    return f"{track} ({ending[1:]}){ending}"


def _options(settings: Settings) -> SeparationOptions:
    values: dict[str, Any] = {"model": settings.model}
    for pair in settings.watch_options.split():
        name, equals, value = pair.partition("=")
        if not equals:
            raise InvalidSetting(setting=OPTIONS, value=pair, allowed="name=value is needed, such as format=mp3")
        values[name] = value
    try:
        return SeparationOptions.parse(values)
    except InvalidOption as error:
        allowed = error.message.rstrip(".")
        raise InvalidSetting(setting=OPTIONS, value=settings.watch_options, allowed=allowed) from None
