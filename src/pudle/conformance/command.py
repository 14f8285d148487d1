"""`pudle check`: an estimator, named by a spec or written in a file, held to what it claims."""

from __future__ import annotations

import importlib.util
import inspect
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.markup import escape
from rich.table import Table

from .. import registry, specs
from ..errors import InvalidArgument
from ..terminal import output, progress_bar

if TYPE_CHECKING:
    from rich.console import Console

    from ..estimator import GradientEstimator
    from .checks import Record

#: Exit code for a failed check; 2 is wrong usage.
FAILED = 1
#: Characters of a line written to a pipe: no table here is wider, so that no line is cut.
PIPE_WIDTH = 400
#: Failures of one check that are printed without --all: they mostly have one cause.
FEW = 4


@click.command("check")
@click.argument("targets", nargs=-1, required=True, metavar="SPEC|FILE.py...")
@click.option("--arguments", default="", metavar="TEXT", help="Arguments for the estimator in a file, e.g. 'window=3'.")
@click.option("--all", "everything", is_flag=True, help="Print every check on every problem, the passed ones too.")
def check_command(targets: tuple[str, ...], arguments: str, everything: bool) -> None:
    """Check what an estimator claims, against truth it had no part in.

    A file holds one subclass of pudle.GradientEstimator. It is run with your rights: check only files you trust. Exits
    with 0 if every check passed or was refused with a reason, 1 if one failed.

    \b
    Examples:
      pudle check 'truncated(window=10)'
      pudle check my_estimator.py --arguments 'window=3'
    """
    if arguments and not any(target.endswith(".py") for target in targets):
        raise InvalidArgument("--arguments is for a FILE.py: write a spec's arguments in the spec, as truncated(window=10)")
    estimators = [
        estimator_in(Path(target), arguments) if target.endswith(".py") else registry.make_estimator(target)
        for target in targets
    ]
    # Imports torch: what was wrong with the arguments has been said by now.
    from . import checks as conformance

    results = {}
    with progress_bar(transient=True) as progress:
        for estimator in estimators:
            title = specs.text(estimator) if hasattr(estimator, "name") else type(estimator).__name__
            task = progress.add_task(title)

            def show(what: str, done: int, total: int, task=task, title=title) -> None:
                progress.update(task, completed=done, total=total, description=escape(f"{title}: {what}"[:60]))

            if progress.disable:
                click.echo(f"checking {title}", err=True)
            results[title] = conformance.check(estimator, show)
    console = output(PIPE_WIDTH)
    for title, records in results.items():
        _print(console, title, records, everything)
    if len(results) > 1:
        _print_grid(console, results)
    if any(record.status == "failed" for records in results.values() for record in records):
        click.get_current_context().exit(FAILED)


def estimator_in(path: Path, arguments: str = "") -> GradientEstimator:
    """Make the one estimator that a file holds.

    Raises
    ------
    InvalidArgument
        If the file is missing, cannot be imported, or does not hold exactly one concrete `GradientEstimator` subclass.
    SpecError
        If the arguments are malformed or do not fit.
    """
    from ..estimator import GradientEstimator

    if not path.is_file():
        raise InvalidArgument(f"{path}: there is no such file; give a .py file or a spec such as truncated(window=10)")
    # A name no other module has; dataclasses look their module up by it.
    name = f"pudle_checked_{path.stem}_{abs(hash(path.resolve()))}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:  # whatever the file raises is the file's fault, and said in one line
        sys.modules.pop(name, None)
        raise InvalidArgument(f"{path} cannot be imported{_line(error, path)}: {_one_line(error)}") from error
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, GradientEstimator)
        and value.__module__ == name
        and not inspect.isabstract(value)
    ]
    if len(classes) != 1:
        found = ", ".join(cls.__name__ for cls in classes) or "none"
        raise InvalidArgument(f"{path} holds {len(classes)} GradientEstimator subclasses ({found}): leave exactly one")
    (cls,) = classes
    return specs.build(f"{cls.__name__}({arguments})", {cls.__name__: cls}, "estimator")


