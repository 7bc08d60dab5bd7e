"""`Client`: the HTTP API for programs that block."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from pathlib import Path
from typing import Any, Self, TypeVar

import httpx

from demucs_server_worker.client import calls, download, following, http, submission
from demucs_server_worker.client.answers import Health
from demucs_server_worker.client.effects import (
    Close,
    Do,
    Effect,
    Emit,
    Flow,
    Open,
    Read,
    Reply,
    Send,
    Sleep,
    Tell,
    Walk,
)
from demucs_server_worker.client.requests import Request, get
from demucs_server_worker.client.server import Patience, find_server
from demucs_server_worker.client.submission import File
from demucs_server_worker.client.upload import Progress, Upload
from demucs_server_worker.wire.event import EventBody
from demucs_server_worker.wire.model import ModelList
from demucs_server_worker.wire.status import StatusBody
from demucs_server_worker.wire.task import TaskBody

T = TypeVar("T")


class Client:
    """A running demucs-server-worker, over HTTP.

        with Client() as client:
            task = client.submit("song.mp3", stems=["vocals"], format="flac")
            done = client.wait(task.id)
            client.download(done, "stems")

    Every method raises the errors that the same mistake raises in process (`InvalidOption`, `TaskNotFound`,
    `TaskConflict`, `QueueFull`, `Unauthorized`, …), and `ServerUnreachable` when no answer comes. Several threads
    can use one client.
    """

    def __init__(
        self, url: str | None = None, api_key: str | None = None, *, patience: Patience | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:  # fmt: skip
        """Args:
            url: the server's address; by default DEMUCS_WORKER_URL, else http://127.0.0.1:8000.
            api_key: by default DEMUCS_WORKER_API_KEY, else none.
            patience: how long to go on without an answer.
            transport: of httpx, instead of the network.

        Raises:
            InvalidSetting: the address or the key cannot be one.
        """
        self._server = find_server(url, api_key, patience)
        self._http = httpx.Client(transport=transport, **http.settings_of(self._server))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the connections. What the server was asked to do goes on."""
        self._http.close()

    @property
    def url(self) -> str:
        """The server's address."""
        return self._server.url

    # --- tasks --------------------------------------------------------------------------------------------------------

    def submit(
        self, file: File | None = None, *, input_path: str | os.PathLike[str] | None = None,
        output_dir: str | os.PathLike[str] | None = None, on_progress: Progress | None = None, **options: Any,
    ) -> TaskBody:  # fmt: skip
        """Add a task; when this returns, the server has it on disk.

        Args:
            file: a path or an open binary file, which is uploaded.
            input_path, output_dir: instead of `file`: paths on the server, below a folder that it allows.
            on_progress: called with the bytes sent and the bytes to send (None where unknown), again and again.
            options: `file_id`, `project_name`, `priority`, `input_name`, `webhook`, and any separation option
                (`model`, `stems`, `format`, …), as `WorkerManager.add_task` takes them.

        Returns:
            The new task; or, for a `file_id` that is known with the same request, the task that exists.

        Raises:
            InvalidOption, UnsupportedFormat, NoAudio, InputTooLarge, TaskConflict, QueueFull, …: as in process.
        """
        return self._run(
            submission.submit(
                self._server, file, input_path=input_path, output_dir=output_dir, on_progress=on_progress,
                options=options,
            )
        )  # fmt: skip

    def task(self, task_id: str) -> TaskBody:
        """The task as it is now. Raises: TaskNotFound."""
        return self._run(calls.task(self._server, task_id))

    def tasks(self, state: str | None = None, *, limit: int | None = None) -> Iterator[TaskBody]:
        """Tasks, newest first.

        Args:
            state: only those that are `queued`, `running`, `completed`, `failed` or `cancelled`.
            limit: no more than this many.
        """
        return self._items(Walk(calls.tasks(self._server, state, limit)))

    def wait(
        self, task_id: str, timeout: float | None = None, on_event: Callable[[EventBody], object] | None = None
    ) -> TaskBody:
        """Wait until a task is completed; through restarts of the server, and broken connections.

        Args:
            task_id: which.
            timeout: seconds; None waits as long as it takes.
            on_event: called with each event of the task.

        Returns:
            The completed task.

        Raises:
            TaskFailed, TaskCancelled: how it ended instead; `TaskFailed.error` says why.
            TimeoutError: it is not finished; it goes on, on the server.
        """
        return self._run(following.wait(self._server, task_id, timeout, on_event))

    def events(self, task_id: str | None = None) -> Iterator[EventBody]:
        """What happens from this call on: to one task, up to its last event, or to all. Connections that break are
        made again, and miss nothing that the server still knows."""
        return self._items(Walk(following.events(self._server, task_id)))

    def cancel(self, task_id: str) -> TaskBody:
        """Cancel a queued or running task. Raises: TaskNotFound, or IllegalTransition when it is finished."""
        return self._run(calls.change_task(self._server, task_id, "cancel"))

    def retry(self, task_id: str) -> TaskBody:
        """Queue a failed or cancelled task again. Raises: TaskNotFound, or IllegalTransition when it is neither."""
        return self._run(calls.change_task(self._server, task_id, "retry"))

    def delete(self, task_id: str) -> None:
        """Remove a finished task and its files. Raises: TaskNotFound, or IllegalTransition when it is not finished."""
        self._run(calls.delete(self._server, task_id))

    # --- stems --------------------------------------------------------------------------------------------------------

    def download(
        self, task: str | TaskBody, output_dir: str | os.PathLike[str], stems: Iterable[str] | None = None,
        format: str | None = None, as_zip: bool = False,
    ) -> list[Path]:  # fmt: skip
        """Fetch the stems of a completed task.

        A connection that breaks is taken up where it broke off; what has come is checked against the hash in the task,
        and only then gets its name. A file that is there already, with that hash, is not fetched again.

        Args:
            task: it, or its id.
            output_dir: a folder, which is made; files become `vocals.flac` and so on in it.
            stems: only these.
            format: another format than the task's: the server encodes them anew.
            as_zip: one archive of all stems instead, as they are, with the name of the song.

        Returns:
            The files' paths.

        Raises:
            IllegalTransition: the task is not completed.
            DownloadDamaged, DiskFull, OutputNotWritable: the files cannot be had, or not be written.
        """
        return self._run(download.download(self._server, task, output_dir, stems, format, as_zip))

    def download_stem(
        self, task: str | TaskBody, stem: str, path: str | os.PathLike[str], format: str | None = None
    ) -> Path:
        """Fetch one stem to a path of the caller's choice. See `download`."""
        return self._run(download.download_stem(self._server, task, stem, path, format))

    # --- the server ---------------------------------------------------------------------------------------------------

    def status(self) -> StatusBody:
        """Queue, workers, machine and health."""
        return self._run(calls.ask(self._server, get("status"), StatusBody))

    def health(self) -> Health:
        """Whether the server can work at the moment. That it lives is told by its answering at all."""
        return self._run(calls.health(self._server))

    def models(self) -> ModelList:
        """The models that the server lets clients ask for."""
        return self._run(calls.ask(self._server, get("models"), ModelList))

    # --- flows --------------------------------------------------------------------------------------------------------

    def _run(self, flow: Flow[T]) -> T:
        walk = Walk(flow)
        for _ in self._items(walk):
            raise AssertionError("this flow gives no items")
        return walk.result

    def _items(self, walk: Walk[Any]) -> Generator[Any, None, None]:
        streams: set[_Stream] = set()
        answer: object = None
        failure: Exception | None = None
        try:
            while (effect := walk.next(answer, failure)) is not None:
                answer = failure = None
                if isinstance(effect, Emit):
                    yield effect.item
                    continue
                try:
                    answer = self._carry_out(effect, streams)
                except Exception as error:  # it is the flow's to decide what to do about it
                    failure = error
        finally:
            walk.close()
            for stream in streams:
                stream.close()

    def _carry_out(self, effect: Effect, streams: set[_Stream]) -> object:
        match effect:
            case Send(request):
                stream = self._open(request, request.answer_seconds)
                try:
                    return Reply(stream.status, stream.headers, stream.all())
                finally:
                    stream.close()
            case Open(request, silence_seconds):
                stream = self._open(request, silence_seconds)
                streams.add(stream)
                return stream
            case Read(_Stream() as stream):
                return stream.next()
            case Close(_Stream() as stream):
                streams.discard(stream)
                stream.close()
            case Sleep(seconds):
                time.sleep(seconds)
            case Do(work):
                return work()
            case Tell(listener, item):
                return listener(item)
            case _:
                raise AssertionError(effect)
        return None

    def _open(self, request: Request, read_seconds: float) -> _Stream:
        body = None if request.upload is None else _body(request.upload)
        made = self._http.build_request(**http.arguments_of(request, self._server, body, read_seconds))
        try:
            return _Stream(self._http.send(made, stream=True))
        except httpx.RequestError as error:
            raise http.unanswered(error) from None


class _Stream:
    """An answer of httpx, as `effects.Stream`."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = http.lower(response.headers)
        self._response = response
        self._chunks = response.iter_bytes()

    def next(self) -> bytes | None:
        try:
            return next(self._chunks, None)
        except httpx.RequestError as error:
            raise http.unanswered(error) from None

    def all(self) -> bytes:
        return b"".join(iter(self.next, None))

    def close(self) -> None:
        self._response.close()


def _body(upload: Upload) -> Iterator[bytes]:
    for chunk in upload.chunks():
        yield chunk
        upload.tell(chunk)
