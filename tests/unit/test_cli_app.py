"""The command as a whole: help, version, and what misuse is answered with."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from demucs_server_worker import __version__
from demucs_server_worker.cli.app import app, run

DEMUCS_FLAGS = (
    "-n --name --repo -o --out --filename -d --device --shifts --overlap --no-split --segment --two-stems "
    "--other-method --int24 --float32 --clip-mode --flac --mp3 --mp3-bitrate --mp3-preset -j --jobs"
).split()
OWN_FLAGS = (
    "--stems --format --bitrate --precision --priority --project --residual --sample-rate --json -q --quiet".split()
)


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"demucs-server-worker {__version__}\n"


@pytest.mark.parametrize("arguments", [["--help"], ["-h"]])
def test_help_lists_every_command(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 0
    text = capsys.readouterr().out
    commands = "serve separate submit status tasks cancel retry delete demo models doctor bench"
    assert set(commands.split()) <= set(text.split())


def test_every_flag_of_demucs_and_of_the_contract_is_in_the_help(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    assert run(["separate", "--help"]) == 0
    words = capsys.readouterr().out.replace(",", " ").split()
    assert [flag for flag in DEMUCS_FLAGS + OWN_FLAGS if flag not in words] == []


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["frobnicate"], "'frobnicate'"),
        (["separate"], "FILE"),
        (["separate", "a.mp3", "--frobnicate"], "--frobnicate"),
        (["separate", "a.mp3", "--shifts", "many"], "--shifts"),
        (["separate", "a.mp3", "--shifts", "-1"], "--shifts"),
        (["separate", "a.mp3", "--mp3-preset", "9"], "--mp3-preset"),
        (["separate", "a.mp3", "--mp3", "--flac"], "--mp3 and --flac"),
        (["separate", "a.mp3", "--clip-mode", "loud"], "--clip-mode"),
        (["separate", "a.mp3", "-n", "htdemuks"], "the nearest is htdemucs"),
        (["separate", "a.mp3", "-d", "toaster"], "DEVICE=toaster"),
        (["separate", "a.mp3", "--repo", "no/such/folder"], "--repo"),
        (["separate", "a.mp3", "--config", "no/such.toml"], "no/such.toml"),
        (["separate", ".", "-n", "demo"], "no song in ."),
        (["separate", "a.mp3", "b.mp3", "-n", "demo", "--filename", "{stem}.wav"], "{track}"),
        (["demo", "--songs", "0"], "--songs"),
        (["models", "--download", "htdemuks"], "htdemuks"),
    ],
)
def test_misuse_is_told_in_a_sentence_and_ends_with_2(
    arguments: list[str],
    named: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(arguments) == 2
    told = capsys.readouterr()
    sentence, hint = told.err.splitlines()
    assert named in sentence and sentence.startswith("demucs-server-worker: ")
    known = arguments[0] != "frobnicate"
    assert hint == f"Try `demucs-server-worker{' ' + arguments[0] if known else ''} --help`."
    assert told.out == ""


def test_a_wrong_setting_in_the_environment_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAX_WORKERS", "many")
    assert run(["separate", "a.mp3"]) == 2
    assert "MAX_WORKERS=many" in capsys.readouterr().err


def test_a_name_in_a_message_cannot_act_on_the_terminal(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("a\x1b[2Jb").mkdir()
    assert run(["separate", "a\x1b[2Jb", "-n", "demo"]) == 2
    assert r"a\x1b[2Jb" in capsys.readouterr().err


def test_every_command_has_a_help_text_and_examples() -> None:
    for command in app.registered_commands:
        assert command.callback is not None and command.callback.__doc__
        assert command.epilog and "demucs-server-worker" in command.epilog


def test_importing_the_commands_loads_nothing_heavy_or_slow() -> None:
    shunned = ("torch", "numpy", "av", "soundfile", "demucs", "structlog", "pydantic", "psutil", "huggingface_hub")
    code = f"import sys, demucs_server_worker.cli.app; print([m for m in {shunned!r} if m in sys.modules])"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
