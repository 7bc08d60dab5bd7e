"""The proof: a worker boots and separates half a second with the model that ships in the package."""

from __future__ import annotations

import asyncio
import tempfile
import time
import wave
from pathlib import Path

from demucs_server_worker.doctor.check import Check, Trouble, failed, fine
from demucs_server_worker.errors import DemucsWorkerError
from demucs_server_worker.events import EventKind
from demucs_server_worker.manager import WorkerManager
from demucs_server_worker.settings import Settings

MODEL = "demo"
SONG_SECONDS = 0.5
RATE_HZ = 44_100
LIMIT_SECONDS = 120.0

_HERE = Trouble.STARTS


async def try_worker(settings: Settings, *, seconds: float = LIMIT_SECONDS) -> Check:
    """Start a manager with one worker in a temporary folder, and give it half a second of sound.

    Args:
        settings: device and precision are taken from them.
        seconds: after which it has failed.
    """
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="demucs-server-worker-", ignore_cleanup_errors=True) as folder:
        try:
            async with asyncio.timeout(seconds):
                problem = await _problem(settings, Path(folder))
        except TimeoutError:
            problem = f"nothing came of it in {seconds:g} seconds"
        except DemucsWorkerError as error:
            problem = error.message
        except OSError as error:
            problem = f"the machine refused: {error}"
    if problem is not None:
        mend = "See the failed lines above first; LOG_LEVEL=debug demucs-server-worker serve tells more."
        return failed(_HERE, "trial", f"a worker was started and could not separate: {problem}", mend)
    taken = time.monotonic() - began
    return fine(_HERE, "trial", f"a worker booted and separated half a second in {taken:.1f} s")


async def _problem(settings: Settings, folder: Path) -> str | None:
    """What kept the worker from it, in words."""
    song = _song(folder / "trial.wav")
    own = {"data_dir": folder / "data", "model": MODEL, "model_repo": None, "max_workers": 1, "max_attempts": 1}
    manager = WorkerManager(settings.model_copy(update=own))
    await manager.start()
    try:
        task = await manager.add_task(input_path=song, output_dir=folder / "stems")
        async for event in manager.events():
            if event.kind is EventKind.WORKER_DIED:
                return event.detail
            if event.kind is EventKind.FAILED and event.error is not None:
                return event.error.message
            if event.kind is EventKind.COMPLETED and event.task_id == task.id:
                return None
    finally:
        await manager.shutdown(0)
    return "it was stopped"


def _song(path: Path) -> Path:
    """A square wave of 220 Hz, in stereo; made without numpy, which this process does not load."""
    half = RATE_HZ // 220 // 2
    frames = round(SONG_SECONDS * RATE_HZ)
    levels = (6_000 if number // half % 2 else -6_000 for number in range(frames))
    samples = b"".join(level.to_bytes(2, "little", signed=True) * 2 for level in levels)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(2)
        file.setsampwidth(2)
        file.setframerate(RATE_HZ)
        file.writeframes(samples)
    return path
