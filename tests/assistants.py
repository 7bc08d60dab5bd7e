"""Children of an assistant that misbehave on demand: the real main loop around a probe that is only a script.

Run as a program it is such a child: what it does with a chore stands in the chore's name, what it does at its start in
its argument. See `scripted`.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path

from demucs_server_worker.assistant import child, probing
from demucs_server_worker.assistant.messages import Probe, Probed
from demucs_server_worker.errors import NoAudio


def scripted(start: str = "well", note: Path | None = None) -> tuple[str, ...]:
    """The command of a scripted child.

    Args:
        start: `well`; `dead` exits at once; `mute` never says that it is ready.
        note: a file to which each child adds a line with its process id when it starts.
    """
    return (sys.executable, str(Path(__file__).resolve()), start, str(note or os.devnull))


def probe(chore: Probe) -> Probed:
    """Do what the chore's name says; give the process id as the sample rate."""
    verb, _, detail = chore.name.partition(" ")
    match verb:
        case "fine" | "succeed":
            pass
        case "refuse":
            raise NoAudio(name="song", detail="it has no sound track")
        case "surprise":
            raise ValueError("that is a surprise")
        case "segfault":
            os.kill(os.getpid(), signal.SIGSEGV)
        case "crash-once":
            if not os.path.exists(detail):
                Path(detail).touch()
                os._exit(7)
        case "wait":
            while not os.path.exists(detail):
                time.sleep(0.01)
        case "hang":
            time.sleep(600)
        case "stop":
            os.kill(os.getpid(), signal.SIGSTOP)
        case "swell":
            _ballast.append(b"x" * int(detail))
        case "hunger":
            _ballast.append(bytearray(8 * 1024**3))
        case "print":
            print("x" * 1_000_000, flush=True)
        case "garble":
            os.write(1, b"no message\n")
        case "secrets":
            return _answer(" ".join(sorted(name for name in os.environ if "API_KEY" in name)))
        case _:
            raise AssertionError(f"no such script: {verb}")
    return _answer("pcm_s16le")


def _answer(codec: str) -> Probed:
    return Probed(duration_seconds=1.0, sample_rate=os.getpid(), channels=2, codec=codec, container="wav")


_ballast: list[bytes | bytearray] = []

if __name__ == "__main__":
    how, note = sys.argv[1:]
    with open(note, "a") as file:
        file.write(f"{os.getpid()}\n")
    if how == "dead":
        sys.exit("no module named av")
    if how == "mute":
        signal.pause()
    probing.probe = probe
    child.main()
