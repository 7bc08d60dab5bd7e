"""Flags that `separate` and `submit` share: what to separate, how, and what to write. Demucs' own mean the same."""

from __future__ import annotations

from typing import Annotated, Literal

import typer

from demucs_server_worker.options import DEFAULT_FILENAME, AudioFormat, ClipMode, Precision, Residual

WHAT, HOW, FORMAT, RUN = "What to separate", "How to separate", "What to write", "Running"

FilesArgument = Annotated[list[str], typer.Argument(
    metavar="FILE", help="Files, folders (searched to their ends) and patterns such as '*.mp3'.")]  # fmt: skip
StemsFlag = Annotated[str | None, typer.Option(
    metavar="NAMES", rich_help_panel=WHAT, help="Only these stems, separated by commas: vocals,drums.")]  # fmt: skip
TwoStemsFlag = Annotated[str | None, typer.Option(
    metavar="STEM", rich_help_panel=WHAT, help="Only two: STEM and no_STEM, which is all the rest.")]  # fmt: skip
OtherMethodFlag = Annotated[Literal["none", "add", "minus"], typer.Option(
    rich_help_panel=WHAT,
    help="How no_STEM is made: from the other stems, from the mix minus STEM, or not at all.")]  # fmt: skip
ShiftsFlag = Annotated[int | None, typer.Option(
    min=0, rich_help_panel=HOW, help="Random shifts to average: better and as many times slower. "
    "0 by default, where Demucs takes 1.")]  # fmt: skip
OverlapFlag = Annotated[float | None, typer.Option(
    rich_help_panel=HOW, help="How much segments overlap, as a part of one. 0.25 by default.")]  # fmt: skip
SegmentFlag = Annotated[float | None, typer.Option(
    metavar="SECONDS", rich_help_panel=HOW, help="Length of a segment; shorter takes less memory. "
    "The model's own by default.")]  # fmt: skip
NoSplitFlag = Annotated[bool, typer.Option(
    "--no-split", rich_help_panel=HOW, help="The whole song at once: memory grows with its length.")]  # fmt: skip
DeviceFlag = Annotated[str | None, typer.Option(
    "-d", "--device", rich_help_panel=HOW, help="auto, cpu, cuda, cuda:1 or mps.")]  # fmt: skip
PrecisionFlag = Annotated[Precision | None, typer.Option(
    rich_help_panel=HOW, help="Numbers that the model computes with.")]  # fmt: skip
FilenameFlag = Annotated[str | None, typer.Option(
    metavar="TEMPLATE", rich_help_panel=FORMAT, help="Path of a stem below it, from {project}, {track}, "
    f"{{trackext}}, {{stem}}, {{ext}}, {{model}}. {DEFAULT_FILENAME} by default.")]  # fmt: skip
ProjectFlag = Annotated[str | None, typer.Option(
    metavar="NAME", rich_help_panel=FORMAT, help="Project these songs belong to; {project} in the path.")]  # fmt: skip
FormatFlag = Annotated[AudioFormat | None, typer.Option(
    rich_help_panel=FORMAT, help="Format of the stems. wav by default.")]  # fmt: skip
Mp3Flag = Annotated[bool, typer.Option("--mp3", rich_help_panel=FORMAT, help="As --format mp3.")]  # fmt: skip
Mp3BitrateFlag = Annotated[int | None, typer.Option(
    metavar="KBITS", rich_help_panel=FORMAT, help="kbit/s of MP3. 320 by default.")]  # fmt: skip
Mp3PresetFlag = Annotated[int | None, typer.Option(
    min=2, max=7, rich_help_panel=FORMAT, help="Effort for MP3: 2 is the best and the default, "
    "7 the fastest.")]  # fmt: skip
FlacFlag = Annotated[bool, typer.Option("--flac", rich_help_panel=FORMAT, help="As --format flac.")]  # fmt: skip
BitrateFlag = Annotated[int | None, typer.Option(
    metavar="KBITS", rich_help_panel=FORMAT, help="kbit/s of any lossy format. 320 by default.")]  # fmt: skip
Int24Flag = Annotated[bool, typer.Option(
    "--int24", rich_help_panel=FORMAT, help="24 bits a sample instead of 16 (WAV, FLAC).")]  # fmt: skip
Float32Flag = Annotated[bool, typer.Option(
    "--float32", rich_help_panel=FORMAT, help="32-bit floating point instead of 16 bits (WAV).")]  # fmt: skip
SampleRateFlag = Annotated[str | None, typer.Option(
    metavar="RATE", rich_help_panel=FORMAT, help="source (the default), model, or a rate in Hz.")]  # fmt: skip
ClipModeFlag = Annotated[ClipMode | None, typer.Option(
    rich_help_panel=FORMAT, help="Against clipping: one gain for all stems (rescale, the default), a cut, or "
    "nothing.")]  # fmt: skip
ResidualFlag = Annotated[Residual | None, typer.Option(
    rich_help_panel=FORMAT, help="other: the stem other also takes what all stems miss of the mix.")]  # fmt: skip
PriorityFlag = Annotated[Literal["high", "normal", "low"], typer.Option(
    rich_help_panel=RUN, help="Priority of the tasks.")]  # fmt: skip
