"""Fields of a form, all text, become what a submission in JSON would say."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from demucs_server_worker.errors import InvalidOption
from demucs_server_worker.server.form_fields import task_form


def test_texts_become_values_of_their_types_under_either_spelling() -> None:
    form = task_form(
        {
            "fileId": ["a1"], "project_name": ["P"], "stems": ["vocals, drums", "bass"], "bitrate": ["192"],
            "split": ["false"], "overlap": ["0.5"], "bitDepth": ["24"], "sample_rate": ["48000"], "priority": ["high"],
        }
    )  # fmt: skip
    assert form.given() == {
        "file_id": "a1", "project_name": "P", "stems": ["vocals", "drums", "bass"], "bitrate": 192, "split": False,
        "overlap": 0.5, "bit_depth": "24", "sample_rate": 48_000, "priority": "high",
    }  # fmt: skip


def test_an_empty_field_counts_as_not_given() -> None:
    assert task_form({"projectName": [""], "segment": ["", ""], "format": ["", "flac"]}).given() == {"format": "flac"}


def test_options_may_come_as_one_object_of_json() -> None:
    form = task_form({"options": ['{"format": "mp3", "bitrate": 128, "stems": ["vocals"]}'], "shifts": ["1"]})
    assert form.given() == {"format": "mp3", "bitrate": 128, "stems": ["vocals"], "shifts": 1}


@pytest.mark.parametrize("text", ['{"url": "https://a.example/x"}', "https://a.example/x"])
def test_a_webhook_is_a_url_or_an_object(text: str) -> None:
    webhook = task_form({"webhook": [text]}).webhook
    assert webhook is not None
    assert webhook.url == "https://a.example/x"


@pytest.mark.parametrize(
    ("fields", "option"),
    [
        ({"shifts": ["1", "2"]}, "shifts"),
        ({"options": ["[1]"]}, "options"),
        ({"options": ["{"]}, "options"),
        ({"options": ["[" * 100_000]}, "options"),
        ({"webhook": ["{no json"]}, "webhook"),
    ],
)
def test_what_is_said_twice_or_no_object_is_refused_by_its_name(fields: dict[str, list[str]], option: str) -> None:
    with pytest.raises(InvalidOption, match=f"^{option}="):
        task_form(fields)


@pytest.mark.parametrize(
    "fields", [{"bitrate": ["loud"]}, {"nonsense": ["1"]}, {"format": ["xyz"]}, {"inputPath": ["/etc/passwd"]}]
)
def test_unknown_names_and_wrong_types_are_refused(fields: dict[str, list[str]]) -> None:
    with pytest.raises(ValidationError):
        task_form(fields)