def _one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split()) or 'without a word'}"


def _line(error: BaseException, path: Path) -> str:
    """Say in which line of the file the error arose."""
    if isinstance(error, SyntaxError):
        return f" (line {error.lineno})"
    line, trace = None, error.__traceback__
    while trace is not None:
        if Path(trace.tb_frame.f_code.co_filename).resolve() == path.resolve():
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" (line {line})" if line else ""


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3g}"


def _print(console: Console, title: str, records: list[Record], everything: bool) -> None:
    from .checks import CHECKS

    table = Table(title=escape(title), title_justify="left")
    table.add_column("check", no_wrap=True)
    for column in ("passed", "refused", "failed", "worst", "limit"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("what is checked", overflow="fold")
    for name in CHECKS:
        mine = [record for record in records if record.check == name]
        if not mine:
            continue
        counts = Counter(record.status for record in mine)
        measured = [record for record in mine if record.number is not None]
        worst = max(measured, key=lambda record: (record.status == "failed", record.number or 0.0), default=None)
        table.add_row(
            name,
            *(str(counts[status] or "") for status in ("passed", "refused", "failed")),
            _number(worst.number if worst else None),
            _number(worst.limit if worst else None),
            escape(CHECKS[name].description),
            style="red" if counts["failed"] else None,
        )
    console.print(table)
    shown = records if everything else _shortened(records)
    for status, heading in (("failed", "Failed"), ("refused", "Refused, with a reason"), ("passed", "Passed")):
        if everything or status != "passed":
            _print_records(console, heading, [record for record in shown if record.status == status])
    left_out = sum(record.status != "passed" for record in records) - sum(record.status != "passed" for record in shown)
    if left_out > 0:
        console.print(f"and {left_out} more of the same: see --all", highlight=False)
    counts = Counter(record.status for record in records)
    verdict = ", ".join(f"{counts[status]} {status}" for status in ("passed", "refused", "failed") if counts[status])
    console.print(f"{escape(title)}: {verdict}", highlight=False)


def _shortened(records: list[Record]) -> list[Record]:
    """Keep the first few of each check's failures, and one refusal of each kind."""
    kept, seen = [], Counter[tuple[str, ...]]()
    for record in records:
        refused = record.status == "refused"
        kind = (record.status, record.problem if refused else record.check, record.reason if refused else "")
        seen[kind] += 1
        if seen[kind] <= (1 if refused else FEW):
            kept.append(record)
    return kept


def _print_records(console: Console, title: str, records: list[Record]) -> None:
    if not records:
        return
    table = Table(title=title, title_justify="left")
    table.add_column("check", no_wrap=True)
    for column in ("problem", "loss", "algorithm"):
        table.add_column(column, overflow="fold")
    for column in ("number", "limit"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("why", overflow="fold")
    for record in records:
        where = (record.problem, record.loss, record.algorithm)
        numbers = _number(record.number), _number(record.limit)
        table.add_row(record.check, *where, *numbers, escape(record.reason))
    console.print(table)


def _print_grid(console: Console, results: dict[str, list[Record]]) -> None:
    """Print estimators against problems, losses and algorithms: the worst that any check found there."""
    from .checks import GRID

    table = Table(title="All checks by problem", title_justify="left")
    for column in ("problem", "loss", "algorithm"):
        table.add_column(column, no_wrap=True)
    for title in results:
        table.add_column(escape(title), overflow="fold")
    for setting in GRID:
        cells = []
        for records in results.values():
            here = (setting.problem, setting.loss, setting.algorithm)
            statuses = {record.status for record in records if (record.problem, record.loss, record.algorithm) == here}
            cells.append(max(statuses, key=("passed", "refused", "failed").index, default=""))
        table.add_row(setting.problem, setting.loss, setting.algorithm, *cells)
    console.print(table)
