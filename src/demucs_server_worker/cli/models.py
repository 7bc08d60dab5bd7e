"""`models`: which models there are, which of them are on this machine, and fetching one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from demucs_server_worker.cli.exits import DONE

if TYPE_CHECKING:
    from demucs_server_worker.separation.catalogue import ModelInfo

EPILOG = """\
[bold]Examples[/bold]

[cyan]demucs-server-worker models --download htdemucs_ft[/cyan]

[cyan]demucs-server-worker models --repo my-models --json[/cyan]
"""


def models(
    repo: Annotated[
        Path | None,
        typer.Option(
            exists=True, file_okay=False, help="List the models of this folder instead of those that Demucs publishes."
        ),
    ] = None,
    download: Annotated[
        str | None, typer.Option(metavar="NAME", help="Fetch this model, so that it works without a network.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings as TOML, below those of the environment.")
    ] = None,
) -> int:
    """List the models, and fetch one."""
    from demucs_server_worker.separation import catalogue
    from demucs_server_worker.settings import load_settings

    if download is not None:
        return _download(download, as_json)
    found = catalogue.list_models(repo or load_settings(config).model_repo)
    if as_json:
        from demucs_server_worker.wire.model import model_body

        for model in found:
            _print_object(model_body(model).model_dump(mode="json"))
    elif sys.stdout.isatty():
        _print_table(found)
    else:
        for model in found:
            sys.stdout.write("\t".join(_cells(model)) + "\n")
    return DONE


def _download(name: str, as_json: bool) -> int:
    from demucs_server_worker.cli import local, words

    paths = local.download(name, quiet=as_json)
    if as_json:
        _print_object({"name": name, "onDisk": True, "paths": [str(path) for path in paths]})
        return DONE
    total = words.size(sum(path.stat().st_size for path in paths))
    sys.stdout.write(f"{words.printable(name)} is on this machine: {words.files(len(paths))}, {total}\n")
    return DONE


def _print_object(fields: dict[str, Any]) -> None:
    from demucs_server_worker.cli.json_report import write_line

    write_line(sys.stdout, fields)


def _cells(model: ModelInfo) -> tuple[str, ...]:
    from demucs_server_worker.cli.words import printable, size

    stems = ", ".join(model.stems) if model.stems is not None else "–"
    where = "yes" if model.on_disk else "no"
    return tuple(map(printable, (model.name, where, str(model.members), size(model.bytes), stems, model.note)))


def _print_table(found: list[ModelInfo]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for title in ("model", "on disk", "networks", "size", "stems", "note"):
        table.add_column(title, justify="right" if title in ("networks", "size") else "left")
    for model in found:
        name, where, *rest = _cells(model)
        table.add_row(name, Text(where, "green" if model.on_disk else "dim"), *map(Text, rest))
    Console(highlight=False).print(table)
