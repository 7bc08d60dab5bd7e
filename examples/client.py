"""Send songs to a running server, wait, fetch the stems: python examples/client.py SONG… [OUT]"""

from pathlib import Path

from arguments import songs_and_out

from demucs_server_worker import TaskFailed
from demucs_server_worker.client import Client


def main(songs: list[Path], out: Path) -> None:
    with Client() as client:  # DEMUCS_WORKER_URL, or the server on this machine
        tasks = [client.submit(song, format="flac", project_name="My Project") for song in songs]
        for task in tasks:
            try:
                done = client.wait(task.id)
            except TaskFailed as failure:
                print(f"{task.input_name}: {failure.error.message}")
                continue
            for path in client.download(done, out / Path(task.input_name).stem):
                print(f"{task.input_name}: {path}")


if __name__ == "__main__":
    main(*songs_and_out(__doc__))
