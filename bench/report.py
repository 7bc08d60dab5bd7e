"""What every measurement writes down: its figures, beside the machine, the commit and the versions."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

import psutil
from rich.console import Console
from rich.table import Table

from bench.paths import RESULTS, ROOT

PACKAGES = ("demucs-server-worker", "demucs", "torch", "openvino", "numpy", "av", "soxr", "msgspec")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One figure.

    Attributes:
        what: in words, with its unit.
        ours: measured on this project.
        theirs: measured on what a user would run instead, in the same run.
        ratio: how many times better ours is.
        target: that `of` must reach.
        of: which of the figures the target is for.
        at: whether the target is the `least` or the `most` that the figure may be.
    """

    what: str
    ours: float | None = None
    theirs: float | None = None
    ratio: float | None = None
    target: float | None = None
    of: Literal["ours", "ratio"] = "ours"
    at: Literal["least", "most"] = "most"

    @property
    def verdict(self) -> str:
        """`met` or `missed`; empty where there is no target."""
        figure = self.ratio if self.of == "ratio" else self.ours
        if self.target is None or figure is None:
            return ""
        return "met" if (figure >= self.target if self.at == "least" else figure <= self.target) else "missed"


def quick() -> bool:
    """Whether only to show that the measurement works."""
    return os.environ.get("BENCH_QUICK", "") not in ("", "0")


def facts() -> dict[str, Any]:
    """The machine, the commit, the versions."""
    return {
        "when": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "quick": quick(),
        "processor": _processor(),
        "cores": psutil.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": platform.platform(),
        "python": platform.python_version(),
        "commit": _git("rev-parse", "--short", "HEAD"),
        "changed": bool(_git("status", "--porcelain", "--", "src")),
        "versions": {name: _version(name) for name in PACKAGES},
        "load": psutil.getloadavg()[0],
    }


def write(name: str, rows: list[Row], **more: Any) -> Path:
    """Print the rows as a table and write everything to bench/results/NAME.json."""
    show(name, rows)
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    kept = [{**asdict(row), "verdict": row.verdict} for row in rows]
    path.write_text(json.dumps({"facts": facts(), "rows": kept, **more}, indent=2) + "\n", encoding="utf-8")
    return path


def show(title: str, rows: list[Row]) -> None:
    """Print the rows as a table."""
    table = Table(title=f"{title} (quick: no figures to go by)" if quick() else title, title_justify="left")
    for column in ("what", "ours", "theirs", "ratio", "target", ""):
        table.add_column(column, justify="left" if column == "what" else "right")
    for row in rows:
        figures = (text(row.ours), text(row.theirs), text(row.ratio), _target(row))
        table.add_row(row.what, *figures, row.verdict)
    Console().print(table)


def read(name: str) -> dict[str, Any] | None:
    """What `write` wrote last; None where it never did."""
    path = RESULTS / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def rows_of(result: dict[str, Any]) -> list[Row]:
    """The rows of what `read` gave."""
    return [Row(**{name: value for name, value in row.items() if name != "verdict"}) for row in result["rows"]]


def text(value: float | None) -> str:
    """A figure with as many digits as mean something."""
    return "" if value is None else f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _target(row: Row) -> str:
    return "" if row.target is None else f"{'≥' if row.at == 'least' else '≤'} {text(row.target)}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def _git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False, cwd=ROOT)
    return done.stdout.strip()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "–"
