"""Examples for the API's description: shapes of the wire around tasks that could be, so that they are always valid."""

from __future__ import annotations

from typing import Any

from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.task import Origin, Stage, Stem, Task, TaskRequest, TaskState
from demucs_server_worker.wire.task import TaskPage, task_body

_BEGAN = 1_792_000_000.0  # 2026-10-14

_EXAMPLE = Task(
    id="0b9e1c6e5a634d2c9a6f5f0c2d1e4f7a",
    request=TaskRequest(
        input_path="song.mp3", output_dir="stems", input_name="song.mp3", file_id="file123", project_name="My Project",
        options=SeparationOptions(model="htdemucs", two_stems="vocals", format="flac"), origin=Origin.UPLOAD,
    ),
    state=TaskState.COMPLETED,
    claim=1,
    progress=1.0,
    stage=Stage.DONE,
    created_at=_BEGAN,
    started_at=_BEGAN + 0.2,
    finished_at=_BEGAN + 41.5,
    duration_seconds=184.2,
    stems=tuple(
        Stem(
            name=name, path=f"stems/{name}.flac", format="flac", sample_rate=44_100, channels=2,
            duration_seconds=184.2, bytes=size, sha256=digest * 32, peak=0.93,
        )
        for name, size, digest in (("vocals", 14_203_112, "9f"), ("no_vocals", 19_870_455, "3c"))
    ),
)  # fmt: skip

_BODY = task_body(_EXAMPLE, remote=True)

TASK: dict[str, Any] = _BODY.model_dump(mode="json")
"""A completed task."""

TASK_PAGE: dict[str, Any] = TaskPage(tasks=(_BODY,), cursor=41).model_dump(mode="json")
"""A page with it."""
