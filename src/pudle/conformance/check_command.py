"""`pudle check` checks estimators that specs name."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from .. import conformance, names
from ..errors import InvalidArgument, MissingDependency
from ..terminal import echo, progress_bar
from ..validation import check_positive
from ..workers import Outcome, Pool, limit_memory

if TYPE_CHECKING:
    from .checks import Record

#: Exit code for a failed check; 2 is wrong usage.
FAILED = 1
#: Failures of one check that are printed without --all: they mostly have one cause.
FEW = 4


@click.command("check")
@click.argument("targets", nargs=-1, required=True, metavar="SPEC...")
@click.option(
    "--timeout",
    default=300.0,
    show_default=True,
    metavar="SECONDS",
    help="Time that one estimate may take.",
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

        def run(limit: float, function: Callable[..., Any], *arguments: Any) -> Outcome:
            outcome = pool.call(limit, function, *arguments)
            if outcome.status == "skipped":
                raise MissingDependency(outcome.reason)
            return outcome

        # Every target is made before the first is checked, so that wrong usage is told at once; a
        # process that has to start has two minutes at least.
        plans = [(target, run(max(timeout, 120.0), _plan, target)) for target in targets]
        for target, plan in plans:
            if plan.status != "ok":
                about = "" if target in plan.reason else f"{target} cannot be made: "
                raise InvalidArgument(about + plan.reason)
        for target, plan in plans:
            title, steps = plan.result
            task = progress.add_task(title, total=len(steps))
            if progress.disable:
                echo(f"checking {title}", err=True)
            records = results[title] = []
            for unfinished, index in steps:
                outcome = run(timeout, _check, target, unfinished.check, index)
                shown = f"{title}: {unfinished.check}"[:60]
                progress.update(task, advance=1, description=escape(shown))
                if outcome.status != "ok":
                    # What hangs or ends the process once would most likely do so again.
                    reason = f"{outcome.reason}; the checks after this one were not run"
                    records.append(unfinished._replace(reason=reason))
                    break
                records.append(outcome.result)
            records += everything_refused(records)
    failed = [print_result(title, records, everything) for title, records in results.items()]
    if any(failed):
        click.get_current_context().exit(FAILED)


_make = functools.cache(names.make_estimator)


def _plan(target: str) -> tuple[str, list[tuple[Record, int]]]:
    """Return the spec of the estimator, and the steps: what to say if one does not come to its end,
    and the index of the subject.

    A worker makes the estimator: its module may do anything when it is imported.
    """
    limit_memory()
    estimator = _make(target)
    steps = [
        (check.record(subject, "failed"), index)
        for check in conformance.CHECKS.values()
        for index, subject in enumerate(check.subjects(estimator))
    ]
    return names.text(estimator), steps


def _check(target: str, name: str, index: int) -> Record:
    """Carry out one step in a worker."""
    check = conformance.CHECKS[name]
    return check(check.subjects(_make(target))[index])


def print_result(title: str, records: list[Record], everything: bool) -> bool:
    """Print what one estimator's checks gave: a line for each check, then the failures and
    refusals. Return whether there are failures.
    """
    import pandas

    frame = pandas.DataFrame(records).astype({"number": float, "limit": float})
    frame["failed"] = frame.status == "failed"
    failed, refused = frame[frame.failed], frame[frame.status == "refused"]
    # A failure is worse than any number below its limit.
    worst = frame.sort_values(["failed", "number"], na_position="first")
    worst = worst.drop_duplicates("check", keep="last").set_index("check")
    table = pandas.crosstab(frame.check, frame.status).join(worst[["number", "limit"]])
    table["what is checked"] = [conformance.CHECKS[name].description for name in table.index]
    table = table.loc[frame.check.unique()].set_index("what is checked", append=True)
    lines = [title, table.to_string(na_rep="", float_format="{:.3g}".format)]
    distances = {
        (record.problem, record.loss, record.algorithm, target, f"at depth {depth}"): error
        for record in records
        for target, depth, error in record.distances
    }
    if distances:
        apart = pandas.Series(distances).unstack(sort=False)
        lines += ["Relative distance, which the claim leaves open, from the gradient"]
        lines += [apart.to_string(float_format="{:.2g}".format)]
    # One line stands for all errors from one line of code.
    cause = failed.place.where(failed.place != "", failed.check)
    alike = failed.groupby(cause).check
    few = failed[alike.cumcount() <= (FEW - 1) * (failed.place == "")]
    shown = frame if everything else pandas.concat([refused.drop_duplicates("reason"), few])
    for row in shown.itertuples():
        place = f", {row.problem} / {row.loss} / {row.algorithm}" if row.problem else ""
        if row.place and not everything:
            place += f" ({alike.transform('size')[row.Index]} alike)"
        measured = [f"{each:.3g}" for each in (row.number, row.limit) if pandas.notna(each)]
        numbers = f" ({', limit '.join(measured)})" if measured else ""
        lines.append(f"{row.status}: {row.check}{place}{numbers}: {row.reason}")
    if (left_out := len(failed) + len(refused) - len(shown)) > 0:
        lines.append(f"{left_out} more like these are printed with --all")
    totals, order = frame.status.value_counts(), ("passed", "refused", "failed")
    verdict = ", ".join(f"{totals[status]} {status}" for status in order if status in totals)
    echo("\n".join([*lines, f"{title}: {verdict}"]))
    return len(failed) > 0
