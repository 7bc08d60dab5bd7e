"""`submit`, `status`, `tasks`, `cancel`, `retry` and `delete`, as a user runs them against a real server."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile

from demucs_server_worker.demo.sdr import sdr
from tests.command import STEMS, files_below, objects, run, song, started
from tests.http_server import Commanded, commanded
from tests.servers import noise, until

LONG_SECONDS = 1_200.0
WITHOUT_SERVER = [("submit", "one.wav"), ("status",), ("tasks",), ("cancel", "0" * 32), ("retry", "0" * 32)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commanded]:
    with commanded(tmp_path_factory.mktemp("server")) as server:
        yield server


def remote(server: Commanded, *arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    return run(*arguments, cwd=cwd, DEMUCS_WORKER_URL=server.url)


def test_songs_are_sent_followed_and_their_stems_fetched_and_sound_right(server: Commanded, tmp_path: Path) -> None:
    made = run("demo", "--songs", "1", "--seconds", "4", "-o", "kept", "--json", cwd=tmp_path)
    assert made.returncode == 0
    songs = tmp_path / "songs" / "inner"
    songs.mkdir(parents=True)
    (tmp_path / "kept" / "song 1.wav").rename(songs / "song 1.wav")
    (tmp_path / "songs" / "text.mp3").write_text("no song")
    ran = remote(server, "submit", "songs", "-o", "out", "--project", "P", "--flac", cwd=tmp_path)
    assert ran.returncode == 1
    assert ran.stderr.startswith("failed: songs/text.mp3: ") and ran.stderr.endswith("[unsupported_format]\n")
    assert files_below(tmp_path / "out") == [f"inner/P/song 1/{stem}.flac" for stem in STEMS]
    for stem in STEMS:
        true, _ = soundfile.read(tmp_path / "kept" / "truth" / "song 1" / f"{stem}.wav")
        separated, _ = soundfile.read(tmp_path / "out" / "inner" / "P" / "song 1" / f"{stem}.flac")
        assert sdr(true, separated) > 0
    assert "done: songs/inner/song 1.wav: 0:04 in " in ran.stdout and "→ out/inner/P/song 1" in ran.stdout
    assert ran.stdout.splitlines()[-1].startswith("1 of 2 files done, 1 failed")


def test_json_tells_each_event_and_where_the_stems_are(server: Commanded, tmp_path: Path) -> None:
    song(tmp_path / "one.wav")
    ran = remote(server, "submit", "one.wav", "-o", "out", "--two-stems", "vocals", "--json", cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    told = objects(ran.stdout)
    assert [told[0]["event"], told[-2]["event"], told[-1]["event"]] == ["queued", "completed", "summary"]
    assert {stem["name"] for stem in told[-2]["stems"]} == {"vocals", "no_vocals"}
    for stem in told[-2]["stems"]:
        assert Path(stem["path"]).stat().st_size == stem["bytes"]
    assert (told[-1]["files"], told[-1]["completed"]) == (1, 1)


def test_songs_on_the_servers_own_disk_are_only_named(server: Commanded, tmp_path: Path) -> None:
    albums = server.folder / "albums"
    (albums / "inner").mkdir(parents=True)
    song(albums / "inner" / "one.wav")
    song(tmp_path / "elsewhere.wav")
    files = [albums, server.folder / "missing.wav", tmp_path / "elsewhere.wav"]
    sent_before = files_below(server.folder / "data" / "uploads")
    ran = remote(server, "submit", *files, "--server-paths", "-o", server.folder / "stems", "--wait", cwd=tmp_path)
    assert ran.returncode == 1
    written = sorted(["manifest.json", *(f"{stem}.wav" for stem in STEMS)])
    assert files_below(server.folder / "stems") == [f"inner/one/{name}" for name in written]
    refused = sorted(line.rpartition("[")[2] for line in ran.stderr.splitlines())
    assert refused == ["forbidden]", "input_not_found]"]
    assert files_below(server.folder / "data" / "uploads") == sent_before, "nothing was sent"
    assert "stems/inner/one" in ran.stdout and files_below(tmp_path) == ["elsewhere.wav"], "nothing was fetched"


def test_tasks_are_handed_over_listed_cancelled_retried_and_deleted(server: Commanded, tmp_path: Path) -> None:
    names = ["first.wav", "evil \x1b[31m\x07.wav", "third.wav"]
    for name in names:
        noise(tmp_path / name, LONG_SECONDS)
    handed = remote(server, "submit", *names, "--priority", "low", cwd=tmp_path)
    assert (handed.returncode, handed.stderr) == (0, "")
    assert handed.stdout.splitlines()[-1] == "3 of 3 files queued"
    shown = dict(re.findall(r"^queued: (.+): ([0-9a-f]{8})", handed.stdout, re.M))
    assert set(shown) == {"first.wav", r"evil \x1b[31m\x07.wav", "third.wav"}

    listed = remote(server, "tasks", "--limit", "3", cwd=tmp_path).stdout
    assert "\x1b" not in listed
    rows = [line.split("\t") for line in listed.splitlines()]
    assert {row[0][:8]: row[4] for row in rows} == {short: name for name, short in shown.items()}
    assert {row[3] for row in rows} == {"low"}

    status = objects(remote(server, "status", "--json", cwd=tmp_path).stdout)[0]
    assert status["queue"]["byPriority"]["low"] + status["queue"]["running"] == 3
    assert [worker["id"] for worker in status["workers"]] == ["worker-1"]
    said = remote(server, "status", cwd=tmp_path).stdout
    assert f"at {server.url}, up " in said and " waiting (0 high, 0 normal, " in said

    ended = remote(server, "cancel", *shown.values(), cwd=tmp_path)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert [line.split()[:2] for line in ended.stdout.splitlines()] == [
        ["cancelled", short] for short in shown.values()
    ]
    third = shown["third.wav"]
    again = objects(remote(server, "retry", third, "--json", cwd=tmp_path).stdout)[0]
    assert (again["state"], again["id"][:8], again["attempt"]) == ("queued", third, 1)
    refused = remote(server, "retry", third, shown["first.wav"], cwd=tmp_path)
    assert refused.returncode == 1
    assert re.match(rf"demucs-server-worker: {third}: Task .+ cannot be retried\.\n", refused.stderr)
    assert refused.stdout == f"queued {shown['first.wav']} first.wav\n"
    remote(server, "cancel", third, shown["first.wav"], cwd=tmp_path)
    gone = remote(server, "delete", *shown.values(), cwd=tmp_path)
    assert (gone.returncode, gone.stdout.count("deleted ")) == (0, 3)
    unknown = remote(server, "cancel", third, cwd=tmp_path)
    assert (unknown.returncode, unknown.stdout) == (1, "")
    assert f"No task has an id that begins with {third}." in unknown.stderr


@pytest.mark.parametrize("command", WITHOUT_SERVER, ids=lambda command: command[0])
def test_without_a_server_one_line_says_where_it_was_looked_for_and_how_to_start_one(
    command: tuple[str, ...], tmp_path: Path
) -> None:
    song(tmp_path / "one.wav")
    ran = run(*command, cwd=tmp_path, DEMUCS_WORKER_URL="http://127.0.0.1:9")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert ran.stderr.count("\n") == 1
    assert "http://127.0.0.1:9 (connection refused)" in ran.stderr and "`demucs-server-worker serve`" in ran.stderr


def test_a_wrong_key_is_refused_in_one_line_and_a_right_one_is_not(tmp_path: Path) -> None:
    with commanded(tmp_path, DEMUCS_WORKER_API_KEYS="a-key-of-some-length") as server:
        wrong = run("status", "--url", server.url, cwd=tmp_path, DEMUCS_WORKER_API_KEY="another")
        assert (wrong.returncode, wrong.stdout, wrong.stderr.count("\n")) == (1, "", 1)
        assert "The API key is missing or wrong" in wrong.stderr and "another" not in wrong.stderr
        right = run("status", "--url", server.url, cwd=tmp_path, DEMUCS_WORKER_API_KEY="a-key-of-some-length")
        assert right.returncode == 0


def test_waiting_outlasts_a_server_that_is_killed_and_started_again(tmp_path: Path) -> None:
    noise(tmp_path / "song.wav", 15.0)
    with commanded(tmp_path) as first:
        port = first.url.rpartition(":")[2]
        with started("submit", "song.wav", "-o", "out", "--json", "--url", first.url, cwd=tmp_path) as waiting:
            assert waiting.stdout is not None
            for line in waiting.stdout:
                if objects(line)[0]["event"] == "started":
                    break
            first.process.tell(signal.SIGKILL)
            first.process.ended()
            with commanded(tmp_path, DEMUCS_WORKER_PORT=port):
                rest, errors = waiting.communicate(timeout=120)
    assert (waiting.returncode, errors) == (0, "")
    assert objects(rest)[-2]["event"] == "completed"
    assert files_below(tmp_path / "out") == [f"song/{stem}.wav" for stem in STEMS]


def test_ctrl_c_leaves_the_songs_to_the_server(server: Commanded, tmp_path: Path) -> None:
    noise(tmp_path / "long.wav", LONG_SECONDS)
    with started("submit", "long.wav", "--wait", "--json", "--url", server.url, cwd=tmp_path) as waiting:
        assert waiting.stdout is not None
        task_id = objects(waiting.stdout.readline())[0]["id"]
        waiting.send_signal(signal.SIGINT)
        _, errors = waiting.communicate(timeout=60)
    assert waiting.returncode == 130
    assert "goes on there" in errors
    until(lambda: server.task(task_id)["state"] == "running", "it runs")
    server.client.post(f"/api/v1/tasks/{task_id}/cancel")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["cancel", "zz"], "zz is no id"),
        (["cancel"], "ID"),
        (["submit", "a.wav", "--mp3", "--flac"], "--mp3 and --flac"),
        (["submit", "a.wav", "--url", "ftp://x"], "DEMUCS_WORKER_URL=ftp://x"),
        (["submit", "a.wav", "--shifts", "1000"], "--shifts"),
        (["submit", "a.wav", "--server-paths"], "--server-paths needs -o"),
        (["tasks", "--state", "lost"], "--state"),
    ],
)
def test_misuse_is_a_sentence_and_exit_code_2(arguments: list[str], named: str, tmp_path: Path) -> None:
    song(tmp_path / "a.wav", 0.2)
    ran = run(*arguments, cwd=tmp_path, DEMUCS_WORKER_URL="http://127.0.0.1:9")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert named in ran.stderr and f"Try `demucs-server-worker {arguments[0]} --help`." in ran.stderr
