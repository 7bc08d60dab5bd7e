"""The API's description as a page for people. Pure: it needs no script and nothing from elsewhere."""

from __future__ import annotations

from html import escape
from typing import Any


def docs_page(description: dict[str, Any]) -> str:
    """Args: description: OpenAPI. Returns: HTML."""
    title = escape(description["info"]["title"])
    return f"<!doctype html><html lang=en><title>{title}</title>"
