"""The last song is urgent, and overtakes those that wait: python examples/high_priority.py SONG… [OUT]"""

import asyncio
from pathlib import Path

from arguments import songs_and_out

from demucs_server_worker import WorkerManager


async def main(songs: list[Path], out: Path) -> None:
    async with WorkerManager(max_workers=1) as manager:
        events = manager.events()
        for song in songs[:-1]:
            await manager.add_task(input_path=song, output_dir=out, priority="low")
        await manager.add_task(input_path=songs[-1], output_dir=out, priority="high")

        done = 0
        async for event in events:
            if event.kind == "started":
                print(f"started {event.task.request.input_name} ({event.task.request.priority})")
            if event.kind in ("completed", "failed"):
                done += 1
                print(f"{event.kind} {event.task.request.input_name}")
            if done == len(songs):
                break


if __name__ == "__main__":
    asyncio.run(main(*songs_and_out(__doc__)))
