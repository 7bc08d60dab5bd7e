"""Where uploads and their results lie in the data folder. Pure: nothing here touches the disk.

DATA_DIR/uploads/<upload id>/song      the song as it came; stays until its task goes, since a retry needs it
DATA_DIR/results/<upload id>/…         the stems, below the folders that `filename` names
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from demucs_server_worker.task import Origin, Task

UPLOADS = "uploads"
RESULTS = "results"
SONG = "song"


@dataclass(frozen=True)
class UploadFolders:
    """The two private folders of an upload.

    Attributes:
        upload: holds the song.
        results: `output_dir` of its task.
    """

    upload: Path
    results: Path

    @property
    def song(self) -> Path:
        """The song itself. Its name is the server's; the client's is only displayed."""
        return self.upload / SONG


def folders_for(data_dir: Path, upload_id: str) -> UploadFolders:
    """The folders of an upload. Args: data_dir: the data folder; upload_id: generated, 32 hexadecimal digits."""
    return UploadFolders(upload=data_dir / UPLOADS / upload_id, results=data_dir / RESULTS / upload_id)


def folders_of(task: Task, data_dir: Path) -> UploadFolders | None:
    """The folders that belong to a task and go with it; None for a task whose files are its caller's."""
    if task.request.origin is not Origin.UPLOAD:
        return None
    folders = folders_for(data_dir, Path(task.request.input_path).parent.name)
    return folders if Path(task.request.input_path) == folders.song else None
