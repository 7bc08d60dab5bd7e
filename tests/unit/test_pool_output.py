"""What a worker prints: in the log, and in the message of its death."""

from __future__ import annotations

import pytest
from structlog.testing import capture_logs

from demucs_server_worker.pool.output import KEPT_LINES, LOGGED_LINES_PER_SECOND, Output, last_words
from demucs_server_worker.pool.process import Exit


def test_lines_are_logged_with_worker_and_the_attempt_of_the_moment() -> None:
    with capture_logs() as logs:
        output = Output("worker-1", clock=lambda: 0.0)
        output.take(b"idle")
        output.belongs_to("task-1", 2)
        output.take(b"busy")
        output.belongs_to_none()
        output.take(b"idle again")
    assert [(line["event"], line["worker"], line.get("task"), line.get("attempt")) for line in logs] == [
        ("idle", "worker-1", None, None),
        ("busy", "worker-1", "task-1", 2),
        ("idle again", "worker-1", None, None),
    ]


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (b"  indented  ", "  indented"),
        (b"\x1b[31mred\x1b[0m", "red"),
        (b"10%\r20%\r30%\r", "30%"),
        (b"not \xff utf-8", "not \N{REPLACEMENT CHARACTER} utf-8"),
        (b"a\x00b\x07c", "abc"),
        ("a\x9b31mb".encode(), "a31mb"),
    ],
)
def test_a_line_cannot_harm_the_terminal_that_shows_the_log(line: bytes, text: str) -> None:
    output = Output("worker-1", clock=lambda: 0.0)
    output.take(line)
    assert output.last_lines == (text,)


def test_empty_lines_are_no_lines() -> None:
    with capture_logs() as logs:
        Output("worker-1", clock=lambda: 0.0).take(b" \r")
    assert logs == []


def test_a_flood_is_cut_in_the_log_and_counted() -> None:
    now = [0.0]
    with capture_logs() as logs:
        output = Output("worker-1", clock=lambda: now[0])
        for number in range(LOGGED_LINES_PER_SECOND + 30):
            output.take(b"line %d" % number)
        assert len(logs) == LOGGED_LINES_PER_SECOND
        now[0] = 1.5
        output.take(b"later")
    assert logs[-2]["lines_left_out"] == 30
    assert logs[-1]["event"] == "later"
    assert len(output.last_lines) == KEPT_LINES


def test_last_words_leave_stack_frames_out() -> None:
    traceback = (
        "Loading",
        "Traceback (most recent call last):",
        '  File "/srv/secret/place.py", line 3, in <module>',
        "    import torch",
        "    ^^^^^^^^^^^^",
        "ModuleNotFoundError: No module named 'torch'",
    )
    assert last_words(traceback) == "Loading | ModuleNotFoundError: No module named 'torch'"
    assert last_words(()) == ""
    assert len(last_words(("x" * 3_000,))) == 400


@pytest.mark.parametrize(
    ("exit", "words"),
    [
        (Exit(3, None, ()), "it ended with exit code 3"),
        (Exit(0, None, ("bye",)), "it ended with exit code 0; it last said: bye"),
        (Exit(-11, None, ()), "it was killed by SIGSEGV (segmentation fault)"),
        (Exit(-9, None, ()), "it was killed by SIGKILL (killed)"),
        (Exit(-63, None, ()), "it was killed by signal 63"),
        (Exit(-9, "the pool was stopped", ("bye",)), "the pool was stopped"),
    ],
)
def test_an_end_in_words(exit: Exit, words: str) -> None:
    assert exit.describe() == words
