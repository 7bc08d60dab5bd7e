"""The log: for people on a terminal, JSON elsewhere; facts and no noise, no secrets, nothing a terminal acts upon."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import pty
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from demucs_server_worker.errors import InputNotFound
from demucs_server_worker.events import EventKind
from demucs_server_worker.logs import adopt_library_logs, configure_logging
from tests.managers import add, heard, manager, run, until

# Time for heartbeats, for samples of health and for looks at the queue.
IDLE_SECONDS = 2.5


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """Leave the process's logging as the next test expects it."""
    before, handlers, level = warnings.formatwarning, logging.root.handlers[:], logging.root.level
    yield
    structlog.reset_defaults()
    logging.captureWarnings(False)
    warnings.formatwarning = before
    logging.root.handlers[:] = handlers
    logging.root.setLevel(level)


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def played(folder: Path, script: str, **settings: Any) -> list[dict[str, Any]]:
    """The log of one task from a manager's start to its end, without what the workers' start says."""
    stream = io.StringIO()
    configure_logging("info", "json", stream)

    async def scene() -> None:
        async with manager(folder, **settings) as m:
            task = await add(m, folder, script)
            async for _ in m.events(task.id):
                pass

    run(scene())
    return [line for line in lines(stream) if line["event"] != "worker_started"]


def test_each_line_of_a_task_has_the_task_the_attempt_and_the_worker(tmp_path: Path) -> None:
    log = played(tmp_path, "print half way through")
    assert [line["event"] for line in log] == ["queued", "started", "half way through", "completed"]
    assert len({line["task"] for line in log}) == 1
    assert all(line["attempt"] == 1 for line in log)
    assert all(line["worker"] == "worker-1" for line in log[1:])
    assert {line["level"] for line in log} == {"info"}
    assert all(line["time"].endswith("Z") for line in log)


def test_a_failure_that_is_expected_is_one_line_with_its_reason(tmp_path: Path) -> None:
    log = played(tmp_path, "raise unreadable")
    assert [line["event"] for line in log] == ["queued", "started", "failed"]
    assert (log[-1]["code"], log[-1]["level"]) == ("input_unreadable", "error")
    assert "cannot be decoded" in log[-1]["reason"]


def test_a_failure_that_is_a_surprise_says_where_it_came_from(tmp_path: Path) -> None:
    log = played(tmp_path, "raise value", max_attempts=2)
    printed = [line for line in log if line["event"].startswith("Traceback")]
    assert [line["attempt"] for line in printed] == [1, 2]
    assert any("ValueError: that is a surprise" in line["event"] for line in log)
    ends = [line for line in log if line["event"] in ("retrying", "failed")]
    assert [(line["event"], line["attempt"]) for line in ends] == [("retrying", 1), ("failed", 2)]


def test_an_idle_manager_says_nothing(tmp_path: Path) -> None:
    stream = io.StringIO()
    configure_logging("info", "json", stream)

    async def scene() -> list[dict[str, Any]]:
        async with heard(m := manager(tmp_path)) as events, m:
            await until(m, EventKind.WORKER_STARTED)
            before = len(lines(stream))
            while m.get_status()["workers"][0]["uptime_seconds"] < IDLE_SECONDS:
                await asyncio.sleep(0.01)
            assert [event.kind for event in events] == [EventKind.WORKER_STARTED]
            return lines(stream)[before:]

    assert run(scene()) == []


def test_at_warning_a_song_that_goes_well_is_not_mentioned(tmp_path: Path) -> None:
    stream = io.StringIO()
    configure_logging("warning", "json", stream)

    async def scene() -> None:
        async with manager(tmp_path) as m:
            for script in ("succeed", "raise unreadable"):
                task = await add(m, tmp_path, script)
                async for _ in m.events(task.id):
                    pass

    run(scene())
    assert [line["event"] for line in lines(stream)] == ["failed"]


@pytest.mark.parametrize(
    ("format", "stream", "is_json"),
    [("auto", io.StringIO, True), ("auto", Terminal, False), ("json", Terminal, True), ("console", io.StringIO, False)],
)
def test_people_get_words_and_programs_get_json(format: str, stream: type[io.StringIO], is_json: bool) -> None:
    out = stream()
    configure_logging("info", format, out)
    structlog.get_logger().info("started", task="t1")
    assert out.getvalue().count("\n") == 1
    assert out.getvalue().startswith("{") is is_json
    assert ("\x1b[" in out.getvalue()) is (stream is Terminal and not is_json)


@pytest.mark.parametrize("name", ["a\x1b]0;owned\x07b", "two\nlines", "re\u202eversed", "back\rwards"])
def test_a_name_cannot_act_on_the_terminal_nor_forge_a_line(name: str) -> None:
    out = io.StringIO()
    configure_logging("info", "console", out)
    structlog.get_logger().info("queued", name=name)
    text = out.getvalue()
    assert text.count("\n") == 1 and text.rstrip("\n").isprintable()
    assert name.encode("unicode_escape").decode() in text


@pytest.mark.parametrize("format", ["console", "json"])
def test_a_traceback_shows_no_variables(format: str) -> None:
    out = Terminal()
    configure_logging("info", format, out)
    api_keys = "open sesame"
    try:
        raise InputNotFound(path=len(api_keys))
    except InputNotFound:
        structlog.get_logger().exception("it failed")
    assert "InputNotFound" in out.getvalue() and "Traceback" in out.getvalue()
    assert "open sesame" not in out.getvalue().replace('api_keys = "open sesame"', "")


def test_libraries_log_and_warn_in_the_same_shape_from_warning_on() -> None:
    out = io.StringIO()
    configure_logging("debug", "json", out)
    adopt_library_logs("json", out)
    logging.getLogger("asyncio").debug("using a selector")
    logging.getLogger("huggingface_hub").warning("the %s is slow", "network")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(True)
        warnings.warn("this will go", FutureWarning, stacklevel=1)
    first, second = lines(out)
    assert (first["event"], first["logger"], first["level"]) == ("the network is slow", "huggingface_hub", "warning")
    assert (second["event"], second["logger"]) == ("FutureWarning: this will go", "py.warnings")


def test_on_a_real_terminal_auto_is_for_people() -> None:
    leader, follower = pty.openpty()
    with os.fdopen(follower, "w") as stream:
        configure_logging("info", "auto", stream)
        structlog.get_logger().info("started", task="t1")
        stream.flush()
        said = os.read(leader, 4096).decode()
    os.close(leader)
    assert "started" in said and not said.startswith("{")
    assert sys.stderr is not stream
