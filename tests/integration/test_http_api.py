"""The HTTP API over a real server: tasks, the server's state, and how everything that goes wrong is answered."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import structlog
from structlog.testing import capture_logs

from demucs_server_worker.server import allowances, intake, protocol, submitting
from demucs_server_worker.server.gate import MOST_HEADER_BYTES, MOST_HEADERS, SECURITY_HEADERS
from tests.http_server import API, InProcess, serving
from tests.servers import until


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[InProcess]:
    with serving(tmp_path_factory.mktemp("server"), workers=2) as server:
        yield server


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    """The problem that an answer is, of that status and code."""
    assert answer.status_code == status, answer.text
    assert answer.headers["Content-Type"] == "application/problem+json"
    told: dict[str, Any] = answer.json()
    assert (told["status"], told["code"]) == (status, code), told
    assert told["detail"] and "Traceback" not in told["detail"]
    return told


# --- tasks ------------------------------------------------------------------------------------------------------------


def test_a_task_is_taken_and_found_at_its_location(server: InProcess) -> None:
    answer = server.client.post(f"{API}/tasks", json=server.submission("succeed", priority="high", twoStems="vocals"))
    assert answer.status_code == 202
    task = answer.json()
    assert answer.headers["Location"] == f"{API}/tasks/{task['id']}"
    assert (task["state"], task["priority"], task["options"]["twoStems"]) == ("queued", "high", "vocals")
    assert server.client.get(answer.headers["Location"]).json()["id"] == task["id"]
    done = server.until_state(task["id"], "completed")
    (stem,) = done["stems"]
    assert (stem["name"], stem["url"]) == ("vocals", f"{API}/tasks/{task['id']}/stems/vocals")
    assert Path(stem["path"]).read_bytes() == b"the whole stem"
    assert done["progress"] == 1.0 and done["stage"] == "done" and done["error"] is None


def test_names_are_taken_in_snake_case_too(server: InProcess) -> None:
    fields = {"input_path": str(server.folder / "song.wav"), "output_dir": str(server.folder / "out"),
              "input_name": "succeed", "project_name": "A project"}  # fmt: skip
    answer = server.client.post(f"{API}/tasks", json=fields)
    assert answer.status_code == 202 and answer.json()["projectName"] == "A project"


def test_a_failed_task_says_why(server: InProcess) -> None:
    task = server.until_state(server.submit("raise unreadable")["id"], "failed")
    assert task["error"]["code"] == "input_unreadable" and task["error"]["retryable"] is False


def test_the_list_has_the_newest_first_and_goes_on_from_a_cursor(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        ids = [server.submit()["id"] for _ in range(5)]
        for task_id in ids:
            server.until_state(task_id, "completed")
        failed = server.until_state(server.submit("raise unreadable")["id"], "failed")["id"]
        first = server.client.get(f"{API}/tasks", params={"limit": 4}).json()
        rest = server.client.get(f"{API}/tasks", params={"limit": 4, "cursor": first["cursor"]}).json()
        assert [task["id"] for task in [*first["tasks"], *rest["tasks"]]] == [failed, *reversed(ids)]
        assert rest["cursor"] is None
        only = server.client.get(f"{API}/tasks", params={"state": "failed"}).json()
        assert [task["id"] for task in only["tasks"]] == [failed]


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x", "cursor=-1", "state=lost", f"cursor={2**63}"])
def test_a_list_that_cannot_be_is_refused_by_the_parameters_name(server: InProcess, query: str) -> None:
    told = problem(server.client.get(f"{API}/tasks?{query}"), 422, "invalid_option")
    assert query.partition("=")[0] in told["detail"]


def test_a_queued_task_has_a_place_and_is_cancelled_and_retried(tmp_path: Path) -> None:
    with serving(tmp_path) as server:
        running, waiting = server.submit("wait")["id"], server.submit("succeed")["id"]
        server.until_state(running, "running")
        assert server.task(waiting)["queuePosition"] == 1
        assert server.client.post(f"{API}/tasks/{waiting}/cancel").json()["state"] == "cancelled"
        again = server.client.post(f"{API}/tasks/{waiting}/retry")
        assert (again.status_code, again.headers["Location"]) == (202, f"{API}/tasks/{waiting}")
        assert again.json()["state"] == "queued"
        # Its worker is free of it once the answer is there.
        assert server.client.post(f"{API}/tasks/{running}/cancel").json()["state"] == "cancelled"
        server.until_state(waiting, "completed")


def test_what_has_ended_is_not_cancelled_and_what_is_done_not_retried(server: InProcess) -> None:
    task_id = server.until_state(server.submit()["id"], "completed")["id"]
    for verb in ("cancel", "retry"):
        told = problem(server.client.post(f"{API}/tasks/{task_id}/{verb}"), 409, "task_conflict")
        assert told["taskId"] == task_id and told["retryable"] is False


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/tasks/nobody"), ("POST", "/tasks/nobody/cancel"), ("POST", "/tasks/nobody/retry"),
     ("GET", "/tasks/%00"), ("GET", "/tasks/%ff%fe")],
)  # fmt: skip
def test_an_unknown_task_is_not_found(server: InProcess, method: str, path: str) -> None:
    problem(server.client.request(method, f"{API}{path}"), 404, "not_found")


def test_the_same_file_id_is_the_same_task_and_another_request_a_conflict(server: InProcess) -> None:
    first = server.submit("succeed", fileId="once")
    again = server.client.post(f"{API}/tasks", json=server.submission("succeed", fileId="once"))
    assert again.json()["id"] == first["id"]
    other = server.client.post(f"{API}/tasks", json=server.submission("succeed", fileId="once", shifts=1))
    problem(other, 409, "task_conflict")


def test_a_full_queue_says_when_to_come_again(tmp_path: Path) -> None:
    with serving(tmp_path, max_queued=1) as server:
        server.until_state(server.submit("wait")["id"], "running")
        server.submit("succeed")
        answer = server.client.post(f"{API}/tasks", json=server.submission())
        assert problem(answer, 503, "queue_full")["retryable"] is True
        assert int(answer.headers["Retry-After"]) > 0


# --- what is not taken ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [("shifts", 1000), ("format", "aiff"), ("twoStems", "a b"), ("invented", 1), ("inputPath", 7), ("overlap", None)],
)
def test_a_field_that_does_not_fit_is_named(server: InProcess, field: str, value: object) -> None:
    answer = server.client.post(f"{API}/tasks", json=server.submission(**{field: value}))
    if value is None:
        assert answer.status_code == 202, "null means the default"
    else:
        assert field in problem(answer, 422, "invalid_option")["detail"]


def test_options_that_do_not_fit_together_are_refused(server: InProcess) -> None:
    fields = server.submission(stems=["drums"], twoStems="vocals")
    problem(server.client.post(f"{API}/tasks", json=fields), 422, "invalid_option")


@pytest.mark.parametrize(
    ("wish", "option"),
    [({"stems": ["vocals", "kazoo"]}, "stems"), ({"twoStems": "kazoo"}, "two_stems"), ({"stems": "kazoo"}, "stems")],
    ids=["stems", "twoStems", "form"],
)
def test_a_stem_that_the_model_does_not_have_is_refused_with_those_it_has(
    server: InProcess, wish: dict[str, Any], option: str
) -> None:
    if isinstance(wish.get("stems"), str):
        song = (server.folder / "song.wav").read_bytes()
        answer = server.client.post(f"{API}/tasks", data={"model": "htdemucs_6s", **wish}, files={"file": song})
    else:
        answer = server.client.post(f"{API}/tasks", json=server.submission(model="htdemucs_6s", **wish))
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_option")
    has = "this model has drums, bass, other, vocals, guitar, piano"
    assert answer.json()["detail"] == f"{option}=kazoo is not valid: {has}."
    server.submit(model="htdemucs_6s", stems=["guitar"])


def test_stems_of_a_model_that_cannot_be_known_before_it_is_loaded_are_left_to_the_worker(tmp_path: Path) -> None:
    repo = tmp_path / "repo"
    repo.mkdir()
    (repo / "mine-0123.th").write_bytes(b"a pickle, which nobody opens for a list")
    with serving(tmp_path, model="mine", model_repo=repo) as server:
        server.submit(stems=["kazoo"])
        answer = server.client.post(f"{API}/tasks", json=server.submission(model="demo", stems=["kazoo"]))
        assert answer.status_code == 422, "what is known is still told"


def test_looking_at_models_and_paths_holds_up_nobody(server: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    async def this_thread() -> int:
        return threading.get_ident()

    def noted(real: Callable[..., Any]) -> Callable[..., Any]:
        def instead(*args: Any) -> Any:
            threads.append(threading.get_ident())
            return real(*args)

        return instead

    threads: list[int] = []
    for looks in (allowances.check_model, allowances.below_a_root):
        monkeypatch.setattr(submitting, looks.__name__, noted(looks))
    server.submit()
    assert len(threads) == 3, "a model and two paths"
    assert server.call(this_thread()) not in threads


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b'"text"', b"\xff", b'{"a": NaN}', b"[" * 5_000])
def test_a_body_that_is_no_submission_is_refused(server: InProcess, body: bytes) -> None:
    answer = server.client.post(f"{API}/tasks", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code in (400, 422), answer.text
    assert answer.json()["code"] in ("invalid_option", "invalid_request")


@pytest.mark.parametrize("path", ["/etc/passwd", "{root}/../../etc/passwd", "relative.wav", "{root}/link/passwd"])
def test_a_path_outside_the_allowed_folders_is_forbidden(server: InProcess, path: str) -> None:
    link = server.folder / "link"
    if not link.is_symlink():
        link.symlink_to("/etc")
    fields = server.submission(inputPath=path.format(root=server.folder))
    told = problem(server.client.post(f"{API}/tasks", json=fields), 403, "forbidden")
    assert "passwd" not in told["detail"], "nobody is told whether it is there"
    assert "inputPath is not below" in told["detail"], "as the client called it"


def test_a_path_through_a_link_that_leads_in_a_circle_is_forbidden(server: InProcess) -> None:
    (server.folder / "circle").symlink_to("circle")
    fields = server.submission(inputPath=str(server.folder / "circle"))
    problem(server.client.post(f"{API}/tasks", json=fields), 403, "forbidden")


def test_a_model_that_is_not_allowed_is_refused(tmp_path: Path) -> None:
    with serving(tmp_path, models="demo", model="demo") as server:
        for model in ("htdemucs", "hf://someone/model", "../x"):
            answer = server.client.post(f"{API}/tasks", json=server.submission(model=model))
            assert answer.status_code == 422 and answer.json()["code"] in ("unknown_model", "invalid_option")
        assert server.submit(model="demo")["options"]["model"] == "demo"
        listed = server.client.get(f"{API}/models").json()
        assert (listed["default"], [model["name"] for model in listed["models"]]) == ("demo", ["demo"])


def test_where_nothing_is_there_is_a_problem_too(server: InProcess) -> None:
    told = problem(server.client.get("/api/v1/nothing"), 404, "not_found")
    assert "/api/v1/nothing" in told["detail"]
    answer = server.client.put(f"{API}/tasks")
    problem(answer, 405, "invalid_request")
    assert answer.headers["Allow"] == "GET, POST"
    for path in ("/static/../../settings.py", "/static/%2e%2e/app.py", "/static/app.py", "/static/", "//etc/passwd"):
        problem(server.client.get(httpx.URL(server.url, raw_path=path.encode())), 404, "not_found")


def test_what_nobody_foresaw_says_nothing_of_the_inside(
    server: InProcess, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def broken() -> dict[str, Any]:
        raise RuntimeError("a secret at /srv/data")

    monkeypatch.setattr(server.manager, "get_status", broken)
    answer = server.client.get(f"{API}/status", headers={"X-Request-ID": "find-me"})
    problem(answer, 500, "internal")
    assert "secret" not in answer.text and "/srv" not in answer.text
    assert answer.headers["X-Request-ID"] == "find-me"


# --- the server -------------------------------------------------------------------------------------------------------


def test_the_status_is_that_of_the_manager_in_camel_case(server: InProcess) -> None:
    status = server.client.get(f"{API}/status").json()
    assert status["accepting"] is True and status["uptimeSeconds"] > 0
    assert list(status["queue"]) == ["queued", "running", "byPriority"]
    worker = status["workers"][0]
    assert worker["id"] == "worker-1" and {"tasksDone", "rssBytes", "cpuPercent", "taskId"} <= worker.keys()
    assert status["machine"]["memoryTotalBytes"] > 0


def test_the_models_are_listed_without_paths(server: InProcess) -> None:
    models = server.client.get(f"{API}/models").json()
    assert {"demo", "htdemucs"} <= {model["name"] for model in models["models"]}
    assert models["default"] == "htdemucs"


def test_it_is_ready_when_a_worker_is(tmp_path: Path) -> None:
    structlog.reset_defaults()  # the level of an earlier test would hide what is told at the lowest
    with serving(tmp_path, start="broken", log_level="debug") as server:
        assert server.client.get(f"{API}/health/live").json() == {"status": "alive"}
        with capture_logs() as logs:
            answer = server.client.get(f"{API}/health/ready")
            server.client.get(f"{API}/nothing")
            until(lambda: sum(line["event"] == "request" for line in logs) == 2, "both are logged")
        assert problem(answer, 503, "not_ready")["retryable"] is True and answer.headers["Retry-After"]
        levels = {line["path"]: line["log_level"] for line in logs if line["event"] == "request"}
        assert levels == {f"{API}/health/ready": "debug", f"{API}/nothing": "info"}, "asking often fills no log"


def test_it_is_not_ready_while_it_stops_and_tells_how_things_stand(tmp_path: Path) -> None:
    with serving(tmp_path, shutdown_grace=60) as server:
        task_id = server.submit("busy")["id"]
        server.until_state(task_id, "running")
        server.loop.call_soon_threadsafe(lambda: server.loop.create_task(server.manager.shutdown()))
        until(lambda: not server.client.get(f"{API}/status").json()["accepting"], "it stops")
        problem(server.client.get(f"{API}/health/ready"), 503, "shutting_down")
        answer = server.client.post(f"{API}/tasks", json=server.submission())
        problem(answer, 503, "shutting_down")
        assert int(answer.headers["Retry-After"]) > 0
        assert server.task(task_id)["state"] == "running"
        assert server.client.get(f"{API}/health/live").status_code == 200
        (server.folder / "out" / "go").touch()
        server.call(server.manager.shutdown())
        # The manager has ended, and the server has not yet.
        for method, path in (("GET", "/tasks"), ("GET", f"/tasks/{task_id}"), ("POST", f"/tasks/{task_id}/cancel")):
            problem(server.client.request(method, f"{API}{path}"), 503, "shutting_down")


def test_the_body_of_an_answer_does_not_wait_until_its_head_is_acknowledged(
    server: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = []

    def connected(self: protocol.PatientProtocol, transport: asyncio.Transport) -> None:
        at_once.append(transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        made(self, transport)

    made = protocol.PatientProtocol.connection_made
    monkeypatch.setattr(protocol.PatientProtocol, "connection_made", connected)
    assert httpx.get(f"{server.url}{API}/health/live").status_code == 200
    assert [bool(value) for value in at_once] == [True]


def test_every_answer_is_guarded(server: InProcess) -> None:
    for path in ("/", "/docs", "/openapi.json", f"{API}/status", f"{API}/tasks/nobody", "/nothing"):
        headers = server.client.get(path).headers
        assert {name: headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
        assert headers["X-Request-ID"] and "server" not in headers
    assert server.client.get(f"{API}/status").headers["Cache-Control"] == "no-store"
    assert "unsafe" not in SECURITY_HEADERS["Content-Security-Policy"]


def test_the_description_and_its_page_need_nothing_from_elsewhere(server: InProcess) -> None:
    described = server.client.get("/openapi.json").json()
    assert f"{API}/tasks" in described["paths"]
    page = server.client.get("/docs")
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert 'href="/static/docs.css"' in page.text and "<script" not in page.text
    sheet = server.client.get("/static/docs.css")
    assert sheet.headers["Content-Type"] == "text/css; charset=utf-8"


def test_the_page_is_sent_once_and_then_only_said_to_be_the_same(server: InProcess) -> None:
    first = server.client.get("/static/docs.css")
    assert first.headers["Cache-Control"] == "no-cache"
    tag = first.headers["ETag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}'):
        again = server.client.get("/static/docs.css", headers={"If-None-Match": known})
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
    assert server.client.get("/static/docs.css", headers={"If-None-Match": '"other"'}).status_code == 200
    head = server.client.head("/static/docs.css")
    assert (head.status_code, head.content, head.headers["Content-Length"]) == (200, b"", str(len(first.content)))


# --- hostile clients --------------------------------------------------------------------------------------------------


def test_a_page_that_made_its_name_point_here_is_refused(server: InProcess) -> None:
    for path in ("/", f"{API}/status", "/openapi.json"):
        problem(server.client.get(path, headers={"Host": "evil.example"}), 403, "forbidden")


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.example"}, {"Origin": "null"},
                                     {"Sec-Fetch-Site": "cross-site"}])  # fmt: skip
def test_a_page_of_another_site_changes_nothing(server: InProcess, headers: dict[str, str]) -> None:
    task_id = server.submit("wait")["id"]
    problem(server.client.post(f"{API}/tasks/{task_id}/cancel", headers=headers), 403, "forbidden")
    assert server.task(task_id)["state"] in ("queued", "running")
    own = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    assert server.client.post(f"{API}/tasks/{task_id}/cancel", headers=own).status_code == 200


def test_more_headers_than_any_client_has_are_refused(server: InProcess) -> None:
    many = {f"X-{number}": "1" for number in range(MOST_HEADERS)}
    problem(server.client.get(f"{API}/status", headers=many), 400, "invalid_request")


def test_a_head_that_is_too_long_is_refused(server: InProcess) -> None:
    answer = server.client.get(f"{API}/status", headers={"X-Long": "x" * (MOST_HEADER_BYTES + 1)})
    problem(answer, 400, "invalid_request")


def test_a_head_without_end_is_not_kept(server: InProcess) -> None:
    try:
        answer = raw(server, b"GET / HTTP/1.1\r\nX-Long: " + b"x" * 300_000)
    except ConnectionError:
        return  # it closed on what it did not read, and that took the answer along
    assert answer.startswith(b"HTTP/1.1 400 ")


def raw(server: InProcess, *parts: bytes) -> bytes:
    """What the server answers to bytes, up to the end of the connection, which must come."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    with closing(socket.create_connection((host, int(port)), timeout=30)) as connection:
        for part in parts:
            connection.sendall(part)
        answer = b""
        while more := connection.recv(65_536):
            answer += more
    return answer


