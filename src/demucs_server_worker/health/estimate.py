"""How much memory a worker takes for a task: first from a table, then from what was seen. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from demucs_server_worker.options import SeparationOptions

_MB = 1_000_000

# Python, torch and the decoders, with no model loaded: 220 MB with torch alone, as measured for docs/performance.md.
BASE_BYTES = 350 * _MB
# What CUDA's libraries and its context take of the machine's own memory, in each process. By experience, not measured.
CUDA_BYTES = 2_000 * _MB
# A shift more, or a member more, is another pass with sums of its own: stems × channels × segment × 4 bytes.
PASS_BYTES = 16 * _MB
# A song that is not split goes through the model whole. Its length is not known before it is decoded.
UNSPLIT_SECONDS = 240.0
# How far an estimate goes down towards a lower figure that was seen; it goes up to a higher one at once.
DOWNWARD_SHARE = 0.2


@dataclass(frozen=True)
class ModelMemory:
    """What a model takes: `weights` bytes for each of its `members`; one forward pass, `fixed` bytes and
    `per_second` bytes for each second of a segment, which is `segment` seconds long unless the task says otherwise."""

    members: int
    weights: int
    fixed: int
    per_second: int
    segment: float


# Peak resident memory of one forward pass in fp32 with torch 2.13 on two threads, beyond what was there before:
# HTDemucs 605 MB at 7.8 s; HDemucs 690 MB at 10 s and 2,020 MB at 40 s. Weights in fp32: 42 and 84 million numbers.
# A worker with `demo`: 270 MB idle, 545 MB at most with a song of a minute.
_HTDEMUCS = ModelMemory(members=1, weights=168 * _MB, fixed=60 * _MB, per_second=80 * _MB, segment=7.8)
_HDEMUCS = ModelMemory(members=1, weights=335 * _MB, fixed=250 * _MB, per_second=45 * _MB, segment=44.0)
_HDEMUCS_BAG = ModelMemory(members=4, weights=335 * _MB, fixed=250 * _MB, per_second=45 * _MB, segment=44.0)

MODELS = {
    "demo": ModelMemory(members=1, weights=2 * _MB, fixed=80 * _MB, per_second=15 * _MB, segment=7.8),
    "htdemucs": _HTDEMUCS,
    "htdemucs_6s": _HTDEMUCS,
    "htdemucs_ft": ModelMemory(members=4, weights=168 * _MB, fixed=60 * _MB, per_second=80 * _MB, segment=7.8),
    "hdemucs_mmi": _HDEMUCS,
    **dict.fromkeys(
        ("mdx", "mdx_q", "mdx_extra", "mdx_extra_q", "repro_mdx_a", "repro_mdx_a_hybrid_only", "repro_mdx_a_time_only"),
        _HDEMUCS_BAG,
    ),
}
"""By name. Any other model is taken for one like `htdemucs` until it has been seen at work."""


def table_estimate(options: SeparationOptions, device: str | None) -> int:
    """Bytes that a worker takes at most for a task, by the table.

    Args:
        options: of the task.
        device: that the worker computes on, as it said itself; None when that is not known.
    """
    model = MODELS.get(options.model, _HTDEMUCS)
    seconds = (options.segment or model.segment) if options.split else UNSPLIT_SECONDS
    passes = model.members * max(1, options.shifts)
    activations = model.fixed + int(seconds * model.per_second)
    on_gpu = _runs_on_gpu(options, device)
    return (
        BASE_BYTES + model.members * model.weights + passes * PASS_BYTES + (CUDA_BYTES if on_gpu else activations)
    )  # fmt: skip


class Estimates:
    """The table, corrected by what tasks of each kind took. Kept in memory only."""

    def __init__(self) -> None:
        self._seen: dict[tuple[object, ...], int] = {}

    def bytes(self, options: SeparationOptions, device: str | None) -> int:
        """What a worker takes at most for such a task, as far as is known."""
        return self._seen.get(_kind(options, device)) or table_estimate(options, device)

    def learn(self, options: SeparationOptions, device: str | None, peak_bytes: int) -> None:
        """Correct the estimate by a task's peak: upwards at once, downwards by a part of the way."""
        known = self.bytes(options, device)
        lower = known + int((peak_bytes - known) * DOWNWARD_SHARE)
        self._seen[_kind(options, device)] = max(peak_bytes, lower)


def _kind(options: SeparationOptions, device: str | None) -> tuple[object, ...]:
    """What decides a task's memory. A bag's members, shifts and segments are in it; formats and names are not."""
    on_gpu = _runs_on_gpu(options, device)
    return options.model, options.segment, options.split, options.shifts, options.precision, on_gpu


def _runs_on_gpu(options: SeparationOptions, device: str | None) -> bool:
    wanted = options.device if options.device != "auto" else device or ""
    return wanted.startswith("cuda")
