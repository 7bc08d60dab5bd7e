"""Print what queue and workers do, every two seconds: python examples/monitoring.py SONG… [OUT]"""

import asyncio
from pathlib import Path

from arguments import songs_and_out

import demucs_server_worker as worker_manager

EVERY_SECONDS = 2.0


def show(status: dict) -> None:
    queue, totals = status["queue"], status["totals"]
    print(f"{queue['queued']} queued, {queue['running']} running, {totals['completed']} completed")
    for worker in status["workers"]:
        memory = (worker["rss_bytes"] or 0) / 1e6
        print(f"  {worker['id']}: {worker['state']}, {worker['progress']:.0%}, {memory:.0f} MB")
    for problem in status["health"]["problems"]:
        print(f"  ! {problem}")


async def watch() -> None:
    while True:
        show(worker_manager.get_status())
        await asyncio.sleep(EVERY_SECONDS)


async def main(songs: list[Path], out: Path) -> None:
    tasks = [await worker_manager.add_task(input_path=song, output_dir=out) for song in songs]
    watching = asyncio.create_task(watch())
    await asyncio.gather(*(worker_manager.wait(task.id) for task in tasks), return_exceptions=True)
    watching.cancel()
    show(worker_manager.get_status())
    await worker_manager.shutdown()


if __name__ == "__main__":
    asyncio.run(main(*songs_and_out(__doc__)))
