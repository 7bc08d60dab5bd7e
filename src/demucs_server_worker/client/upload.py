"""A file on its way to the server: a form (multipart/form-data) that is read from disk while it is sent."""

from __future__ import annotations

import io
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO

from demucs_server_worker.errors import InputNotFound, InputUnreadable

CHUNK_BYTES = 256 * 1024

# What HTML makes browsers do with names that would end the header they stand in.
_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})

Progress = Callable[[int, int | None], None]


class Upload:
    """A form with fields and one file, as the bytes of a request's body.

    Attributes:
        name: of the file, as the server is to know it.
        content_type: for the header, with the boundary.
        total_bytes: the size of the whole body; None where the file does not tell its own.
    """

    def __init__(
        self, file: str | os.PathLike[str] | IO[bytes], name: str, fields: Mapping[str, str],
        on_progress: Progress | None = None,
    ) -> None:  # fmt: skip
        """Args:
        file: a path, which is opened when the body is read, or an open binary file, read from where it stands.
        name: the file's name, as the server is to know it.
        fields: beside the file.
        on_progress: called with the bytes that were sent, and the bytes of the whole body where known.
        """
        boundary = secrets.token_hex(16)
        self.content_type = f"multipart/form-data; boundary={boundary}"
        # Fields first: the server then knows what is wanted before the long part begins.
        head = "".join(f"{_part(boundary, field)}\r\n{value}\r\n" for field, value in fields.items())
        head += f"{_part(boundary, 'file', name)}Content-Type: application/octet-stream\r\n\r\n"
        self._head = head.encode("utf-8", "replace")
        self._tail = f"\r\n--{boundary}--\r\n".encode()
        self.name = name
        self._file = file
        self._start = _position(file)
        self._size = _size(file, self._start)
        self._on_progress = on_progress
        self._sent = 0
        self.total_bytes = None if self._size is None else len(self._head) + self._size + len(self._tail)

    @property
    def can_be_repeated(self) -> bool:
        """Whether the body can be read a second time."""
        return self._start is not None

    def chunks(self) -> Iterator[bytes]:
        """The body, piece by piece, from its beginning.

        Raises:
            InputNotFound, InputUnreadable: the file cannot be read, or is not as long any more as it was.
        """
        self._sent = 0
        yield self._head
        try:
            yield from self._pieces()
        except FileNotFoundError:
            raise InputNotFound(path=self._file) from None
        except OSError as error:
            raise InputUnreadable(name=self.name, detail=error.strerror or str(error)) from None
        yield self._tail

    def tell(self, chunk: bytes) -> None:
        """A chunk is on its way."""
        self._sent += len(chunk)
        if self._on_progress is not None:
            self._on_progress(self._sent, self.total_bytes)

    def _pieces(self) -> Iterator[bytes]:
        if isinstance(self._file, (str, os.PathLike)):
            with Path(self._file).open("rb") as file:
                yield from self._counted(file)
            return
        if self._start is not None:
            self._file.seek(self._start)
        yield from self._counted(self._file)

    def _counted(self, file: IO[bytes]) -> Iterator[bytes]:
        """As many bytes as were announced."""
        size = 0
        while chunk := file.read(CHUNK_BYTES):
            size += len(chunk)
            if self._size is not None and size > self._size:
                break
            yield chunk
        if self._size is not None and size != self._size:
            raise InputUnreadable(name=self.name, detail="it changed while it was sent")


def _part(boundary: str, field: str, filename: str | None = None) -> str:
    named = f'; filename="{_plain(filename)}"' if filename is not None else ""
    return f'--{boundary}\r\nContent-Disposition: form-data; name="{_plain(field)}"{named}\r\n'


def _plain(text: str) -> str:
    return text.translate(_ESCAPES)


def _position(file: str | os.PathLike[str] | IO[bytes]) -> int | None:
    """Where reading begins; None for what can be read only once."""
    if isinstance(file, (str, os.PathLike)):
        return 0
    return file.tell() if file.seekable() else None


def _size(file: str | os.PathLike[str] | IO[bytes], start: int | None) -> int | None:
    if isinstance(file, (str, os.PathLike)):
        return os.stat(file).st_size
    if start is None:
        return None
    end = file.seek(0, io.SEEK_END)
    file.seek(start)
    return end - start
