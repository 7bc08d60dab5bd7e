"""Finding the kernel's count of kills for memory."""

from __future__ import annotations

from pathlib import Path

import pytest

from demucs_server_worker.pool import attempt, memory
from demucs_server_worker.pool.process import Exit


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (["0::/system.slice/worker.service"], "/sys/fs/cgroup/system.slice/worker.service/memory.events"),
        (["0::/"], "/sys/fs/cgroup/memory.events"),
        (["4:memory:/docker/abc", "0::/"], "/sys/fs/cgroup/memory/docker/abc/memory.oom_control"),
        ([], "/proc/vmstat"),
    ],
)
def test_where_the_count_stands(groups: list[str], expected: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_own_groups", lambda: groups)
    assert str(memory._sources()[0]) == expected
    assert str(memory._sources()[-1]) == "/proc/vmstat"


@pytest.mark.parametrize(
    ("text", "kills"),
    [
        ("low 0\nhigh 0\nmax 12\noom 3\noom_kill 2\noom_group_kill 1\n", 2),
        ("oom_kill_disable 0\nunder_oom 0\noom_kill 5\n", 5),
        ("nr_free_pages 10\noom_kill 7\n", 7),
    ],
)
def test_the_first_source_that_can_be_read_counts(
    text: str, kills: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, other = tmp_path / "found", tmp_path / "other"
    found.write_text(text)
    other.write_text("oom_kill 99\n")
    monkeypatch.setattr(memory, "_sources", lambda: [tmp_path / "missing", found, other])
    assert memory.oom_kills() == kills


def test_without_a_source_there_is_no_evidence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_sources", lambda: [tmp_path / "missing"])
    assert memory.oom_kills() == 0


@pytest.mark.parametrize(
    ("exit", "kills", "short", "expected"),
    [
        (Exit(-9, None, ()), 1, False, True),
        (Exit(-9, None, ()), 0, True, True),
        (Exit(-9, None, ()), 0, False, False),
        (Exit(-9, "its task timed out", ()), 1, True, False),
        (Exit(-11, None, ()), 1, True, False),
        (Exit(-6, None, ("terminate called after throwing an instance of 'std::bad_alloc'",)), 0, False, True),
        (Exit(-6, None, ("assertion failed",)), 0, False, False),
    ],
)
def test_the_evidence_for_a_lack_of_memory(
    exit: Exit, kills: int, short: bool, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "oom_kills", lambda: kills)
    monkeypatch.setattr(memory, "is_short", lambda: short)
    assert attempt._was_out_of_memory(exit, kills_before=0) is expected
