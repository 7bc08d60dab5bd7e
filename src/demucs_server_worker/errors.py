"""The error tree. Each class has a code and says whether another attempt can help; its docstring is the message.

A docstring may name fields in braces: they are filled from the keyword arguments of the constructor.
Errors cross the worker's pipe and the database as `ErrorInfo`, and come back as the same class by their code.
"""

from __future__ import annotations

import inspect
from typing import ClassVar

import msgspec


class ErrorInfo(msgspec.Struct, frozen=True):
    """An error as data: what is stored with a task and sent over a wire.

    Attributes:
        code: one of the codes of the contract, for programs.
        message: a sentence that says what happened and what to do, for people.
        retryable: whether another attempt of the same task can end otherwise.
    """

    code: str
    message: str
    retryable: bool


class DemucsWorkerError(Exception):
    """Something went wrong in demucs-server-worker: {detail}"""

    code: ClassVar[str] = "internal"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str | None = None, **fields: object) -> None:
        """Build the message from the class's docstring and `fields`, or take `message` as it is."""
        if message is None:
            message = inspect.cleandoc(type(self).__doc__ or "").replace("\n", " ").format_map(_Fields(fields))
        super().__init__(message)
        self.message = message

    @property
    def info(self) -> ErrorInfo:
        """This error as data."""
        return ErrorInfo(code=self.code, message=self.message, retryable=self.retryable)


class _Fields(dict[str, object]):
    """Fields for a message: one that was not given reads as a dash instead of raising while an error is raised."""

    def __missing__(self, key: str) -> str:
        return "–"


# --- the input -------------------------------------------------------------------------------------------------------


class InputError(DemucsWorkerError):
    """The input cannot be used: {detail}"""

    code = "input_unreadable"


class InputNotFound(InputError):
    """There is no file {path}. Check the path, and that the file was not moved while the task waited."""

    code = "input_not_found"


class InputUnreadable(InputError):
    """{name} cannot be decoded: {detail}. Check that it plays elsewhere, or convert it to WAV or FLAC."""

    code = "input_unreadable"


class InputTooLarge(InputError):
    """{name} is {size} bytes, more than the {limit} allowed. Raise DEMUCS_WORKER_MAX_FILE_SIZE to accept it."""

    code = "input_too_large"


class InputTooLong(InputError):
    """{name} is longer than the {limit} seconds allowed. Cut it, or raise DEMUCS_WORKER_MAX_DURATION."""

    code = "input_too_long"


class UnsupportedFormat(InputError):
    """{name} is not in a format that is accepted: {detail}. Send WAV, FLAC, MP3, M4A/AAC, Ogg, Opus, AIFF, WMA,
    MP4, MKV or WebM."""

    code = "unsupported_format"


class NoAudio(InputError):
    """{name} has no sound in it: {detail}. Send a file with an audio track."""

    code = "no_audio"


# --- the request -----------------------------------------------------------------------------------------------------


class RequestError(DemucsWorkerError):
    """The request cannot be taken: {detail}"""

    code = "invalid_option"


class InvalidOption(RequestError):
    """{option}={value} is not valid: {allowed}."""

    code = "invalid_option"


class UnknownModel(RequestError):
    """There is no model named {model}. `demucs-server-worker models` lists those there are{hint}."""

    code = "unknown_model"


class TaskConflict(RequestError):
    """The file_id {file_id} already belongs to a task with another request. Use another file_id, or ask for that
    task."""

    code = "task_conflict"


class TaskNotFound(RequestError):
    """There is no task {task_id}. It may have been deleted."""

    code = "not_found"


class NoStemsYet(RequestError):
    """Task {task_id} is {state} and has no stems. Only a completed task has."""

    code = "task_conflict"


class StemNotFound(RequestError):
    """Task {task_id} has no stem {stem}. It has {stems}."""

    code = "not_found"


