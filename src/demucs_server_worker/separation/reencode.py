"""A finished stem in another format: the same sound, tags and length, encoded again."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.separation.encode import open_writer, output_rate
from demucs_server_worker.separation.finished import open_finished
from demucs_server_worker.separation.manifest import sha256_of
from demucs_server_worker.separation.resample import Resampler, resampled_length
from demucs_server_worker.separation.tags import Tags, write_tags

_CHANNELS = 2


@dataclass(frozen=True)
class Reencoded:
    """What was written.

    Attributes:
        sample_rate: Hz; differs from the source's where the format has no such rate.
        channels: channels.
        duration_seconds: seconds.
        bytes: size of the file.
        sha256: hash of the file, hexadecimal.
    """

    sample_rate: int
    channels: int
    duration_seconds: float
    bytes: int
    sha256: str


def reencode(
    source: Path, sha256: str, target: Path, options: SeparationOptions, *, stem: str, samples: int,
    check: Callable[[], None] = lambda: None,
) -> Reencoded:  # fmt: skip
    """Write the stem `source` as `target`, in the format of `options`. On an error nothing of `target` stays.

    Whole numbers that fit into the new format's come out as they were: a WAV of 16 bits as FLAC of 16 or 24.

    Args:
        source: the stem; a link is not followed.
        sha256: of its bytes as they were written, hexadecimal.
        target: a name that does not exist yet, in a folder that does.
        options: `format`, `bit_depth`, `bitrate` and `mp3_preset` are obeyed.
        stem: its name, which the title in its tags carries already.
        samples: a channel, about: decides only which kind of WAV can hold them.
        check: called between blocks; may raise to stop.

    Raises:
        InputNotFound, InputUnreadable: `source` is not what was written, or cannot be decoded.
        DiskFull, OutputNotWritable: see there.
    """
    try:
        with open_finished(source, sha256) as sound:
            rate = output_rate(options.format, sound.info.sample_rate)
            resampler = Resampler(sound.info.sample_rate, rate)
            length = 0
            expected = resampled_length(samples, sound.info.sample_rate, rate)
            with open_writer(target, options, rate, expected) as writer:
                for block in sound.blocks():
                    check()
                    ready = resampler.push(block)
                    length += ready.shape[1]
                    writer.write(ready)
                rest = resampler.finish()
                length += rest.shape[1]
                writer.write(rest)
            tags = sound.tags
        write_tags(target, options.format, _untitled(tags, stem), stem=stem)
        return Reencoded(rate, _CHANNELS, length / rate, os.stat(target).st_size, sha256_of(target))
    except BaseException:
        target.unlink(missing_ok=True)
        raise


def _untitled(tags: Tags, stem: str) -> Tags:
    """The song's tags: writing them puts the stem's name behind the title, where it stands already."""
    if tags.title is None:
        return tags
    return replace(tags, title=tags.title.removesuffix(f" ({stem})"))
