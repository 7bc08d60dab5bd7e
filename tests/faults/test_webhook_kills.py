"""A server that is killed between a task's end and its webhook still tells it."""

from __future__ import annotations

import socket
from pathlib import Path

from demucs_server_worker.webhooks import signature
from tests.http_server import API, commanded
from tests.receivers import Receiver
from tests.servers import noise

SECRET = "a secret that nobody guesses"  # noqa: S105


def test_what_a_killed_server_had_not_told_the_next_one_tells(tmp_path: Path) -> None:
    noise(tmp_path / "song.wav", 1.0)
    (tmp_path / "out").mkdir()
    with socket.socket() as closed:
        # Nobody listens there while the first server lives.
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        settings = {"DEMUCS_WORKER_WEBHOOK_HOSTS": f"127.0.0.1:{port}", "DEMUCS_WORKER_WEBHOOK_SECRET": SECRET}
        with commanded(tmp_path, **settings) as server:
            refused = server.client.post(
                f"{API}/tasks", json=server.submission("song.wav", model="demo", webhook="http://127.0.0.1:9/hooks")
            )
            assert (refused.status_code, refused.json()["code"]) == (422, "invalid_option")
            task = server.submit("song.wav", model="demo", webhook=f"http://127.0.0.1:{port}/hooks")
            server.until_state(task["id"], "completed")
            server.process.log("webhook not delivered yet")
            server.process.process.kill()
            server.process.process.wait()
    with Receiver(port=port) as receiver, commanded(tmp_path, **settings) as server:
        (told,) = receiver.wait(1)
        stored = server.task(task["id"])
    assert (told.event, told.json["task"]["id"]) == ("completed", task["id"])
    assert told.json["task"]["stems"] == stored["stems"]
    sent_at = int(told.headers["demucs-worker-signature"].split(",")[0].removeprefix("t="))
    assert signature.verify(SECRET, told.headers["demucs-worker-signature"], told.body, sent_at)
