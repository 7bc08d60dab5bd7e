"""From the flags of `separate`, Demucs' own among them, to separation options. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from demucs_server_worker.cli.exits import UsageError
from demucs_server_worker.errors import InvalidOption
from demucs_server_worker.options import SeparationOptions

# Flags that are options under the same name.
_SAME = (
    "shifts", "overlap", "segment", "clip_mode", "filename", "residual", "sample_rate", "device", "precision",
    "mp3_preset",
)  # fmt: skip

# Options that have another name as a flag, for messages.
_FLAG_OF = {"model": "name", "bit_depth": "int24/--float32"}


def separation_options(flags: Mapping[str, Any], *, default_model: str) -> SeparationOptions:
    """The options that the flags ask for.

    Args:
        flags: the parameters of the command by name; what was not given is None or False.
        default_model: where no `name` is given.

    Raises:
        UsageError: flags that exclude one another, or a value that does not fit, in one sentence.
    """
    return SeparationOptions.parse({"model": default_model, **given_options(flags)})


def given_options(flags: Mapping[str, Any]) -> dict[str, Any]:
    """The same, as far as the flags say anything: the rest is for others to decide, as for a server.

    Args:
        flags: as for `separation_options`.

    Raises:
        UsageError: as `separation_options`.
    """
    format = _format(flags)
    values: dict[str, Any] = {name: flags.get(name) for name in _SAME}
    values |= {
        "model": flags.get("name"),
        "format": format,
        "bit_depth": _bit_depth(flags),
        "bitrate": _bitrate(flags, format),
        "split": False if flags.get("no_split") else None,
    }
    if flags.get("no_split"):
        _exclude(flags, "no_split", "segment")
    values |= _stems(flags)
    given = {name: value for name, value in values.items() if value is not None}
    try:
        SeparationOptions.parse(given)
    except InvalidOption as error:
        raise UsageError(_as_flag(error.message)) from None
    return given


def _exclude(flags: Mapping[str, Any], *names: str) -> None:
    given = [f"--{name.replace('_', '-')}" for name in names if flags.get(name)]
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude one another; give one of them.")


def _format(flags: Mapping[str, Any]) -> str | None:
    _exclude(flags, "mp3", "flac")
    short = "mp3" if flags.get("mp3") else "flac" if flags.get("flac") else None
    format = flags.get("format")
    if short and format and format != short:
        raise UsageError(f"--{short} and --format {format} exclude one another; give one of them.")
    return short or format


def _bit_depth(flags: Mapping[str, Any]) -> str | None:
    _exclude(flags, "int24", "float32")
    return "24" if flags.get("int24") else "float32" if flags.get("float32") else None


def _bitrate(flags: Mapping[str, Any], format: str | None) -> int | None:
    """Demucs takes --mp3-bitrate with any format, and heeds it for MP3."""
    _exclude(flags, "bitrate", "mp3_bitrate")
    bitrate: int | None = flags.get("bitrate")
    return flags.get("mp3_bitrate") if format == "mp3" and bitrate is None else bitrate


def _stems(flags: Mapping[str, Any]) -> dict[str, Any]:
    _exclude(flags, "stems", "two_stems")
    stem, method = flags.get("two_stems"), flags.get("other_method")
    if stem and method == "none":
        return {"stems": [stem]}
    return {"stems": flags.get("stems"), "two_stems": stem, "other_method": method if stem else None}


def _as_flag(message: str) -> str:
    option, sign, rest = message.partition("=")
    return f"--{_FLAG_OF.get(option, option.replace('_', '-'))}{sign}{rest}"
