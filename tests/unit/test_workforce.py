"""What the settings make of the pool's memory and its workers' environment."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from demucs_server_worker import workforce
from demucs_server_worker.machine.gpus import Gpus
from demucs_server_worker.settings import load_settings
from demucs_server_worker.workforce import health_config, local_pool


@pytest.mark.parametrize(
    ("backend", "installed", "expected"), [("auto", True, True), ("auto", False, False), ("torch", True, False)]
)
def test_openvino_is_reckoned_with_where_it_is_installed_and_not_ruled_out(
    monkeypatch: pytest.MonkeyPatch, backend: str, installed: bool, expected: bool
) -> None:
    found: Any = object() if installed else None
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: found)
    assert health_config(load_settings(backend=backend)).openvino is expected


@pytest.mark.parametrize(("backend", "keeps"), [("torch", True), ("auto", False)])
def test_workers_that_can_only_use_torch_keep_their_memory(
    monkeypatch: pytest.MonkeyPatch, backend: str, keeps: bool
) -> None:
    monkeypatch.setattr(workforce, "_may_use_openvino", lambda settings: settings.backend == "auto")
    pool = local_pool(load_settings(backend=backend), Gpus(visible=""), lambda event: None)
    launch = pool._place_config(0).launch
    assert ("MALLOC_TRIM_THRESHOLD_" in launch.environment) is keeps


def test_what_workers_preload_is_known() -> None:
    assert health_config(load_settings(model="htdemucs_6s")).preloaded == "htdemucs_6s"
    assert health_config(load_settings(preload=False)).preloaded is None


def test_workers_let_the_server_go_first() -> None:
    pool = local_pool(load_settings(), Gpus(), lambda event: None)
    assert pool._place_config(0).launch.nice > 0
