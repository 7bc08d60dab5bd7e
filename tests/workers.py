"""Workers that misbehave on demand: the real main loop of a worker around an engine that is only a script.

Run as a program it is such a worker. What it does with a task stands in the task's input name, what it does at its
start in the arguments: see `ScriptedEngine.separate` and `start`. It needs no torch, so it is up in a moment.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
import wave
from collections.abc import Callable
from pathlib import Path

from demucs_server_worker.errors import InputUnreadable, ModelUnavailable, SeparationCancelled
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.separation.job import SeparationJob, SeparationProgress, SeparationResult, StemFile
from demucs_server_worker.worker.main import FetchListener, main
from demucs_server_worker.worker.messages import Boot, Run

DURATION_SECONDS = 3.0


def scripted(start: str = "well") -> tuple[str, ...]:
    """The command of a scripted worker, for `PoolConfig.command`. Args: start: see `start`."""
    return (sys.executable, str(Path(__file__).resolve()), start)


def job(script: str, folder: Path, task_id: str = "task-1", claim: int = 1) -> Run:
    """A job that makes a scripted worker do what `script` says; its folders lie in `folder`."""
    return Run(
        task_id=task_id,
        attempt=1,
        claim=claim,
        input_path=str(folder / "song.wav"),
        input_name=script,
        project_name=None,
        output_dir=str(folder / "out"),
        staging=str(folder / f".staging-{task_id}-{claim}"),
        options=SeparationOptions(),
    )


class ScriptedEngine:
    """Does what the task's input name says."""

    device = "cpu"

    def __init__(self, boot: Boot, protocol: int) -> None:
        self._threads = boot.threads
        self._protocol = protocol
        self._model_repo = Path(boot.model_repo) if boot.model_repo else None

    def preload(self, model: str) -> None:
        if model == "missing":
            raise ModelUnavailable(model=model, detail="there is no network")

    def set_threads(self, threads: int) -> None:
        self._threads = threads

    def separate(
        self, job: SeparationJob, *, on_progress: Callable[[SeparationProgress], None], cancelled: Callable[[], bool]
    ) -> SeparationResult:
        job.staging.mkdir(parents=True)
        (job.staging / "half.wav").write_bytes(b"half a stem")
        on_progress(SeparationProgress(0.1, "decoding"))
        on_progress(SeparationProgress(0.2, "separating", DURATION_SECONDS, computing=True))
        verb, _, detail = job.input_name.partition(" ")
        match verb:
            case "succeed":
                pass
            case "print":
                print(detail, flush=True)
            case "tell":
                (job.staging.parent / "told").write_text(_told(detail, self._threads))
            case "raise":
                raise _errors(detail)
            case "exit":
                print("about to leave", flush=True)
                os._exit(int(detail))
            case "kill":
                os.kill(os.getpid(), int(detail))
                _forever(lambda: False)
            case "wait":
                _forever(cancelled)
            case "grow":
                ballast = b"x" * int(detail)
                _forever(cancelled)
                del ballast
            case "keep":
                self._ballast = b"x" * int(detail)
            case "ignore":
                _forever(lambda: False)
            case "finish-when-cancelled":
                _until(cancelled)
            case "fail-when-cancelled":
                _until(cancelled)
                raise InputUnreadable(name="song.wav", detail="it broke off")
            case "stop":
                os.kill(os.getpid(), signal.SIGSTOP)
            case "hold":
                # Unlike CDLL, this keeps Python's lock while the call runs.
                ctypes.PyDLL(None).sleep(600)
            case "family":
                child = subprocess.Popen(["/bin/sleep", "600"])
                (job.staging.parent / "child").write_text(str(child.pid))
                _forever(lambda: False)
            case "orphan":
                child = subprocess.Popen(["/bin/sleep", "600"])
                (job.staging.parent / "child").write_text(str(child.pid))
                os._exit(7)
            case "flee":
                child = subprocess.Popen(["/bin/sleep", "600"], start_new_session=True, pass_fds=(self._protocol,))
                (job.staging.parent / "child").write_text(str(child.pid))
                os._exit(7)
            case "garble":
                os.write(self._protocol, b'{"type": "done", "nonsense": \xff}\n')
                _forever(lambda: False)
            case "flood":
                _write_all(self._protocol, b"x" * 3_000_000)
                _forever(lambda: False)
            case "backwards":
                for fraction in (0.5, 0.3, 0.6):
                    on_progress(SeparationProgress(fraction, "encoding", DURATION_SECONDS, computing=fraction != 0.3))
            case "copy":
                return _copied(job, tuple(detail.split() or ["vocals", "other"]), self._model_repo)
            case "busy":
                _until((job.staging.parent / "go").exists)
            case _:
                raise AssertionError(f"no such script: {verb}")
        return _result(job)


