"""How much of its engine's progress a worker passes on."""

from __future__ import annotations

from pathlib import Path

from demucs_server_worker.separation.job import SeparationProgress
from demucs_server_worker.worker.main import PROGRESS_SECONDS, ProgressReporter
from demucs_server_worker.worker.messages import Progress
from tests import workers


def report(*steps: tuple[float, SeparationProgress]) -> list[Progress]:
    """What is said of steps, each at its second."""
    said: list[Progress] = []
    now = [0.0]
    reporter = ProgressReporter(workers.job("wait", Path("/songs")), said.append, clock=lambda: now[0])
    for second, step in steps:
        now[0] = second
        reporter(step)
    return said


def test_figures_are_passed_on_no_more_often_than_they_can_be_used() -> None:
    steps = [(n * PROGRESS_SECONDS * 0.6, SeparationProgress(n / 10, "separating")) for n in range(7)]
    assert [message.progress for message in report(*steps)] == [0.0, 0.2, 0.4, 0.6]


def test_what_changes_beside_the_figure_is_passed_on_at_once() -> None:
    said = report(
        (0.0, SeparationProgress(0.1, "decoding")),
        (0.0, SeparationProgress(0.1, "decoding", 60.0)),
        (0.0, SeparationProgress(0.1, "separating", 60.0)),
        (0.0, SeparationProgress(0.1, "separating", 60.0, computing=True)),
        (0.0, SeparationProgress(0.2, "separating", 60.0, computing=True)),
        (0.0, SeparationProgress(1.0, "separating", 60.0, computing=True)),
    )
    assert [message.progress for message in said] == [0.1, 0.1, 0.1, 0.1, 1.0]
    assert said[3].computing
