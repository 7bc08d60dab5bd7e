"""Which models there are, and where their files lie: in this package, in a local repository, or on Hugging Face.

Nothing here imports torch, and nothing reaches for the network.
"""

from __future__ import annotations

import difflib
import importlib.util
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from demucs_server_worker.errors import InvalidOption, ModelCorrupt, ModelError, UnknownModel
from demucs_server_worker.separation import hub
from demucs_server_worker.separation.model_files import (
    PICKLE,
    SAFETENSORS,
    Bag,
    Member,
    ModelFiles,
    Source,
    read_bag,
    read_stems,
    verify,
)

DEMO = "demo"
DEMO_FOLDER = Path(__file__).parent / "demo_model"

_STEMS = ("drums", "bass", "other", "vocals")
_STEMS_OF = {"htdemucs_6s": (*_STEMS, "guitar", "piano")}
_WITH_CHECKSUM = re.compile(r"(.+)-([0-9a-f]*)")


def _definitions_of_demucs() -> dict[str, Path]:
    """The bags that the installed Demucs publishes, by name, without importing it."""
    spec = importlib.util.find_spec("demucs")
    folders = (spec.submodule_search_locations if spec else None) or []
    return {path.stem: path for folder in folders for path in sorted(Path(folder, "remote").glob("*.yaml"))}


_DEFINITIONS = _definitions_of_demucs()

DEMUCS_MODELS: tuple[str, ...] = tuple(_DEFINITIONS)
"""The names that Demucs publishes."""


@dataclass(frozen=True)
class ModelInfo:
    """A model as a list shows it.

    Attributes:
        name: what the option `model` takes.
        source: `package`, `hub` or `repo`.
        on_disk: whether it works without a network.
        members: how many files of weights it has.
        stems: what it separates into; None when that is not known without loading it.
        bytes: the size of its files, those counted that are on disk; None when none is.
        note: what else to know, or what is wrong with it; often empty.
    """

    name: str
    source: Source
    on_disk: bool
    members: int
    stems: tuple[str, ...] | None
    bytes: int | None
    note: str


def list_models(repo: Path | None) -> list[ModelInfo]:
    """All models that can be asked for by a plain name: `demo`, then those of `repo`, or without one Demucs' own.

    Args:
        repo: a folder of models, or None.

    Raises:
        InvalidOption: when `repo` is not a folder.
    """
    names = DEMUCS_MODELS if repo is None else _Folder(repo).listed
    return [_describe(name, repo) for name in dict.fromkeys((DEMO, *names))]


def locate(name: str, repo: Path | None) -> ModelFiles:
    """Find a model by its name, on this machine.

    `demo` is the package's own. With `repo`, any other name is a bag `NAME.yaml` or a signature there, as with
    Demucs' `--repo`; where a name is both, it is the signature. Without, it is a name that Demucs publishes, or
    `hf://[namespace/]name`.

    Args:
        name: the model.
        repo: a folder of models, or None.

    Raises:
        UnknownModel: when there is no such name; with the nearest that there is.
        ModelCorrupt: when its definition is damaged, or a signature has two files.
        InvalidOption: when `repo` is not a folder.
    """
    if name == DEMO:
        if not DEMO_FOLDER.is_dir():
            raise ModelError(model=name, detail="this installation lacks it; install the package again")
        return _Folder(DEMO_FOLDER, source="package").locate(name)
    if repo is not None:
        return _Folder(repo).locate(name)
    if "/" not in name and name not in DEMUCS_MODELS:
        raise _unknown(name, (DEMO, *DEMUCS_MODELS))
    return hub.cached(name, _DEFINITIONS.get(name))


def download(name: str, on_progress: hub.Progress | None = None) -> list[Path]:
    """Fetch a model from the hub into the cache, so that it works without a network from then on.

    Args:
        name: as for `locate`; what needs no fetching is only checked.
        on_progress: called with a file's name, the bytes of it that are there, and its size where that is known.

    Returns:
        The paths of its weights.

    Raises:
        UnknownModel, ModelUnavailable, ModelCorrupt, DiskFull: as `hub.fetch`.
    """
    files = locate(name, None)
    complete = hub.fetch(files, on_progress) if files.source == "hub" else verify(files)
    return list(dict.fromkeys(weights.path for weights in complete.weights))


