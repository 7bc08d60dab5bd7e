"""The same for asyncio, with progress: python examples/async_client.py SONG… [OUT]"""

import asyncio
from pathlib import Path

from arguments import songs_and_out

from demucs_server_worker.client import AsyncClient


async def separate(client: AsyncClient, song: Path, out: Path) -> None:
    task = await client.submit(song, two_stems="vocals", format="mp3")

    def show(event):
        print(f"{song.name}: {event.event} {event.task.progress:.0%}")

    done = await client.wait(task.id, on_event=show)
    for path in await client.download(done, out / song.stem):
        print(f"{song.name}: {path}")


async def main(songs: list[Path], out: Path) -> None:
    async with AsyncClient() as client:
        await asyncio.gather(*(separate(client, song, out) for song in songs))
        status = await client.status()
        print(f"{status.totals.completed} completed")


if __name__ == "__main__":
    asyncio.run(main(*songs_and_out(__doc__)))
