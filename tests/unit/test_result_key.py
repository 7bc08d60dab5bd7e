"""Which tasks have the same stems, and which stored stems serve another format."""

from __future__ import annotations

from typing import Any

import pytest

from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.result_key import encoding_of, result_key, serves
from demucs_server_worker.settings import load_settings
from demucs_server_worker.workforce import conditions_of

# Each option with a value that is not its default, and whether it is heard.
OTHER_VALUES: dict[str, tuple[Any, bool]] = {
    "model": ("demo", False),  # its digest counts, not its name
    "stems": (("vocals",), True),
    "two_stems": ("vocals", True),
    "format": ("flac", False),
    "bit_depth": ("24", False),
    "bitrate": (128, False),
    "mp3_preset": (5, False),
    "shifts": (1, True),
    "overlap": (0.5, True),
    "segment": (5.0, True),
    "split": (False, True),
    "clip_mode": ("clamp", True),
    "residual": ("other", True),
    "sample_rate": ("model", True),
    "filename": ("{stem}.{ext}", False),
    "device": ("cpu", False),  # part of the conditions
    "precision": ("fp32", False),
}


def key(song: str = "a" * 64, weights: str = "b" * 64, conditions: str = "1 cpu", **options: Any) -> str:
    return result_key(song, weights, SeparationOptions(**options), conditions)


@pytest.mark.parametrize("option", [name for name in SeparationOptions.__struct_fields__ if name != "other_method"])
def test_every_option_that_is_heard_makes_another_result(option: str) -> None:
    value, is_heard = OTHER_VALUES[option]
    assert (key(**{option: value}) != key()) is is_heard


def test_song_model_and_conditions_make_another_result() -> None:
    keys = {key(), key(song="c" * 64), key(weights="c" * 64), key(conditions="1 cuda")}
    assert len(keys) == 4


def test_the_way_of_the_other_stem_counts_only_where_there_is_one() -> None:
    assert key(other_method="minus") == key()
    assert key(two_stems="vocals", other_method="minus") != key(two_stems="vocals")


def test_the_order_of_stems_is_not_heard() -> None:
    assert key(stems=("vocals", "bass")) == key(stems=("bass", "vocals"))


@pytest.mark.parametrize(
    ("options", "settings"),
    [({"device": "cpu"}, {}), ({"precision": "fp32"}, {}), ({}, {"device": "cpu"}), ({}, {"precision": "fp32"}),
     ({}, {"backend": "torch"})],
)  # fmt: skip
def test_another_device_precision_or_backend_is_computed_anew(options: dict[str, Any], settings: Any) -> None:
    usual = conditions_of(SeparationOptions(), load_settings())
    assert conditions_of(SeparationOptions(**options), load_settings(**settings)) != usual


def test_an_option_that_says_what_the_setting_says_changes_nothing() -> None:
    settings = load_settings(device="cpu", precision="fp32")
    asked = SeparationOptions(device="cpu", precision="fp32")
    assert conditions_of(asked, settings) == conditions_of(SeparationOptions(), settings)


def test_an_encoding_is_the_format_and_what_it_obeys() -> None:
    assert encoding_of(SeparationOptions(bitrate=128)) == encoding_of(SeparationOptions())
    assert encoding_of(SeparationOptions(format="mp3", bit_depth="24")) == encoding_of(SeparationOptions(format="mp3"))
    assert encoding_of(SeparationOptions(format="mp3", bitrate=128)) != encoding_of(SeparationOptions(format="mp3"))
    assert encoding_of(SeparationOptions(format="mp3", mp3_preset=5)) != encoding_of(SeparationOptions(format="mp3"))
    assert encoding_of(SeparationOptions(format="ogg", mp3_preset=5)) == encoding_of(SeparationOptions(format="ogg"))


@pytest.mark.parametrize(
    ("old", "new", "does"),
    [
        ("wav 16", "wav 16", True),
        ("wav 16", "flac 16", True),
        ("flac 24", "wav 16", True),
        ("wav float32", "flac 24", True),
        ("wav 16", "wav 24", False),
        ("flac 24", "wav float32", False),
        ("wav 16", "mp3 16", True),
        ("flac 16", "opus 16", True),
        ("mp3 16", "mp3 16", True),
        ("mp3 16", "wav 16", False),
        ("mp3 16", "ogg 16", False),
    ],
)
def test_stems_are_encoded_again_only_where_nothing_is_lost(old: str, new: str, does: bool) -> None:
    def options(text: str, **more: Any) -> SeparationOptions:
        format, bits = text.split()
        return SeparationOptions.parse({"format": format, "bit_depth": bits, **more})

    assert serves(options(old), options(new)) is does


def test_samples_past_full_scale_are_not_taken_from_integers() -> None:
    wanted = SeparationOptions(format="mp3", clip_mode="none")
    assert not serves(SeparationOptions(clip_mode="none"), wanted)
    assert serves(SeparationOptions(clip_mode="none", bit_depth="float32"), wanted)
