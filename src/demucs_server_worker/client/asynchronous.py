"""`AsyncClient`: the HTTP API for asynchronous programs."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
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


class AsyncClient:
    """As `Client`, for asyncio: its methods are awaited, `tasks` and `events` are asynchronous iterators.

        async with AsyncClient() as client:
            task = await client.submit("song.mp3", stems=["vocals"], format="flac")
            done = await client.wait(task.id)
            await client.download(done, "stems")

    Disks are waited for in threads. A method that is cancelled leaves the server as it is.
    """

    def __init__(
        self, url: str | None = None, api_key: str | None = None, *, patience: Patience | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:  # fmt: skip
        """Args and errors: as `Client`."""
        self._server = find_server(url, api_key, patience)
        self._http = httpx.AsyncClient(transport=transport, **http.settings_of(self._server))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Let go of the connections. What the server was asked to do goes on."""
        await self._http.aclose()

    @property
    def url(self) -> str:
        """The server's address."""
        return self._server.url

    # --- tasks --------------------------------------------------------------------------------------------------------

    async def submit(
        self, file: File | None = None, *, input_path: str | os.PathLike[str] | None = None,
        output_dir: str | os.PathLike[str] | None = None, on_progress: Progress | None = None, **options: Any,
    ) -> TaskBody:  # fmt: skip
        """Add a task. See `Client.submit`; `on_progress` is called on the event loop."""
        return await self._run(
            submission.submit(
                self._server, file, input_path=input_path, output_dir=output_dir, on_progress=on_progress,
                options=options,
            )
        )  # fmt: skip

    async def task(self, task_id: str) -> TaskBody:
        """The task as it is now. Raises: TaskNotFound."""
        return await self._run(calls.task(self._server, task_id))

    def tasks(self, state: str | None = None, *, limit: int | None = None) -> AsyncIterator[TaskBody]:
        """Tasks, newest first. See `Client.tasks`."""
        return self._items(Walk(calls.tasks(self._server, state, limit)))

    async def wait(
        self,
        task_id: str,
        timeout: float | None = None,  # noqa: ASYNC109 - as the blocking client has it
        on_event: Callable[[EventBody], object] | None = None,
    ) -> TaskBody:
        """Wait until a task is completed. See `Client.wait`; `on_event` may be asynchronous."""
        return await self._run(following.wait(self._server, task_id, timeout, on_event))

    def events(self, task_id: str | None = None) -> AsyncIterator[EventBody]:
        """What happens from this call on. See `Client.events`."""
        return self._items(Walk(following.events(self._server, task_id)))

    async def cancel(self, task_id: str) -> TaskBody:
        """Cancel a queued or running task. Raises: TaskNotFound, or IllegalTransition when it is finished."""
        return await self._run(calls.change_task(self._server, task_id, "cancel"))

    async def retry(self, task_id: str) -> TaskBody:
        """Queue a failed or cancelled task again. Raises: TaskNotFound, or IllegalTransition when it is neither."""
        return await self._run(calls.change_task(self._server, task_id, "retry"))

    async def delete(self, task_id: str) -> None:
        """Remove a finished task and its files. Raises: TaskNotFound, or IllegalTransition when it is not finished."""
        await self._run(calls.delete(self._server, task_id))

    # --- stems --------------------------------------------------------------------------------------------------------

    async def download(
        self, task: str | TaskBody, output_dir: str | os.PathLike[str], stems: Iterable[str] | None = None,
        format: str | None = None, as_zip: bool = False,
    ) -> list[Path]:  # fmt: skip
        """Fetch the stems of a completed task. See `Client.download`."""
        return await self._run(download.download(self._server, task, output_dir, stems, format, as_zip))

    async def download_stem(
        self, task: str | TaskBody, stem: str, path: str | os.PathLike[str], format: str | None = None
    ) -> Path:
        """Fetch one stem to a path of the caller's choice. See `download`."""
        return await self._run(download.download_stem(self._server, task, stem, path, format))

    # --- the server ---------------------------------------------------------------------------------------------------

    async def status(self) -> StatusBody:
        """Queue, workers, machine and health."""
        return await self._run(calls.ask(self._server, get("status"), StatusBody))

    async def health(self) -> Health:
        """Whether the server can work at the moment."""
        return await self._run(calls.health(self._server))

    async def models(self) -> ModelList:
        """The models that the server lets clients ask for."""
        return await self._run(calls.ask(self._server, get("models"), ModelList))

    # --- flows --------------------------------------------------------------------------------------------------------

    async def _run(self, flow: Flow[T]) -> T:
        walk = Walk(flow)
        async for _ in self._items(walk):
            raise AssertionError("this flow gives no items")
        return walk.result

    async def _items(self, walk: Walk[Any]) -> AsyncGenerator[Any, None]:
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
                    answer = await self._carry_out(effect, streams)
                except Exception as error:  # it is the flow's to decide what to do about it
                    failure = error
        finally:
            walk.close()
            for stream in streams:
                await stream.close()

    async def _carry_out(self, effect: Effect, streams: set[_Stream]) -> object:
        match effect:
            case Send(request):
                stream = await self._open(request, request.answer_seconds)
                try:
                    return Reply(stream.status, stream.headers, await stream.all())
                finally:
                    await stream.close()
            case Open(request, silence_seconds):
                stream = await self._open(request, silence_seconds)
                streams.add(stream)
                return stream
            case Read(_Stream() as stream):
                return await stream.next()
            case Close(_Stream() as stream):
                streams.discard(stream)
                await stream.close()
            case Sleep(seconds):
                await asyncio.sleep(seconds)
            case Do(work):
                return await _in_thread(work)
            case Tell(listener, item):
                told = listener(item)
                return await told if inspect.isawaitable(told) else told
            case _:
                raise AssertionError(effect)
        return None

    async def _open(self, request: Request, read_seconds: float) -> _Stream:
        body = None if request.upload is None else _body(request.upload)
        made = self._http.build_request(**http.arguments_of(request, self._server, body, read_seconds))
        try:
            return _Stream(await self._http.send(made, stream=True))
        except httpx.RequestError as error:
            raise http.unanswered(error) from None


class _Stream:
    """An answer of httpx, as `effects.Stream`."""

    def __init__(self, response: httpx.Response) -> None:
        self.status = response.status_code
        self.headers = http.lower(response.headers)
        self._response = response
        self._chunks = response.aiter_bytes()

    async def next(self) -> bytes | None:
        try:
            return await anext(self._chunks, None)
        except httpx.RequestError as error:
            raise http.unanswered(error) from None

    async def all(self) -> bytes:
        body = b""
        while (chunk := await self.next()) is not None:
            body += chunk
        return body

    async def close(self) -> None:
        await self._response.aclose()


async def _body(upload: Upload) -> AsyncIterator[bytes]:
    chunks = upload.chunks()
    while (chunk := await _in_thread(lambda: next(chunks, None))) is not None:
        yield chunk
        upload.tell(chunk)


async def _in_thread(work: Callable[[], T]) -> T:
    """The result of work that may wait for a disk. A caller that is cancelled waits for it too: what it works on is
    closed next."""
    running = asyncio.ensure_future(asyncio.to_thread(work))
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        await asyncio.wait({running})
        raise
