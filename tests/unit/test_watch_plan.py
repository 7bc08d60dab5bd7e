"""What the settings say of a watched folder, the task that a song in it becomes, and when a song has settled."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from demucs_server_worker.errors import InvalidSetting
from demucs_server_worker.settings import load_settings
from demucs_server_worker.task import Origin
from demucs_server_worker.watch.folder import Sighting
from demucs_server_worker.watch.plan import Plan, file_id_of
from demucs_server_worker.watch.settling import Settling


def plan(folder: Path, **settings: Any) -> Plan:
    (folder / "in").mkdir(exist_ok=True)
    made = Plan.of(load_settings(watch=folder / "in", watch_output=folder / "out", **settings))
    assert made is not None
    return made


def sighting(*folders: str, name: str = "song.mp3", size: int = 10, at: int = 1, twins: bool = False) -> Sighting:
    return Sighting("/".join(("/in", *folders, name)), folders, size, at, twins)


def test_without_folders_nothing_is_watched() -> None:
    assert Plan.of(load_settings()) is None


@pytest.mark.parametrize(
    ("values", "setting", "why"),
    [
        ({"watch": "in"}, "DEMUCS_WORKER_WATCH_OUTPUT", "needed too"),
        ({"watch_output": "out"}, "DEMUCS_WORKER_WATCH", "needed too"),
        ({"watch": "nowhere", "watch_output": "out"}, "DEMUCS_WORKER_WATCH", "that is there"),
        ({"watch": "in", "watch_output": "in"}, "DEMUCS_WORKER_WATCH_OUTPUT", "taken for songs"),
        ({"watch": "in", "watch_output": "."}, "DEMUCS_WORKER_WATCH_OUTPUT", "taken for songs"),
        ({"watch": "in", "watch_output": "link"}, "DEMUCS_WORKER_WATCH_OUTPUT", "taken for songs"),
    ],
)
def test_folders_that_do_not_fit_stop_the_start(tmp_path: Path, values: dict[str, str], setting: str, why: str) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "in")
    settings = load_settings(**{name: tmp_path / value for name, value in values.items()})
    with pytest.raises(InvalidSetting, match=rf"^{setting}=.*{why}"):
        Plan.of(settings)


@pytest.mark.parametrize("options", ["format", "format=xyz", "nonsense=1", "stems="])
def test_options_that_do_not_fit_stop_the_start(tmp_path: Path, options: str) -> None:
    with pytest.raises(InvalidSetting, match=r"^DEMUCS_WORKER_WATCH_OPTIONS="):
        plan(tmp_path, watch_options=options)


def test_all_tasks_have_the_options_of_the_settings(tmp_path: Path) -> None:
    request = plan(tmp_path, model="demo", watch_options="format=mp3  stems=vocals,drums").request_for(sighting())
    assert (request.options.model, request.options.format, request.options.stems) == (
        "demo", "mp3", ("vocals", "drums"),
    )  # fmt: skip


def test_a_song_keeps_its_place_below_the_output_folder(tmp_path: Path) -> None:
    made = plan(tmp_path)
    deep = made.request_for(sighting("Artist", "Album"))
    assert (deep.output_dir, deep.project_name, deep.input_name) == (str(tmp_path / "out/Artist"), "Album", "song.mp3")
    assert deep.origin is Origin.WATCH
    flat = made.request_for(sighting())
    assert (flat.output_dir, flat.project_name) == (str(tmp_path / "out"), None)


def test_songs_that_differ_in_their_ending_only_do_not_share_a_folder(tmp_path: Path) -> None:
    request = plan(tmp_path).request_for(sighting(twins=True))
    assert request.input_name == "song (mp3).mp3"


def test_a_song_is_remembered_by_path_size_and_time() -> None:
    known = file_id_of(sighting())
    assert file_id_of(sighting(twins=True)) == known
    changed = {file_id_of(s) for s in (sighting(size=11), sighting(at=2), sighting(name="other.mp3"), sighting("a"))}
    assert len(changed) == 4
    assert known not in changed
    assert file_id_of(sighting(name="caf\udce9.mp3")).startswith("watch-")


def test_a_song_settles_from_the_moment_of_its_last_change_on() -> None:
    settling = Settling()
    assert settling.look([sighting(size=1)], 100.0) == {sighting(size=1): 0.0}
    assert settling.look([sighting(size=1)], 102.0) == {sighting(size=1): 2.0}
    assert settling.look([sighting(size=2)], 104.0) == {sighting(size=2): 0.0}
    assert settling.look([], 105.0) == {}
    assert settling.look([sighting(size=2)], 109.0) == {sighting(size=2): 0.0}
