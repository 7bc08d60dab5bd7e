"""The separation of one song from end to end, on models that stay loaded."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from demucs_server_worker.errors import InputUnreadable, SeparationCancelled
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.separation.beside import Ahead, Behind
from demucs_server_worker.separation.decode import Source, open_source
from demucs_server_worker.separation.device import resolve_device, resolve_precision
from demucs_server_worker.separation.encode import output_rate
from demucs_server_worker.separation.estimate import Estimator, Member, SongStats
from demucs_server_worker.separation.fifo import Block
from demucs_server_worker.separation.job import SeparationJob, SeparationProgress, SeparationResult, StemFile
from demucs_server_worker.separation.manifest import sha256_of, write_manifest
from demucs_server_worker.separation.mixdown import Mixdown
from demucs_server_worker.separation.models import LoadedModel, load_model
from demucs_server_worker.separation.network import ComputeClock, Network
from demucs_server_worker.separation.progress import ProgressMeter
from demucs_server_worker.separation.resample import Resampler
from demucs_server_worker.separation.scan import FileMark, Scan, scan
from demucs_server_worker.separation.sinks import Sinks, StemOutput
from demucs_server_worker.separation.staging import Layout, layout, staged
from demucs_server_worker.separation.stem_plan import StemPlan, stem_plan
from demucs_server_worker.separation.tags import Tags, write_tags

MODELS_KEPT = 2  # a queue that alternates between two models loads neither twice
BLOCKS_AHEAD = 4  # decoded blocks, of about a second, that wait for the model
BLOCKS_BEHIND = 4  # estimates, of about a segment's stride, that wait for the encoders


class Engine:
    """Separates songs one after the other. Not safe to share between threads, but for `set_threads`."""

    def __init__(
        self,
        *,
        device: str = "auto",
        precision: str = "auto",
        model_repo: Path | None = None,
        threads: int | None = None,
    ) -> None:
        """Choose where to compute.

        Args:
            device: for jobs whose options say `auto`: `auto` (CUDA, then MPS, then CPU), `cpu`, `cuda:1`, …
            precision: likewise: `auto`, `fp32`, `bf16`, `fp16`.
            model_repo: folder of local models; None for those that Demucs publishes.
            threads: compute threads; None leaves torch's own choice.

        Raises:
            InvalidOption: for a device that this machine does not have.
        """
        self._device = resolve_device(device)
        self._dtype = resolve_precision(precision, self._device)
        self._model_repo = model_repo
        self._threads = threads
        self._models: OrderedDict[str, LoadedModel] = OrderedDict()
        self._use_threads()

    @property
    def device(self) -> str:
        """Where it computes, e.g. `cpu` or `cuda:0`."""
        return str(self._device)

    def preload(self, model: str) -> None:
        """Load `model`, so that the first job does not wait for it.

        Raises:
            ModelError, UnknownModel: when it cannot be had.
        """
        self._model(model)

    def set_threads(self, threads: int) -> None:
        """Compute with this many threads from the next segment on. May be called from any thread."""
        self._threads = threads

    def separate(
        self, job: SeparationJob, *, on_progress: Callable[[SeparationProgress], None], cancelled: Callable[[], bool]
    ) -> SeparationResult:
        """Separate one song into `job.staging`.

        Args:
            job: the song and what is wanted.
            on_progress: called often; must be quick.
            cancelled: asked often; when it says True, the separation ends within a segment.

        Raises:
            SeparationCancelled: after `cancelled` said True.
            DemucsWorkerError: whatever makes the song, the request, the model or the output unusable.
        """

        def check() -> None:
            if cancelled():
                raise SeparationCancelled

        check()
        with staged(job.staging, job.output_dir):
            return _Separation(self, job, ProgressMeter(on_progress), check).run()

    def _model(self, name: str) -> LoadedModel:
        model = self._models.get(name) or load_model(name, self._model_repo)
        self._models[name] = model
        self._models.move_to_end(name)
        while len(self._models) > MODELS_KEPT:
            self._models.popitem(last=False)
        return model

    def _use_threads(self) -> None:
        if self._threads is not None and torch.get_num_threads() != self._threads:
            torch.set_num_threads(self._threads)

    def _networks(self, model: LoadedModel, options: SeparationOptions, clock: ComputeClock) -> list[Network]:
        device = self._device if options.device == "auto" else resolve_device(options.device)
        dtype = self._dtype if options.precision == "auto" else resolve_precision(options.precision, device)
        return [Network(module, device, dtype, clock) for module in model.members]


@dataclass(frozen=True)
class _Rates:
    source: int
    model: int
    output: int


class _Separation:
    """One job on its way. `run` names the steps."""

    def __init__(self, engine: Engine, job: SeparationJob, meter: ProgressMeter, check: Callable[[], None]) -> None:
        self._engine = engine
        self._job = job
        self._options = job.options
        self._meter = meter
        self._check = check
        self._clock = ComputeClock()

    def run(self) -> SeparationResult:
        model = self._engine._model(self._options.model)
        plan = stem_plan(model.sources, self._options)
        members = self._members(model, plan)
        mark, source, found = self._scan(model)
        paths = self._layout(plan)
        rates = _Rates(source.info.sample_rate, model.sample_rate, self._output_rate(source, model))
        estimator = Estimator(
            members, len(model.members), plan.sources, self._options, model.sample_rate,
            SongStats(found.model_length, found.mean, found.std, model.channels), found.seed,
        )  # fmt: skip
        sinks, mixdown = self._open_sinks(plan, paths, rates, found)
        try:
            self._stream(estimator, mixdown, mark, rates)
            self._meter.encoding(0.0)
            sinks.finish(self._check, jobs=torch.get_num_threads())
        except BaseException:
            sinks.abort()
            raise
        stems = self._describe(plan, paths, rates, mixdown, sinks, source.tags)
        self._manifest(paths, model, members, source, found, stems, sinks.gain, mixdown.residual_db)
        self._meter.encoding(1.0)
        return SeparationResult(
            files=(*paths.stems, paths.manifest),
            stems=stems,
            duration_seconds=found.length / rates.source,
            compute_seconds=self._clock.seconds,
            forward_passes=self._clock.passes,
            residual_db=mixdown.residual_db,
            gain=sinks.gain,
        )

    def _members(self, model: LoadedModel, plan: StemPlan) -> list[Member]:
        networks = self._engine._networks(model, self._options, self._clock)
        weights = torch.tensor(model.weights, dtype=torch.float64)  # (members, sources)
        shares = (weights / weights.sum(0))[:, list(plan.sources)].float()  # (members, stems)
        chosen = [Member(place, networks[place], shares[place]) for place in plan.members(model.weights)]
        for member in chosen:
            member.network.check_segment(self._options.segment)
        return chosen

    def _open(self) -> Source:
        return open_source(
            self._job.input_path, self._job.input_name,
            max_file_bytes=self._job.max_file_bytes, max_duration_seconds=self._job.max_duration_seconds,
        )  # fmt: skip

    def _scan(self, model: LoadedModel) -> tuple[FileMark, Source, Scan]:
        with self._open() as source:
            mark = FileMark.of(self._job.input_path)
            rate = source.info.sample_rate
            self._meter.expect(source.info.declared_seconds)

            def on_samples(samples: int) -> None:
                self._check()
                self._meter.decoded(samples / rate)

            found = scan(source, model.sample_rate, on_samples)
        self._meter.know(found.length / rate)
        return mark, source, found

    def _output_rate(self, source: Source, model: LoadedModel) -> int:
        wanted = self._options.sample_rate
        rate = source.info.sample_rate if wanted == "source" else model.sample_rate if wanted == "model" else wanted
        return output_rate(self._options.format, int(rate))

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

    def _stream(self, estimator: Estimator, mixdown: Mixdown, mark: FileMark, rates: _Rates) -> None:
        """Decode ahead, compute, and write behind, until the song is through."""

        def before_segment(done: int) -> None:
            self._check()
            self._engine._use_threads()
            self._meter.separated(done, estimator.total_segments)

        def consume(item: tuple[str, Block]) -> None:
            kind, block = item
            if kind == "mix":
                mixdown.push_mix(block)
            else:
                mixdown.push_estimates(block)

        with (
            self._open() as source,
            Behind(consume, BLOCKS_BEHIND * 8, "write") as writer,
            Ahead(_at_model_rate(source, rates), BLOCKS_AHEAD, "decode") as decoded,
        ):
            if FileMark.of(self._job.input_path) != mark:
                raise InputUnreadable(name=self._job.input_name, detail="it changed while it was read")

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

    def _describe(
        self, plan: StemPlan, paths: Layout, rates: _Rates, mixdown: Mixdown, sinks: Sinks, tags: Tags
    ) -> tuple[StemFile, ...]:
        stems = []
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
                    channels=2,
                    duration_seconds=mixdown.output_length / rates.output,
                    bytes=os.stat(file).st_size,
                    sha256=sha256_of(file),
                    peak=peak,
                )
            )
        return tuple(stems)

    def _manifest(
        self, paths: Layout, model: LoadedModel, members: list[Member], source: Source, found: Scan,
        stems: tuple[StemFile, ...], gain: float, residual_db: float | None,
    ) -> None:  # fmt: skip
        path = self._job.staging / paths.manifest
        path.parent.mkdir(parents=True, exist_ok=True)
        write_manifest(
            path,
            options=self._options,
            model={"name": model.name, "sha256": model.digest, "members_run": [each.place for each in members]},
            source={
                "name": self._job.input_name,
                "sha256": sha256_of(self._job.input_path),
                "codec": source.info.codec,
                "sample_rate": source.info.sample_rate,
                "channels": source.info.channels,
                "samples": found.length,
                "duration_seconds": found.length / source.info.sample_rate,
                "peak": found.peak,
            },
            stems=stems,
            gain=gain,
            residual_db=residual_db,
        )


def _at_model_rate(source: Source, rates: _Rates) -> Iterator[tuple[Block, Block]]:
    """The song as (samples at its own rate, samples at the model's), block by block."""
    resampler = Resampler(rates.source, rates.model)
    for block in source.blocks():
        yield block, resampler.push(block)
    rest = resampler.finish()
    yield rest[:, :0], rest
