"""What the doctor makes of what it finds, figure by figure."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from demucs_server_worker.doctor import crashes, installation, slowness, surroundings
from demucs_server_worker.doctor.check import Trouble, Verdict
from demucs_server_worker.errors import InputUnreadable, OutOfMemory
from demucs_server_worker.machine.basics import Memory
from demucs_server_worker.queue.task_queue import TaskQueue
from demucs_server_worker.settings import load_settings
from demucs_server_worker.task import TaskRequest

GB = 10**9

PROBED: dict[str, Any] = {
    "device": "cpu", "device_problem": None, "gpus": [], "cuda_build": False, "threads": 2, "missing_decoders": [],
    "missing_encoders": [], "openvino": "2026.4.1", "openvino_problem": None, "bf16": True,
}  # fmt: skip


@pytest.mark.parametrize(
    ("version", "verdict"), [((3, 11, 0), Verdict.OK), ((3, 14, 1), Verdict.OK), ((3, 10, 9), Verdict.FAILED)]
)
def test_python(version: tuple[int, ...], verdict: Verdict) -> None:
    check = installation.check_python(version)
    assert (check.verdict, bool(check.mend)) == (verdict, verdict is Verdict.FAILED)


@pytest.mark.parametrize(
    ("requirements", "found"),
    [
        (["pytest>=8", "no-such-package-at-all>=1"], "no-such-package-at-all is missing"),
        (["pytest<1"], "does not fit <1"),
        (["no-such-package-at-all; python_version < '3'", "no-such-one; extra == 'nvidia'", "pytest"], ""),
    ],
)
def test_packages(requirements: list[str], found: str) -> None:
    check = installation.check_packages(requirements)
    assert found in check.found
    assert check.verdict is (Verdict.FAILED if found else Verdict.OK)


def test_the_packages_of_this_installation_fit() -> None:
    check = installation.check_packages()
    assert check.verdict is Verdict.OK
    assert all(name in check.found for name in ("demucs 4.", "torch 2.", "av ", "soundfile "))


def test_a_child_that_cannot_load_torch_fails_alone() -> None:
    (check,) = installation.check_probe("ImportError: libcudart.so.12 is missing", load_settings())
    assert (check.verdict, check.name) == (Verdict.FAILED, "torch")
    assert "libcudart" in check.found and "pip install" in check.mend
    assert not installation.loads([check])


def test_a_child_that_hangs_is_not_waited_for() -> None:
    assert installation.probe("cpu", seconds=0.01) == "loading them took more than 0.01 seconds"


def test_a_device_that_is_not_there_and_codecs_that_are_missing() -> None:
    probed = {**PROBED, "device": None, "device_problem": "no CUDA", "missing_encoders": ["mp3"]}
    by_name = {check.name: check for check in installation.check_probe(probed, load_settings(device="cuda"))}
    assert by_name["torch"].verdict is Verdict.OK
    assert by_name["device"].verdict is Verdict.FAILED and "no CUDA" in by_name["device"].found
    assert by_name["codecs"].verdict is Verdict.FAILED and "mp3" in by_name["codecs"].found
    assert installation.loads(list(by_name.values()))


@pytest.mark.parametrize(
    ("settings", "verdict", "word"),
    [
        ({"model": "demo"}, Verdict.OK, "demo is on this machine"),
        ({"model": "htdemucs"}, Verdict.WARNING, "--download htdemucs"),
        ({"model": "htdemuks"}, Verdict.FAILED, "the nearest is htdemucs"),
    ],
)
def test_model(
    settings: dict[str, Any], verdict: Verdict, word: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("demucs_server_worker.separation.hub._in_cache", lambda *_: None)
    check = installation.check_model(load_settings(**settings))
    assert check.verdict is verdict
    assert word in check.found + check.mend


@pytest.mark.parametrize(
    ("workers", "needed", "total", "available", "verdict", "word"),
    [
        (2, 1.2, 16, 12, Verdict.OK, ""),
        (2, 1.2, 16, 2, Verdict.WARNING, "End other programs"),
        (8, 2.0, 8, 7, Verdict.FAILED, "Lower MAX_WORKERS to 4"),
        (1, 9.0, 8, 7, Verdict.FAILED, "Add memory"),
    ],
)
def test_memory(workers: int, needed: float, total: int, available: int, verdict: Verdict, word: str) -> None:
    memory = Memory(total * GB, available * GB)
    check = crashes.check_memory(load_settings(), workers, int(needed * GB), memory)
    assert (check.verdict, check.trouble) == (verdict, Trouble.CRASHES)
    assert word in check.mend


def test_the_queue_tells_what_failed_and_whether_workers_were_to_blame(tmp_path: Path) -> None:
    assert [check.found for check in crashes.check_queue(tmp_path)] == ["there is none yet"]
    queue = TaskQueue(tmp_path / "queue.db")

    def fail(name: str, error: Any) -> None:
        request = TaskRequest(input_path=f"/{name}", output_dir="/out", input_name=name)
        queue.put(request, now=1.0, max_attempts=1, max_queued=None)
        task = queue.claim("worker-1", 2.0)
        assert task is not None
        queue.fail(task, error.info, 3.0)

    fail("text.mp3", InputUnreadable(name="text.mp3", detail="it is text"))
    state, failures = crashes.check_queue(tmp_path)
    assert "1 failed" in state.found
    assert failures.verdict is Verdict.OK and "text.mp3" in failures.found and "1 × input_unreadable" in failures.found
    fail("long.wav", OutOfMemory(detail="killed by the kernel"))
    _, failures = crashes.check_queue(tmp_path)
    assert failures.verdict is Verdict.WARNING and "1 × out_of_memory" in failures.found
    assert "Lower MAX_WORKERS" in failures.mend
    queue.close()


def test_a_queue_that_is_damaged_is_told_and_not_raised(tmp_path: Path) -> None:
    (tmp_path / "queue.db").write_bytes(b"this is no database at all, but long enough to be taken for one" * 50)
    (check,) = crashes.check_queue(tmp_path)
    assert check.verdict is Verdict.FAILED and "damaged" in check.found


def test_data_folder(tmp_path: Path) -> None:
    assert surroundings.check_folder(tmp_path).verdict is Verdict.OK
    not_yet = tmp_path / "a" / "b"
    assert surroundings.check_folder(not_yet).found == f"{not_yet} can be made"
    assert not not_yet.parent.exists()
    (tmp_path / "file").touch()
    check = surroundings.check_folder(tmp_path / "file" / "data")
    assert check.verdict is Verdict.FAILED and "DEMUCS_WORKER_DATA_DIR" in check.mend


@pytest.mark.parametrize("pid", ["", "no number", "1", "999999999"])
def test_a_note_of_a_manager_that_is_gone_is_no_manager(pid: str, tmp_path: Path) -> None:
    (tmp_path / "manager.pid").write_text(pid)
    assert surroundings.running_manager(tmp_path) is None


@pytest.mark.parametrize(
    ("workers", "cores", "device", "verdict"),
    [
        (2, 4, "cpu", Verdict.OK),
        (8, 4, "cpu", Verdict.WARNING),
        (2, 32, "cpu", Verdict.WARNING),
        (2, 32, "cuda:0", Verdict.OK),
        (4, 4, None, Verdict.OK),
    ],
)
def test_workers_against_cores(workers: int, cores: int, device: str | None, verdict: Verdict) -> None:
    assert slowness.check_workers(workers, cores, device).verdict is verdict


@pytest.mark.parametrize(
    ("settings", "device", "gpus", "words"),
    [
        ({}, "cuda:0", 1, []),
        ({}, "cpu", 1, ["Install a torch built for CUDA"]),
        ({"device": "cpu"}, "cpu", 1, ["Set DEMUCS_WORKER_DEVICE to auto"]),
        ({"model": "htdemucs_ft"}, "cuda:0", 1, ["saves networks"]),
        ({}, "cpu", 0, [""]),
    ],
)
def test_gpus_and_models(settings: dict[str, Any], device: str, gpus: int, words: list[str]) -> None:
    checks = list(slowness.check_device(load_settings(**settings), {**PROBED, "device": device}, gpus))
    assert len(checks) == len(words)
    assert all(word in check.mend for word, check in zip(words, checks, strict=True))


def test_load_and_swap() -> None:
    assert slowness.check_load(2.0, 2, manager_runs=False).verdict is Verdict.OK
    assert "Other programs" in slowness.check_load(9.0, 2, manager_runs=False).mend
    assert "workers included" in slowness.check_load(9.0, 2, manager_runs=True).found
    assert slowness.check_swap(3 * GB, 1 * GB).verdict is Verdict.WARNING
    assert slowness.check_swap(3 * GB, 20 * GB).verdict is Verdict.OK


@pytest.mark.parametrize(
    ("settings", "probed", "verdict", "words"),
    [
        ({}, {}, Verdict.OK, "OpenVINO 2026.4.1 for the htdemucs models, torch for others; precision auto is bf16"),
        ({}, {"bf16": False}, Verdict.OK, "precision auto is fp32"),
        ({}, {"openvino": None, "openvino_problem": "it is not installed"}, Verdict.WARNING, "it is not installed"),
        ({"backend": "torch"}, {}, Verdict.WARNING, "as the settings ask for"),
    ],
)
def test_backend(settings: dict[str, Any], probed: dict[str, Any], verdict: Verdict, words: str) -> None:
    (check,) = slowness.check_backend(load_settings(**settings), {**PROBED, **probed})
    assert (check.verdict, bool(check.mend)) == (verdict, verdict is Verdict.WARNING)
    assert words in check.found


def test_backend_is_no_question_on_a_gpu() -> None:
    assert list(slowness.check_backend(load_settings(), {**PROBED, "device": "cuda:0"})) == []


def test_this_installation_is_probed_for_backends() -> None:
    found = installation.probe("cpu")
    assert not isinstance(found, str)
    (check,) = slowness.check_backend(load_settings(), found)
    assert (check.verdict is Verdict.OK) == (found["openvino"] is not None)