class StemGone(RequestError):
    """The stem {stem} of task {task_id} is not there any more as it was written: {detail}. Submit the song again to
    have it computed anew."""

    code = "gone"


class NotInRange(RequestError):
    """The file has {size} bytes, and none of them is in the range that was asked for."""

    code = "not_in_range"


class IllegalTransition(RequestError):
    """Task {task_id} is {state}: it cannot be {verb}."""

    code = "task_conflict"


class QueueFull(RequestError):
    """{queued} tasks wait already, as many as DEMUCS_WORKER_MAX_QUEUED allows. Try again later."""

    code = "queue_full"
    retryable = True


class Unauthorized(RequestError):
    """The API key is missing or wrong. Send it as `Authorization: Bearer …` or `X-API-Key`."""

    code = "unauthorized"


class Forbidden(RequestError):
    """This is not allowed: {detail}"""

    code = "forbidden"


class InvalidRequest(RequestError):
    """The request cannot be read: {detail}"""

    code = "invalid_request"


class ShuttingDown(RequestError):
    """The worker manager is shutting down and takes no new tasks. Try again when it is back."""

    code = "shutting_down"
    retryable = True


class TooSlow(RequestError):
    """The upload came to a stop: fewer than {bytes} bytes in {seconds} seconds. Send it again over a better
    connection."""

    code = "too_slow"
    retryable = True


class NotReady(RequestError):
    """No worker is ready yet. Try again in a moment; the status says more."""

    code = "not_ready"
    retryable = True


class InvalidSetting(DemucsWorkerError):
    """{setting}={value} is not valid: {allowed}."""

    code = "invalid_setting"


class DataFolderInUse(DemucsWorkerError):
    """Another worker manager (process {pid}) already runs on {path}. Stop it first, or give this one a folder of its
    own with DEMUCS_WORKER_DATA_DIR."""

    code = "data_folder_in_use"


# --- the model -------------------------------------------------------------------------------------------------------


class ModelError(DemucsWorkerError):
    """The model {model} cannot be used: {detail}"""

    code = "model_unavailable"


class ModelUnavailable(ModelError):
    """The model {model} is not on this machine and could not be fetched: {detail}. Connect the machine to the
    internet once and run `demucs-server-worker models --download {model}`, or name a folder that has it
    with --repo or DEMUCS_WORKER_MODEL_REPO."""

    code = "model_unavailable"
    retryable = True


class WeightsChanged(ModelError):
    """The file {path} of model {model} is not the one any more that was there when the model was loaded."""

    code = "model_unavailable"
    retryable = True


class ModelCorrupt(ModelError):
    """The file {path} of model {model} is damaged: {detail}. Delete it, so that it is fetched again."""

    code = "model_corrupt"


# --- the output ------------------------------------------------------------------------------------------------------


class OutputError(DemucsWorkerError):
    """The stems cannot be written: {detail}"""

    code = "output_not_writable"


class OutputNotWritable(OutputError):
    """{path} cannot be written: {detail}. Choose another folder, or give this user the right to write there."""

    code = "output_not_writable"


class DiskFull(OutputError):
    """The disk that holds {path} is full. Free some space; the task is tried again."""

    code = "disk_full"
    retryable = True


class InvalidOutput(OutputError):
    """The model gave values that are not numbers for {name}, so nothing was written. Try precision fp32."""

    code = "invalid_output"


# --- the worker ------------------------------------------------------------------------------------------------------


class WorkerFailure(DemucsWorkerError):
    """The worker failed: {detail}"""

    code = "worker_crashed"
    retryable = True


class OutOfMemory(WorkerFailure):
    """The worker ran out of memory ({detail}). Lower MAX_WORKERS, use a shorter segment, or add memory."""

    code = "out_of_memory"


class WorkerCrashed(WorkerFailure):
    """The worker died while it had this task ({detail}). The log of that time says more."""

    code = "worker_crashed"


