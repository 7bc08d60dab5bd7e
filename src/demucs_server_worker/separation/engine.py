"""Songs one after the other, on models that stay loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from platformdirs import user_cache_path

from demucs_server_worker.errors import SeparationCancelled, WeightsChanged
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.separation import hub
from demucs_server_worker.separation.backends.base import Backend
from demucs_server_worker.separation.backends.cache import unknown
from demucs_server_worker.separation.backends.choice import Backends, Wanted
from demucs_server_worker.separation.device import resolve_device, resolve_precision
from demucs_server_worker.separation.job import SeparationJob, SeparationProgress, SeparationResult
from demucs_server_worker.separation.known_hashes import KnownHashes
from demucs_server_worker.separation.models import LoadedModel
from demucs_server_worker.separation.one_song import OneSong
from demucs_server_worker.separation.progress import ProgressMeter
from demucs_server_worker.separation.shelf import ModelShelf
from demucs_server_worker.separation.staging import staged


class Engine:
    """Separates songs one after the other. Not safe to share between threads, but for `set_threads`."""

    def __init__(
        self,
        *,
        device: str = "auto",
        precision: str = "auto",
        model_repo: Path | None = None,
        threads: int | None = None,
        backend: Wanted = "auto",
        cache_dir: Path | None = None,
        on_fetch: hub.Progress | None = None,
        memory_left: Callable[[], int | None] = unknown,
    ) -> None:
        """Choose where to compute.

        Args:
            device: for jobs whose options say `auto`: `auto` (CUDA, then MPS, then CPU), `cpu`, `cuda:1`, …
            precision: likewise: `auto`, `fp32`, `bf16`, `fp16`.
            model_repo: folder of local models; None for those that Demucs publishes.
            threads: compute threads; None leaves torch's own choice.
            backend: `auto` (OpenVINO for the models and devices it was proven on, else torch), `torch`, `openvino`.
            cache_dir: folder of converted models, and of hashes; None takes the user's cache folder.
            on_fetch: told of each piece of a model that arrives: file, bytes done, bytes in all or None; and, about
                twice a second, of a model that is being converted.
            memory_left: bytes of memory that are free, or None where nobody can tell: a model is not converted where
                there is too little for it.

        Raises:
            InvalidOption: for a device that this machine does not have, a precision that the device does not, or a
                backend that is not installed.
        """
        self._device = resolve_device(device)
        self._precision = precision
        resolve_precision(precision, self._device)  # a wrong one is an error now, not at the first song
        cache_dir = cache_dir or user_cache_path("demucs-server-worker", appauthor=False)
        self._shelf = ModelShelf(model_repo, KnownHashes(cache_dir / "hashes"), on_fetch)
        self._threads = threads
        self._use_threads()
        self._backends = Backends(
            backend, cache_dir, threads=torch.get_num_threads, on_fetch=on_fetch, memory_left=memory_left
        )  # fmt: skip

    @property
    def device(self) -> str:
        """Where it computes, e.g. `cpu` or `cuda:0`."""
        return str(self._device)

    def preload(self, model: str) -> None:
        """Load `model`, so that the first job does not wait for it.

        Raises:
            ModelError, UnknownModel: when it cannot be had.
        """
        loaded = self._shelf.take(model)
        with self._forgetting(loaded):
            self._backends.preload(loaded, self._device, self._precision)

    def set_threads(self, threads: int) -> None:
        """Compute with this many threads from the next segment on. May be called from any thread."""
        self._threads = threads

    def separate(
        self, job: SeparationJob, *, on_progress: Callable[[SeparationProgress], None], cancelled: Callable[[], bool]
    ) -> SeparationResult:
        """Separate one song into `job.staging`.

        The staging folder needs room for the stems and, with `clip_mode` `rescale`, for their raw samples beside
        them until the end: 8 bytes a sample, which for four stems at 44.1 kHz is 1.4 MB a second of the song.

        Args:
            job: the song and what is wanted.
            on_progress: called often, by the thread that called this; must be quick.
            cancelled: asked often, also by other threads; when it says True, the separation ends within a segment.

        Raises:
            SeparationCancelled: after `cancelled` said True.
            DemucsWorkerError: whatever makes the song, the request, the model or the output unusable.
        """

        def check() -> None:
            if cancelled():
                raise SeparationCancelled

        check()
        meter = ProgressMeter(on_progress)
        meter.begin()
        device, precision = self._device_and_precision(job.options)
        with staged(job.staging, job.output_dir):
            model = self._shelf.take(job.options.model)
            self._use_threads()

            def backend_of(place: int) -> Backend:
                return self._backends.of(model, place, device, precision, check)

            song = OneSong(job, model, backend_of, meter, check, self._use_threads)
            with self._forgetting(model):
                return song.separate()

    @contextmanager
    def _forgetting(self, model: LoadedModel) -> Iterator[None]:
        """Where `model` turns out to be one whose files were exchanged, the next try begins with those of then."""
        try:
            yield
        except WeightsChanged:
            self._shelf.forget(model)
            raise

    def _device_and_precision(self, options: SeparationOptions) -> tuple[torch.device, str]:
        device = self._device if options.device == "auto" else resolve_device(options.device)
        precision = self._precision if options.precision == "auto" else options.precision
        resolve_precision(precision, device)  # one that the device does not have is an error before the song is read
        return device, precision

    def _use_threads(self) -> None:
        if self._threads is not None and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)
