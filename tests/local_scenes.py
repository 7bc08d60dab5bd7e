"""Scenes with a local pool of scripted workers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from demucs_server_worker.pool.base import Pool, WorkerEvent
from demucs_server_worker.pool.local import LocalPool, PoolConfig
from tests.pool_conformance import PoolConformance
from tests.workers import scripted


class LocalScenes(PoolConformance):
    """The conformance suite for `LocalPool`; `play` takes the fields of `PoolConfig`."""

    def make_pool(self, size: int, on_event: Callable[[WorkerEvent], None], **settings: Any) -> Pool:
        defaults = {"command": scripted(), "first_delay_seconds": 0.01}
        return LocalPool(PoolConfig(size=size, **{**defaults, **settings}), on_event)
