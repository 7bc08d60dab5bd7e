"""The API's description as a page for people. Pure: it needs no script and nothing from elsewhere."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

Description = Mapping[str, Any]

_METHODS = ("get", "post", "put", "patch", "delete")


def docs_page(description: Description) -> str:
    """Args: description: OpenAPI. Returns: a page of HTML."""
    title = escape(description["info"]["title"])
    intro = "".join(f"<p>{_text(part)}</p>" for part in description["info"]["description"].strip().split("\n\n"))
    parts = [
        '<!doctype html><html lang="en"><head><meta charset="utf-8">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f'<title>{title}: HTTP API</title><link rel="stylesheet" href="/static/docs.css"></head><body>',
        f"<header><h1>{title} {escape(description['info']['version'])}: HTTP API</h1>{intro}",
        '<p>For programs: <a href="/openapi.json">openapi.json</a>. <a href="/">To the web page</a>.</p></header>',
        f'<nav aria-label="Routes"><ul>{"".join(_link(each) for each in _operations(description))}</ul></nav><main>',
        *(_section(description, each) for each in _operations(description)),
        f"<section><h2>Shapes</h2>{''.join(_schemas(description))}</section>",
        "</main></body></html>",
    ]
    return "".join(parts)


def _operations(description: Description) -> Iterator[tuple[str, str, Description]]:
    for path, item in description["paths"].items():
        for method in _METHODS:
            if method in item:
                yield method.upper(), path, item[method]


def _anchor(operation: Description) -> str:
    return escape(operation["operationId"], quote=True)


def _link(each: tuple[str, str, Description]) -> str:
    method, path, operation = each
    return (
        f'<li><a href="#{_anchor(operation)}"><code><b>{method}</b> {escape(path)}</code></a> '
        f"{_text(operation['summary'])}</li>"
    )


def _section(description: Description, each: tuple[str, str, Description]) -> str:
    method, path, operation = each
    parts = [
        f'<section id="{_anchor(operation)}"><h2><code><b>{method}</b> {escape(path)}</code></h2>',
        f"<p>{_text(operation['summary'])}. {_text(operation.get('description', ''))}</p>",
        _parameters(operation),
        *(_body(kind, media) for kind, media in operation.get("requestBody", {}).get("content", {}).items()),
        "<h3>Answers</h3><dl>",
        *(_answer(status, response) for status, response in operation["responses"].items()),
        "</dl></section>",
    ]
    return "".join(parts)


def _parameters(operation: Description) -> str:
    rows = [
        (f"{each['name']} ({each['in']})", each["schema"], each.get("required", False), each.get("description", ""))
        for each in operation.get("parameters", [])
    ]
    return f"<h3>Parameters</h3>{_table(rows)}" if rows else ""


def _body(kind: str, media: Description) -> str:
    return f"<h3>Body: <code>{escape(kind)}</code></h3><p>{_type(media.get('schema', {}))}</p>"


def _answer(status: str, response: Description) -> str:
    contents = "".join(
        f"<dd><code>{escape(kind)}</code> {_type(media.get('schema', {}))}{_codes(media)}</dd>"
        for kind, media in response.get("content", {}).items()
    )
    return f"<dt><b>{escape(status)}</b> {_text(response['description'])}</dt>{contents}"


def _codes(media: Description) -> str:
    codes = media.get("examples", {})
    return ": " + ", ".join(f"<code>{escape(code)}</code>" for code in codes) if codes else ""


def _schemas(description: Description) -> Iterator[str]:
    for name, schema in sorted(description["components"]["schemas"].items()):
        yield f'<h3 id="{escape(name, quote=True)}">{escape(name)}</h3><p>{_text(schema.get("description", ""))}</p>'
        required = schema.get("required", [])
        rows = [
            (field, each, field in required, each.get("description", ""))
            for field, each in schema.get("properties", {}).items()
        ]
        yield _table(rows) if rows else f"<p>{_type(schema)}</p>"
        for example in schema.get("examples", [])[:1]:
            yield f"<pre><code>{escape(json.dumps(example, indent=2, ensure_ascii=False))}</code></pre>"


def _table(rows: list[tuple[str, Description, bool, str]]) -> str:
    lines = "".join(
        f"<tr><td><code>{escape(name)}</code>{'' if required else ' <i>optional</i>'}</td>"
        f"<td>{_type(schema)}</td><td>{_text(text)}</td></tr>"
        for name, schema, required, text in rows
    )
    return f"<table><thead><tr><th>name<th>type<th>meaning</thead><tbody>{lines}</tbody></table>"


def _type(schema: Description) -> str:
    """What a value may be, in a few words."""
    if "$ref" in schema:
        name = escape(schema["$ref"].rpartition("/")[2], quote=True)
        return f'<a href="#{name}">{name}</a>'
    for several in ("anyOf", "oneOf"):
        if several in schema:
            return " or ".join(_type(each) for each in schema[several])
    if "enum" in schema:
        return " | ".join(f"<code>{escape(str(value))}</code>" for value in schema["enum"])
    if "const" in schema:
        return f"<code>{escape(str(schema['const']))}</code>"
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return escape(" ".join([str(schema.get("type", "anything")), *_limits(schema)]))


def _limits(schema: Description) -> list[str]:
    names = {"minimum": "from", "maximum": "to", "maxLength": "at most", "format": "as"}
    return [f"{word} {schema[name]}" for name, word in names.items() if name in schema]


def _text(text: str) -> str:
    """A sentence with its `code` marked."""
    parts = escape(text.strip().removesuffix(".") if text.count(".") == 1 and text.endswith(".") else text).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))
