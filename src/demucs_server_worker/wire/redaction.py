"""Messages for people who may not know the server's paths."""

from __future__ import annotations

import re

from demucs_server_worker.task import TaskRequest

# A path from the root: it begins a word, and a word of it may hold anything but what ends a phrase.
_PATH = re.compile(r"(?<![\w/:.])/(?:[^\s/'\"`,;:()]+/)*[^\s/'\"`,;:()]*[^\s/'\"`,;:().]")


def without_paths(message: str, request: TaskRequest | None = None, named: tuple[str, ...] = ()) -> str:
    """`message` with each path of the server replaced by `…/` and its last part.

    Args:
        message: a sentence of an error.
        request: of the task that it is about: its song is called by its name.
        named: paths that the caller named, and so may read again.
    """
    if request is not None:
        message = message.replace(request.input_path, request.input_name)
        message = message.replace(request.output_dir, "the output folder")
    return _PATH.sub(lambda match: match[0] if match[0] in named else "…/" + match[0].rpartition("/")[2], message)