class WorkerHung(WorkerFailure):
    """The worker gave no sign of life for {seconds} seconds and was stopped."""

    code = "worker_hung"


class TimedOut(WorkerFailure):
    """The task took longer than the {seconds} seconds of TASK_TIMEOUT and was stopped. Raise the limit for long
    songs or slow models."""

    code = "timed_out"


# --- the server's own helper ------------------------------------------------------------------------------------------


class AssistantFailed(DemucsWorkerError):
    """The server's helper process for audio is not there: {detail}. Try again in a moment; the log says more."""

    code = "assistant_failed"
    retryable = True


# --- the queue on disk -----------------------------------------------------------------------------------------------


class QueueError(DemucsWorkerError):
    """The queue's database cannot be used: {detail}"""

    code = "queue_corrupt"


class QueueCorrupt(QueueError):
    """The queue's database {path} is damaged or is no queue: {detail}. Nothing was changed in it. Put a backup in its
    place, or move it and the files beside it that share its name away to start with an empty queue."""

    code = "queue_corrupt"


class QueueTooNew(QueueError):
    """The queue's database {path} has schema {found}, and this version knows none past {known}. Start the newer
    version of demucs-server-worker that wrote it, or use another DEMUCS_WORKER_DATA_DIR."""

    code = "queue_too_new"


class QueueLocked(QueueError):
    """Another program has kept the queue's database {path} locked for {seconds} seconds, so nothing was stored. End
    that program, then try again."""

    code = "queue_locked"
    retryable = True


# --- seen by a client of the HTTP API --------------------------------------------------------------------------------


class ClientError(DemucsWorkerError):
    """The server cannot be used: {detail}"""

    code = "server_error"


class ServerUnreachable(ClientError):
    """No server answers at {url} ({detail}). Start one with `demucs-server-worker serve`, or name another with --url or
    DEMUCS_WORKER_URL."""

    code = "server_unreachable"
    retryable = True


class ServerError(ClientError):
    """The server answered with an error of a kind that is not known here: {detail}"""

    code = "server_error"
    # What the server said, with the code as it gave it.
    problem: ErrorInfo | None = None


class NotOurServer(ClientError):
    """What answers at {url} is not demucs-server-worker: {detail}. Check the URL, and what stands between."""

    code = "not_our_server"


class DownloadDamaged(ClientError):
    """{name} arrived {times} times with other bytes than the server says it has. Check the network and the disk, then
    download it again."""

    code = "download_damaged"
    retryable = True


# --- raised to the caller who waits ----------------------------------------------------------------------------------


class TaskFailed(DemucsWorkerError):
    """Task {task_id} failed: {detail}"""

    code = "task_failed"

    def __init__(self, task_id: str, error: ErrorInfo) -> None:
        """Args: task_id: the task; error: why it failed, kept as `.error`."""
        super().__init__(task_id=task_id, detail=error.message)
        self.task_id = task_id
        self.error = error


class TaskCancelled(DemucsWorkerError):
    """Task {task_id} was cancelled."""

    code = "task_cancelled"

    def __init__(self, task_id: str) -> None:
        """Args: task_id: the task."""
        super().__init__(task_id=task_id)
        self.task_id = task_id


class SeparationCancelled(DemucsWorkerError):
    """The separation was cancelled."""

    code = "cancelled"


def _tree(root: type[DemucsWorkerError]) -> list[type[DemucsWorkerError]]:
    return [root, *(leaf for child in root.__subclasses__() for leaf in _tree(child))]


def error_from(info: ErrorInfo) -> DemucsWorkerError:
    """The error that `info` describes, as the most specific class that has its code and is as retryable."""
    kinds = [cls for cls in _tree(DemucsWorkerError) if cls not in (TaskFailed, TaskCancelled)]
    matching = [cls for cls in kinds if (cls.code, cls.retryable) == (info.code, info.retryable)]
    return (matching or [DemucsWorkerError])[-1](info.message)
