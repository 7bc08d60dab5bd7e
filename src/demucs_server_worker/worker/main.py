"""The main loop of a worker process: boot, then one task after the other, until it is told to stop.

Three threads: the main one computes, one reads what the pool says, one says every second that the worker lives.
"""

from __future__ import annotations

import os
import queue
import shutil
import signal
import sys
import threading
import time
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, Protocol

import msgspec
import psutil

from demucs_server_worker.errors import DemucsWorkerError, ErrorInfo, SeparationCancelled, WorkerFailure
from demucs_server_worker.machine import basics
from demucs_server_worker.result_key import result_key
from demucs_server_worker.separation.job import SeparationJob, SeparationProgress, SeparationResult
from demucs_server_worker.task import Cancelled, Completed, Failed, Outcome, Stage, Stem
from demucs_server_worker.worker.channel import STDOUT, Channel
from demucs_server_worker.worker.failures import describe, error_info
from demucs_server_worker.worker.lifeline import die_with_parent, end_with_children
from demucs_server_worker.worker.messages import (
    Boot,
    BootFailed,
    Cancel,
    Done,
    Fetching,
    FromWorker,
    Heartbeat,
    Progress,
    Ready,
    Run,
    Stop,
    Threads,
)

# The pool and everyone behind it are told of progress at most this often, but for the changes that matter.
PROGRESS_SECONDS = 0.1
FETCHING_SECONDS = 0.5


class SeparationEngine(Protocol):
    """What a worker needs to separate songs: `separation.engine.Engine`, or a stand-in."""

    @property
    def device(self) -> str: ...

    def preload(self, model: str) -> None: ...

    def set_threads(self, threads: int) -> None: ...

    def separate(
        self,
        job: SeparationJob,
        *,
        on_progress: Callable[[SeparationProgress], None],
        cancelled: Callable[[], bool],
    ) -> SeparationResult: ...


FetchListener = Callable[[str, int, int | None], None]
MakeEngine = Callable[[Boot, FetchListener], SeparationEngine]


def main(arguments: list[str], make_engine: MakeEngine | None = None) -> NoReturn:
    """Be a worker; does not return.

    Args:
        arguments: the number of the protocol pipe's descriptor; without it, messages go to standard output.
        make_engine: builds what separates; by default the real one.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the parent, which then tells us.
    die_with_parent()
    _print_for_a_log()
    channel = Channel(int(arguments[0]) if arguments else STDOUT)
    Worker(channel, make_engine or real_engine).live()
    sys.stderr.flush()
    # Not through the interpreter's exit, which would wait for native threads: everything of worth is said already.
    os._exit(0)


def _print_for_a_log() -> None:
    """What libraries print becomes lines of the pool's log: no progress bars there, and a warning on one line."""
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.formatwarning = lambda message, category, *_: f"{category.__name__}: {message}\n"


def real_engine(boot: Boot, on_fetch: FetchListener) -> SeparationEngine:
    """The engine that separates. Imported only here: whoever needs the messages alone must not load torch."""
    from demucs_server_worker.separation.engine import Engine

    return Engine(
        device=boot.device,
        precision=boot.precision,
        model_repo=Path(boot.model_repo) if boot.model_repo else None,
        threads=boot.threads,
        backend=boot.backend,
        cache_dir=Path(boot.cache_dir) if boot.cache_dir else None,
        on_fetch=on_fetch,
        memory_left=_memory_left,
    )


def _memory_left() -> int | None:
    try:
        return basics.memory().available
    except (psutil.Error, OSError, RuntimeError):
        return None


