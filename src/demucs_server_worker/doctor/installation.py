"""Is everything installed, and does it load? Part of: a worker does not start."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement

from demucs_server_worker.doctor.check import Check, Trouble, Verdict, failed, fine, warned
from demucs_server_worker.errors import DemucsWorkerError
from demucs_server_worker.separation import catalogue
from demucs_server_worker.settings import Settings

DISTRIBUTION = "demucs-server-worker"
OLDEST_PYTHON = (3, 11)
# Named with their versions, as what a worker's start and its results depend on.
SHOWN = ("demucs", "torch", "av", "soundfile", "numpy")
# Loading torch from a cold disk takes long; far past that it hangs.
PROBE_SECONDS = 120.0

_REINSTALL = "Install it again with all it needs: pip install --force-reinstall demucs-server-worker"
_HERE = Trouble.STARTS


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    """Python is new enough."""
    found = f"Python {'.'.join(map(str, version))} on {platform.system()} {platform.machine()}"
    if version >= OLDEST_PYTHON:
        return fine(_HERE, "Python", found)
    return failed(_HERE, "Python", found, "Install Python 3.11 or newer, and this package into it.")


def check_packages(requirements: list[str] | None = None) -> Check:
    """Every package is there, in a version that fits.

    Args:
        requirements: by default those of the installed distribution.
    """
    wanted = [Requirement(line) for line in requirements or metadata.requires(DISTRIBUTION) or []]
    needed = [each for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
    wrong = [problem for each in needed if (problem := _problem_of(each))]
    if wrong:
        return failed(_HERE, "packages", "; ".join(wrong), _REINSTALL)
    versions = {each.name: metadata.version(each.name) for each in needed}
    return fine(_HERE, "packages", ", ".join(f"{name} {versions[name]}" for name in SHOWN if name in versions))


def _problem_of(requirement: Requirement) -> str | None:
    try:
        version = metadata.version(requirement.name)
    except metadata.PackageNotFoundError:
        return f"{requirement.name} is missing"
    if requirement.specifier.contains(version, prereleases=True):
        return None
    return f"{requirement.name} {version} does not fit {requirement.specifier}"


def probe(device: str, *, seconds: float = PROBE_SECONDS) -> Mapping[str, Any] | str:
    """Load torch, Demucs and the codecs in a child; gives what it found, or in words why it found nothing."""
    command = [sys.executable, "-P", "-m", "demucs_server_worker.separation.probe", device]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=seconds, check=False)
    except subprocess.TimeoutExpired:
        return f"loading them took more than {seconds:g} seconds"
    except OSError as error:
        return f"no process can be started: {error}"
    try:
        found: Mapping[str, Any] = json.loads(child.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        last = (child.stderr.strip().splitlines() or [f"it ended with {child.returncode} and said nothing"])[-1]
        return last[:300]
    return found


def check_probe(found: Mapping[str, Any] | str, settings: Settings) -> Iterator[Check]:
    """Torch loads and reaches the device; decoders and encoders are there.

    Args:
        found: as `probe` gave it.
        settings: the device that is wanted.
    """
    if isinstance(found, str):
        yield failed(_HERE, "torch", f"torch and Demucs do not load: {found}", _REINSTALL)
        return
    yield fine(_HERE, "torch", "torch and Demucs load in a process of their own")
    if found["device"]:
        gpus = f" ({', '.join(found['gpus'])})" if found["gpus"] else ""
        yield fine(_HERE, "device", f"{settings.device} is {found['device']}{gpus}")
    else:
        mend = "Set DEMUCS_WORKER_DEVICE to auto or cpu, or see to the driver and to a torch that fits it."
        yield failed(_HERE, "device", f"{settings.device} cannot be used: {found['device_problem']}", mend)
    missing = [*found["missing_decoders"], *found["missing_encoders"]]
    if missing:
        mend = "Install the wheels of av and soundfile anew: pip install --force-reinstall av soundfile"
        yield failed(_HERE, "codecs", f"missing: {', '.join(missing)}", mend)
    else:
        yield fine(_HERE, "codecs", "all formats can be read and written")


def check_model(settings: Settings) -> Check:
    """The files of the default model are on disk."""
    name, repo = settings.model, settings.model_repo
    try:
        files = catalogue.locate(name, repo)
    except DemucsWorkerError as error:
        return failed(_HERE, "model", error.message, "Set DEMUCS_WORKER_MODEL or DEMUCS_WORKER_MODEL_REPO right.")
    if files.on_disk:
        return fine(_HERE, "model", f"{name} is on this machine")
    if files.source == "hub":
        found = f"{name} is not on this machine; the first worker fetches it, which needs the internet"
        return warned(_HERE, "model", found, f"demucs-server-worker models --download {name}")
    return failed(_HERE, "model", f"files of {name} are missing in {repo}", "Put them there, or choose another model.")


def loads(checks: list[Check]) -> bool:
    """Whether a worker could be started at all, going by these checks."""
    return not any(
        check.verdict is Verdict.FAILED and check.name in ("Python", "packages", "torch") for check in checks
    )
