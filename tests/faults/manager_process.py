"""A manager in a process of its own, to be killed: works off its data folder and says what happens, a line an event."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from demucs_server_worker.events import EventKind
from tests.managers import add, manager


async def main(folder: Path, scripts: list[str]) -> None:
    m = manager(folder, workers=2, shutdown_grace=0)
    events = m.events()
    await m.start()
    for worker in m.get_status()["workers"]:
        print("worker", worker["pid"], flush=True)
    for script in scripts:
        await add(m, folder, script)
    async for event in events:
        if event.kind is EventKind.WORKER_STARTED:
            for worker in m.get_status()["workers"]:
                print("worker", worker["pid"], flush=True)
        if event.task is not None and event.kind is not EventKind.PROGRESS:
            print(event.kind.value, event.task.request.input_name, event.task.attempt, flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:]))
