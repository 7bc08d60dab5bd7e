"""When two tasks have the same stems: the same song, the same model, and the same of every option that is heard. Pure.

The format is no part of it: stems that are there in one can be encoded in another, as `serves` says.
"""

from __future__ import annotations

import hashlib

import msgspec

from demucs_server_worker.options import SeparationOptions

# Options that say how the stems are stored. Device and precision are in the conditions, with the server's settings.
_STORED = ("format", "bit_depth", "bitrate", "mp3_preset", "filename")
_IN_CONDITIONS = ("device", "precision")

_LOSSLESS = ("wav", "flac")
_BITS = {"16": 16, "24": 24, "float32": 32}


def result_key(source_sha256: str, model_sha256: str, options: SeparationOptions, conditions: str) -> str:
    """What the stems are computed from and how, hashed, hexadecimal.

    Args:
        source_sha256: hash of the song's bytes.
        model_sha256: digest of the model's weights and its bag, so that another revision is another model.
        options: as asked for.
        conditions: whatever else decides the samples, as text.
    """
    heard = {
        name: msgspec.to_builtins(getattr(options, name))
        for name in options.__struct_fields__
        if name not in (*_STORED, *_IN_CONDITIONS, "model")
    }
    if options.stems is not None:
        heard["stems"] = sorted(options.stems)  # their order is that of a list, and not heard
    if options.two_stems is None:
        heard["other_method"] = "add"
    content = msgspec.json.encode([source_sha256, model_sha256, conditions, heard], order="sorted")
    return hashlib.sha256(content).hexdigest()


def encoding_of(options: SeparationOptions) -> tuple[str, ...]:
    """The format with those of its options that it obeys: the same encoding of the same samples is the same file."""
    match options.format:
        case "wav" | "flac":
            return (options.format, options.bit_depth)
        case "mp3":
            return (options.format, str(options.bitrate), str(options.mp3_preset))
        case _:
            return (options.format, str(options.bitrate))


def serves(old: SeparationOptions, new: SeparationOptions) -> bool:
    """Whether stems stored as `old` says can be had as `new` says with nothing lost, both having the same key.

    Never from a lossy format, and not from fewer bits than are asked for. With `clip_mode` `none`, samples past full
    scale are in `float32` only.
    """
    if encoding_of(old) == encoding_of(new):
        return True
    if old.format not in _LOSSLESS:
        return False
    if new.format in _LOSSLESS:
        return _BITS[old.bit_depth] >= _BITS[new.bit_depth]
    return new.clip_mode != "none" or old.bit_depth == "float32"
