"""What the web page is made of: words in every language, nothing inline, no markup made from text, types that fit."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

import demucs_server_worker
from demucs_server_worker.errors import RequestError, WorkerFailure
from demucs_server_worker.server.pages import TYPES

STATIC = Path(demucs_server_worker.__file__).parent / "server" / "static"
ROOT = Path(__file__).resolve().parents[2]
MODULES = sorted((STATIC / "js").rglob("*.js"))
LANGUAGES = {path.stem: json.loads(path.read_text("utf-8")) for path in sorted((STATIC / "i18n").glob("*.json"))}
# Plural forms by the rules of the languages (Unicode CLDR, cardinals).
FORMS = {"en": {"one", "other"}, "he": {"one", "two", "other"}}
# Their words are chosen by what the server says: `t(`state.${task.state}`)`.
CHOSEN = (
    "connection", "error", "filter", "format", "priority", "stage", "state", "stem", "stems", "task", "theme", "worker",
)  # fmt: skip


def placeholders(sentence: str) -> set[str]:
    return set(re.findall(r"\{(\w+)\}", sentence))


def sources() -> str:
    return "\n".join([(STATIC / "index.html").read_text("utf-8"), *(path.read_text("utf-8") for path in MODULES)])


def test_every_language_has_every_string() -> None:
    assert set(LANGUAGES) == set(FORMS)
    for language, words in LANGUAGES.items():
        assert list(words) == list(LANGUAGES["en"]), language


@pytest.mark.parametrize("language", sorted(FORMS))
def test_every_string_says_as_much_as_the_english_one(language: str) -> None:
    for key, english in LANGUAGES["en"].items():
        words = LANGUAGES[language][key]
        assert isinstance(words, dict) == isinstance(english, dict), key
        if isinstance(words, dict):
            assert set(words) == FORMS[language], key
            assert placeholders(words["other"]) == placeholders(english["other"]), key
        else:
            assert placeholders(words) == placeholders(english), key
            assert bool(words) == bool(english), key


def test_every_string_is_used_and_every_used_one_is_there() -> None:
    text = sources()
    used = set(re.findall(r'"([a-z]+(?:\.[a-zA-Z_]+)?)"', text)) & set(LANGUAGES["en"])
    unused = {key for key in set(LANGUAGES["en"]) - used if key.partition(".")[0] not in CHOSEN}
    assert unused == set()
    named = set(re.findall(r'(?:\bt|say|label)\((?:[\w.#]+, )?"([^"]+)"', text))
    named |= set(re.findall(r'data-t(?:-label)?="([^"]+)"', text))
    assert len(named) > 50
    assert named - set(LANGUAGES["en"]) == set()


def test_every_error_that_a_request_or_a_worker_ends_with_has_words() -> None:
    codes = {error.code for base in (RequestError, WorkerFailure) for error in base.__subclasses__()}
    assert {code for code in codes if f"error.{code}" not in LANGUAGES["he"]} == set()


def test_nothing_is_inline_and_nothing_comes_from_elsewhere() -> None:
    page = (STATIC / "index.html").read_text("utf-8")
    assert re.findall(r"<style|\sstyle=|\son[a-z]+=|javascript:", page) == []
    assert [tag for tag in re.findall(r"<script[^>]*>", page) if "src=" not in tag] == []
    for path in STATIC.rglob("*"):
        if path.is_file():
            addresses = re.findall(r"https?://[^\s\"')]+", path.read_text("utf-8"))
            assert [each for each in addresses if not each.startswith("http://www.w3.org/")] == [], path


def test_text_is_never_read_as_markup_or_code() -> None:
    markup = r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|DOMParser|createContextualFragment"
    assert re.findall(rf"{markup}|\beval\(|new Function", sources()) == []


def test_the_server_knows_the_type_of_every_file() -> None:
    assert [path for path in STATIC.rglob("*") if path.is_file() and path.suffix not in TYPES] == []


def test_modules_are_small_and_import_what_is_there() -> None:
    for path in MODULES:
        text = path.read_text("utf-8")
        assert text.startswith("// "), f"{path.name} does not say what it is"
        assert text.count("\n") <= 300, path.name
        for name in re.findall(r'from "(\.[^"]+)"', text):
            assert (path.parent / name).resolve().is_file(), f"{path.name} imports {name}"


def test_every_picture_is_in_the_sprite() -> None:
    sprite = set(re.findall(r'<symbol id="([^"]+)"', (STATIC / "icons.svg").read_text("utf-8")))
    text = sources()
    named = set(re.findall(r'icon\("([a-z]+)"\)', text)) | set(re.findall(r"icons\.svg#([a-z]+)", text))
    assert len(named) > 10
    assert named - sprite == set()
    assert {"queued", "running", "completed", "failed", "cancelled", "auto", "light", "dark"} <= sprite


def test_the_types_fit() -> None:
    compiler = next(filter(None, [shutil.which("tsc"), *map(str, ROOT.glob("node_modules/.bin/tsc"))]), None)
    if compiler is None:
        pytest.skip("there is no TypeScript compiler on this machine (npm install --global typescript)")
    checked = subprocess.run([compiler, "--project", str(ROOT / "tests" / "page")], capture_output=True, text=True)
    assert checked.stdout + checked.stderr == ""
    assert checked.returncode == 0
