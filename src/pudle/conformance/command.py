"""`pudle check`: check estimators that specs name."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape
from rich.table import Table

from .. import conformance, names
from ..errors import InvalidArgument, MissingDependency
from ..terminal import output, progress_bar
from ..validation import check_positive
from ..workers import Outcome, Pool, keep

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
STATUSES = ("passed", "refused", "failed")
#: Columns whose cells are never broken into several lines.
UNBROKEN = {*STATUSES, "worst", "number", "limit", "check", "status"}


@click.command("check")
@click.argument("targets", nargs=-1, required=True, metavar="SPEC...")
@click.option(
    "--timeout",
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Time that one check may take on one problem.",
)
@click.option(
    "--all",
    "everything",
    is_flag=True,
    help="Print every check on every problem, including those that passed.",
)
def check_command(targets: tuple[str, ...], timeout: float, everything: bool) -> None:
    """Check that an estimator does what it claims.

    Its gradients are compared with gradients that are computed without any estimator. Its code runs
    in a process of its own, with your permissions: check only files you trust. A check that ends
    the process or takes too long has failed. The exit code is 0 if every check passed or was
    refused with a reason, 1 if one failed, and 2 if the estimator cannot be made.

    \b
    Examples:
      pudle check 'truncated(window=10)'
      pudle check 'my_estimators.py:Mine(window=3)'
    """
    from .checks import everything_refused

    check_positive("timeout", timeout)
    results: dict[str, list[Record]] = {}
    with progress_bar(transient=True) as progress, Pool(1) as pool:
        # Every target is made before the first is checked, so that wrong usage is told at once.
        for target, (title, steps) in [(each, _planned(pool, each, timeout)) for each in targets]:
            task = progress.add_task(title, total=len(steps))
            if progress.disable:
                click.echo(f"checking {title}", err=True)
            records = results[title] = []
            for record in _carried_out(pool, target, steps, timeout):
                shown = f"{title}: {record.check}"[:60]
                progress.update(task, advance=1, description=escape(shown))
                records.append(record)
            records += everything_refused(records)
    console = output(PIPE_WIDTH)
    for title, records in results.items():
        print_result(console, title, records, everything)
    if any(record.status == "failed" for records in results.values() for record in records):
        click.get_current_context().exit(FAILED)


@functools.cache
def _make(target: str) -> GradientEstimator:
    return names.make_estimator(target)


#: The name of a check, and the index of one of its specimens.
Step = tuple[str, int]


def _plan(target: str) -> tuple[str, list[Step]]:
    """Return the spec of the estimator and the steps that check it.

    A worker makes the estimator: its module may do anything when it is imported.
    """
    estimator = _make(target)
    sizes = {name: len(each.specimens(estimator)) for name, each in conformance.CHECKS.items()}
    return names.text(estimator), [(name, i) for name, size in sizes.items() for i in range(size)]


def _check(target: str, name: str, index: int) -> Record:
    """Carry out one step in a worker, and keep first what to say if it does not come to its end."""
    check, estimator = conformance.CHECKS[name], _make(target)
    specimen = check.specimens(estimator)[index]
    keep(check.record(specimen, "failed"))
    return check(estimator, specimen)


def _run(pool: Pool, timeout: float, function: Callable[..., Any], *arguments: Any) -> Outcome:
    outcome = pool.call(timeout, function, *arguments)
    if outcome.status == "skipped":
        raise MissingDependency(outcome.reason)
    return outcome


def _planned(pool: Pool, target: str, timeout: float) -> tuple[str, list[Step]]:
    """Return what `_plan` does, or raise the error that ended it as one about the target."""
    outcome = _run(pool, timeout, _plan, target)
    if outcome.status != "ok":
        about = "" if target in outcome.reason else f"{target} cannot be made: "
        raise InvalidArgument(about + outcome.reason)
    return outcome.result


def _carried_out(pool: Pool, target: str, steps: list[Step], timeout: float) -> Iterator[Record]:
    """Yield the record of each step, up to one that does not come to its end: what hangs or ends
    the process once would most likely do so again.
    """
    for name, index in steps:
        outcome = _run(pool, timeout, _check, target, name, index)
        if outcome.status != "ok":
            place = [*outcome.parts, conformance.Record(name, "", "", "", "failed")][0]
            reason = f"{outcome.reason}; the checks after this one were not run"
            yield dataclasses.replace(place, reason=reason)
            return
        yield outcome.result


def _table(title: str, columns: list[str], rows: list[list[Any]]) -> Table:
    """Return a table of texts, counts and numbers; zero counts are left out."""
    table = Table(title=escape(title), title_justify="left")
    for column in columns:
        table.add_column(escape(column), no_wrap=column in UNBROKEN, overflow="fold")
    for row in rows:
        cells = [f"{each:.3g}" if isinstance(each, float) else str(each or "") for each in row]
        table.add_row(*map(escape, cells))
    return table


def print_result(console: Console, title: str, records: list[Record], everything: bool) -> None:
    """Print what one estimator's checks gave: a line for each check, then the failures and
    refusals.
    """

    def worth(record: Record) -> tuple[Any, ...]:
        return record.number is not None, record.status == "failed", record.number or 0.0

    rows: list[list[Any]] = []
    for name, check in conformance.CHECKS.items():
        if mine := [record for record in records if record.check == name]:
            worst, counts = max(mine, key=worth), Counter(record.status for record in mine)
            numbers = [counts[status] for status in STATUSES]
            rows.append([name, *numbers, worst.number, worst.limit, check.description])
    columns = ["check", *STATUSES, "worst", "limit", "what is checked"]
    console.print(_table(title, columns, rows))
    distances: dict[tuple[Any, ...], float] = {
        (*_place(record), target, depth): error
        for record in records
        for target, depth, error in record.distances
    }
    if distances:
        depths = sorted({depth for *_, depth in distances})
        rows = [
            [*place, *(f"{distances[*place, depth]:.2g}" for depth in depths)]
            for place in dict.fromkeys(key[:-1] for key in distances)
        ]
        columns = ["problem", "loss", "algorithm", "from the gradient"]
        columns += [f"at depth {depth}" for depth in depths]
        console.print(_table("Relative distance, which the claim leaves open", columns, rows))
    printed = records if everything else _shortened(records)
    columns = [field.name for field in dataclasses.fields(conformance.Record)][:-1]
    printed = sorted(printed, key=lambda record: -STATUSES.index(record.status))
    if printed:
        rows = [[getattr(record, column) for column in columns] for record in printed]
        console.print(_table("Details", columns, rows))
    counts = Counter(record.status for record in records)
    left_out = counts["failed"] + counts["refused"] - len(printed)
    if left_out > 0:
        console.print(f"{left_out} more like these are printed with --all", highlight=False)
    verdict = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    console.print(f"{escape(title)}: {verdict}", highlight=False)


def _place(record: Record) -> tuple[str, ...]:
    return record.problem, record.loss, record.algorithm


def _shortened(records: list[Record]) -> list[Record]:
    """Keep the first few failures of each check, and one refusal of each kind."""
    kept, seen = [], Counter[str]()
    for record in records:
        refused = record.status == "refused"
        kind = record.reason if refused else record.check
        seen[kind] += 1
        if record.status != "passed" and seen[kind] <= (1 if refused else FEW):
            kept.append(record)
    return kept