def head(server: InProcess, *headers: str) -> bytes:
    lines = [f"POST {API}/tasks HTTP/1.1", f"Host: {server.url.removeprefix('http://')}",
             "Content-Type: application/json", *headers]  # fmt: skip
    return "\r\n".join([*lines, "", ""]).encode()


def test_a_body_that_announces_too_much_is_refused_before_it_is_sent(server: InProcess) -> None:
    answer = raw(server, head(server, f"Content-Length: {intake.MOST_BODY_BYTES + 1}"))
    assert answer.startswith(b"HTTP/1.1 413 ") and b'"input_too_large"' in answer


def test_a_body_that_grows_too_large_is_refused_on_the_way(server: InProcess) -> None:
    chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
    answer = raw(server, head(server, "Transfer-Encoding: chunked"), *[chunk] * (intake.MOST_BODY_BYTES // 0x10000 + 1))
    assert answer.startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("in_chunks", [True, False])
def test_a_form_where_no_song_is_taken_is_held_to_the_limit_too(server: InProcess, in_chunks: bool) -> None:
    form = b" " * (3 * intake.MOST_BODY_BYTES)
    headers = {"Content-Type": "multipart/form-data; boundary=frontier"}
    answer = server.client.post(f"{API}/session", content=iter([form]) if in_chunks else form, headers=headers)
    problem(answer, 413, "input_too_large")
    assert answer.headers["Connection"] == "close"


def test_a_body_that_does_not_come_is_refused_in_time(server: InProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake.Intake.__init__, "__kwdefaults__", {"body_seconds": 0.05})
    answer = raw(server, head(server, "Content-Length: 100"), b"{")
    assert answer.startswith(b"HTTP/1.1 408 ") and b'"too_slow"' in answer


@pytest.mark.parametrize("begun", [b"", b"GET /api/v1/status HTTP/1.1\r\nHost: x"])
def test_a_client_that_never_finishes_its_head_is_let_go(
    server: InProcess, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    assert raw(server, begun) == b""


def test_a_second_head_that_is_not_finished_is_not_waited_for_either(
    server: InProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.5)
    host = f"Host: {server.url.removeprefix('http://')}"
    answer = raw(server, f"GET {API}/health/live HTTP/1.1\r\n{host}\r\n\r\nGET {API}/health".encode())
    assert answer.startswith(b"HTTP/1.1 200 ") and answer.endswith(b'{"status":"alive"}')
