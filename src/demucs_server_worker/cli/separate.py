"""`separate`: the main job with no server. Files in, stems out, in parallel."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from demucs_server_worker.cli.exits import UsageError
from demucs_server_worker.options import DEFAULT_FILENAME, AudioFormat, ClipMode, Precision, Residual

EPILOG = """\
[bold]Examples[/bold]

All songs in a folder and below it, four at a time: [cyan]demucs-server-worker separate music/ -o stems -j 4[/cyan]

Karaoke as MP3: [cyan]demucs-server-worker separate song.flac --two-stems vocals --mp3[/cyan]

Demucs' folders: [cyan]demucs-server-worker separate song.mp3 --filename '{model}/{track}/{stem}.{ext}'[/cyan]

A name that begins with a dash: [cyan]demucs-server-worker separate -- -song.mp3[/cyan]
"""

_WHAT, _HOW, _FORMAT, _RUN = "What to separate", "How to separate", "What to write", "Running"


def separate(
    ctx: typer.Context,
    files: Annotated[list[str], typer.Argument(
        metavar="FILE", help="Files, folders (searched to their ends) and patterns such as '*.mp3'.")],
    name: Annotated[str | None, typer.Option(
        "-n", "--name", rich_help_panel=_WHAT,
        help="Model: a Demucs name, hf://namespace/name, or demo. DEMUCS_WORKER_MODEL or htdemucs by default.")] = None,
    repo: Annotated[Path | None, typer.Option(
        exists=True, file_okay=False, rich_help_panel=_WHAT,
        help="Folder of local models, instead of those that Demucs publishes.")] = None,
    stems: Annotated[str | None, typer.Option(
        metavar="NAMES", rich_help_panel=_WHAT, help="Only these stems, separated by commas: vocals,drums.")] = None,
    two_stems: Annotated[str | None, typer.Option(
        metavar="STEM", rich_help_panel=_WHAT, help="Only two: STEM and no_STEM, which is all the rest.")] = None,
    other_method: Annotated[Literal["none", "add", "minus"], typer.Option(
        rich_help_panel=_WHAT,
        help="How no_STEM is made: from the other stems, from the mix minus STEM, or not at all.")] = "add",
    shifts: Annotated[int | None, typer.Option(
        min=0, rich_help_panel=_HOW, help="Random shifts to average: better and as many times slower. "
        "0 by default, where Demucs takes 1.")] = None,
    overlap: Annotated[float | None, typer.Option(
        rich_help_panel=_HOW, help="How much segments overlap, as a part of one. 0.25 by default.")] = None,
    segment: Annotated[float | None, typer.Option(
        metavar="SECONDS", rich_help_panel=_HOW, help="Length of a segment; shorter takes less memory. "
        "The model's own by default.")] = None,
    no_split: Annotated[bool, typer.Option(
        "--no-split", rich_help_panel=_HOW, help="The whole song at once: memory grows with its length.")] = False,
    device: Annotated[str | None, typer.Option(
        "-d", "--device", rich_help_panel=_HOW, help="auto, cpu, cuda, cuda:1 or mps.")] = None,
    precision: Annotated[Precision | None, typer.Option(
        rich_help_panel=_HOW, help="Numbers that the model computes with.")] = None,
    out: Annotated[Path, typer.Option(
        "-o", "--out", rich_help_panel=_FORMAT, help="Folder for the stems.")] = Path("separated"),
    filename: Annotated[str | None, typer.Option(
        metavar="TEMPLATE", rich_help_panel=_FORMAT, help="Path of a stem below it, from {project}, {track}, "
        f"{{trackext}}, {{stem}}, {{ext}}, {{model}}. {DEFAULT_FILENAME} by default.")] = None,
    project: Annotated[str | None, typer.Option(
        metavar="NAME", rich_help_panel=_FORMAT, help="Project these songs belong to; {project} in the path.")] = None,
    format: Annotated[AudioFormat | None, typer.Option(
        rich_help_panel=_FORMAT, help="Format of the stems. wav by default.")] = None,
    mp3: Annotated[bool, typer.Option("--mp3", rich_help_panel=_FORMAT, help="As --format mp3.")] = False,
    mp3_bitrate: Annotated[int | None, typer.Option(
        metavar="KBITS", rich_help_panel=_FORMAT, help="kbit/s of MP3. 320 by default.")] = None,
    mp3_preset: Annotated[int | None, typer.Option(
        min=2, max=7, rich_help_panel=_FORMAT, help="Effort for MP3: 2 is the best and the default, "
        "7 the fastest.")] = None,
    flac: Annotated[bool, typer.Option("--flac", rich_help_panel=_FORMAT, help="As --format flac.")] = False,
    bitrate: Annotated[int | None, typer.Option(
        metavar="KBITS", rich_help_panel=_FORMAT, help="kbit/s of any lossy format. 320 by default.")] = None,
    int24: Annotated[bool, typer.Option(
        "--int24", rich_help_panel=_FORMAT, help="24 bits a sample instead of 16 (WAV, FLAC).")] = False,
    float32: Annotated[bool, typer.Option(
        "--float32", rich_help_panel=_FORMAT, help="32-bit floating point instead of 16 bits (WAV).")] = False,
    sample_rate: Annotated[str | None, typer.Option(
        metavar="RATE", rich_help_panel=_FORMAT, help="source (the default), model, or a rate in Hz.")] = None,
    clip_mode: Annotated[ClipMode | None, typer.Option(
        rich_help_panel=_FORMAT, help="Against clipping: one gain for all stems (rescale, the default), a cut, or "
        "nothing.")] = None,
    residual: Annotated[Residual | None, typer.Option(
        rich_help_panel=_FORMAT, help="other: the stem other also takes what all stems miss of the mix.")] = None,
    jobs: Annotated[int | None, typer.Option(
        "-j", "--jobs", min=0, rich_help_panel=_RUN, help="Songs at a time. 2 by default, or MAX_WORKERS.")] = None,
    priority: Annotated[Literal["high", "normal", "low"], typer.Option(
        rich_help_panel=_RUN, help="Priority of the tasks.")] = "normal",
    config: Annotated[Path | None, typer.Option(
        metavar="FILE", rich_help_panel=_RUN, help="Settings as TOML, below those of the environment.")] = None,
    as_json: Annotated[bool, typer.Option(
        "--json", rich_help_panel=_RUN, help="One JSON object a line: what happens, and a summary.")] = False,
    quiet: Annotated[bool, typer.Option(
        "-q", "--quiet", rich_help_panel=_RUN, help="Print failures only.")] = False,
) -> int:  # fmt: skip
    """Separate songs into stems, several at a time.

    Demucs' own flags mean what they mean to Demucs. A file that fails is named with its reason, the others are done.
    """
    from demucs_server_worker.cli import flags, local, songs
    from demucs_server_worker.cli.batch import Order, separate_songs
    from demucs_server_worker.task import Priority

    settings = local.local_settings(config, model_repo=repo, device=device, precision=precision)
    options = flags.separation_options(ctx.params, default_model=settings.model)
    found = songs.find_songs(files, out.absolute())
    if not found.songs:
        raise UsageError(f"There is no song in {', '.join(found.empty)}.")
    local.warn_of_empty(found.empty)
    named = songs.tell_apart(
        found.songs, filename=options.filename, project=project, ext=options.format, model=options.model
    )  # fmt: skip
    local.have_model(options.model, settings.model_repo, quiet=quiet or as_json)
    order = Order(
        songs=named, options=options, settings=local.sized(settings, len(named), jobs), priority=Priority(priority),
        project_name=project,
    )  # fmt: skip
    return separate_songs(order, local.chosen_report(settings, as_json=as_json, quiet=quiet)).exit_code
