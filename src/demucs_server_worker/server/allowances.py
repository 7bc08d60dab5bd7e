"""What HTTP clients may name: models and their stems, and paths of the server below the folders that the administrator
allowed. It looks at files: for a thread, so that a slow disk makes nobody else wait."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from demucs_server_worker.errors import Forbidden, InvalidOption, UnknownModel
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.separation import catalogue
from demucs_server_worker.separation.stem_plan import stem_plan
from demucs_server_worker.settings import Settings

Stems = tuple[str, ...] | None


def check_model(name: str, settings: Settings) -> Stems:
    """Whether a client may ask for this model.

    Returns:
        What it separates into; None where that is not known without loading it.

    Raises:
        UnknownModel: it is not among those that the administrator allowed, or that there are.
    """
    known = _published() if settings.model_repo is None else _listed(settings.model_repo)
    if name != settings.model and name not in (settings.models or known):
        raise UnknownModel(model=name, hint="; the list of models has those that may be asked for here")
    return known.get(name)


def check_stems(options: SeparationOptions, stems: Stems) -> None:
    """Whether the model has what `stems`, `two_stems` and `residual` name: refused here, no worker fails over it.

    Raises:
        InvalidOption: it does not; with those that it has.
    """
    if stems is not None:
        stem_plan(stems, options)


@cache
def _published() -> Mapping[str, Stems]:
    """Demucs' own models, which stay what they are: reading all their definitions takes some 15 ms."""
    return _listed(None)


def _listed(repo: Path | None) -> Mapping[str, Stems]:
    try:
        return {model.name: model.stems for model in catalogue.list_models(repo)}
    except InvalidOption:
        return {}  # the folder is gone, which the status tells the administrator; tasks wait until it is back


def below_a_root(name: str, path: str, settings: Settings) -> Path:
    """The path that a client named, with its links followed.

    Args:
        name: of the field, for the message.
        path: as the client gave it; it need not be there.

    Raises:
        Forbidden: it is not below a folder that the administrator allowed. Whether it is there, nobody is told.
    """
    roots = [Path(root).expanduser().resolve() for root in settings.allowed_roots]
    if not roots:
        raise Forbidden(
            detail=f"{name} names a path of the server, and this server allows none. Upload the file instead, or have "
            "DEMUCS_WORKER_ALLOWED_ROOTS set."
        )
    resolved = _resolved(Path(path)) if "\0" not in path else None
    if resolved is None or not any(resolved == root or resolved.is_relative_to(root) for root in roots):
        raise Forbidden(detail=f"{name} is not below a folder that DEMUCS_WORKER_ALLOWED_ROOTS names.")
    return resolved


def _resolved(path: Path) -> Path | None:
    """With its links followed; None where they lead in a circle, or the path begins nowhere."""
    try:
        return path.resolve() if path.is_absolute() else None
    except (RuntimeError, OSError):
        return None
