"""From the fields of a form, which are all text, to the values that a submission in JSON has. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from demucs_server_worker.errors import InvalidOption
from demucs_server_worker.wire.submission import TaskForm

# May be given several times, or once with commas between.
_LISTS = frozenset({"stems"})
# May be JSON; a webhook may be its URL alone.
_OBJECTS = frozenset({"webhook"})
# A JSON object of further fields, for clients that keep the options together.
_OPTIONS = "options"


def task_form(fields: Mapping[str, Sequence[str]]) -> TaskForm:
    """What goes with an uploaded song.

    Args:
        fields: texts by names in camelCase or snake_case; an empty one counts as not given, as browsers send it.

    Raises:
        InvalidOption: a name, a value, or one that is given twice.
        pydantic.ValidationError: of a field whose type does not fit.
    """
    values: dict[str, Any] = {}
    for name, texts in fields.items():
        given = [text for text in texts if text]
        if not given:
            continue
        if name == _OPTIONS:
            values.update(_object(name, _only(name, given)))
        else:
            values[name] = _value(name, given)
    return TaskForm.model_validate(values, strict=False)


def _value(name: str, texts: Sequence[str]) -> Any:
    if name in _LISTS:
        return [part.strip() for text in texts for part in text.split(",") if part.strip()]
    text = _only(name, texts)
    if name in _OBJECTS:
        return _object(name, text) if text.lstrip().startswith("{") else {"url": text}
    return text


def _only(name: str, texts: Sequence[str]) -> str:
    if len(texts) > 1:
        raise InvalidOption(option=name, value=", ".join(texts)[:100], allowed="it can be given once")
    return texts[0]


def _object(name: str, text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise InvalidOption(option=name, value=text[:100], allowed="a JSON object is needed")
    return value
