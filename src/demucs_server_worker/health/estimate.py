"""How much memory a worker takes for a task: first from a table, then from what was seen. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace

from demucs_server_worker.options import SeparationOptions

_MB = 1_000_000

# Python, torch and the decoders, with no model loaded: 220 MB with torch alone, as measured for docs/performance.md.
BASE_BYTES = 350 * _MB
# What CUDA's libraries and its context take of the machine's own memory, in each process. By experience, not measured.
CUDA_BYTES = 2_000 * _MB
# A shift more, or a member more, is another pass with sums of its own: stems × channels × segment × 4 bytes.
PASS_BYTES = 16 * _MB
# A worker with OpenVINO at its peak, in bf16: 970 MB with `htdemucs` (895 since large blocks go back to the kernel; the
# rest is for safety), 1,440 MB with all stems of `htdemucs_ft`, that is so much, and so much a member; with one stem of
# it a worker stays at `htdemucs`'s figure, which is learnt and not assumed. In fp32 OpenVINO had 150 MB more. Its
# segments are all as long as the model takes them.
OPENVINO_BYTES = 815 * _MB
OPENVINO_MEMBER_BYTES = 156 * _MB
OPENVINO_FP32_BYTES = 150 * _MB
# A process that converts a model for OpenVINO, a child of the worker that wants it, at its peak: 42 million weights
# through torch.export. It lives for half a minute, once a network; workers take turns (separation.backends.cache).
CONVERSION_BYTES = 1_300 * _MB
# A song that is not split goes through the model whole. Its length is not known before it is decoded.
UNSPLIT_SECONDS = 240.0
# How far an estimate goes down towards a lower figure that was seen; it goes up to a higher one at once.
DOWNWARD_SHARE = 0.2


@dataclass(frozen=True)
class ModelMemory:
    """What a model takes: `weights` bytes for each of its `members`; one forward pass, `fixed` bytes and
    `per_second` bytes for each second of a segment, which is `segment` seconds long unless the task says otherwise.

    What is `converted` may run on OpenVINO, for which each member is converted once on each machine."""

    members: int
    weights: int
    fixed: int
    per_second: int
    segment: float
    converted: bool = False


# Peak resident memory of one forward pass in fp32 with torch 2.13 on two threads, beyond what was there before:
# HTDemucs 605 MB at 7.8 s; HDemucs 690 MB at 10 s and 2,020 MB at 40 s. Weights in fp32: 42 and 84 million numbers.
# A worker with `demo`: 270 MB idle, 545 MB at most with a song of a minute.
_HTDEMUCS = ModelMemory(
    members=1, weights=168 * _MB, fixed=60 * _MB, per_second=80 * _MB, segment=7.8, converted=True
)  # fmt: skip
_HDEMUCS = ModelMemory(members=1, weights=335 * _MB, fixed=250 * _MB, per_second=45 * _MB, segment=44.0)
_HDEMUCS_BAG = ModelMemory(members=4, weights=335 * _MB, fixed=250 * _MB, per_second=45 * _MB, segment=44.0)

MODELS = {
    "demo": ModelMemory(members=1, weights=2 * _MB, fixed=80 * _MB, per_second=15 * _MB, segment=7.8),
    "htdemucs": _HTDEMUCS,
    "htdemucs_6s": _HTDEMUCS,
    "htdemucs_ft": replace(_HTDEMUCS, members=4),
    "hdemucs_mmi": _HDEMUCS,
    **dict.fromkeys(
        ("mdx", "mdx_q", "mdx_extra", "mdx_extra_q", "repro_mdx_a", "repro_mdx_a_hybrid_only", "repro_mdx_a_time_only"),
        _HDEMUCS_BAG,
    ),
}
"""By name. Any other model is taken for one like `htdemucs` until it has been seen at work."""


def table_estimate(options: SeparationOptions, device: str | None, *, openvino: bool = False) -> int:
    """Bytes that a worker takes at most for a task, by the table.

    Args:
        options: of the task.
        device: that the worker computes on, as it said itself; None when that is not known.
        openvino: whether workers may compute with it.
    """
    model = MODELS.get(options.model, _HTDEMUCS)
    # Of a model that nobody knows, torch's figure is the safe one: it may not be one that OpenVINO takes.
    if openvino and options.split and options.model in MODELS and may_convert(options, device):
        return _with_openvino(model, options)
    seconds = (options.segment or model.segment) if options.split else UNSPLIT_SECONDS
    passes = model.members * max(1, options.shifts)
    activations = model.fixed + int(seconds * model.per_second)
    on_gpu = _runs_on_gpu(options, device)
    return (
        BASE_BYTES + model.members * model.weights + passes * PASS_BYTES + (CUDA_BYTES if on_gpu else activations)
    )  # fmt: skip


def may_convert(options: SeparationOptions, device: str | None) -> bool:
    """Whether the first such task on a machine may have its model converted: OpenVINO computes on CPUs only."""
    model = MODELS.get(options.model, _HTDEMUCS)
    wanted = options.device if options.device != "auto" else device or "cpu"
    return model.converted and wanted == "cpu"


def _with_openvino(model: ModelMemory, options: SeparationOptions) -> int:
    # One less: the first pass is within what was measured.
    passes = model.members * max(1, options.shifts) - 1
    compiled = OPENVINO_BYTES + model.members * OPENVINO_MEMBER_BYTES
    return compiled + passes * PASS_BYTES + (0 if options.precision in ("auto", "bf16") else OPENVINO_FP32_BYTES)


class Estimates:
    """The table, corrected by what tasks of each kind took. Kept in memory only."""

    def __init__(self, *, openvino: bool = False) -> None:
        """Args: openvino: whether workers may compute with it."""
        self._openvino = openvino
        self._seen: dict[tuple[object, ...], int] = {}

    def bytes(self, options: SeparationOptions, device: str | None) -> int:
        """What a worker takes at most for such a task, as far as is known."""
        return self._seen.get(_kind(options, device)) or self.of_table(options, device)

    def of_table(self, options: SeparationOptions, device: str | None) -> int:
        """What the table says, whatever was seen."""
        return table_estimate(options, device, openvino=self._openvino)

    def learn(self, options: SeparationOptions, device: str | None, peak_bytes: int) -> None:
        """Correct the estimate by a task's peak: upwards at once, downwards by a part of the way."""
        known = self.bytes(options, device)
        lower = known + int((peak_bytes - known) * DOWNWARD_SHARE)
        self._seen[_kind(options, device)] = max(peak_bytes, lower)


def _kind(options: SeparationOptions, device: str | None) -> tuple[object, ...]:
    """What decides a task's memory. A bag's members, shifts and segments are in it; formats and names are not."""
    on_gpu = _runs_on_gpu(options, device)
    # Of a bag with a member for each stem, only those are loaded that the task's stems need.
    needed = options.stems, options.two_stems, options.other_method
    return options.model, options.segment, options.split, options.shifts, options.precision, on_gpu, needed


def _runs_on_gpu(options: SeparationOptions, device: str | None) -> bool:
    wanted = options.device if options.device != "auto" else device or ""
    return wanted.startswith("cuda")
