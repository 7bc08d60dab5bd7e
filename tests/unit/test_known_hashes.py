"""A file that nobody touched is hashed once for all workers; any other is hashed again."""

from __future__ import annotations

import json
import os
from hashlib import sha256
from pathlib import Path

import pytest

from demucs_server_worker.separation import known_hashes
from demucs_server_worker.separation.known_hashes import KnownHashes


@pytest.fixture
def hashed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the files that were read, in order; any file counts as large and as untouched for long."""
    names: list[str] = []

    def hash_file(path: Path) -> str:
        names.append(path.name)
        return sha256(path.read_bytes()).hexdigest()

    monkeypatch.setattr(known_hashes, "hash_file", hash_file)
    monkeypatch.setattr(known_hashes, "LEAST_BYTES", 0)
    monkeypatch.setattr(known_hashes, "SETTLED_SECONDS", -1e9)
    return names


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "weights"
    path.write_bytes(b"some")
    return path


def of(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def test_it_is_hashed_once_for_all_processes(hashed: list[str], file: Path, tmp_path: Path) -> None:
    assert [KnownHashes(tmp_path / "hashes").hash_of(file) for _ in range(3)] == [of(file)] * 3
    assert hashed == ["weights"]


def test_the_same_file_under_another_name_is_another(hashed: list[str], file: Path, tmp_path: Path) -> None:
    hashes = KnownHashes(tmp_path / "hashes")
    hashes.hash_of(file)
    hashes.hash_of(file.rename(tmp_path / "renamed"))
    assert hashed == ["weights", "renamed"]


def test_what_was_written_to_is_hashed_again_even_with_its_size_and_date_put_back(
    hashed: list[str], file: Path, tmp_path: Path
) -> None:
    hashes = KnownHashes(tmp_path / "hashes")
    hashes.hash_of(file)
    stat = file.stat()
    file.write_bytes(b"same")
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert hashes.hash_of(file) == sha256(b"same").hexdigest()
    exchanged = tmp_path / "other"
    exchanged.write_bytes(b"also")
    exchanged.replace(file)
    assert hashes.hash_of(file) == sha256(b"also").hexdigest()
    assert len(hashed) == 3
    assert len(list((tmp_path / "hashes").iterdir())) == 1  # the record of a file takes the place of its last one


def test_what_was_forgotten_is_hashed_again(hashed: list[str], file: Path, tmp_path: Path) -> None:
    hashes = KnownHashes(tmp_path / "hashes")
    hashes.forget(file)
    hashes.hash_of(file)
    hashes.forget(file)
    hashes.hash_of(file)
    assert len(hashed) == 2


@pytest.mark.parametrize("record", ["", "[]", "{}", '{"mark": [1], "sha256": "00"}', "\0"])
def test_a_broken_record_is_none(hashed: list[str], file: Path, tmp_path: Path, record: str) -> None:
    hashes = KnownHashes(tmp_path / "hashes")
    hashes.hash_of(file)
    (kept,) = (tmp_path / "hashes").iterdir()
    assert json.loads(kept.read_text())["sha256"] == of(file)
    kept.write_text(record)
    assert hashes.hash_of(file) == of(file)
    assert len(hashed) == 2


@pytest.mark.parametrize(("bound", "value"), [("SETTLED_SECONDS", 60), ("LEAST_BYTES", 5)])
def test_a_file_that_changed_just_now_or_is_small_is_hashed_each_time(
    hashed: list[str], file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, bound: str, value: int
) -> None:
    monkeypatch.setattr(known_hashes, bound, value)
    hashes = KnownHashes(tmp_path / "hashes")
    assert [hashes.hash_of(file), hashes.hash_of(file)] == [of(file)] * 2
    assert len(hashed) == 2
    assert not (tmp_path / "hashes").exists()


def test_where_nothing_can_be_written_it_is_hashed_each_time(hashed: list[str], file: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file where the folder would be")
    hashes = KnownHashes(blocked)
    assert [hashes.hash_of(file), hashes.hash_of(file)] == [of(file)] * 2
    hashes.forget(file)
    assert len(hashed) == 2


def test_a_file_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="nothing"):
        KnownHashes(tmp_path).hash_of(tmp_path / "nothing")
