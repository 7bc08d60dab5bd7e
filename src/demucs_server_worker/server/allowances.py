"""What HTTP clients may name: models, and paths of the server below the folders that the administrator allowed."""

from __future__ import annotations

from pathlib import Path

from demucs_server_worker.errors import Forbidden, UnknownModel
from demucs_server_worker.separation import catalogue
from demucs_server_worker.settings import Settings


def check_model(name: str, settings: Settings) -> None:
    """Whether a client may ask for this model.

    Raises:
        UnknownModel: it is not among those that the administrator allowed, or that there are.
    """
    if name != settings.model and name not in allowed_models(settings):
        raise UnknownModel(model=name, hint="; the list of models has those that may be asked for here")


def allowed_models(settings: Settings) -> tuple[str, ...]:
    """The names that clients may ask for, beside the default."""
    return settings.models or tuple(model.name for model in catalogue.list_models(settings.model_repo))


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
