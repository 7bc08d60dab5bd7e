"""The one-line call for scripts, with no server and no asyncio: python examples/separate_script.py SONG… [OUT]"""

from arguments import songs_and_out

from demucs_server_worker import separate

if __name__ == "__main__":
    songs, out = songs_and_out(__doc__)
    for task in separate(songs, out, two_stems="vocals", format="mp3"):
        if task.error is not None:
            print(f"{task.request.input_name}: {task.error.message}")
        for stem in task.stems:
            print(stem.path)
