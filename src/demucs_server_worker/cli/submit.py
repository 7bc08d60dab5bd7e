"""`submit`: songs to a running server, and if wanted their stems back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from demucs_server_worker.cli import parameters, remote
from demucs_server_worker.cli.exits import INTERRUPTED, UsageError
from demucs_server_worker.cli.remote import UrlFlag

EPILOG = f"""\
[bold]Examples[/bold]

Stems of all songs in a folder, into another: [cyan]demucs-server-worker submit music/ -o stems[/cyan]

Hand a song over and go on: [cyan]demucs-server-worker submit song.flac --priority high[/cyan]

Songs on the server's own disk, where nothing needs to be sent: [cyan]demucs-server-worker submit /srv/music
--server-paths -o /srv/stems --wait[/cyan]

To a server elsewhere: [cyan]demucs-server-worker submit song.mp3 --url https://stems.example --wait[/cyan]

{remote.KEY_NOTE}
Ctrl-C ends the waiting; what the server has taken goes on there, and `tasks` shows it. Waiting outlasts a restart of
the server.

Exit codes: 0 all are done, or queued where nobody waits; 1 one failed, and is named; 2 usage; 130 interrupted.
"""


def submit(
    ctx: typer.Context,
    files: parameters.FilesArgument,
    url: UrlFlag = None,
    server_paths: Annotated[bool, typer.Option(
        "--server-paths", rich_help_panel=parameters.RUN,
        help="FILES and -o are paths on the server, below folders that it allows: nothing is sent or fetched.",
    )] = False,
    wait: Annotated[bool, typer.Option(
        "-w", "--wait", rich_help_panel=parameters.RUN, help="Show progress until all are done.")] = False,
    name: Annotated[str | None, typer.Option(
        "-n", "--name", rich_help_panel=parameters.WHAT,
        help="Model: a Demucs name, hf://namespace/name, or demo. The server's own by default.")] = None,
    stems: parameters.StemsFlag = None,
    two_stems: parameters.TwoStemsFlag = None,
    other_method: parameters.OtherMethodFlag = "add",
    shifts: parameters.ShiftsFlag = None,
    overlap: parameters.OverlapFlag = None,
    segment: parameters.SegmentFlag = None,
    no_split: parameters.NoSplitFlag = False,
    device: parameters.DeviceFlag = None,
    precision: parameters.PrecisionFlag = None,
    out: Annotated[Path | None, typer.Option(
        "-o", "--out", rich_help_panel=parameters.FORMAT,
        help="Wait, and fetch the stems into this folder; with --server-paths, the server's folder for them.")] = None,
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
    priority: parameters.PriorityFlag = "normal",
    webhook: Annotated[str | None, typer.Option(
        metavar="URL", rich_help_panel=parameters.RUN,
        help="Where the server tells how each song ended; of a host that it allows.")] = None,
    as_json: Annotated[bool, typer.Option(
        "--json", rich_help_panel=parameters.RUN, help="One JSON object a line: what happens, and a summary.")] = False,
    quiet: Annotated[bool, typer.Option(
        "-q", "--quiet", rich_help_panel=parameters.RUN, help="Print failures only.")] = False,
) -> int:  # fmt: skip
    """Send songs to a running server.

    Files are sent whole, several at a time; with --server-paths they are only named, for the server to read by itself.
    One that fails is named with its reason, the others are done.
    """
    from demucs_server_worker.cli import flags, local, songs
    from demucs_server_worker.options import DEFAULT_FILENAME

    if server_paths and out is None:
        raise UsageError("--server-paths needs -o, the folder on the server for the stems.")
    options = flags.given_options(ctx.params)
    template = options.get("filename", DEFAULT_FILENAME)
    found = songs.find_songs(files, (out or Path("separated")).absolute())
    if not found.songs:
        raise UsageError(f"There is no song in {', '.join(found.empty)}.")
    local.warn_of_empty(found.empty)
    named = found.songs
    if out is not None:
        format_name, model = options.get("format", "wav"), options.get("model", "")
        named = songs.tell_apart(named, filename=template, project=project, ext=format_name, model=model)

    def work() -> int:
        from demucs_server_worker.cli.remote_batch import RemoteOrder, submit_songs
        from demucs_server_worker.cli.remote_report import remote_report

        fetch = out is not None and not server_paths
        waits = wait or fetch
        fields = {"priority": priority, "project_name": project, "webhook": webhook, **options}
        order = RemoteOrder(
            url=url, songs=named, fields=fields, filename=template, in_place=server_paths, wait=waits, fetch=fetch
        )  # fmt: skip
        code = submit_songs(order, remote_report(wait=waits, as_json=as_json, quiet=quiet))
        if code == INTERRUPTED:
            remote.warn("What the server has taken goes on there; `demucs-server-worker tasks` shows it.")
        return code

    return remote.reported(work)
