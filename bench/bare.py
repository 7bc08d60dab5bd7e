"""Forward passes with nothing around them, measured as `demucs-server-worker bench` does."""

from __future__ import annotations

from pathlib import Path

from bench.paths import CONVERTED
from demucs_server_worker.machine import basics
from demucs_server_worker.measure import figures, session
from demucs_server_worker.measure.figures import Machine, Measured, Setup
from demucs_server_worker.settings import load_settings


class Bare:
    """The machine and a model of it, by the default settings."""

    def __init__(self, model: str, repo: Path | None, seconds: float) -> None:
        """Look at both. Args: model: its name; repo: its folder; seconds: that each measurement computes for."""
        settings = load_settings(cache_dir=CONVERTED)
        self._order = session.Order(model=model, repo=repo, settings=settings, seconds=seconds)
        self.machine: Machine = session.look(self._order)

    def setup(self, workers: int) -> Setup:
        """What that many workers compute with, all of them busy."""
        threads = max(1, basics.cores() // workers)
        return Setup(self.machine.chosen_backend, self.machine.chosen_precision, workers, threads)

    def time(self, setup: Setup) -> Measured:
        """Measure it.

        Raises:
            RuntimeError: it cannot be.
        """
        found = session.time_setup(self._order, setup)
        if not isinstance(found, Measured):
            raise RuntimeError(found.reason)
        return found

    def distance(self, measured: Measured) -> float:
        """Of it to the floor."""
        return figures.distance_to_floor(self.machine, measured)
