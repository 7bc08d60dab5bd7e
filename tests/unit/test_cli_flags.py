"""Demucs' flags, and ours, become separation options."""

from __future__ import annotations

from typing import Any

import pytest

from demucs_server_worker.cli.exits import UsageError
from demucs_server_worker.cli.flags import separation_options
from demucs_server_worker.options import SeparationOptions


def options(**flags: Any) -> SeparationOptions:
    return separation_options(flags, default_model="demo")


def test_without_flags_everything_is_as_the_options_have_it() -> None:
    assert options(int24=False, no_split=False, other_method="add") == SeparationOptions(model="demo")


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ({"name": "htdemucs_ft"}, {"model": "htdemucs_ft"}),
        ({"mp3": True}, {"format": "mp3"}),
        ({"mp3": True, "mp3_bitrate": 128, "mp3_preset": 7}, {"format": "mp3", "bitrate": 128, "mp3_preset": 7}),
        ({"format": "mp3", "mp3_bitrate": 128}, {"format": "mp3", "bitrate": 128}),
        ({"mp3": True, "format": "mp3"}, {"format": "mp3"}),
        ({"flac": True, "int24": True}, {"format": "flac", "bit_depth": "24"}),
        ({"float32": True}, {"bit_depth": "float32"}),
        ({"format": "opus", "bitrate": 96}, {"format": "opus", "bitrate": 96}),
        ({"two_stems": "vocals", "other_method": "add"}, {"two_stems": "vocals"}),
        ({"two_stems": "vocals", "other_method": "minus"}, {"two_stems": "vocals", "other_method": "minus"}),
        ({"two_stems": "vocals", "other_method": "none"}, {"stems": ("vocals",)}),
        ({"stems": "vocals, drums"}, {"stems": ("vocals", "drums")}),
        ({"no_split": True}, {"split": False}),
        ({"shifts": 2, "overlap": 0.5, "segment": 6.0}, {"shifts": 2, "overlap": 0.5, "segment": 6.0}),
        ({"sample_rate": "48000"}, {"sample_rate": 48_000}),
        ({"sample_rate": "model"}, {"sample_rate": "model"}),
        ({"clip_mode": "clamp", "residual": "other"}, {"clip_mode": "clamp", "residual": "other"}),
        ({"device": "cuda:1", "precision": "bf16"}, {"device": "cuda:1", "precision": "bf16"}),
        ({"filename": "{stem}/{track}.{ext}"}, {"filename": "{stem}/{track}.{ext}"}),
    ],
)
def test_a_flag_is_the_option_it_stands_for(flags: dict[str, Any], expected: dict[str, Any]) -> None:
    assert options(**flags) == SeparationOptions(**{"model": "demo", **expected})


def test_demucs_takes_an_mp3_bitrate_with_any_format_and_heeds_it_for_mp3() -> None:
    assert options(mp3_bitrate=128).bitrate == SeparationOptions().bitrate


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ({"mp3": True, "flac": True}, ("--mp3", "--flac")),
        ({"mp3": True, "format": "ogg"}, ("--mp3", "--format ogg")),
        ({"flac": True, "format": "wav"}, ("--flac", "--format wav")),
        ({"int24": True, "float32": True}, ("--int24", "--float32")),
        ({"bitrate": 96, "mp3_bitrate": 128, "mp3": True}, ("--bitrate", "--mp3-bitrate")),
        ({"stems": "vocals", "two_stems": "vocals"}, ("--stems", "--two-stems")),
        ({"no_split": True, "segment": 6.0}, ("--no-split", "--segment")),
        ({"flac": True, "float32": True}, ("--float32", "flac takes 16 or 24")),
        ({"shifts": 200}, ("--shifts=200", "0 to 100")),
        ({"clip_mode": "loud"}, ("--clip-mode=loud", "rescale")),
        ({"sample_rate": "fast"}, ("--sample-rate=fast",)),
        ({"filename": "../{stem}.wav"}, ("--filename=../",)),
        ({"name": "no such/name/at all"}, ("--name=",)),
    ],
)
def test_flags_that_make_no_sense_are_refused_in_one_sentence(flags: dict[str, Any], named: tuple[str, ...]) -> None:
    with pytest.raises(UsageError) as refusal:
        options(**flags)
    sentence = str(refusal.value)
    assert all(name in sentence for name in named)
    assert "\n" not in sentence and sentence.endswith(".")
