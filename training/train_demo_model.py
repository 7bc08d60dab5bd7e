"""Trains the `demo` model on synthesised songs and writes it into the package. See README.md beside this file."""

import argparse
import ctypes
import math
import sys
import time
import warnings
from fractions import Fraction
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from demucs.htdemucs import HTDemucs
from evaluate_demo_model import score_songs
from export import write_model
from fast_istft import TrainedHTDemucs
from songs import Mixer, write_songs

from demucs_server_worker.demo.song import SAMPLE_RATE, STEMS

SEGMENT = Fraction(3)
"""Seconds of audio that the network sees at once."""

NETWORK: dict[str, object] = {
    "sources": list(STEMS),
    "channels": 16,
    "cac": False,  # magnitudes under the phase of the mix: learned in a third of the steps that complex channels take
    "wiener_iters": -1,  # no Wiener filter after it
    "end_iters": -1,
    "context": 1,
    "dconv_mode": 0,
    "bottom_channels": 64,
    "t_layers": 1,
    "t_heads": 4,
    "samplerate": SAMPLE_RATE,
    "segment": SEGMENT,
}

WARM_UP_STEPS = 50
EMA_DECAY = 0.998
STEM_WEIGHTS = torch.tensor([0.7, 0.7, 1.3, 1.3])
"""Drums and bass come easily; what is left to learn is to tell `other` from `vocals`."""

FLOOR = 1e-3
"""Error power, against a mix of power 1, below which a stem is not worth improving."""

VALIDATION_SEEDS = range(800_000, 800_006)
"""Songs that are neither trained on nor among the held-out ones."""

PACKAGE_MODEL = Path(__file__).parents[1] / "src" / "demucs_server_worker" / "separation" / "demo_model"


def loss_of(estimate: torch.Tensor, stems: torch.Tensor) -> torch.Tensor:
    """Return the L1 error plus a tenth of the logarithm of the error power, which is −SDR up to a constant.

    Both are means over the stems by :data:`STEM_WEIGHTS`.

    Args:
        estimate: ``(batch, stems, 2, samples)``.
        stems: the truth, same shape, at unit power of the mix.
    """
    error = estimate - stems
    power = error.square().mean(dim=(2, 3))  # (batch, stems)
    each = error.abs().mean(dim=(2, 3)) + 0.1 * torch.log(power + FLOOR)
    return (STEM_WEIGHTS * each).mean()


def keep_memory() -> None:
    """Tell glibc to keep freed memory: asking the kernel for the same pages at every step costs a tenth of the time."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        for option in (-3, -1, -2):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD, M_TOP_PAD of malloc.h
            libc.mallopt(option, 1 << 30)


class Training:
    """A training run that can stop and go on: weights, their moving average, the optimiser, and the time spent."""

    def __init__(self, folder: Path, minutes: float, rate: float, network: dict[str, object]) -> None:
        self.checkpoint = folder / "checkpoint.pt"
        self.network = network
        self.budget = 60.0 * minutes
        self.rate = rate
        self.model = TrainedHTDemucs(**network)
        self.average = {name: value.clone() for name, value in self.model.state_dict().items()}
        self.optimiser = torch.optim.AdamW(self.model.parameters(), lr=rate, weight_decay=1e-4)
        self.step = 0
        self.spent = 0.0
        if self.checkpoint.exists():
            saved = torch.load(self.checkpoint, weights_only=True)
            self.model.load_state_dict(saved["model"])
            self.optimiser.load_state_dict(saved["optimiser"])
            self.average, self.step, self.spent = saved["average"], saved["step"], saved["spent"]

    def save(self) -> None:
        """Write the checkpoint, all or nothing."""
        state = {
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "average": self.average,
            "step": self.step,
            "spent": self.spent,
        }
        partial = self.checkpoint.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.checkpoint)

    def learning_rate(self) -> float:
        """Return the rate: a short rise by steps, then half a cosine down to zero by time, so that it ends on time."""
        done = min(1.0, self.spent / self.budget)
        rise = min(1.0, (self.step + 1) / WARM_UP_STEPS)
        return self.rate * rise * 0.5 * (1.0 + math.cos(math.pi * done))

    def learn(self, stems: torch.Tensor) -> float:
        """Take one step on a batch of ``(batch, stems, 2, samples)`` in each process; return this one's loss."""
        self.model.train()
        for group in self.optimiser.param_groups:
            group["lr"] = self.learning_rate()
        loss = loss_of(self.model(stems.sum(dim=1)), stems)
        self.optimiser.zero_grad()
        loss.backward()
        self._share_gradients()
        norm = torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        if torch.isfinite(norm):
            self.optimiser.step()
        self.step += 1
        keep = min(EMA_DECAY, (1.0 + self.step) / (10.0 + self.step))
        with torch.no_grad():
            values = list(self.model.state_dict().values())
            torch._foreach_lerp_(list(self.average.values()), values, 1.0 - keep)
        return float(loss.detach())

    def _share_gradients(self) -> None:
        """Give every process the mean of the gradients, and of the time spent, so that all take the same step."""
        if not dist.is_initialized():
            return
        gradients = [value.grad for value in self.model.parameters() if value.grad is not None]
        flat = torch.cat([torch.tensor([self.spent]), *(gradient.reshape(-1) for gradient in gradients)])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        self.spent = float(flat[0])
        place = 1
        for gradient in gradients:
            gradient.copy_(flat[place : place + gradient.numel()].view_as(gradient))
            place += gradient.numel()

    def averaged_model(self) -> HTDemucs:
        """Return the network with the averaged weights."""
        model = HTDemucs(**self.network)
        model.load_state_dict(self.average)
        return model.eval()


