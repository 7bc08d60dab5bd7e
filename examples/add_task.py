"""Add songs as tasks, and wait for their stems: python examples/add_task.py SONG… [OUT]"""

import asyncio
from pathlib import Path

from arguments import songs_and_out

from demucs_server_worker import TaskFailed, WorkerManager


async def main(songs: list[Path], out: Path) -> None:
    async with WorkerManager(max_workers=2) as manager:
        tasks = [
            await manager.add_task(
                file_id=f"example-{song}",  # your own id: adding it twice gives the task that exists
                input_path=song,
                output_dir=out,
                project_name="My Project",
                format="flac",
            )
            for song in songs
        ]
        for task in tasks:
            try:
                done = await manager.wait(task.id)
            except TaskFailed as failure:
                print(f"{task.request.input_name}: {failure.error.message}")
            else:
                for stem in done.stems:
                    print(f"{task.request.input_name}: {stem.name} is {stem.path}")


if __name__ == "__main__":
    asyncio.run(main(*songs_and_out(__doc__)))
