"""`pudle check`: check estimators that specs name."""

from __future__ import annotations

import dataclasses
import functools
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import click
from rich.markup import escape
from rich.table import Table

from .. import conformance, names
from ..errors import InvalidArgument, MissingDependency
from ..terminal import output, progress_bar
from ..validation import check_positive
from ..workers import Job, Pool, keep

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
NUMBERS = {*STATUSES, "worst", "number", "limit"}
#: Columns whose cells are never broken into several lines.
UNBROKEN = NUMBERS | {"check", "status"}


@click.command("check")
@click.argument("targets", nargs=-1, required=True, metavar="SPEC...")
@click.option(
    "--timeout",
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Time that one check may take.",
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
        titles = [_described(pool, target, timeout) for target in targets]
        for target, title in zip(targets, titles, strict=True):
            task = progress.add_task(title, total=len(conformance.CHECKS))
            if progress.disable:
                click.echo(f"checking {title}", err=True)
            results[title] = []
            for name in conformance.CHECKS:
                progress.update(task, advance=1, description=escape(f"{title}: {name}"[:60]))
                records, finished = _carry_out(pool, name, target, timeout)
                results[title] += records
                if not finished:
                    # What hangs or ends the process once would most likely do so in every check
                    # that is left.
                    break
            results[title] += everything_refused(results[title])
    console = output(PIPE_WIDTH)
    for title, records in results.items():
        print_result(console, title, records, everything)
    if len(results) > 1:
        console.print(_grid(results))
    if any(record.status == "failed" for records in results.values() for record in records):
        click.get_current_context().exit(FAILED)


@functools.cache
def _make(target: str) -> GradientEstimator:
    return names.make_estimator(target)


def _describe(target: str) -> str:
    """Return the spec of the estimator, made in a worker: its module may do anything when it is
    imported.
    """
    return names.text(_make(target))


def _check(name: str, target: str) -> None:
    """Run one check in a worker, and keep the specimen before each step and the record after it."""
    check, estimator = conformance.CHECKS[name], _make(target)
    for specimen in check.specimens(estimator):
        keep(specimen)
        keep(check(estimator, specimen))


def _described(pool: Pool, target: str, timeout: float) -> Any:
    """Return the spec of an estimator, or raise the error that ended its making as one about it."""
    ((_, outcome),) = pool.run([Job(_describe, (target,), timeout)])
    if outcome.status == "skipped":
        raise MissingDependency(outcome.reason)
    if outcome.status != "ok":
        raise InvalidArgument(
            outcome.reason
            if target in outcome.reason
            else f"{target} cannot be made: {outcome.reason}"
        )
    return outcome.result


def _carry_out(pool: Pool, name: str, target: str, timeout: float) -> tuple[list[Record], bool]:
    """Return the records of one check, the last a failure if the check did not come to its end, and
    whether it did.
    """
    ((_, outcome),) = pool.run([Job(_check, (name, target), timeout)])
    records = [part for part in outcome.parts if isinstance(part, conformance.Record)]
    if outcome.status == "ok":
        return records, True
    if outcome.status == "skipped":
        raise MissingDependency(outcome.reason)
    last = outcome.parts[-1] if outcome.parts else None
    where = (
        ("", "", "")
        if last is None or last in records
        else (last.problem, last.loss, last.algorithm)
    )
    return [
        *records,
        conformance.Record(
            name,
            *where,
            "failed",
            reason=f"{outcome.reason}; the checks after this one were not run",
        ),
    ], False


def _numbers(record: Record) -> list[str]:
    return ["" if value is None else f"{value:.3g}" for value in (record.number, record.limit)]


def _table(title: str, *columns: str) -> Table:
    table = Table(title=escape(title), title_justify="left")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in NUMBERS else "left"
        table.add_column(
            escape(column), justify=justify, no_wrap=column in UNBROKEN, overflow="fold"
        )
    return table


def print_result(console: Console, title: str, records: list[Record], everything: bool) -> None:
    """Print what one estimator's checks gave: a line for each check, then the failures and
    refusals.
    """
    table = _table(title, "check", *STATUSES, "worst", "limit", "what is checked")
    for name, check in conformance.CHECKS.items():
        mine = [record for record in records if record.check == name]
        if not mine:
            continue
        counts = Counter(record.status for record in mine)
        worst = max(
            mine,
            key=lambda record: (
                record.number is not None,
                record.status == "failed",
                record.number or 0.0,
            ),
        )
        cells = [
            *(str(counts[status] or "") for status in STATUSES),
            *_numbers(worst),
            escape(check.description),
        ]
        table.add_row(name, *cells, style="red" if counts["failed"] else None)
    console.print(table)
    if any(record.distances for record in records):
        console.print(_distances(records))
    printed = records if everything else _shortened(records)
    columns = [
        field.name for field in dataclasses.fields(conformance.Record) if field.name != "distances"
    ]
    table = _table("Details", *columns)
    for record in sorted(printed, key=lambda record: STATUSES.index(record.status), reverse=True):
        where = (record.check, record.problem, record.loss, record.algorithm, record.status)
        table.add_row(*where, *_numbers(record), escape(record.reason))
    if printed:
        console.print(table)
    counts = Counter(record.status for record in records)
    left_out = counts["failed"] + counts["refused"] - len(printed)
    if left_out > 0:
        console.print(f"{left_out} more like these are printed with --all", highlight=False)
    verdict = ", ".join(f"{counts[status]} {status}" for status in STATUSES if counts[status])
    console.print(f"{escape(title)}: {verdict}", highlight=False)


def _distances(records: list[Record]) -> Table:
    """Return how far an approximation is from what it may stand for, by problem and depth."""
    rows: dict[tuple[str, ...], dict[int, float]] = {}
    for record in records:
        for target, depth, error in record.distances:
            rows.setdefault((record.problem, record.loss, record.algorithm, target), {})[depth] = (
                error
            )
    depths = sorted({depth for row in rows.values() for depth in row})
    columns = (
        "problem",
        "loss",
        "algorithm",
        "from the gradient",
        *(f"at depth {depth}" for depth in depths),
    )
    table = _table("Relative distance, which the claim leaves open", *columns)
    for where, row in rows.items():
        table.add_row(*where, *(f"{row[depth]:.2g}" if depth in row else "" for depth in depths))
    return table


def _shortened(records: list[Record]) -> list[Record]:
    """Keep the first few failures of each check, and one refusal of each kind."""
    kept, seen = [], Counter[tuple[str, ...]]()
    for record in records:
        refused = record.status == "refused"
        kind = (
            (record.status, record.problem, record.reason)
            if refused
            else (record.status, record.check)
        )
        seen[kind] += 1
        if record.status != "passed" and seen[kind] <= (1 if refused else FEW):
            kept.append(record)
    return kept


def _grid(results: dict[str, list[Record]]) -> Table:
    """Return the worst status of any check, for each problem, loss and algorithm and for each
    estimator.
    """
    table = _table("All checks by problem", "problem", "loss", "algorithm", *results)
    for specimen in conformance.GRID:
        where = dataclasses.astuple(specimen)
        statuses = (
            [
                record.status
                for record in records
                if (record.problem, record.loss, record.algorithm) == where
            ]
            for records in results.values()
        )
        table.add_row(*where, *(max(found, key=STATUSES.index, default="") for found in statuses))
    return table
