"""Other tools on the same weights: `audio-separator` and `demucs-onnx`, each from an environment of its own.

    python -m bench.peers --audio-separator BIN/audio-separator --demucs-onnx BIN/python
        [--songs 2] [--seconds 30] [--files SONG…] [--repo FOLDER_WITH_htdemucs]

Install them with `pip install "audio-separator[cpu]"`, which wants an `ffmpeg` on the path, and with `pip install
demucs-onnx onnx onnxscript demucs`. Neither takes a folder of models as Demucs does. audio-separator finds models by a
list of downloads, so such a list is written; demucs-onnx exports a `.th` file, but separates with models of its own
downloads only, so it is shown the exported file instead. A tool that is not named is left out.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

from bench import commands, flags, report, songs
from bench.paths import MODELS
from bench.report import Row

MODEL = "htdemucs"
LISTS = (
    "vr",
    "mdx",
    "mdx_download_vip",
    "mdx23c",
    "mdx23c_download_vip",
    "roformer",
    "other_network",
    "other_network_new",
)

# demucs-onnx reads whole pickled networks, not the packages that Demucs' training writes.
EXPORT = """
import sys, tempfile
from pathlib import Path
import torch
from demucs.states import load_model
from demucs_onnx.export import export_to_onnx
with tempfile.TemporaryDirectory() as folder:
    whole = Path(folder) / "whole.th"
    torch.save(load_model(Path(sys.argv[1])), whole)
    export_to_onnx(whole, Path(sys.argv[2]))
"""

# demucs-onnx asks the hub for the model; this gives it the one that was exported.
SEPARATE = """
import sys
from demucs_onnx import inference
model, out, *songs = sys.argv[1:]
inference.download_single_model = lambda *args, **kwargs: model
for song in songs:
    inference.separate(song, out + "/" + song.rsplit("/")[-1], model="htdemucs", providers="cpu", progress=False)
"""


def main() -> None:
    """Read the flags, measure, report."""
    parser = flags.parser(__doc__)
    songs.add_flags(parser, songs=1 if report.quick() else 2, seconds=8.0 if report.quick() else 30.0)
    parser.add_argument("--audio-separator", type=Path, default=None, metavar="COMMAND")
    parser.add_argument("--demucs-onnx", type=Path, default=None, metavar="PYTHON")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = _measure(Path(folder), arguments)
    report.write("peers", rows)


def _measure(folder: Path, arguments: argparse.Namespace) -> list[Row]:
    repo = flags.repository(arguments, MODEL)
    files = songs.chosen(arguments, folder)
    commands.warm_up(folder, model=MODEL, repo=repo)
    ours = commands.ours(files, folder / "ours", model=MODEL, repo=repo).seconds
    theirs = {"demucs": commands.demucs(files, folder / "demucs", model=MODEL, repo=repo).seconds}
    if arguments.audio_separator:
        theirs["audio-separator"] = _audio_separator(arguments.audio_separator, files, folder / "as", repo)
    if arguments.demucs_onnx:
        theirs["demucs-onnx"] = _demucs_onnx(arguments.demucs_onnx, files, folder / "onnx", repo)
    audio = sum(map(songs.seconds_of, files))
    return [
        Row(what=f"{len(files)} songs, {audio:.0f} s of audio, {name}: wall time, s", ours=ours, theirs=seconds,
            ratio=seconds / ours)
        for name, seconds in theirs.items()
    ]  # fmt: skip


def _audio_separator(command: Path, files: list[Path], folder: Path, repo: Path | None) -> float:
    """It finds models by a list of downloads in their folder; files that are there are not fetched."""
    if repo is None:
        raise ValueError("audio-separator is measured on local weights")
    folder.mkdir()
    names = [path.name for path in (*repo.glob("955717e8*.th"), repo / f"{MODEL}.yaml")]
    for name in names:
        shutil.copyfile(repo / name, folder / name)
    lists: dict[str, dict[str, dict[str, str]]] = {
        (f"{name}_list" if "download" in name else f"{name}_download_list"): {} for name in LISTS
    }
    lists["demucs_download_list"] = {"Demucs v4: here": {name: f"http://localhost/{name}" for name in names}}
    (folder / "download_checks.json").write_text(json.dumps(lists), encoding="utf-8")
    flags = ["--model_filename", f"{MODEL}.yaml", "--model_file_dir", str(folder), "--output_dir", str(folder / "out"),
             "--output_format", "WAV", "--demucs_shifts", "0", "--demucs_overlap", str(songs.OVERLAP)]  # fmt: skip
    return commands.run([str(command), *map(str, files), *flags]).seconds


def _demucs_onnx(python: Path, files: list[Path], folder: Path, repo: Path | None) -> float:
    """Its export takes long and is done once, as our conversion is."""
    if repo is None:
        raise ValueError("demucs-onnx is measured on local weights")
    exported = MODELS / "htdemucs.onnx"
    if not exported.exists():
        (weights,) = repo.glob("955717e8*.th")
        subprocess.run([str(python), "-c", EXPORT, str(weights), str(exported)], check=True)
    return commands.run([str(python), "-c", SEPARATE, str(exported), str(folder), *map(str, files)]).seconds


if __name__ == "__main__":
    main()
