"""Models on the Hugging Face hub, kept in the cache that every program with `huggingface_hub` shares.

A model `NAME` is one repository with the bag `NAME.yaml` and one `SIG.safetensors` a member, as `demucs.hf` reads them.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock

from demucs_server_worker.errors import DiskFull, ModelCorrupt, ModelUnavailable, UnknownModel
from demucs_server_worker.separation.model_files import (
    SAFETENSORS,
    Bag,
    HashOf,
    Member,
    ModelFiles,
    VerifiedFiles,
    WeightFile,
    hash_file,
    read_bag,
    verify,
    verify_member,
)

# Read by huggingface_hub when it is imported, which happens below and never before this line.
os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

DEFAULT_NAMESPACE = "adefossez"

Progress = Callable[[str, int, int | None], None]
"""Called while a file is fetched, with its name, the bytes there are, and those there will be, where that is known."""

_Read = TypeVar("_Read")

_PREFIX = "hf://"
_PART = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")


def repository_of(name: str) -> tuple[str, str]:
    """The repository on the hub that holds a model, and the model's plain name.

    The scheme is `demucs.hf.hf_repo_name`'s: `htdemucs_ft` is in `adefossez/HTDemucs-ft`, `mdx` in
    `adefossez/Demucs-mdx`.

    Args:
        name: `[hf://][namespace/]name`.

    Raises:
        UnknownModel: when it is not of that form.
    """
    namespace, _, plain = name.removeprefix(_PREFIX).rpartition("/")
    namespace = namespace or DEFAULT_NAMESPACE
    if not _PART.fullmatch(namespace) or not _PART.fullmatch(plain):
        raise UnknownModel(model=name, hint="; on the hub it is hf://namespace/name")
    if plain == "htdemucs":
        return f"{namespace}/HTDemucs", plain
    if plain.startswith("htdemucs_"):
        return f"{namespace}/HTDemucs-{plain.removeprefix('htdemucs_')}", plain
    return f"{namespace}/Demucs-{plain}", plain


def cached(name: str, definition: Path | None = None) -> ModelFiles:
    """What of a model is in the cache; never reaches for the network.

    Args:
        name: `[hf://][namespace/]name`.
        definition: a bag to go by while the hub's own is not in the cache.

    Raises:
        UnknownModel: when the name cannot be one on the hub.
        ModelCorrupt: when the definition is damaged.
    """
    repository, plain = repository_of(name)
    path = _in_cache(repository, f"{plain}.yaml")
    bag_path = path or definition
    if bag_path is None:
        return ModelFiles(name=name, source="hub", bag=None, members=())
    bag = read_bag(name, bag_path)
    members = tuple(_member(repository, signature) for signature in bag.signatures)
    return ModelFiles(name=name, source="hub", bag=bag, members=members)


def checked(files: ModelFiles, hash_of: HashOf = hash_file) -> VerifiedFiles:
    """The same files, each hash compared; never reaches for the network.

    Args:
        files: as `cached` gave them.
        hash_of: tells a file's hash.

    Raises:
        ModelUnavailable: when some are not on this machine.
        ModelCorrupt: when one is not what the hub said it is.
    """
    if not files.on_disk:
        raise ModelUnavailable(model=files.name, detail="it may not be fetched now")
    return verify(files, hash_of)


def fetch(files: ModelFiles, on_progress: Progress | None = None, hash_of: HashOf = hash_file) -> VerifiedFiles:
    """Fetch what is missing of a model, and fetch again, once, what is damaged. Nothing else is fetched.

    Of several processes one fetches; the others wait for it and then find the files. A file appears under its name
    only when it is complete. When all is there already, neither the network nor the lock is touched, so that a filled
    cache may be read-only.

    Args:
        files: as `cached` gave them.
        on_progress: told of each piece that arrives.
        hash_of: tells the hash of a file that is there already; what arrives is hashed.

    Returns:
        The files, all on disk, each hash compared.

    Raises:
        UnknownModel: when the hub has no such model.
        ModelUnavailable: when there is no way to the hub.
        ModelCorrupt: when a file is not what the hub said it is, twice.
        DiskFull: when the files do not fit.
    """
    with suppress(ModelUnavailable, ModelCorrupt):
        return checked(files, hash_of)
    download = _Download(files.name, on_progress)
    with download.alone():
        bag = download.bag()
        weights = {signature: download.weights(signature) for signature in dict.fromkeys(bag.signatures)}
    return VerifiedFiles(name=files.name, bag=bag, weights=tuple(weights[signature] for signature in bag.signatures))


class _Download:
    """One model being fetched."""

    def __init__(self, name: str, on_progress: Progress | None) -> None:
        self.name = name
        self.repository, self.plain = repository_of(name)
        self._on_progress = on_progress

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the lock of this model, which ends with the process that holds it, however it ends."""
        from huggingface_hub.constants import HF_HUB_CACHE

        locks = Path(HF_HUB_CACHE, ".locks")
        try:
            locks.mkdir(parents=True, exist_ok=True)
            lock = FileLock(locks / f"demucs-server-worker--{self.repository.replace('/', '--')}.lock")
            lock.acquire()
        except OSError as error:
            raise self._unavailable(f"the cache {HF_HUB_CACHE} cannot be written: {error.strerror}") from error
        try:
            yield
        finally:
            lock.release()

    def bag(self) -> Bag:
        """The model's definition, as the hub has it."""
        return self._get(f"{self.plain}.yaml", lambda path: read_bag(self.name, path))

    def weights(self, signature: str) -> WeightFile:
        """A member's file, its hash compared."""

        def read(path: Path) -> WeightFile:
            return verify_member(self.name, Member(signature=signature, path=path, checksum=_checksum(path)))

        return self._get(signature + SAFETENSORS, read)

    def _get(self, file_name: str, read: Callable[[Path], _Read]) -> _Read:
        """What `read` makes of a file, which is fetched if it is not in the cache or if `read` finds it damaged."""
        path = _in_cache(self.repository, file_name)
        try:
            return read(path or self._fetch(file_name))
        except ModelCorrupt as damage:
            try:
                path = self._fetch(file_name, again=True)
            except ModelUnavailable as unavailable:
                raise damage from unavailable
            return read(path)

    def _fetch(self, file_name: str, again: bool = False) -> Path:
        from huggingface_hub import constants, errors, get_hf_file_metadata, hf_hub_download, hf_hub_url

        try:
            # Asked first, because without a network the download below would try for half a minute before it says so;
            # what can wait that long is a task, which is tried again anyway.
            get_hf_file_metadata(hf_hub_url(self.repository, file_name))
            path = hf_hub_download(
                self.repository, file_name, force_download=again, tqdm_class=_bar(file_name, self._on_progress)
            )
        except (errors.RepositoryNotFoundError, errors.RemoteEntryNotFoundError, errors.RevisionNotFoundError) as error:
            hint = f"; the hub has no file {file_name} in {self.repository}"
            raise UnknownModel(model=self.name, hint=hint) from error
        except Exception as error:  # the HTTP library's own errors, which differ between versions of huggingface_hub
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise DiskFull(path=constants.HF_HUB_CACHE) from error
            raise self._unavailable(f"the hub did not answer well ({_first_line(error)})") from error
        return Path(path)

    def _unavailable(self, detail: str) -> ModelUnavailable:
        return ModelUnavailable(model=self.name, detail=detail)


def _bar(file_name: str, on_progress: Progress | None) -> type[Any]:
    """A progress bar for huggingface_hub that draws nothing, and tells `on_progress`."""
    from huggingface_hub.utils.tqdm import tqdm

    class Bar(tqdm):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs | {"disable": True})  # type: ignore[no-untyped-call]
            self._done: int = kwargs.get("initial") or 0
            self._total: int | None = kwargs.get("total")

        def update(self, n: float | None = 1) -> None:
            self._done += int(n or 0)
            if on_progress is not None:
                on_progress(file_name, self._done, self._total)

    return Bar


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _member(repository: str, signature: str) -> Member:
    path = _in_cache(repository, signature + SAFETENSORS)
    return Member(signature=signature, path=path, checksum=_checksum(path))


def _in_cache(repository: str, file_name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(repository, file_name)
    return Path(found) if isinstance(found, str) else None


def _checksum(path: Path | None) -> str | None:
    # A file in the cache is a link to a blob, and the blob of a large file is named by its sha256. Only the first link
    # counts: a blob can be a link itself, into a store that names its files otherwise.
    if path is None or not path.is_symlink():
        return None
    blob = path.readlink().name
    return blob if _SHA256.fullmatch(blob) else None
