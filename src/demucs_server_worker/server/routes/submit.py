"""New tasks."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from demucs_server_worker.server.allowances import below_a_root, check_model
from demucs_server_worker.server.bodies import body_of, location_of
from demucs_server_worker.server.services import Given
from demucs_server_worker.task import TaskRequest
from demucs_server_worker.wire.submission import Submission
from demucs_server_worker.wire.task import TaskBody

router = APIRouter(tags=["tasks"])


@router.post("/tasks", summary="Have a song separated", status_code=202)
async def submit(submission: Submission, services: Given, request: Request, response: Response) -> TaskBody:
    """A song that lies on the server, below a folder that it allows."""
    settings = services.settings
    given = submission.given()
    request.state.named_paths = (submission.input_path, submission.output_dir)
    check_model(given.setdefault("model", settings.model), settings)
    for name in ("input_path", "output_dir"):
        given[name] = below_a_root(name, given[name], settings)
    task, _ = await services.manager.submit(TaskRequest.parse(given))
    response.headers.update(location_of(task))
    return body_of(services, task)
