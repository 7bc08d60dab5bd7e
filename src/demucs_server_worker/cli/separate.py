"""`separate`: the main job with no server. Files in, stems out, in parallel."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from demucs_server_worker.cli import parameters
from demucs_server_worker.cli.exits import UsageError

EPILOG = """\
[bold]Examples[/bold]

All songs in a folder and below it, four at a time: [cyan]demucs-server-worker separate music/ -o stems -j 4[/cyan]

Karaoke as MP3: [cyan]demucs-server-worker separate song.flac --two-stems vocals --mp3[/cyan]

Demucs' folders: [cyan]demucs-server-worker separate song.mp3 --filename '{model}/{track}/{stem}.{ext}'[/cyan]

A name that begins with a dash: [cyan]demucs-server-worker separate -- -song.mp3[/cyan]
"""


def separate(
    ctx: typer.Context,
    files: parameters.FilesArgument,
    name: Annotated[str | None, typer.Option(
        "-n", "--name", rich_help_panel=parameters.WHAT,
        help="Model: a Demucs name, hf://namespace/name, or demo. DEMUCS_WORKER_MODEL or htdemucs by default.")] = None,
    repo: Annotated[Path | None, typer.Option(
        exists=True, file_okay=False, rich_help_panel=parameters.WHAT,
        help="Folder of local models, instead of those that Demucs publishes.")] = None,
    stems: parameters.StemsFlag = None,
    two_stems: parameters.TwoStemsFlag = None,
    other_method: parameters.OtherMethodFlag = "add",
    shifts: parameters.ShiftsFlag = None,
    overlap: parameters.OverlapFlag = None,
    segment: parameters.SegmentFlag = None,
    no_split: parameters.NoSplitFlag = False,
    device: parameters.DeviceFlag = None,
    precision: parameters.PrecisionFlag = None,
    out: Annotated[Path, typer.Option(
        "-o", "--out", rich_help_panel=parameters.FORMAT, help="Folder for the stems.")] = Path("separated"),
    filename: parameters.FilenameFlag = None,
    project: parameters.ProjectFlag = None,
    format: parameters.FormatFlag = None,
    mp3: parameters.Mp3Flag = False,
    mp3_bitrate: parameters.Mp3BitrateFlag = None,
    mp3_preset: parameters.Mp3PresetFlag = None,
    flac: parameters.FlacFlag = False,
    bitrate: parameters.BitrateFlag = None,
    int24: parameters.Int24Flag = False,
    float32: parameters.Float32Flag = False,
    sample_rate: parameters.SampleRateFlag = None,
    clip_mode: parameters.ClipModeFlag = None,
    residual: parameters.ResidualFlag = None,
    jobs: Annotated[int | None, typer.Option(
        "-j", "--jobs", min=0, rich_help_panel=parameters.RUN,
        help="Songs at a time. 2 by default, or MAX_WORKERS.")] = None,
    priority: parameters.PriorityFlag = "normal",
    config: Annotated[Path | None, typer.Option(
        metavar="FILE", rich_help_panel=parameters.RUN,
        help="Settings as TOML, below those of the environment.")] = None,
    as_json: Annotated[bool, typer.Option(
        "--json", rich_help_panel=parameters.RUN, help="One JSON object a line: what happens, and a summary.")] = False,
    quiet: Annotated[bool, typer.Option(
        "-q", "--quiet", rich_help_panel=parameters.RUN, help="Print failures only.")] = False,
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
