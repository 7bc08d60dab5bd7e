"""Do the data folder and the machine let a manager and its workers run? Part of: a worker does not start."""

from __future__ import annotations

import os
import resource
import socket
import tempfile
from pathlib import Path

import psutil

from demucs_server_worker.doctor.check import GIGABYTE, Check, Trouble, failed, fine, gigabytes, warned
from demucs_server_worker.errors import DataFolderInUse, DemucsWorkerError, InvalidSetting
from demucs_server_worker.exposure import check_exposure
from demucs_server_worker.folder_lock import FolderLock
from demucs_server_worker.settings import Settings

# A song of five minutes becomes four stems of 53 MB; each worker holds those of one, twice while they are encoded.
LOW_DISK_BYTES = 5 * GIGABYTE
NO_DISK_BYTES = GIGABYTE // 2
# A worker takes three pipes here, the database and its log a few, a listener over HTTP one each.
FILES_A_WORKER = 16
FILES_BESIDES = 200

_HERE = Trouble.STARTS


def check_folder(folder: Path) -> Check:
    """The data folder can be written; one that is not there yet is not made."""
    there = _nearest(folder)
    try:
        if there == folder:
            with tempfile.TemporaryFile(dir=folder):
                pass
        elif not os.access(there, os.W_OK | os.X_OK) or not there.is_dir():
            raise PermissionError(13, f"it is to be made in {there}, which cannot be written")
    except OSError as error:
        found = f"{folder} cannot be written: {(error.strerror or str(error)).lower()}"
        return failed(_HERE, "data folder", found, "Give this user the right to, or set DEMUCS_WORKER_DATA_DIR.")
    return fine(_HERE, "data folder", f"{folder} can be written" if there == folder else f"{folder} can be made")


def running_manager(folder: Path) -> str | None:
    """The process id of the manager that runs on the folder; None when none does."""
    try:
        pid = int((folder / "manager.pid").read_text())
        if not psutil.pid_exists(pid):
            return None
        # The number may be another's by now: the lock tells.
        lock = FolderLock(folder)
        lock.acquire()
        lock.release()
    except DataFolderInUse:
        return str(pid)
    except (OSError, ValueError, DemucsWorkerError):
        return None
    return None


def check_manager(folder: Path, pid: str | None) -> Check:
    """Whether a manager runs on the data folder: that is as it should be, and keeps a second one out."""
    if pid is None:
        return fine(_HERE, "manager", "no worker manager runs on the data folder")
    second = "another one needs a DEMUCS_WORKER_DATA_DIR of its own"
    return fine(_HERE, "manager", f"process {pid} runs on the data folder; {second}")


def check_port(settings: Settings, pid: str | None) -> Check:
    """The port is free, or taken while a manager runs here; and others can reach it only with a key."""
    where = f"{settings.host}:{settings.port}"
    try:
        check_exposure(settings)
    except InvalidSetting:
        found = f"others can reach {settings.host}, and no API key keeps them out"
        return failed(_HERE, "port", found, "Set DEMUCS_WORKER_API_KEYS, or listen on 127.0.0.1.")
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if pid is not None:
            return fine(_HERE, "port", f"{where} is taken, and a manager runs here")
        reason = (error.strerror or str(error)).lower()
        return failed(_HERE, "port", f"{where} cannot be had: {reason}", "Set DEMUCS_WORKER_PORT (0 takes a free one).")
    return fine(_HERE, "port", f"{where} is free")


def check_disk(folder: Path) -> Check:
    """There is room for stems and the queue."""
    free = psutil.disk_usage(str(_nearest(folder))).free
    found = f"{gigabytes(free)} free on the disk of the data folder"
    if free < NO_DISK_BYTES:
        return failed(_HERE, "disk", found, "Free some space: tasks fail with disk_full.")
    if free < LOW_DISK_BYTES:
        return warned(_HERE, "disk", found, "A song of five minutes takes 200 MB of stems: free some space.")
    return fine(_HERE, "disk", found)


def check_limits(workers: int) -> Check:
    """The process may open the files and take the memory that it needs (`ulimit`)."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    memory, _ = resource.getrlimit(resource.RLIMIT_AS)
    needed = FILES_BESIDES + FILES_A_WORKER * workers
    if files != resource.RLIM_INFINITY and files < needed:
        found = f"only {files} files may be open at once, and {needed} can be needed"
        return failed(_HERE, "limits", found, f"Raise it: ulimit -n {max(4_096, needed)}, or LimitNOFILE= of systemd.")
    if memory != resource.RLIM_INFINITY:
        found = f"a process may take {gigabytes(memory)} of address space, of which torch alone maps many"
        return warned(_HERE, "limits", found, "Lift it: ulimit -v unlimited. Memory itself is limited otherwise.")
    return fine(_HERE, "limits", "open files and memory are not limited too tightly")


def _nearest(folder: Path) -> Path:
    """The folder, or the nearest above it that is there."""
    return next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