class Assignment:
    """A `Run` and whether it was cancelled."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.cancelled = threading.Event()


class Worker:
    """One worker process."""

    def __init__(self, channel: Channel, make_engine: MakeEngine) -> None:
        """Args: channel: to the pool; make_engine: builds what separates."""
        self._channel = channel
        self._make_engine = make_engine
        self._inbox: queue.SimpleQueue[Boot | Assignment | Stop] = queue.SimpleQueue()
        self._current: Assignment | None = None
        self._working_on: str | None = None
        self._engine: SeparationEngine | None = None
        self._threads: int | None = None

    def live(self) -> None:
        """Boot, and run tasks until told to stop."""
        threading.Thread(target=self._listen, name="listener", daemon=True).start()
        boot = self._inbox.get()
        if not isinstance(boot, Boot):
            return
        threading.Thread(target=self._beat, args=(boot.heartbeat_seconds,), name="heartbeat", daemon=True).start()
        engine = self._boot(boot)
        if engine is None:
            return
        while isinstance(assignment := self._inbox.get(), Assignment):
            self._work(engine, assignment)

    # --- the other two threads ----------------------------------------------------------------------------------------

    def _listen(self) -> None:
        try:
            for message in self._channel.messages():
                self._obey(message)
        except Exception:
            traceback.print_exc()
        # The end of the messages is the end of the pool.
        end_with_children()

    def _obey(self, message: Boot | Run | Cancel | Threads | Stop) -> None:
        match message:
            case Boot():
                self._inbox.put(message)
            case Run():
                # Known here at once, so that a Cancel on its heels finds it before the main thread has begun.
                self._current = Assignment(message)
                self._inbox.put(self._current)
            case Cancel(task_id=task_id):
                if self._current is not None and self._current.run.task_id == task_id:
                    self._current.cancelled.set()
            case Threads(threads=threads):
                self._threads = threads
                if self._engine is not None:
                    self._engine.set_threads(threads)
            case Stop():
                if self._current is not None:
                    self._current.cancelled.set()
                self._inbox.put(message)

    def _beat(self, seconds: float) -> None:
        rest = threading.Event()
        while not rest.wait(seconds):
            self._say(Heartbeat(task_id=self._working_on))

    # --- the main thread ----------------------------------------------------------------------------------------------

    def _boot(self, boot: Boot) -> SeparationEngine | None:
        started = time.monotonic()
        try:
            engine = self._make_engine(boot, FetchReporter(self._say))
            if boot.model is not None:
                engine.preload(boot.model)
        except DemucsWorkerError as error:
            self._say(BootFailed(error=error.info))
            return None
        except Exception as error:
            traceback.print_exc()
            self._say(BootFailed(error=_boot_error(error)))
            return None
        self._engine = engine
        # A Threads that came while there was no engine is made good; one that comes now finds it.
        if self._threads is not None:
            engine.set_threads(self._threads)
        # Before anyone knows that it is ready: from here on, SIGTERM means to end after the task in hand. A
        # service manager may send it to all processes at once, while the pool still gives running tasks their time.
        signal.signal(signal.SIGTERM, lambda *_: self._inbox.put(Stop()))
        boot_seconds = time.monotonic() - started
        self._say(Ready(pid=os.getpid(), device=engine.device, model=boot.model, boot_seconds=boot_seconds))
        return engine

    def _work(self, engine: SeparationEngine, assignment: Assignment) -> None:
        run = assignment.run
        self._working_on = run.task_id
        started = time.monotonic()
        outcome, compute_seconds = self._attempt(engine, assignment)
        if not isinstance(outcome, Completed):
            shutil.rmtree(run.staging, ignore_errors=True)
        run_seconds = time.monotonic() - started
        self._working_on = None
        self._say(
            Done(
                task_id=run.task_id,
                claim=run.claim,
                outcome=outcome,
                run_seconds=run_seconds,
                compute_seconds=compute_seconds,
            )
        )

    def _attempt(self, engine: SeparationEngine, assignment: Assignment) -> tuple[Outcome, float]:
        """Separate; gives the outcome and the seconds that the model computed."""
        run = assignment.run
        if assignment.cancelled.is_set():
            return Cancelled(), 0.0
        try:
            result = engine.separate(
                separation_job(run),
                on_progress=ProgressReporter(run, self._say),
                cancelled=assignment.cancelled.is_set,
            )
        except SeparationCancelled:
            return Cancelled(), 0.0
        except DemucsWorkerError as error:
            return Failed(error=error.info), 0.0
        except Exception as error:
            traceback.print_exc()
            return Failed(error=error_info(error, run.output_dir)), 0.0
        return completed(run, result), result.compute_seconds

    def _say(self, message: FromWorker) -> None:
        try:
            self._channel.send(message)
        except OSError:
            # Nobody listens any more.
            end_with_children()


class FetchReporter:
    """Tells the pool that a model is on its way, about once a second."""

    def __init__(self, say: Callable[[Fetching], None], clock: Callable[[], float] = time.monotonic) -> None:
        """Args: say: sends a message; clock: monotonic seconds."""
        self._say = say
        self._clock = clock
        self._said_at = float("-inf")

    def __call__(self, file: str, bytes_done: int, bytes_total: int | None) -> None:
        now = self._clock()
        if now - self._said_at >= FETCHING_SECONDS:
            self._said_at = now
            self._say(Fetching(file=file, bytes_done=bytes_done, bytes_total=bytes_total))


class ProgressReporter:
    """Turns the engine's progress into messages, not more than the pool can use."""

    def __init__(self, run: Run, say: Callable[[Progress], None], clock: Callable[[], float] = time.monotonic) -> None:
        """Args: run: whose progress; say: sends a message; clock: monotonic seconds."""
        self._run = run
        self._say = say
        self._clock = clock
        self._said: Progress | None = None
        self._said_at = 0.0

    def __call__(self, progress: SeparationProgress) -> None:
        message = Progress(
            task_id=self._run.task_id,
            claim=self._run.claim,
            progress=progress.fraction,
            stage=Stage(progress.stage),
            duration_seconds=progress.duration_seconds,
            computing=progress.computing,
        )
        now = self._clock()
        if self._matters(message) or now - self._said_at >= PROGRESS_SECONDS:
            self._said, self._said_at = message, now
            self._say(message)

    def _matters(self, message: Progress) -> bool:
        """Whether anything but the figure has changed."""
        if self._said is None or message.progress >= 1.0:
            return True
        return msgspec.structs.replace(message, progress=self._said.progress) != self._said


