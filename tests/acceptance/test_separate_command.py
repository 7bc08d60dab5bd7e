"""`demucs-server-worker separate`, as a user runs it: real workers, the demo model, real files."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
from pathlib import Path

import pytest
import soundfile

from tests.command import (
    COMMAND,
    alive,
    environment,
    family_of,
    files_below,
    objects,
    result_files,
    run,
    song,
    started,
)

# One worker: each takes seconds of compute to start.
ALONE = ("-n", "demo", "-j", "1")
CONTROL_CHARACTERS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


def test_songs_become_stems_and_each_end_is_a_line(tmp_path: Path) -> None:
    song(tmp_path / "one.wav", 2.0)
    song(tmp_path / "two.wav", 3.0)
    ran = run("separate", "one.wav", "two.wav", "-n", "demo", "-o", "stems", "-j", "2", cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    assert files_below(tmp_path / "stems") == result_files("one", "two")
    for stem in ("bass", "drums", "other", "vocals"):
        assert soundfile.info(tmp_path / "stems" / "two" / f"{stem}.wav").frames == 3 * 44_100
    lines = ran.stdout.splitlines()
    assert {"separating: one.wav", "separating: two.wav"} <= set(lines)
    assert any(re.fullmatch(r"done: one\.wav: 0:02 in .+ real time → stems/one", line) for line in lines)
    assert any(re.fullmatch(r"done: two\.wav: 0:03 in .+ real time → stems/two", line) for line in lines)
    assert lines[-1].startswith("2 of 2 files done: 0:05 of audio in ")
    assert not CONTROL_CHARACTERS.search(ran.stdout)


def test_without_a_folder_the_stems_go_where_demucs_puts_them_and_nothing_else_is_written(tmp_path: Path) -> None:
    song(tmp_path / "work" / "one.wav")
    home = {"HOME": str(tmp_path / "home"), "XDG_DATA_HOME": str(tmp_path / "data"), "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    ran = run("separate", "one.wav", "-n", "demo", "-q", cwd=tmp_path / "work", **home)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert files_below(tmp_path) == sorted(["work/one.wav", *result_files("work/separated/one")])


def test_of_several_files_the_bad_ones_are_named_and_the_others_done(tmp_path: Path) -> None:
    song(tmp_path / "good.wav")
    (tmp_path / "text.mp3").write_text("I am no music, and never was")
    ran = run("separate", "missing.flac", "text.mp3", "good.wav", *ALONE, "-o", "stems", cwd=tmp_path)
    assert ran.returncode == 1
    assert files_below(tmp_path / "stems") == result_files("good")
    failures = sorted(ran.stderr.splitlines())
    assert len(failures) == 2
    assert failures[0].startswith("failed: missing.flac: ") and failures[0].endswith("[input_not_found]")
    assert failures[1].startswith("failed: text.mp3: ") and failures[1].endswith("[unsupported_format]")
    assert ran.stdout.splitlines()[-1].startswith("1 of 3 files done, 2 failed")


def test_json_is_one_object_a_line_from_the_start_to_the_sum(tmp_path: Path) -> None:
    song(tmp_path / "good.wav")
    ran = run("separate", "good.wav", "missing.wav", *ALONE, "-o", "stems", "--json", cwd=tmp_path)
    assert ran.returncode == 1
    told = objects(ran.stdout)
    of_good = [each for each in told if each.get("inputPath") == "good.wav"]
    assert [each["event"] for each in of_good if each["event"] != "progress"] == ["started", "completed"]
    progress = [each["progress"] for each in of_good]
    assert progress == sorted(progress) and progress[-1] == 1.0
    done = of_good[-1]
    assert (done["state"], done["stage"], done["durationSeconds"], done["attempt"]) == ("completed", "done", 2.0, 1)
    assert sorted(stem["name"] for stem in done["stems"]) == ["bass", "drums", "other", "vocals"]
    assert all(Path(stem["path"]).stat().st_size == stem["bytes"] for stem in done["stems"])
    (failure,) = [each for each in told if each.get("inputPath") == "missing.wav"]
    assert (failure["event"], failure["error"]["code"]) == ("failed", "input_not_found")
    assert (told[-1]["event"], told[-1]["completed"], told[-1]["failed"]) == ("summary", 1, 1)


def test_a_folder_keeps_its_structure_and_what_is_no_song_is_left(tmp_path: Path) -> None:
    song(tmp_path / "music" / "a" / "01.wav")
    song(tmp_path / "music" / "b" / "01.wav")
    song(tmp_path / "music" / ".trash" / "02.wav")
    (tmp_path / "music" / "cover.jpg").write_bytes(b"picture")
    ran = run("separate", "music", *ALONE, "-o", "stems", "-q", cwd=tmp_path)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")
    assert files_below(tmp_path / "stems") == result_files("a/01", "b/01")


def test_two_songs_of_one_name_do_not_overwrite_one_another(tmp_path: Path) -> None:
    song(tmp_path / "song.wav", 2.0)
    song(tmp_path / "song.flac", 3.0)
    ran = run("separate", "song.*", *ALONE, "-o", "stems", "--stems", "bass", cwd=tmp_path)
    assert ran.returncode == 0
    assert files_below(tmp_path / "stems") == [
        "song (2)/bass.wav", "song (2)/manifest.json", "song/bass.wav", "song/manifest.json",
    ]  # fmt: skip
    lengths = {soundfile.info(tmp_path / "stems" / name / "bass.wav").duration for name in ("song", "song (2)")}
    assert lengths == {2.0, 3.0}


NAMES = (
    "with spaces.wav", "[bold]brackets[].wav", "Für Élise 音楽.wav", "-dash.wav", "two\nlines.wav", "a\x1b[2Jb.wav",
)  # fmt: skip


def test_names_of_all_kinds_are_separated_and_cannot_act_on_a_terminal(tmp_path: Path) -> None:
    for name in NAMES:
        song(tmp_path / name, 1.0)
    ran = run("separate", *ALONE, "-o", "stems", "--stems", "bass", "--", *NAMES, cwd=tmp_path)
    assert (ran.returncode, ran.stderr) == (0, "")
    stems = list((tmp_path / "stems").rglob("bass.wav"))
    assert len(stems) == len(NAMES)
    assert {stem.parent.parent for stem in stems} == {tmp_path / "stems"}
    assert {"with spaces", "[bold]brackets[]", "Für Élise 音楽", "dash", "two lines"} <= {
        stem.parent.name for stem in stems
    }
    assert not CONTROL_CHARACTERS.search(ran.stdout)


def test_a_name_that_is_not_utf8_fails_alone(tmp_path: Path) -> None:
    raw = os.fsencode(tmp_path) + b"/\xff.wav"
    try:
        os.rename(song(tmp_path / "x.wav"), raw)
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    song(tmp_path / "good.wav")
    ran = run("separate", ".", *ALONE, "-o", "stems", cwd=tmp_path)
    assert ran.returncode == 1
    assert files_below(tmp_path / "stems") == result_files("good")
    assert ran.stderr.startswith(r"failed: ./\udcff.wav: ") and ran.stderr.endswith("[invalid_option]\n")


def test_flags_reach_the_separation(tmp_path: Path) -> None:
    song(tmp_path / "one.wav")
    ran = run(
        "separate", "one.wav", "-n", "demo", "--out", "stems", "--two-stems", "vocals", "--flac", "--int24",
        "--project", "My Album", "--filename", "{model}/{project}/{track}-{stem}.{ext}", "--shifts", "1", cwd=tmp_path,
    )  # fmt: skip
    assert ran.returncode == 0
    folder = tmp_path / "stems" / "demo" / "My Album"
    stems = sorted(path.name for path in folder.glob("*.flac"))
    assert stems == ["one-no_vocals.flac", "one-vocals.flac"]
    assert {soundfile.info(folder / stem).subtype for stem in stems} == {"PCM_24"}


def test_limits_for_servers_do_not_hold_for_a_users_own_files_unless_the_user_set_them(tmp_path: Path) -> None:
    song(tmp_path / "one.wav")
    ran = run("separate", "one.wav", "-n", "demo", cwd=tmp_path, DEMUCS_WORKER_MAX_FILE_SIZE="1kB")
    assert ran.returncode == 1
    assert "[input_too_large]" in ran.stderr


def test_a_model_that_cannot_be_had_is_told_once_before_any_work(tmp_path: Path) -> None:
    song(tmp_path / "one.wav")
    song(tmp_path / "two.wav")
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hf")}
    ran = run("separate", "one.wav", "two.wav", "-n", "htdemucs", cwd=tmp_path, **offline)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr.count("\n") == 1 and "models --download htdemucs" in ran.stderr


def test_an_output_folder_that_cannot_be_is_named(tmp_path: Path) -> None:
    song(tmp_path / "one.wav")
    (tmp_path / "file").write_text("in the way")
    ran = run("separate", "one.wav", "-n", "demo", "-o", "file", cwd=tmp_path)
    assert ran.returncode == 1
    assert "[output_not_writable]" in ran.stderr


# --- stopping ---------------------------------------------------------------------------------------------------------


def until_at_work(process: subprocess.Popen[str], songs: int) -> None:
    """Read the output until as many songs have some progress."""
    assert process.stdout is not None
    moving: set[str] = set()
    for line in process.stdout:
        (told,) = objects(line)
        if told["event"] == "progress" and told["stage"] == "separating":
            moving.add(told["inputPath"])
        if len(moving) == songs:
            return
    raise AssertionError(f"it ended before {songs} songs were at work")


@pytest.mark.parametrize(("number", "times"), [(signal.SIGINT, 1), (signal.SIGINT, 2), (signal.SIGTERM, 1)])
def test_stopping_leaves_no_half_stem_no_process_and_no_temporary_file(
    tmp_path: Path, number: signal.Signals, times: int
) -> None:
    for name in ("one", "two", "three"):
        song(tmp_path / f"{name}.wav", 60.0)
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    arguments = ("separate", "one.wav", "two.wav", "three.wav", "-n", "demo", "-o", "stems", "--json")
    with started(*arguments, cwd=tmp_path, TMPDIR=str(temporary)) as process:
        until_at_work(process, songs=2)
        family = family_of(process)
        assert len(family) >= 2
        for _ in range(times):
            process.send_signal(number)
        out, errors = process.communicate()
        assert process.returncode == 130
        assert alive(family) == []
    assert files_below(tmp_path / "stems") == []
    assert list((tmp_path / "stems").iterdir()) == []
    assert list(temporary.iterdir()) == []
    summary = objects(out)[-1]
    assert (summary["event"], summary["interrupted"], summary["cancelled"]) == ("summary", True, 3)
    assert "Traceback" not in errors


def test_what_was_done_before_it_was_stopped_stays(tmp_path: Path) -> None:
    song(tmp_path / "short.wav", 1.0)
    song(tmp_path / "long.wav", 60.0)
    with started("separate", "short.wav", "long.wav", "-n", "demo", "-j", "1", "--json", cwd=tmp_path) as process:
        until_at_work(process, songs=2)
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert process.returncode == 130
    assert files_below(tmp_path / "separated") == result_files("short")


def test_workers_that_hear_nothing_are_killed_by_the_second_signal(tmp_path: Path) -> None:
    song(tmp_path / "one.wav", 60.0)
    with started("separate", "one.wav", "-n", "demo", "--json", cwd=tmp_path) as process:
        until_at_work(process, songs=1)
        family = family_of(process)
        for worker in family:
            worker.suspend()
        process.send_signal(signal.SIGINT)
        assert process.stderr is not None
        assert process.stderr.readline().startswith("stopping: ")
        process.send_signal(signal.SIGINT)
        process.communicate()
        assert process.returncode == 130
        assert alive(family) == []
    assert files_below(tmp_path / "separated") == []


# --- a terminal -------------------------------------------------------------------------------------------------------


def on_a_terminal(*arguments: str, cwd: Path) -> tuple[int, str]:
    """Run the command with a terminal for its input and output; gives its exit code and all that it wrote."""
    main, side = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *arguments], cwd=cwd, env=environment(TERM="xterm-256color", LINES="40"), stdin=side, stdout=side,
        stderr=side,
    )  # fmt: skip
    os.close(side)
    written = b""
    try:
        while chunk := _read(main):
            written += chunk
        return process.wait(timeout=180), written.decode()
    finally:
        process.kill()
        process.wait()
        os.close(main)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # Linux says EIO once the other side is closed
        return b""


def test_on_a_terminal_songs_have_live_lines_and_a_table_at_the_end(tmp_path: Path) -> None:
    song(tmp_path / "one [x].wav", 4.0)
    code, screen = on_a_terminal("separate", "one [x].wav", "missing.wav", *ALONE, cwd=tmp_path)
    assert code == 1
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", screen)
    assert "separating" in plain and "━" in plain and "%" in plain
    table = plain[plain.rindex("real time  stems") :]
    assert re.search(r"one \[x\]\.wav +0:04 +[\d.]+ s +[\d.]+× +separated/one \[x\]", table)
    assert "failed: missing.wav: " in table.replace("\r\n", " ")
    assert "1 of 2 files done, 1 failed" in table
    assert screen.count("\x1b[?25l") == screen.count("\x1b[?25h") >= 1  # the cursor is shown again
