"""What a separation can be asked for, and how a bad value is named."""

from __future__ import annotations

import msgspec
import pytest

from demucs_server_worker.errors import InvalidOption
from demucs_server_worker.options import SeparationOptions

DEFAULTS = {
    "model": "htdemucs", "stems": None, "two_stems": None, "other_method": "add", "format": "wav", "bit_depth": "16",
    "bitrate": 320, "mp3_preset": 2, "shifts": 0, "overlap": 0.25, "segment": None, "split": True,
    "clip_mode": "rescale", "residual": "none", "sample_rate": "source", "filename": "{project}/{track}/{stem}.{ext}",
    "device": "auto", "precision": "auto",
}  # fmt: skip


def test_the_defaults_are_those_of_the_contract() -> None:
    assert msgspec.structs.asdict(SeparationOptions()) == DEFAULTS


def test_stored_options_hold_their_defaults_so_that_later_ones_do_not_change_a_waiting_task() -> None:
    assert msgspec.json.decode(msgspec.json.encode(SeparationOptions())) == DEFAULTS


def test_none_means_the_default() -> None:
    assert SeparationOptions.parse(dict.fromkeys(DEFAULTS)) == SeparationOptions()


@pytest.mark.parametrize(
    ("name", "given", "meant"),
    [
        ("stems", "vocals, drums", ("vocals", "drums")),
        ("stems", ["vocals"], ("vocals",)),
        ("bit_depth", 24, "24"),
        ("bitrate", "192", 192),
        ("shifts", "2", 2),
        ("overlap", "0.5", 0.5),
        ("segment", "7.8", 7.8),
        ("split", "false", False),
        ("sample_rate", "48000", 48_000),
        ("sample_rate", "model", "model"),
        ("sample_rate", 22_050, 22_050),
        ("model", "hf://some-one/a.model", "hf://some-one/a.model"),
        ("device", "cuda:1", "cuda:1"),
        ("filename", "{track} - {stem}.{ext}", "{track} - {stem}.{ext}"),
    ],
)
def test_values_from_a_form_or_a_command_line_are_understood(name: str, given: object, meant: object) -> None:
    assert getattr(SeparationOptions.parse({name: given}), name) == meant


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"colour": "red"}, "colour"),
        ({"model": "../evil"}, "model"),
        ({"model": "hf://a/b/c"}, "model"),
        ({"model": ""}, "model"),
        ({"stems": []}, "stems"),
        ({"stems": "vocals,vocals"}, "stems"),
        ({"stems": "voc/als"}, "stems"),
        ({"stems": [3]}, "stems"),
        ({"stems": "vocals", "two_stems": "vocals"}, "two_stems"),
        ({"two_stems": "a b"}, "two_stems"),
        ({"format": "aiff"}, "format"),
        ({"bit_depth": "32"}, "bit_depth"),
        ({"bit_depth": "float32", "format": "flac"}, "bit_depth"),
        ({"bitrate": 31}, "bitrate"),
        ({"bitrate": 513}, "bitrate"),
        ({"bitrate": "loud"}, "bitrate"),
        ({"mp3_preset": 1}, "mp3_preset"),
        ({"shifts": -1}, "shifts"),
        ({"shifts": 101}, "shifts"),
        ({"overlap": 1.0}, "overlap"),
        ({"overlap": float("nan")}, "overlap"),
        ({"overlap": -0.1}, "overlap"),
        ({"segment": 0}, "segment"),
        ({"segment": float("inf")}, "segment"),
        ({"segment": 5, "split": False}, "segment"),
        ({"split": "perhaps"}, "split"),
        ({"clip_mode": "tanh"}, "clip_mode"),
        ({"residual": "vocals"}, "residual"),
        ({"other_method": "times"}, "other_method"),
        ({"precision": "int8"}, "precision"),
        ({"sample_rate": 7_999}, "sample_rate"),
        ({"sample_rate": "fast"}, "sample_rate"),
        ({"device": "tpu"}, "device"),
        ({"device": "cuda:"}, "device"),
        ({"filename": ""}, "filename"),
        ({"filename": "{track}.{ext}"}, "filename"),
        ({"filename": "/{stem}.{ext}"}, "filename"),
        ({"filename": "a/../{stem}"}, "filename"),
        ({"filename": "{stem}/"}, "filename"),
        ({"filename": "{stem"}, "filename"),
        ({"filename": "{stem.__class__}"}, "filename"),
        ({"filename": "{stem!r}"}, "filename"),
        ({"filename": "{stem:9999999}"}, "filename"),
        ({"filename": "{stem}{other}"}, "filename"),
        ({"filename": "{stem}\0"}, "filename"),
    ],
)
def test_a_bad_value_is_refused_by_the_name_of_its_option(values: dict[str, object], named: str) -> None:
    with pytest.raises(InvalidOption, match=f"^{named}=") as caught:
        SeparationOptions.parse(values)
    assert (caught.value.code, caught.value.retryable) == ("invalid_option", False)


def test_the_message_says_what_is_allowed() -> None:
    with pytest.raises(InvalidOption) as caught:
        SeparationOptions.parse({"format": "aiff"})
    assert caught.value.message == "format=aiff is not valid: one of wav, flac, mp3, m4a, ogg, opus."


def test_the_constructor_checks_as_well() -> None:
    with pytest.raises(InvalidOption, match=r"^overlap=2"):
        SeparationOptions(overlap=2)
