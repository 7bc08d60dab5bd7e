"""One song on its way from a file to stems."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass

import torch

from demucs_server_worker.errors import InputUnreadable, ModelError
from demucs_server_worker.separation.backends.base import Backend
from demucs_server_worker.separation.beside import Ahead, Behind
from demucs_server_worker.separation.decode import Source, SourceInfo, open_source
from demucs_server_worker.separation.encode import output_rate
from demucs_server_worker.separation.estimate import Estimator, Member, SongStats
from demucs_server_worker.separation.fifo import Block
from demucs_server_worker.separation.job import SeparationJob, SeparationResult, StemFile
from demucs_server_worker.separation.manifest import sha256_of, write_manifest
from demucs_server_worker.separation.mixdown import Mixdown
from demucs_server_worker.separation.models import LoadedModel
from demucs_server_worker.separation.network import ComputeClock, Network
from demucs_server_worker.separation.opening import open_file
from demucs_server_worker.separation.progress import ProgressMeter
from demucs_server_worker.separation.resample import Resampler
from demucs_server_worker.separation.scan import FileMark, Scan, scan
from demucs_server_worker.separation.sinks import Sinks, StemOutput
from demucs_server_worker.separation.staging import Layout, layout
from demucs_server_worker.separation.stem_plan import StemPlan, stem_plan
from demucs_server_worker.separation.tags import Tags, write_tags

CHANNELS = 2

BLOCKS_AHEAD = 8  # decoded blocks, of about a second, that wait for the model: a stride, and some
BLOCKS_BEHIND = 16  # blocks that wait for the encoders: of the mix, about a second, and estimates, about a stride

# Of what follows the model's last pass, the part that encoding takes; tags and hashes take the rest.
_ENCODED_PART = 0.8


@dataclass(frozen=True)
class _Rates:
    """Sample rates, Hz."""

    source: int
    model: int
    output: int


@dataclass(frozen=True)
class _Heard:
    """What the first pass found out about the song."""

    mark: FileMark
    info: SourceInfo
    tags: Tags
    scan: Scan


class OneSong:
    """One job. `separate` names the steps."""

    def __init__(
        self, job: SeparationJob, model: LoadedModel, backend_of: Callable[[int], Backend],
        meter: ProgressMeter, check: Callable[[], None], before_pass: Callable[[], None],
    ) -> None:  # fmt: skip
        """Prepare; nothing is read or written yet.

        Args:
            job: the song and what is wanted; its staging folder is there and empty.
            model: to separate with.
            backend_of: gives what runs the member at a place of the model's bag.
            meter: is told of the progress.
            check: called between segments and blocks, by several threads; raises to stop.
            before_pass: called before each forward pass.
        """
        self._job = job
        self._options = job.options
        self._model = model
        self._backend_of = backend_of
        self._meter = meter
        self._check = check
        self._before_pass = before_pass
        self._clock = ComputeClock()

    def separate(self) -> SeparationResult:
        """Do it.

        Raises:
            DemucsWorkerError: whatever makes the song, the request, the model or the output unusable.
        """
        plan = stem_plan(self._model.sources, self._options)
        members = self._members(plan)
        heard = self._scan()
        rates = _Rates(heard.info.sample_rate, self._model.sample_rate, self._output_rate(heard.info))
        estimator = self._estimator(plan, members, heard.scan)
        paths = self._layout(plan)
        sinks, mixdown = self._open_sinks(plan, paths, rates, heard.scan)
        try:
            self._stream(estimator, mixdown, heard, rates)
            sinks.finish(self._check, self._encoded, jobs=torch.get_num_threads())
        except BaseException:
            sinks.abort()
            raise
        stems = self._describe(plan, paths, rates, mixdown, sinks, heard.tags)
        source_sha256 = self._hash_of_input(heard.mark)
        self._manifest(paths, members, heard, source_sha256, stems, sinks.gain, mixdown.residual_db)
        self._meter.encoding(1.0)
        return SeparationResult(
            files=(*paths.stems, paths.manifest),
            stems=stems,
            duration_seconds=heard.scan.length / rates.source,
            compute_seconds=self._clock.seconds,
            forward_passes=self._clock.passes,
            residual_db=mixdown.residual_db,
            gain=sinks.gain,
            source_sha256=source_sha256,
            model_sha256=self._model.digest,
        )

    # --- before the model runs ----------------------------------------------------------------------------------------

    def _members(self, plan: StemPlan) -> list[Member]:
        model = self._model
        if model.channels != CHANNELS:
            raise ModelError(model=model.name, detail=f"it takes {model.channels} channels of sound, not {CHANNELS}")
        weights = torch.tensor(model.weights, dtype=torch.float64)[:, list(plan.sources)]  # (members, stems)
        if (weights.sum(0) == 0).any():
            raise ModelError(model=model.name, detail="no member of its bag has a weight for a stem that is needed")
        shares = (weights / weights.sum(0)).float()
        chosen = []
        for place in plan.members(model.weights):
            network = Network(model.members[place], self._backend_of(place), self._clock)
            network.check_segment(self._options.segment)
            chosen.append(Member(place, network, shares[place]))
        return chosen

    def _scan(self) -> _Heard:
        # Marked before it is opened: whatever takes its place from here on is noticed.
        mark = FileMark.of(self._job.input_path, self._job.input_name)
        with self._open() as source:
            rate = source.info.sample_rate
            self._meter.expect(source.info.declared_seconds)

            def on_samples(samples: int) -> None:
                self._check()
                self._meter.decoded(samples / rate)

            found = scan(source, self._model.sample_rate, on_samples)
        self._meter.know(found.length / rate)
        return _Heard(mark, source.info, source.tags, found)

    def _open(self) -> Source:
        return open_source(
            self._job.input_path, self._job.input_name,
            max_file_bytes=self._job.max_file_bytes, max_duration_seconds=self._job.max_duration_seconds,
        )  # fmt: skip

    def _check_unchanged(self, mark: FileMark) -> None:
        if FileMark.of(self._job.input_path, self._job.input_name) != mark:
            raise InputUnreadable(name=self._job.input_name, detail="it changed while it was read")

    def _output_rate(self, info: SourceInfo) -> int:
        named = {"source": info.sample_rate, "model": self._model.sample_rate}
        wanted = self._options.sample_rate
        return output_rate(self._options.format, named[wanted] if isinstance(wanted, str) else wanted)

    def _estimator(self, plan: StemPlan, members: list[Member], found: Scan) -> Estimator:
        return Estimator(
            members, len(self._model.members), plan.sources, self._options, self._model.sample_rate,
            SongStats(found.model_length, found.mean, found.std, CHANNELS), found.seed,
        )  # fmt: skip

    def _layout(self, plan: StemPlan) -> Layout:
        return layout(
            [recipe.name for recipe in plan.recipes], self._options,
            input_name=self._job.input_name, project=self._job.project_name, ext=self._options.format,
        )  # fmt: skip

    def _open_sinks(self, plan: StemPlan, paths: Layout, rates: _Rates, found: Scan) -> tuple[Sinks, Mixdown]:
        targets = [self._job.staging / path for path in paths.stems]
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
        outputs = [StemOutput(recipe.name, target) for recipe, target in zip(plan.recipes, targets, strict=True)]
        length = Mixdown.length_of(found.length, rates.source, rates.output)
        sinks = Sinks(outputs, self._options, rates.output, length)
        mixdown = Mixdown(
            plan, sinks, source_rate=rates.source, model_rate=rates.model, output_rate=rates.output,
            source_length=found.length,
        )  # fmt: skip
        return sinks, mixdown

    # --- the model, and what runs beside it ---------------------------------------------------------------------------

    def _stream(self, estimator: Estimator, mixdown: Mixdown, heard: _Heard, rates: _Rates) -> None:
        """Decode ahead, compute, and write behind, until the song is through."""

        def before_segment(done: int) -> None:
            self._check()
            self._before_pass()
            self._meter.separated(done, estimator.total_segments)

        def consume(item: tuple[str, Block]) -> None:
            self._check()  # the model may be through, with much left to encode
            kind, block = item
            if kind == "mix":
                mixdown.push_mix(block)
            else:
                mixdown.push_estimates(block)

        with (
            self._open() as source,
            Behind(consume, BLOCKS_BEHIND, "write") as writer,
            Ahead(_at_model_rate(source, rates), BLOCKS_AHEAD, "decode") as decoded,
        ):
            self._check_unchanged(heard.mark)

            def blocks() -> Iterator[Block]:
                for original, at_model_rate in decoded:
                    writer.push(("mix", original))
                    yield at_model_rate

            stream = blocks()
            for estimates in estimator.run(stream, self._job.input_name, before_segment):
                writer.push(("estimates", estimates))
            for _ in stream:  # what the resampler still held, and samples too few to matter to the last segment
                pass
        mixdown.finish()

    # --- after the model ----------------------------------------------------------------------------------------------

    def _encoded(self, part: float) -> None:
        self._meter.encoding(_ENCODED_PART * part)

    def _describe(
        self, plan: StemPlan, paths: Layout, rates: _Rates, mixdown: Mixdown, sinks: Sinks, tags: Tags
    ) -> tuple[StemFile, ...]:
        stems: list[StemFile] = []
        for recipe, path, peak in zip(plan.recipes, paths.stems, sinks.peaks, strict=True):
            self._check()
            file = self._job.staging / path
            write_tags(file, self._options.format, tags, stem=recipe.name)
            stems.append(
                StemFile(
                    name=recipe.name,
                    path=path,
                    format=self._options.format,
                    sample_rate=rates.output,
                    channels=CHANNELS,
                    duration_seconds=mixdown.output_length / rates.output,
                    bytes=os.stat(file).st_size,
                    sha256=sha256_of(file),
                    peak=peak,
                )
            )
            self._meter.encoding(_ENCODED_PART + (1 - _ENCODED_PART) * len(stems) / (len(paths.stems) + 1))
        return tuple(stems)

    def _manifest(
        self, paths: Layout, members: list[Member], heard: _Heard, source_sha256: str, stems: tuple[StemFile, ...],
        gain: float, residual_db: float | None,
    ) -> None:  # fmt: skip
        path = self._job.staging / paths.manifest
        path.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(
            path,
            root=self._job.staging,
            options=self._options,
            model={
                "name": self._model.name,
                "sha256": self._model.digest,
                "members_run": [each.place for each in members],
                "computed_by": [asdict(each.network.backend.computed) for each in members],
            },
            source={
                "name": self._job.input_name,
                "sha256": source_sha256,
                "codec": heard.info.codec,
                "sample_rate": heard.info.sample_rate,
                "channels": heard.info.channels,
                "samples": heard.scan.length,
                "duration_seconds": heard.scan.length / heard.info.sample_rate,
                "peak": heard.scan.peak,
            },
            stems=stems,
            gain=gain,
            residual_db=residual_db,
        )

    def _hash_of_input(self, mark: FileMark) -> str:
        with open_file(self._job.input_path, self._job.input_name, None) as file:
            digest = sha256_of(file)
        # Not sooner: the second pass and this hash must have read what the first pass measured.
        self._check_unchanged(mark)
        return digest


def _at_model_rate(source: Source, rates: _Rates) -> Iterator[tuple[Block, Block]]:
    """The song as (samples at its own rate, samples at the model's), block by block."""
    resampler = Resampler(rates.source, rates.model)
    for block in source.blocks():
        yield block, resampler.push(block)
    rest = resampler.finish()
    yield rest[:, :0], rest
