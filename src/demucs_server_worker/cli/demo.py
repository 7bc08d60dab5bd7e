"""`demo`: songs whose stems are known, separated by the bundled model, and how close it came."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from demucs_server_worker.cli.exits import DONE
from demucs_server_worker.errors import DemucsWorkerError

if TYPE_CHECKING:
    from demucs_server_worker.cli.batch import Order, Result

EPILOG = """\
[bold]Examples[/bold]

Keep the songs and the stems, to listen to them: [cyan]demucs-server-worker demo -o demo[/cyan]

The published figures: [cyan]demucs-server-worker demo --held-out[/cyan]
"""

MODEL = "demo"
WORKERS = 2
STEMS = ("drums", "bass", "other", "vocals")

FIRST_SEED = 900_101
"""Of the songs that are shown. The model was trained on seeds below 100,000."""

HELD_OUT_SEEDS = range(900_000, 900_020)
HELD_OUT_SECONDS = 10.0

GONE = "Songs and stems were temporary; `demucs-server-worker demo -o demo` keeps them to be listened to."
NEXT = """\
The model `demo` is small and made for these synthesised songs: it is for trying and testing.
Real music wants htdemucs, which is fetched from the internet once:

    demucs-server-worker separate YOUR_SONG.mp3 -o separated"""

Figures = Mapping[str, float | None]


@dataclass(frozen=True)
class Score:
    """SDR a stem in dB: of what was separated, and of the mix itself. None where a stem is silent."""

    name: str
    stems: Figures
    mix: Figures

    def gain(self, stem: str) -> float | None:
        """How much better than the mix, dB."""
        separated, mixed = self.stems.get(stem), self.mix.get(stem)
        return None if separated is None or mixed is None else separated - mixed


def demo(
    songs: Annotated[int, typer.Option(min=1, max=100, help="How many songs to make.")] = 4,
    seconds: Annotated[float, typer.Option(min=1.0, max=600.0, help="Length of each.")] = 20.0,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Keep songs and stems in this folder. By default they go.")
    ] = None,
    held_out: Annotated[
        bool, typer.Option("--held-out", help="The published figures: 20 songs of 10 s that no training ever saw.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> int:
    """Make songs, separate them in parallel with the bundled model, and score the stems.

    The score is the signal-to-distortion ratio (SDR) of each stem against the true one, in dB: higher is better.
    """
    from demucs_server_worker.cli import local, words
    from demucs_server_worker.cli.batch import separate_songs

    seeds = list(HELD_OUT_SEEDS) if held_out else [FIRST_SEED + number for number in range(songs)]
    settings = local.local_settings(None, max_workers=WORKERS, model=MODEL)
    with _folder(out) as folder:
        _tell(as_json, f"Making {len(seeds)} songs …")
        made = _make(folder, seeds, HELD_OUT_SECONDS if held_out else seconds)
        order = _order(made, folder / "stems", local.sized(settings, len(made), None))
        result = separate_songs(order, local.chosen_report(settings, as_json=as_json, quiet=False))
        if result.exit_code != DONE:
            return result.exit_code
        _show(_score(made, result), as_json)
    kept = f"Songs, stems and the true stems are in {words.near(folder)}." if out is not None else GONE
    _tell(as_json, f"\n{kept}\n\n{NEXT}")
    return DONE


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        yield out.absolute()
        return
    with tempfile.TemporaryDirectory(prefix="demucs-server-worker-demo-", ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _order(made: Sequence[Mapping[str, Any]], stems: Path, settings: Any) -> Order:
    from demucs_server_worker.cli.batch import Order
    from demucs_server_worker.cli.songs import Song
    from demucs_server_worker.options import SeparationOptions

    mixes = [Path(song["mix"]) for song in made]
    songs = [Song(mix, mix.name, stems, mix.name) for mix in mixes]
    return Order(songs=songs, options=SeparationOptions(model=MODEL), settings=settings)


# --- the child, which may load numpy ----------------------------------------------------------------------------------


def _make(folder: Path, seeds: Sequence[int], seconds: float) -> list[dict[str, Any]]:
    """Synthesise the songs; gives where each mix and its truth are."""
    return _child("make", str(folder), "--seeds", ",".join(map(str, seeds)), "--seconds", str(seconds))


def _score(made: Sequence[Mapping[str, Any]], result: Result) -> list[Score]:
    """Compare what was separated with the truth."""
    pairs = [(song, entry.task) for song, entry in zip(made, result.entries, strict=True) if entry.task is not None]
    wanted = [
        {"truth": song["truth"], "stems": {stem.name: stem.path for stem in task.stems}} for song, task in pairs
    ]  # fmt: skip
    scored = _child("score", stdin="".join(json.dumps(song) + "\n" for song in wanted))
    names = [Path(song["mix"]).stem for song, _ in pairs]
    return [Score(name, figures["stems"], figures["mix"]) for name, figures in zip(names, scored, strict=True)]


def _child(*arguments: str, stdin: str = "") -> list[dict[str, Any]]:
    # In a session of its own, Ctrl-C reaches this process alone, which then ends the child.
    child = subprocess.run(
        [sys.executable, "-m", "demucs_server_worker.demo", *arguments],
        input=stdin, capture_output=True, text=True, encoding="utf-8", check=False, start_new_session=True,
    )  # fmt: skip
    if child.returncode != 0:
        last = (child.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise DemucsWorkerError(f"The demo's songs could not be made or scored: {last}")
    return [json.loads(line) for line in child.stdout.splitlines()]


# --- what the user sees -----------------------------------------------------------------------------------------------


def medians(scores: Sequence[Score]) -> Score:
    """The median of each figure over the songs."""

    def over(figures: Sequence[Figures]) -> Figures:
        known = {stem: [value for each in figures if (value := each.get(stem)) is not None] for stem in STEMS}
        return {stem: statistics.median(values) if values else None for stem, values in known.items()}

    return Score("median", over([score.stems for score in scores]), over([score.mix for score in scores]))


def _show(scores: Sequence[Score], as_json: bool) -> None:
    rows = [*scores, medians(scores)]
    if as_json:
        _print_objects(rows)
    elif sys.stdout.isatty():
        _print_table(rows)
    else:
        for row in rows:
            sys.stdout.write(f"{row.name}: " + ", ".join(f"{stem} {_cell(row, stem)}" for stem in STEMS) + "\n")


def _print_objects(rows: Sequence[Score]) -> None:
    from demucs_server_worker.cli.json_report import write_line

    for row in rows:
        event = "median" if row is rows[-1] else "score"
        gain = {stem: row.gain(stem) for stem in STEMS}
        write_line(sys.stdout, {"event": event, "song": row.name, "sdr": row.stems, "mixSdr": row.mix, "gain": gain})


def _print_table(rows: Sequence[Score]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title="SDR in dB, and how much better than the mix", title_style="bold", title_justify="left", box=None,
        padding=(0, 2, 0, 0), header_style="dim",
    )  # fmt: skip
    table.add_column("song")
    for stem in STEMS:
        table.add_column(stem, justify="right")
    for row in rows:
        cells = [Text(_cell(row, stem)) for stem in STEMS]
        table.add_row(Text(row.name), *cells, style="bold" if row is rows[-1] else "")
    Console(highlight=False).print(table)


def _cell(row: Score, stem: str) -> str:
    separated, gain = row.stems.get(stem), row.gain(stem)
    return "–" if separated is None or gain is None else f"{separated:.1f} dB ({gain:+.1f})"


def _tell(as_json: bool, text: str) -> None:
    if not as_json:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