def separation_job(run: Run) -> SeparationJob:
    """The engine's job for `run`."""
    return SeparationJob(
        input_path=Path(run.input_path),
        input_name=run.input_name,
        staging=Path(run.staging),
        output_dir=Path(run.output_dir),
        options=run.options,
        project_name=run.project_name,
        max_duration_seconds=run.max_duration_seconds,
        max_file_bytes=run.max_file_bytes,
    )


def completed(run: Run, result: SeparationResult) -> Completed:
    """The outcome of `run` with the engine's result; the stems' paths become those they will be published at."""
    stems = tuple(
        Stem(
            name=stem.name,
            path=str(Path(run.output_dir, stem.path)),
            format=stem.format,
            sample_rate=stem.sample_rate,
            channels=stem.channels,
            duration_seconds=stem.duration_seconds,
            bytes=stem.bytes,
            sha256=stem.sha256,
            peak=stem.peak,
        )
        for stem in result.stems
    )
    return Completed(
        staging=run.staging,
        output_dir=run.output_dir,
        files=result.files,
        stems=stems,
        duration_seconds=result.duration_seconds,
        result_key=_result_key(run, result),
    )


def _result_key(run: Run, result: SeparationResult) -> str | None:
    if run.conditions is None or result.source_sha256 is None or result.model_sha256 is None:
        return None
    return result_key(result.source_sha256, result.model_sha256, run.options, run.conditions)


def _boot_error(error: Exception) -> ErrorInfo:
    if isinstance(error, ImportError):
        detail = f"{describe(error)}. Install the package with all it needs; `demucs-server-worker doctor` tells more"
        return WorkerFailure(detail=detail).info
    return error_info(error, "")
