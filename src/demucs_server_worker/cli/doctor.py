"""`doctor`: looks at what the three troubles come from, and says the mend for each."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from demucs_server_worker.cli.exits import DONE, SOME_FAILED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from demucs_server_worker.doctor.check import Check

EPILOG = """\
[bold]Examples[/bold]

What only takes a second: [cyan]demucs-server-worker doctor --quick[/cyan]

The settings of the service: [cyan]demucs-server-worker doctor --config /etc/demucs-server-worker.toml[/cyan]

Exit codes: 0 all is well, or only warned of; 1 something failed.
"""


def doctor(
    data_dir: Annotated[
        Path | None, typer.Option(help="Data folder of the server. DEMUCS_WORKER_DATA_DIR or the user's by default.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Settings as TOML, below those of the environment.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Neither load torch nor try a worker.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> int:
    """Check what keeps workers from starting, makes them crash, or makes them slow; with the mend for each."""
    from demucs_server_worker.doctor.check import Verdict
    from demucs_server_worker.doctor.examination import examine
    from demucs_server_worker.logs import configure_logging

    # The trial runs a worker: what it says is told by the check.
    configure_logging("error")
    checks = _shown(examine(config, quick=quick, data_dir=data_dir), as_json)
    return SOME_FAILED if any(check.verdict is Verdict.FAILED for check in checks) else DONE


def _shown(checks: Iterable[Check], as_json: bool) -> list[Check]:
    """Print each check when it is known."""
    shown: list[Check] = []
    for check in checks:
        if as_json:
            _print_object(check)
        else:
            _print_line(check, is_new_group=not shown or shown[-1].trouble is not check.trouble)
        shown.append(check)
    if not as_json:
        sys.stdout.write("\n" + _summary(shown) + "\n")
    return shown


def _print_object(check: Check) -> None:
    from demucs_server_worker.cli.json_report import write_line

    write_line(sys.stdout, {
        "trouble": check.trouble.value, "check": check.name, "verdict": check.verdict.value, "found": check.found,
        "mend": check.mend or None,
    })  # fmt: skip


def _print_line(check: Check, *, is_new_group: bool) -> None:
    from demucs_server_worker.cli.words import printable

    if is_new_group:
        sys.stdout.write(f"\n{check.trouble.value[0].upper()}{check.trouble.value[1:]}?\n")
    sys.stdout.write(f"  {_mark(check)} {check.name}: {printable(check.found)}\n")
    if check.mend:
        sys.stdout.write(f"      → {printable(check.mend)}\n")
    sys.stdout.flush()


def _mark(check: Check) -> str:
    from demucs_server_worker.doctor.check import Verdict

    mark, color = {Verdict.OK: ("✓", 32), Verdict.WARNING: ("!", 33), Verdict.FAILED: ("✗", 31)}[check.verdict]
    return f"\x1b[{color}m{mark}\x1b[0m" if sys.stdout.isatty() else mark


def _summary(checks: list[Check]) -> str:
    from demucs_server_worker.doctor.check import Verdict

    failed = sum(check.verdict is Verdict.FAILED for check in checks)
    warned = sum(check.verdict is Verdict.WARNING for check in checks)
    if not failed and not warned:
        return "All is well."
    return f"{failed} failed, {warned} to think about."