def _result(job: SeparationJob) -> SeparationResult:
    (job.staging / "half.wav").unlink()
    sound = b"the whole stem"
    (job.staging / "vocals.wav").write_bytes(sound)
    (job.staging / "manifest.json").write_text("{}")
    stem = StemFile(
        name="vocals", path="vocals.wav", format="wav", sample_rate=44_100, channels=2,
        duration_seconds=DURATION_SECONDS, bytes=len(sound), sha256=hashlib.sha256(sound).hexdigest(), peak=0.5,
    )  # fmt: skip
    return SeparationResult(
        files=("vocals.wav", "manifest.json"), stems=(stem,), duration_seconds=DURATION_SECONDS, compute_seconds=0.5,
        forward_passes=1, residual_db=None, gain=1.0,
    )  # fmt: skip


def _copied(job: SeparationJob, names: tuple[str, ...], model_repo: Path | None) -> SeparationResult:
    """Every stem is the song itself, at the places and with the manifest that a real worker gives them."""
    # Here, so that workers which copy nothing are up sooner.
    from demucs_server_worker.separation.identity import ModelIdentities
    from demucs_server_worker.separation.manifest import write_manifest
    from demucs_server_worker.separation.staging import layout

    (job.staging / "half.wav").unlink()
    paths = layout(names, job.options, input_name=job.input_name, project=job.project_name, ext=job.options.format)
    with wave.open(str(job.input_path)) as song:
        rate, seconds = song.getframerate(), song.getnframes() / song.getframerate()
    sound = job.input_path.read_bytes()
    sha256 = hashlib.sha256(sound).hexdigest()
    stems = []
    for name, path in zip(names, paths.stems, strict=True):
        (job.staging / path).parent.mkdir(parents=True, exist_ok=True)
        (job.staging / path).write_bytes(sound)
        stems.append(StemFile(name, path, job.options.format, rate, 2, seconds, len(sound), sha256, 0.5))
    model = ModelIdentities(model_repo).digest(job.options.model)
    write_manifest(
        job.staging / paths.manifest, root=job.staging, options=job.options, model={"sha256": model},
        source={"name": job.input_name, "sha256": sha256}, stems=stems, gain=1.0, residual_db=None,
    )  # fmt: skip
    return SeparationResult(
        files=(*paths.stems, paths.manifest), stems=tuple(stems), duration_seconds=seconds, compute_seconds=0.5,
        forward_passes=1, residual_db=None, gain=1.0, source_sha256=sha256, model_sha256=model,
    )  # fmt: skip


def _told(what: str, threads: int) -> str:
    facts = {"threads": str(threads), "nice": str(os.nice(0)), "input": sys.stdin.read(), "oom": _oom_score()}
    if what == "session nice":
        return _session_niceness()
    return facts.get(what) or os.environ.get(what, "–")


def _oom_score() -> str:
    return Path("/proc/self/oom_score_adj").read_text().strip()


def _session_niceness() -> str:
    return Path("/proc/self/autogroup").read_text().split()[-1]  # `/autogroup-7 nice 5`


def _errors(name: str) -> Exception:
    return {
        "unreadable": InputUnreadable(name="song.wav", detail="it is text"),
        "memory": MemoryError("no more"),
        "disk": OSError(28, "No space left on device"),
        "value": ValueError("that is a surprise"),
    }[name]


def _until(happened: Callable[[], bool]) -> None:
    while not happened():
        time.sleep(0.005)


def _forever(cancelled: Callable[[], bool]) -> None:
    _until(cancelled)
    raise SeparationCancelled


def _write_all(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]


def start(how: str, protocol: int) -> None:
    """Be a worker that starts `how`: well, broken (says BootFailed), dead (exits 3), mute (never ready), short-lived
    (ready, then dies), fetching (fetches a model for four seconds first)."""
    if how == "dead":
        print("no module named torch", file=sys.stderr)
        os._exit(3)
    if how == "mute":
        signal.pause()
    raw = os.dup(protocol)

    def engine(boot: Boot, on_fetch: FetchListener) -> ScriptedEngine:
        if how == "broken":
            raise ImportError("no module named torch")
        if how == "short-lived":
            threading.Timer(0.05, os._exit, (9,)).start()
        if how == "fetching":
            until = time.monotonic() + 4.0
            _until(lambda: on_fetch("model", 1, 2) or time.monotonic() > until)
        return ScriptedEngine(boot, raw)

    main([str(protocol)], engine)


if __name__ == "__main__":
    start(sys.argv[1], int(sys.argv[2]))