def _unknown(name: str, names: Iterable[str]) -> UnknownModel:
    nearest = difflib.get_close_matches(name, list(names), n=1)
    return UnknownModel(model=name, hint=f"; the nearest is {nearest[0]}" if nearest else "")


class _Folder:
    """A folder of models: bags `NAME.yaml`, and weights `SIG[-CHECKSUM].safetensors` or `SIG[-CHECKSUM].th`."""

    def __init__(self, root: Path, source: Source = "repo") -> None:
        if not root.is_dir():
            raise InvalidOption(option="repo", value=root, allowed="the path of a folder of models")
        self._source = source
        self._bags: dict[str, Path] = {}
        self._weights: dict[str, list[Member]] = {}
        for path in sorted(root.iterdir()):
            if path.suffix == ".yaml":
                self._bags[path.stem] = path
            elif path.suffix in (SAFETENSORS, PICKLE):
                member = _member(path)
                self._weights.setdefault(member.signature, []).append(member)

    @property
    def names(self) -> list[str]:
        """The bags, and the signatures."""
        return list(dict.fromkeys([*self._bags, *self._weights]))

    @property
    def listed(self) -> list[str]:
        """The names worth showing: those of bags, and of signatures that are in no bag."""
        in_bags: set[str] = set()
        for name, path in self._bags.items():
            with suppress(ModelError):
                in_bags.update(read_bag(name, path).signatures)
        return [name for name in self.names if name in self._bags or name not in in_bags]

    def locate(self, name: str) -> ModelFiles:
        if name in self._weights:
            bag = Bag(signatures=(name,))
        elif name in self._bags:
            bag = read_bag(name, self._bags[name])
        else:
            raise _unknown(name, (DEMO, *self.names))
        members = tuple(self._find(name, signature) for signature in bag.signatures)
        return ModelFiles(name=name, source=self._source, bag=bag, members=members)

    def _find(self, model: str, signature: str) -> Member:
        # A converted repository has each member in both forms: the one that cannot carry code is taken.
        found = self._weights.get(signature, [])
        for suffix in (SAFETENSORS, PICKLE):
            of_kind = [member for member in found if member.path and member.path.suffix == suffix]
            if len(of_kind) > 1:
                detail = f"there is more than one file for the signature {signature}; keep the right one only"
                raise ModelCorrupt(path=of_kind[1].path, model=model, detail=detail)
            if of_kind:
                return of_kind[0]
        return Member(signature=signature, path=None)


def _member(path: Path) -> Member:
    match = _WITH_CHECKSUM.fullmatch(path.stem)
    if match is None:
        return Member(signature=path.stem, path=path)
    return Member(signature=match[1], path=path, checksum=match[2])


def _describe(name: str, repo: Path | None) -> ModelInfo:
    try:
        files = locate(name, repo)
        stems = _STEMS_OF.get(name, _STEMS) if files.source == "hub" else _stems_on_disk(files)
    except (ModelError, InvalidOption) as error:
        source: Source = "package" if name == DEMO else "hub" if repo is None else "repo"
        return ModelInfo(name, source, on_disk=False, members=0, stems=None, bytes=None, note=error.message)
    paths = {member.path for member in files.members if member.path is not None}
    return ModelInfo(
        name=name,
        source=files.source,
        on_disk=files.on_disk,
        members=len(files.members),
        stems=stems,
        bytes=sum(path.stat().st_size for path in paths) if paths else None,
        note=_note(files),
    )


def _stems_on_disk(files: ModelFiles) -> tuple[str, ...] | None:
    return next((read_stems(files.name, member.path) for member in files.members if member.path), None)


def _note(files: ModelFiles) -> str:
    if files.source == "package":
        return "for trying and testing; real music wants htdemucs"
    if files.source == "hub":
        return "quantised: needs the package diffq" if files.name.endswith("_q") else ""
    missing = sorted({member.signature for member in files.members if member.path is None})
    return f"no file for {', '.join(missing)}" if missing else ""
