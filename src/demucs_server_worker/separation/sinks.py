"""Stems on their way to disk: encoded at once as they come, and once more where the common gain turns out below 1.

One gain for all stems is known only when the whole song is done. Most songs need none, so the encoding runs beside
the model as if it were 1, and the raw samples are kept in a file next to it. When a peak shows that a gain will be
needed, the encodings are dropped and made from the raw samples at the end.

The raw samples take 8 bytes a sample of a stem: 1.4 MB a second for four stems at 44.1 kHz, 5 GB an hour.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from demucs_server_worker.errors import OutputError, SeparationCancelled
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.separation.encode import StemWriter, open_writer
from demucs_server_worker.separation.fifo import Block
from demucs_server_worker.separation.samples import interleaved

# Demucs' own margins (demucs 4.1, `prevent_clip` in `demucs/audio.py`).
RESCALE_HEADROOM = 1.01
CLAMP_LEVEL = 0.99

_SPOOL_BLOCK_SAMPLES = 65_536
_REPORT_SECONDS = 0.2


def rescale_gain(peak: float) -> float:
    """The gain that `rescale` applies to all stems when the largest sample among them is `peak`."""
    return 1.0 / max(RESCALE_HEADROOM * peak, 1.0)


def _limit(options: SeparationOptions) -> float | None:
    """Where samples are cut: by `clamp`, or by a format of integers, which can hold no more than full scale."""
    if options.clip_mode == "clamp":
        return CLAMP_LEVEL
    holds_integers = options.format in ("wav", "flac") and options.bit_depth != "float32"
    return 1.0 if options.clip_mode == "none" and holds_integers else None


@dataclass(frozen=True)
class StemOutput:
    """Where a stem goes: its name, and the file that is written, inside the staging folder."""

    name: str
    path: Path


class _Sink:
    """One stem: its encoder, its raw samples, its peak."""

    def __init__(self, output: StemOutput, options: SeparationOptions, sample_rate: int, length: int) -> None:
        self._output = output
        self._options = options
        self._sample_rate = sample_rate
        self._length = length
        self.peak = 0.0
        self.encoded = 0  # samples, of the encoding that stays
        self._spool_path = output.path.with_name(output.path.name + ".raw")
        self._spool = self._spool_path.open("xb") if options.clip_mode == "rescale" else None
        self._writer: StemWriter | None = None
        try:
            self._writer = self._open()
        except BaseException:
            self.close()
            raise

    def _open(self) -> StemWriter:
        return open_writer(self._output.path, self._options, self._sample_rate, self._length)

    def write(self, block: Block) -> None:
        self.peak = max(self.peak, float(block.max(initial=0.0)), -float(block.min(initial=0.0)))
        if self._spool is not None:
            self._spool.write(interleaved(block).data)
        if self._writer is not None:
            self._writer.write(block)
            self.encoded += block.shape[1]

    def drop_encoding(self) -> None:
        if self._writer is not None:
            with contextlib.suppress(OutputError):  # what cannot be finished is not wanted either
                self._writer.close()
            self._writer = None
            self.encoded = 0
            self._output.path.unlink(missing_ok=True)

    def finish(self, gain: float, check: Callable[[], None]) -> None:
        if self._writer is not None:
            self._writer.close()
        else:
            self._encode_spool(gain, check)
        self.close()
        self.peak *= gain

    def _encode_spool(self, gain: float, check: Callable[[], None]) -> None:
        if self._spool is not None:
            self._spool.close()
        with self._open() as writer, self._spool_path.open("rb") as spool:
            while raw := spool.read(_SPOOL_BLOCK_SAMPLES * 2 * 4):
                check()
                block = np.frombuffer(raw, np.float32).reshape(-1, 2).T  # (2, samples)
                writer.write(np.ascontiguousarray(block * np.float32(gain)))
                self.encoded += block.shape[1]

    def close(self) -> None:
        """Let go of everything; the encoding stays, the raw samples do not."""
        if self._spool is not None:
            with contextlib.suppress(OSError):  # a full disk says so a second time when its buffer is flushed
                self._spool.close()
            self._spool_path.unlink(missing_ok=True)

    def abort(self) -> None:
        with contextlib.suppress(Exception):  # on the way out of another error, which is the one to report
            self.drop_encoding()
            self._output.path.unlink(missing_ok=True)  # one that was made again, whole or half
        self.close()


class Sinks:
    """All stems of one song."""

    def __init__(
        self, outputs: Sequence[StemOutput], options: SeparationOptions, sample_rate: int, length: int
    ) -> None:
        """Open the files; their folders must exist.

        Args:
            outputs: the stems, in order.
            options: format and clip mode.
            sample_rate: Hz, one that the format can hold.
            length: samples that will come for each.

        Raises:
            OutputError: when a file cannot be created.
        """
        self._options = options
        self._length = length
        self._sinks: list[_Sink] = []
        self._rescaling = False
        self.gain = 1.0
        try:
            for output in outputs:
                self._sinks.append(_Sink(output, options, sample_rate, length))
        except BaseException:
            self.abort()
            raise

    @property
    def peaks(self) -> list[float]:
        """The largest absolute sample of each stem; after `finish`, with the gain."""
        return [sink.peak for sink in self._sinks]

    def limited(self, stems: Sequence[Block]) -> list[Block]:
        """The samples as the files will hold them, but for a common gain, rounding and lossy coding."""
        limit = _limit(self._options)
        return [stem if limit is None else np.clip(stem, -limit, limit) for stem in stems]

    def write(self, stems: Sequence[Block]) -> None:
        """Take the next samples of every stem, (2, samples) each, as `limited` gave them."""
        for sink, block in zip(self._sinks, stems, strict=True):
            sink.write(block)
        if not self._rescaling and self._options.clip_mode == "rescale" and rescale_gain(max(self.peaks)) < 1:
            self._rescaling = True
            for sink in self._sinks:
                sink.drop_encoding()

    def finish(self, check: Callable[[], None], on_encoded: Callable[[float], None], jobs: int) -> None:
        """Complete the files, under the common gain.

        Args:
            check: called between blocks, by several threads; may raise to stop.
            on_encoded: told from time to time, by the caller's thread, which part of the encoding is done, 0 to 1.
            jobs: stems to encode at the same time, where they must be encoded again.
        """
        if self._rescaling:
            self.gain = rescale_gain(max(self.peaks))
        errors: list[BaseException] = []

        def go_on() -> None:
            if errors:
                raise SeparationCancelled
            check()

        def finish(sink: _Sink) -> None:
            try:
                sink.finish(self.gain, go_on)
            except BaseException as error:
                errors.append(error)

        with ThreadPoolExecutor(max_workers=max(1, jobs), thread_name_prefix="encode") as pool:
            working = {pool.submit(finish, sink) for sink in self._sinks}
            try:
                while working:
                    on_encoded(self._encoded_part())
                    _, working = wait(working, _REPORT_SECONDS, return_when=FIRST_COMPLETED)
            except BaseException as error:
                errors.append(error)
        if errors:
            raise errors[0]  # those that follow are only the others' way to stop
        on_encoded(1.0)

    def _encoded_part(self) -> float:
        return sum(sink.encoded for sink in self._sinks) / (self._length * len(self._sinks))

    def abort(self) -> None:
        """Close and remove everything."""
        for sink in self._sinks:
            sink.abort()
