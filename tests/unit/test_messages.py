"""What crosses the pipe between pool and worker."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from demucs_server_worker.errors import ErrorInfo
from demucs_server_worker.options import SeparationOptions
from demucs_server_worker.task import Cancelled, Completed, Failed, Stage, Stem
from demucs_server_worker.worker.messages import (
    Boot,
    BootFailed,
    Cancel,
    Done,
    FromWorker,
    Heartbeat,
    Progress,
    Ready,
    Run,
    Stop,
    Threads,
    ToWorker,
    decode_from_worker,
    decode_to_worker,
    encode,
)

RUN = Run(
    task_id="01", attempt=2, claim=3, input_path="/a b/ü\n.mp3", input_name="ü\n.mp3", project_name="“P”",
    output_dir="/out", staging="/out/.staging", options=SeparationOptions(model="demo", stems=("vocals",), overlap=0.5),
    max_duration_seconds=60.0, max_file_bytes=100,
)  # fmt: skip
STEM = Stem(
    name="vocals", path="/out/v.wav", format="wav", sample_rate=44_100, channels=2, duration_seconds=1.5, bytes=10,
    sha256="ab", peak=0.25,
)  # fmt: skip
ERROR = ErrorInfo(code="disk_full", message="The disk is full.", retryable=True)
COMPLETED = Completed(staging="/s", output_dir="/o", files=("v.wav",), stems=(STEM,), duration_seconds=1.5)

DOWN = [
    Boot(worker_id="w", model="demo", model_repo="/m", device="cuda:1", precision="bf16", threads=2),
    Boot(worker_id="w"),
    RUN,
    Cancel(task_id="01"),
    Threads(threads=4),
    Stop(),
]
UP = [
    Ready(pid=7, device="cpu", model=None, boot_seconds=0.5),
    BootFailed(error=ERROR),
    Heartbeat(),
    Heartbeat(task_id="01"),
    Progress(task_id="01", claim=3, progress=0.5, stage=Stage.SEPARATING, duration_seconds=1.5, computing=True),
    Done(task_id="01", claim=3, outcome=COMPLETED, run_seconds=1.0, compute_seconds=0.5),
    Done(task_id="01", claim=3, outcome=Failed(error=ERROR)),
    Done(task_id="01", claim=3, outcome=Cancelled()),
]


@pytest.mark.parametrize("message", DOWN, ids=lambda message: type(message).__name__)
def test_what_goes_down_arrives_as_it_was_in_one_line(message: ToWorker) -> None:
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_to_worker(line) == message


@pytest.mark.parametrize("message", UP, ids=lambda message: type(message).__name__)
def test_what_goes_up_arrives_as_it_was_in_one_line(message: FromWorker) -> None:
    line = encode(message)
    assert line.endswith(b"\n")
    assert line.count(b"\n") == 1
    assert decode_from_worker(line) == message


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"hello",
        b"\xff\xfe",
        b"[]",
        b'{"type":"nonsense"}',
        b'{"type":"progress","task_id":"1","claim":1,"progress":NaN,"stage":"separating"}',
        b'{"type":"progress","task_id":"1","claim":1,"progress":0.5,"stage":"dreaming"}',
        b'{"type":"done","task_id":"1","claim":1}',
        encode(RUN),
    ],
)
def test_a_line_that_is_no_message_of_a_worker_is_an_error(line: bytes) -> None:
    with pytest.raises(msgspec.DecodeError):
        decode_from_worker(line)


@given(st.binary(max_size=200))
def test_no_line_raises_anything_but_a_decode_error(line: bytes) -> None:
    for decode in (decode_from_worker, decode_to_worker):
        try:
            decode(line)
        except msgspec.DecodeError:
            continue
