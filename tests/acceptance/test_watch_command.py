"""`serve --watch IN --output OUT`, as a user starts it: songs that are put into a folder come out as stems."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.command import files_below, result_files, song
from tests.servers import Server


def test_songs_that_are_put_into_the_folder_come_out_as_stems(tmp_path: Path) -> None:
    watched, out = tmp_path / "in", tmp_path / "out"
    first = song(watched / "first.wav")
    (watched / "notes.mp3").write_text("words")
    flags = ("--watch", str(watched), "--output", str(out), "--watch-options", "format=flac", "--port", "0")
    with Server(tmp_path / "data", *flags) as server:
        assert server.log("not taken")["code"] == "unsupported_format"
        (tmp_path / "Album").mkdir()
        shutil.copy(first, tmp_path / "Album" / "second.wav")
        shutil.move(tmp_path / "Album", watched)
        for _ in range(2):
            server.log("completed")
        assert files_below(out) == result_files("Album/second", "first", ext="flac")
        server.tell()
        server.log("stopped")
        assert server.ended() == 0
    assert files_below(watched) == ["Album/second.wav", "first.wav", "notes.mp3"]
