"""The models that stay loaded between songs."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path

from demucs_server_worker.separation import hub
from demucs_server_worker.separation.known_hashes import KnownHashes
from demucs_server_worker.separation.models import LoadedModel, load_model

MODELS_KEPT = 2  # a queue that alternates between two models loads neither twice


class ModelShelf:
    """Loads models by name, and keeps those used last."""

    def __init__(self, repo: Path | None, hashes: KnownHashes, on_fetch: hub.Progress | None = None) -> None:
        """Prepare; nothing is loaded yet.

        Args:
            repo: folder of local models; None for those that Demucs publishes.
            hashes: of files that were hashed before.
            on_fetch: as `load_model`'s.
        """
        self._repo = repo
        self._hashes = hashes
        self._on_fetch = on_fetch
        self._kept: OrderedDict[str, LoadedModel] = OrderedDict()

    def take(self, name: str) -> LoadedModel:
        """The model `name`, loaded if need be.

        Raises:
            ModelError, UnknownModel, InvalidOption: as `load_model`.
        """
        if name not in self._kept:
            # Room is made first, so that there are never more than MODELS_KEPT in memory.
            while len(self._kept) >= MODELS_KEPT:
                self._kept.popitem(last=False)
            self._kept[name] = load_model(name, self._repo, on_fetch=self._on_fetch, hash_of=self._hashes.hash_of)
        self._kept.move_to_end(name)
        return self._kept[name]

    def forget(self, model: LoadedModel) -> None:
        """Have a model loaded anew, and its files hashed, when it is taken next."""
        self._kept.pop(model.name, None)
        for file in model.files:
            self._hashes.forget(file.path)