def train(rank: int, arguments: argparse.Namespace) -> None:
    """Train until the time is spent; process 0 saves a checkpoint a minute and prints the validation SDR now and then.

    Processes of one thread each do twice the work of one process of several: the layers are small.
    """
    keep_memory()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    warnings.filterwarnings("ignore", category=UserWarning)
    folder: Path = arguments.work
    rendezvous = f"file://{(folder / 'rendezvous').resolve()}"
    dist.init_process_group("gloo", init_method=rendezvous, rank=rank, world_size=arguments.processes)
    torch.manual_seed(arguments.seed)
    run = Training(folder, arguments.minutes, arguments.rate, {**NETWORK, **dict(arguments.set)})
    mixer = Mixer(arguments.cache or folder / "songs", int(SEGMENT * SAMPLE_RATE), 1000 * run.step + rank)
    say = print if rank == 0 else lambda *_, **__: None
    songs = mixer.look_for_songs()
    say(f"{sum(value.numel() for value in run.model.parameters())} parameters, {songs} songs", flush=True)
    since_save = since_check = total = 0.0
    count = 0
    while run.spent < run.budget:
        began = time.monotonic()
        total += run.learn(mixer.batch(arguments.batch))
        count += 1
        if rank == 0 and since_check > 60.0 * arguments.check_every:
            say("validation", score_songs(run.averaged_model(), VALIDATION_SEEDS).line(), flush=True)
            since_check = 0.0
        if rank == 0 and since_save > 60.0:
            run.save()
            say(f"{run.spent / 60.0:6.1f} min  step {run.step:6d}  loss {total / count:.4f}  "
                f"rate {run.learning_rate():.2e}", flush=True)  # fmt: skip
            since_save, total, count = 0.0, 0.0, 0
        taken = time.monotonic() - began
        run.spent += taken
        since_save += taken
        since_check += taken
    if rank == 0:
        run.save()
        say("validation", score_songs(run.averaged_model(), VALIDATION_SEEDS).line(), flush=True)
    dist.destroy_process_group()


def pair(text: str) -> tuple[str, object]:
    """Return name and whole number of an argument like ``channels=16``."""
    name, _, value = text.partition("=")
    return name, int(value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder for songs and checkpoints, outside the tree")
    parser.add_argument("--cache", type=Path, help="folder of the songs when it is not WORK/songs")
    parser.add_argument("--songs", type=int, default=800)
    parser.add_argument("--song-seconds", type=float, default=8.0)
    parser.add_argument("--minutes", type=float, default=42.0, help="wall time to train for; the rate falls by it")
    parser.add_argument("--batch", type=int, default=1, help="mixes a step in each process")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--check-every", type=float, default=5.0, help="minutes between validations")
    parser.add_argument("--set", type=pair, nargs="*", default=[], help="other arguments of the network")
    parser.add_argument("--only", choices=("songs", "train", "export"), help="do one of the three parts")
    parser.add_argument("--output", type=Path, default=PACKAGE_MODEL)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    if arguments.only in (None, "songs"):
        write_songs(arguments.work / "songs", arguments.songs, arguments.song_seconds, arguments.processes)
    if arguments.only in (None, "train"):
        (arguments.work / "rendezvous").unlink(missing_ok=True)
        mp.spawn(train, (arguments,), arguments.processes)
    if arguments.only in (None, "export"):
        network = {**NETWORK, **dict(arguments.set)}
        run = Training(arguments.work, arguments.minutes, arguments.rate, network)
        print(write_model(arguments.output, run.average, network))


if __name__ == "__main__":
    main()
