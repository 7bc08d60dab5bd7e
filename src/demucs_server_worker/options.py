"""What a caller can ask of a separation. Pure data: no I/O, no clock, and no import of an audio library.

It stands below both `task` (which stores it) and `separation` (which obeys it), so that neither imports the other.
"""

from __future__ import annotations

import re
import string
from collections.abc import Mapping
from typing import Any, Literal, Self, get_args

import msgspec

from demucs_server_worker.errors import InvalidOption

AudioFormat = Literal["wav", "flac", "mp3", "m4a", "ogg", "opus"]
BitDepth = Literal["16", "24", "float32"]
ClipMode = Literal["rescale", "clamp", "none"]
OtherMethod = Literal["add", "minus"]
Residual = Literal["none", "other"]
Precision = Literal["auto", "fp32", "bf16", "fp16"]

DEFAULT_FILENAME = "{project}/{track}/{stem}.{ext}"
FILENAME_FIELDS = ("project", "track", "trackext", "stem", "ext", "model")

_MODEL = re.compile(r"(?:hf://)?[A-Za-z0-9][A-Za-z0-9._-]*(?:/[A-Za-z0-9][A-Za-z0-9._-]*)?")
_STEM = re.compile(r"[A-Za-z0-9_-]{1,32}")
_DEVICE = re.compile(r"auto|cpu|mps|cuda(?::[0-9]{1,3})?")


class SeparationOptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything that decides how one song is separated and written.

    Attributes:
        model: a Demucs name, `hf://namespace/name`, or `demo`.
        stems: the stems to compute and write; None means all that the model has.
        two_stems: one stem; writes it and `no_<stem>`.
        other_method: how `no_<stem>` is made: `add` sums the other stems, as Demucs does; `minus` takes the stem
            from the mix, which needs only the members of a bag that compute the stem.
        format: the container and codec of the stems.
        bit_depth: sample format of `wav` (16, 24, float32) and `flac` (16, 24).
        bitrate: kbit/s for the lossy formats.
        mp3_preset: LAME's quality, 2 (best) to 7 (fastest).
        shifts: random shifts to average; 0 means none.
        overlap: part of a segment that overlaps the next, 0 ≤ overlap < 1.
        segment: seconds; None means the model's own.
        split: False hands the whole song to the model at once; memory then grows with the song.
        clip_mode: `rescale` applies one gain to all stems, `clamp` cuts at ±0.99, `none` leaves samples alone.
        residual: `other` adds what the stems together miss of the mix to the stem `other`.
        sample_rate: `source`, `model`, or a rate in Hz.
        filename: template of a stem's path below the output folder.
        device: `auto`, `cpu`, `mps`, `cuda` or `cuda:N`.
        precision: `auto`, `fp32`, `bf16` or `fp16`.

    Raises:
        InvalidOption: from the constructor, for a value outside what is allowed.
    """

    model: str = "htdemucs"
    stems: tuple[str, ...] | None = None
    two_stems: str | None = None
    other_method: OtherMethod = "add"
    format: AudioFormat = "wav"
    bit_depth: BitDepth = "16"
    bitrate: int = 320
    mp3_preset: int = 2
    shifts: int = 0
    overlap: float = 0.25
    segment: float | None = None
    split: bool = True
    clip_mode: ClipMode = "rescale"
    residual: Residual = "none"
    sample_rate: Literal["source", "model"] | int = "source"
    filename: str = DEFAULT_FILENAME
    device: str = "auto"
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        _check(_MODEL.fullmatch(self.model), "model", self.model, "a model's name, or hf://namespace/name")
        _check_stems(self)
        _check(
            self.bit_depth != "float32" or self.format == "wav",
            "bit_depth", self.bit_depth, "float32 exists for wav only; flac takes 16 or 24",
        )  # fmt: skip
        _check(32 <= self.bitrate <= 512, "bitrate", self.bitrate, "32 to 512 kbit/s")
        _check(2 <= self.mp3_preset <= 7, "mp3_preset", self.mp3_preset, "2 (best) to 7 (fastest)")
        _check(0 <= self.shifts <= 100, "shifts", self.shifts, "0 to 100")
        _check(0 <= self.overlap <= 0.99, "overlap", self.overlap, "0 to 0.99 of a segment")
        _check(
            self.segment is None or 0.1 <= self.segment <= 600,
            "segment", self.segment, "0.1 to 600 seconds",
        )  # fmt: skip
        _check(self.split or self.segment is None, "segment", self.segment, "no segment without splitting")
        _check(
            isinstance(self.sample_rate, str) or 8_000 <= self.sample_rate <= 192_000,
            "sample_rate", self.sample_rate, "source, model, or 8000 to 192000 Hz",
        )  # fmt: skip
        _check(_DEVICE.fullmatch(self.device), "device", self.device, "auto, cpu, mps, cuda or cuda:N")
        _check_filename(self.filename)

    @classmethod
    def parse(cls, values: Mapping[str, Any]) -> Self:
        """Build options from loosely typed `values`, as they come from a caller, a form or a command line.

        Args:
            values: option names to values; numbers may be strings, `stems` a list or a comma-separated string. None
                means the default.

        Raises:
            InvalidOption: for an unknown name or a value that does not fit, naming both.
        """
        known = dict(values)
        for name in known.keys() - set(cls.__struct_fields__):
            raise InvalidOption(option=name, value=known[name], allowed="there is no such option")
        known = {name: value for name, value in known.items() if value is not None}
        if isinstance(stems := known.get("stems"), str):
            known["stems"] = [stem.strip() for stem in stems.split(",") if stem.strip()]
        if "bit_depth" in known:
            known["bit_depth"] = str(known["bit_depth"])
        try:
            return msgspec.convert(known, cls, strict=False)
        except msgspec.ValidationError as error:
            name = str(error).rpartition("$.")[2].partition("`")[0].partition("[")[0]
            raise InvalidOption(option=name, value=known.get(name), allowed=_allowed(name, str(error))) from None


def _check(fits: object, option: str, value: object, allowed: str) -> None:
    if not fits:
        raise InvalidOption(option=option, value=value, allowed=allowed)


def _check_stems(options: SeparationOptions) -> None:
    if options.stems is not None:
        _check(options.stems, "stems", "", "at least one stem")
        _check(len(set(options.stems)) == len(options.stems), "stems", ",".join(options.stems), "each stem once")
        for stem in options.stems:
            _check(_STEM.fullmatch(stem), "stems", stem, "letters, digits, - and _")
    if options.two_stems is not None:
        _check(options.stems is None, "two_stems", options.two_stems, "give either stems or two_stems")
        _check(_STEM.fullmatch(options.two_stems), "two_stems", options.two_stems, "letters, digits, - and _")


def _check_filename(template: str) -> None:
    allowed = "a relative path with {stem}; known are " + ", ".join(f"{{{name}}}" for name in FILENAME_FIELDS)
    _check(0 < len(template) <= 512 and "\0" not in template, "filename", template, allowed)
    try:
        fields = [(name, spec, conv) for _, name, spec, conv in string.Formatter().parse(template) if name is not None]
    except ValueError:
        fields = [("", "", None)]
    plain = all(name in FILENAME_FIELDS and not spec and conv is None for name, spec, conv in fields)
    _check(plain and any(name == "stem" for name, _, _ in fields), "filename", template, allowed)
    parts = template.split("/")
    _check(parts[0] and parts[-1] and ".." not in parts, "filename", template, allowed)


def _allowed(name: str, detail: str) -> str:
    """What `name` may be, for an error message: the words of its Literal, or the validator's own sentence."""
    words = {
        "format": AudioFormat,
        "bit_depth": BitDepth,
        "clip_mode": ClipMode,
        "other_method": OtherMethod,
        "residual": Residual,
        "precision": Precision,
    }
    if name in words:
        return "one of " + ", ".join(get_args(words[name]))
    return detail.partition(" - at")[0].lower()
