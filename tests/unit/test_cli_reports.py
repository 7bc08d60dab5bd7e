"""What a user, a pipe and a program are told of a batch."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from demucs_server_worker.cli.batch import Entry, Report, Result, Standing
from demucs_server_worker.cli.json_report import PROGRESS_SECONDS, JsonReport
from demucs_server_worker.cli.live_report import LiveReport
from demucs_server_worker.cli.plain_report import PlainReport, QuietReport
from demucs_server_worker.cli.songs import Song
from demucs_server_worker.errors import InputUnreadable
from demucs_server_worker.events import EventKind
from demucs_server_worker.task import Stage, Stem, Task, TaskRequest, TaskState

EVIL = "songs/a [bold]b[/bold]\x1b[2J.mp3"
EVIL_SHOWN = r"songs/a [bold]b[/bold]\x1b[2J.mp3"


def entry(shown: str = "songs/a.mp3") -> Entry:
    return Entry(Song(Path(shown), shown, Path("/out"), Path(shown).name))


def task(**changes: Any) -> Task:
    request = TaskRequest(input_path="/songs/a.mp3", output_dir="/out", input_name="a.mp3")
    return msgspec.structs.replace(Task(id="1", request=request), **changes)


def stem(name: str, path: str) -> Stem:
    return Stem(
        name=name, path=path, format="wav", sample_rate=44_100, channels=2, duration_seconds=192.0, bytes=10,
        sha256="ab", peak=0.5,
    )  # fmt: skip


def running(shown: str = "songs/a.mp3", progress: float = 0.4, eta_seconds: float | None = 65.0) -> Entry:
    it = entry(shown)
    it.standing, it.eta_seconds = Standing.RUNNING, eta_seconds
    it.task = task(state=TaskState.RUNNING, stage=Stage.SEPARATING, progress=progress, duration_seconds=192.0)
    return it


def completed(shown: str = "songs/a.mp3") -> Entry:
    it = entry(shown)
    it.standing, it.seconds = Standing.COMPLETED, 64.0
    stems = (stem("bass", "/out/a/bass.wav"), stem("vocals", "/out/a/vocals.wav"))
    it.task = task(
        state=TaskState.COMPLETED, stage=Stage.DONE, progress=1.0, duration_seconds=192.0, stems=stems,
        created_at=1_700_000_000.0, started_at=1_700_000_001.5, finished_at=1_700_000_065.5,
    )  # fmt: skip
    return it


def failed(shown: str = "songs/bad.mp3") -> Entry:
    it = entry(shown)
    it.standing, it.error = Standing.FAILED, InputUnreadable(name="bad.mp3", detail="it is\x07 torn").info
    return it


def tell(report: Report, *changes: tuple[Entry, EventKind], interrupted: bool = False) -> None:
    entries = list({id(each): each for each, _ in changes}.values())
    with report:
        report.begin(entries)
        for each, kind in changes:
            report.changed(each, kind)
        report.end(Result(entries, 96.0, interrupted))


class Written:
    """Output and errors of a report."""

    def __init__(self) -> None:
        self.out, self.errors = io.StringIO(), io.StringIO()

    @property
    def lines(self) -> list[str]:
        return self.out.getvalue().splitlines()

    @property
    def error_lines(self) -> list[str]:
        return self.errors.getvalue().splitlines()

    @property
    def objects(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


# --- plain ------------------------------------------------------------------------------------------------------------


def test_stems_of_an_earlier_task_took_no_time_to_tell_of() -> None:
    written, entry = Written(), completed()
    assert entry.task is not None
    entry.task = msgspec.structs.replace(entry.task, cached=True)
    tell(PlainReport(written.out, written.errors), (entry, EventKind.COMPLETED))
    assert written.lines[0] == "done: songs/a.mp3: 3:12 at once → /out/a"


def test_plain_lines_tell_start_end_and_sum() -> None:
    written = Written()
    bad, good = failed(), completed()
    tell(
        PlainReport(written.out, written.errors),
        (good, EventKind.STARTED), (good, EventKind.PROGRESS), (good, EventKind.COMPLETED), (bad, EventKind.FAILED),
    )  # fmt: skip
    assert written.lines == [
        "separating: songs/a.mp3",
        "done: songs/a.mp3: 3:12 in 64.0 s, 3.0× real time → /out/a",
        "1 of 2 files done, 1 failed: 3:12 of audio in 96.0 s, 2.0× real time",
    ]
    assert len(written.error_lines) == 1
    assert written.error_lines[0].startswith("failed: songs/bad.mp3: bad.mp3 cannot be decoded: it is\\x07 torn.")
    assert written.error_lines[0].endswith("[input_unreadable]")


def test_no_name_reaches_a_pipe_with_control_characters_in_it() -> None:
    written = Written()
    good = completed(EVIL)
    tell(PlainReport(written.out, written.errors), (good, EventKind.STARTED), (good, EventKind.COMPLETED))
    assert written.lines[0] == f"separating: {EVIL_SHOWN}"
    assert "\x1b" not in written.out.getvalue()


def test_what_was_not_done_when_it_was_stopped_is_counted() -> None:
    written = Written()
    tell(PlainReport(written.out, written.errors), (running(), EventKind.STARTED), interrupted=True)
    assert written.lines[-1] == "0 of 1 file done, 1 cancelled"


def test_quiet_tells_of_failures_and_nothing_else() -> None:
    written = Written()
    tell(QuietReport(written.errors), (completed(), EventKind.COMPLETED), (failed(), EventKind.FAILED))
    assert [line.partition(":")[0] for line in written.error_lines] == ["failed"]


# --- JSON -------------------------------------------------------------------------------------------------------------


def test_a_completed_song_is_an_object_with_the_tasks_fields() -> None:
    written = Written()
    tell(JsonReport(written.out, written.errors), (completed(), EventKind.COMPLETED))
    told = written.objects[0]
    assert told["event"] == told["state"] == "completed"
    assert told["inputPath"] == "songs/a.mp3"
    assert {
        "id", "fileId", "projectName", "priority", "state", "attempt", "maxAttempts", "progress", "stage",
        "queuePosition", "etaSeconds", "createdAt", "startedAt", "finishedAt", "inputName", "durationSeconds",
        "options", "stems", "error",
    } <= told.keys()  # fmt: skip
    assert (told["createdAt"], told["startedAt"]) == ("2023-11-14T22:13:20.000Z", "2023-11-14T22:13:21.500Z")
    assert told["options"]["twoStems"] is None and told["options"]["mp3Preset"] == 2
    assert told["stems"][1] == {
        "name": "vocals", "path": "/out/a/vocals.wav", "url": None, "format": "wav", "sampleRate": 44_100,
        "channels": 2,
        "durationSeconds": 192.0, "bytes": 10, "sha256": "ab", "peak": 0.5,
    }  # fmt: skip


def test_a_failed_song_is_an_object_with_its_error_and_a_line_for_people() -> None:
    written = Written()
    tell(JsonReport(written.out, written.errors), (failed(), EventKind.FAILED))
    told, summary = written.objects
    assert (told["event"], told["state"], told["error"]["code"]) == ("failed", "failed", "input_unreadable")
    assert told["error"]["retryable"] is False
    assert summary == {
        "event": "summary", "files": 1, "completed": 0, "failed": 1, "cancelled": 0, "interrupted": False,
        "audioSeconds": 0.0, "seconds": 96.0, "timesRealTime": 0.0,
    }  # fmt: skip
    assert len(written.error_lines) == 1


def test_the_progress_of_a_song_is_told_no_more_often_than_promised() -> None:
    written = Written()
    times = iter([0.0, 0.1, PROGRESS_SECONDS + 0.05, PROGRESS_SECONDS + 0.06])
    it = running()
    tell(JsonReport(written.out, written.errors, lambda: next(times)), *[(it, EventKind.PROGRESS)] * 4)
    assert [told["event"] for told in written.objects] == ["progress", "progress", "summary"]
    assert (written.objects[0]["progress"], written.objects[0]["etaSeconds"]) == (0.4, 65.0)


def test_not_a_byte_of_a_json_line_can_act_on_a_terminal() -> None:
    written = Written()
    tell(JsonReport(written.out, written.errors), (completed(EVIL), EventKind.COMPLETED))
    assert written.out.getvalue().replace("\n", "").isprintable()
    assert written.objects[0]["inputPath"] == EVIL


# --- a terminal -------------------------------------------------------------------------------------------------------


class Terminal:
    """A terminal that keeps what is shown on it."""

    def __init__(self, height: int = 30) -> None:
        self.console = Console(
            file=io.StringIO(), force_terminal=True, color_system=None, width=120, height=height, highlight=False
        )  # fmt: skip

    def frame(self, *entries: Entry) -> list[str]:
        """The display while these are in the batch."""
        report = LiveReport(self.console)
        report.begin(entries)
        with self.console.capture() as captured:
            self.console.print(report._render())
        return [line.rstrip() for line in captured.get().splitlines()]

    @property
    def text(self) -> str:
        return str(self.console.file.getvalue())  # type: ignore[attr-defined]


def test_a_song_has_a_line_with_stage_bar_percentage_and_the_time_left() -> None:
    line, waiting = Terminal().frame(running(), entry("songs/next.mp3"))
    words = line.split()
    assert words[:2] == ["songs/a.mp3", "separating"]
    assert words[-3:] == ["40%", "1:05", "left"]
    assert "━" in line
    assert waiting.split() == ["songs/next.mp3", "waiting"]


def test_a_song_that_is_done_shows_its_result_and_one_that_failed_its_code() -> None:
    done, bad = Terminal().frame(completed(), failed())
    assert done.endswith("100%  64.0 s, 3.0× real time")
    assert bad.split() == ["songs/bad.mp3", "failed", "input_unreadable"]


def test_of_hundreds_only_those_at_work_have_a_line_and_the_rest_is_counted() -> None:
    entries = [running(f"{n}.mp3") for n in range(3)] + [entry(f"w{n}.mp3") for n in range(300)] + [completed()]
    *lines, counts = Terminal().frame(*entries)
    assert [line.split()[0] for line in lines] == ["0.mp3", "1.mp3", "2.mp3"]
    assert counts == "300 waiting  3 at work  1 done"


def test_a_long_path_keeps_its_end() -> None:
    (line,) = Terminal().frame(entry("folder/" * 20 + "the song.mp3"))
    assert line.startswith("…") and "the song.mp3" in line


def test_markup_and_control_characters_in_a_name_are_shown_as_they_are() -> None:
    (line,) = Terminal().frame(running(EVIL))
    assert EVIL_SHOWN in line


def test_the_end_is_a_table_the_failures_and_a_sum(capsys: pytest.CaptureFixture[str]) -> None:
    terminal = Terminal()
    tell(LiveReport(terminal.console), (completed(EVIL), EventKind.COMPLETED), (failed(), EventKind.FAILED))
    row = next(line for line in terminal.text.splitlines() if line.startswith(EVIL_SHOWN) and "/out/a" in line)
    assert row.removeprefix(EVIL_SHOWN).split() == ["3:12", "64.0", "s", "3.0×", "/out/a"]
    assert "1 of 2 files done, 1 failed" in terminal.text
    errors = capsys.readouterr().err.replace("\n", " ")
    assert "failed: songs/bad.mp3: " in errors and "[input_unreadable]" in errors


def test_the_folder_of_stems_in_several_folders_is_the_one_above_them() -> None:
    it = completed()
    assert it.task is not None
    it.task = msgspec.structs.replace(it.task, stems=(stem("a", "/out/a/x.wav"), stem("b", "/out/b/x.wav")))
    assert it.folder == Path("/out")
    assert running().folder is None


@pytest.mark.parametrize(
    ("entries", "interrupted", "code"),
    [([completed()], False, 0), ([completed(), failed()], False, 1), ([completed(), running()], True, 130)],
)
def test_the_exit_code_says_how_it_went(entries: list[Entry], interrupted: bool, code: int) -> None:
    assert Result(entries, 1.0, interrupted).exit_code == code
