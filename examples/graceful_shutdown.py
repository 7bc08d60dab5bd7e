"""Stop on Ctrl-C or SIGTERM and lose nothing: python examples/graceful_shutdown.py SONG… [OUT]

Running songs get ten seconds to finish. Run it again: it goes on with what was left in the queue.
"""

import asyncio
import signal
from pathlib import Path

from arguments import songs_and_out

from demucs_server_worker import WorkerManager

GRACE_SECONDS = 10.0


async def main(songs: list[Path], out: Path) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)

    manager = WorkerManager()
    await manager.start()
    for song in songs:
        await manager.add_task(file_id=str(song.absolute()), input_path=song, output_dir=out)
    print("working; Ctrl-C stops", flush=True)
    await stop.wait()

    queue = manager.get_status()["queue"]
    print(f"stopping: {queue['running']} running, {queue['queued']} stay queued", flush=True)
    await manager.shutdown(GRACE_SECONDS)
    print("stopped")


if __name__ == "__main__":
    asyncio.run(main(*songs_and_out(__doc__)))
