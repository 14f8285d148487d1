"""`pudle check` checks estimators that specs name."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, TypeVar, TypeVarTuple

import click
from rich.markup import escape

from .. import conformance, names
from ..errors import InvalidArgument, MissingDependency
from ..measuring import checked
from ..terminal import POSITIVE, echo, progress_bar
from ..text import count
from ..workers import Pool, limit_memory
from .records import Record, everything_refused

Arguments = TypeVarTuple("Arguments")
T = TypeVar("T")
#: Exit code for a failed check; 2 is wrong usage.
FAILED = 1
#: Failures of one check that are printed without --all: they mostly have one cause.
FEW = 4
#: Seconds in which a process must have started and made an estimator.
START = 120.0
#: How many times as long as backprop a method takes that runs a pass for every entry of theta.
SLOWEST = 4


class Step(NamedTuple):
    """One check on one specimen: what to say if it does not come to its end, the index of the
    subject, what is checked, and the processor time that it typically takes.
    """

    unfinished: Record
    number: int
    description: str
    seconds: float


@click.command("check")
@click.argument("targets", nargs=-1, required=True, metavar="SPEC...")
@click.option("--quick", is_flag=True, help="Few problems: about ten seconds of processor time.")
@click.option(
    "-k",
    "expression",
    default="",
    metavar="EXPRESSION",
    help="Only checks that match, such as 'claim and not ridge', as in pytest: words of"
    " CHECK[PROBLEM-LOSS-ALGORITHM], with and, or, not and parentheses.",
)
@click.option(
    "--last-failed",
    "--lf",
    is_flag=True,
    help="Only checks that failed when they last ran; all if none did.",
)
@click.option(
    "--timeout",
    type=POSITIVE,
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
def check_command(
    targets: tuple[str, ...],
    quick: bool,
    expression: str,
    last_failed: bool,
    timeout: float,
    everything: bool,
) -> None:
    """Check that an estimator does what it claims, in two to five minutes, or seconds with --quick.

    Its gradients are compared with gradients that are computed without any estimator. Its code runs
    in a process of its own, with your permissions: check only files you trust. A check that ends
    the process or takes too long has failed. The exit code is 0 if every check passed or was
    refused with a reason, 1 if one failed, and 2 if the estimator cannot be made.

    \b
    Examples:
      pudle check 'truncated(window=10)'
      pudle check 'my_estimators.py:Mine(window=3)' --quick -k 'claim and not ridge'
    """
    matches = matcher(expression)
    with Pool(1) as pool:
        # Every target is made before the first is checked, so that wrong usage is told at once.
        titles = {target: _made(pool, target) for target in targets}
        failed = False
        for target, title in titles.items():
            plan = _call(pool, max(timeout, START), _plan, target, quick)
            steps = [step for step in plan if matches(step.unfinished.title)]
            if not steps:
                raise InvalidArgument(f"-k {expression!r} matches none of {len(plan)} checks")
            key = names.placed(target, Path.absolute)
            known = checked.failures().get(key, [])
            again = [step for step in steps if last_failed and step.unfinished.title in known]
            records = _carry_out(pool, timeout, target, title, again or steps, quick)
            # Some checks alone say nothing good about the estimator.
            whole = len(records) >= len(plan) or any(each.status == "failed" for each in records)
            own = [_call(pool, START, _key, target)] * whole
            _remember([key, *own], records)
            failed |= print_result(title, plan, records, everything)
    if failed:
        click.get_current_context().exit(FAILED)


def matcher(expression: str) -> Callable[[str], bool]:
    """Return what tells whether an expression of words, and, or, not and parentheses holds for a
    text.
    """
    words: list[str] = []

    def numbered(found: re.Match[str]) -> str:
        if (word := found[0].lower()) in ("and", "or", "not"):
            return word
        words.append(word)
        return f"_{len(words) - 1}"

    def holds(node: ast.expr, text: str) -> bool:
        match node:
            case ast.BoolOp(op, values):
                return (all if isinstance(op, ast.And) else any)(holds(v, text) for v in values)
            case ast.UnaryOp(ast.Not(), operand):
                return not holds(operand, text)
            case ast.Name(name):
                return words[int(name[1:])] in text.lower()
        raise InvalidArgument(f"-k {expression!r}: {wrong}")

    wrong = "join words by and, or, not and parentheses, as in 'claim and not ridge'"
    try:
        parsed = ast.parse(re.sub(r"[^\s()]+", numbered, expression) or "True", mode="eval").body
    except SyntaxError:
        raise InvalidArgument(f"-k {expression!r}: {wrong}") from None
    return lambda text: not words or holds(parsed, text)


def _call(
    pool: Pool, limit: float, function: Callable[[*Arguments], T], *arguments: *Arguments
) -> T:
    """Return the result of a call in a worker, which makes estimators: their modules may do
    anything when they are imported.
    """
    outcome = pool.call(limit, function, *arguments)
    if outcome.status == "skipped":
        raise MissingDependency(outcome.reason)
    if outcome.status != "ok":
        raise InvalidArgument(outcome.reason)
    return outcome.result


def _made(pool: Pool, target: str) -> str:
    """Return the spec of the estimator that a target names."""
    try:
        return _call(pool, START, _title, target)
    except InvalidArgument as error:
        about = "" if target in str(error) else f"{target} cannot be made: "
        raise InvalidArgument(f"{about}{error}") from error


def _carry_out(
    pool: Pool, timeout: float, target: str, title: str, steps: list[Step], quick: bool
) -> list[Record]:
    """Carry out steps, and show how far they are."""
    records: list[Record] = []
    least = max(sum(step.seconds for step in steps), 1.0)
    times = f"about {least:.0f} s, {SLOWEST} times that with a pass for every entry of theta"
    echo(f"checking {title}: {count(len(steps), 'step')}, {times}", err=True)
    with progress_bar(transient=True) as progress:
        task = progress.add_task(title, total=len(steps))
        for step in steps:
            unfinished = step.unfinished
            outcome = pool.call(timeout, _check, target, unfinished.check, step.number, quick)
            shown = f"{title}: {unfinished.check}"[:60]
            progress.update(task, advance=1, description=escape(shown))
            if outcome.status == "skipped":
                raise MissingDependency(outcome.reason)
            if outcome.status != "ok":
                # What hangs or ends the process once would most likely do so again.
                reason = f"{outcome.reason}; the checks after this one were not run"
                return [*records, unfinished._replace(reason=reason)]
            records.append(outcome.result)
    return records + everything_refused(records)


def _remember(keys: Iterable[str], records: list[Record]) -> None:
    """Keep, under each key, what failed now, and what failed before and did not run."""
    ran = {record.title for record in records}
    failed = [record.title for record in records if record.status == "failed"]
    known = checked.failures()
    checked.remember(
        {
            key: [*(title for title in known.get(key, []) if title not in ran), *failed]
            for key in keys
        }
    )


_make = functools.cache(names.make_estimator)


def _key(target: str) -> str:
    """Return the key of the estimator that a target names."""
    return checked.key_of(_make(target))


def _title(target: str) -> str:
    """Return the spec of the estimator that a target names, without the checks, which take longer
    to import.
    """
    limit_memory()
    return names.text(_make(target))


def _plan(target: str, quick: bool) -> list[Step]:
    """Return the steps of the checks."""
    return [
        Step(check.record(subject, "failed"), index, check.description, check.seconds)
        for check in conformance.CHECKS.values()
        for index, subject in enumerate(check.subjects(_make(target), quick=quick))
    ]


def _check(target: str, name: str, index: int, quick: bool) -> Record:
    """Carry out one step."""
    check = conformance.CHECKS[name]
    record: Record = check(check.subjects(_make(target), quick=quick)[index])
    return record


def print_result(title: str, plan: list[Step], records: list[Record], everything: bool) -> bool:
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
    descriptions = {step.unfinished.check: step.description for step in plan}
    table["what is checked"] = [descriptions[name] for name in table.index]
    table = table.loc[frame.check.unique()].set_index("what is checked", append=True)
    lines = [title, table.to_string(na_rep="", float_format="{:.3g}".format)]
    distances = {
        (*record[1:4], target, f"at depth {depth}"): error
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
    alike = alike.transform("size")
    lines += [
        _line(records[index], 0 if everything else alike.get(index, 0)) for index in shown.index
    ]
    if (left_out := len(failed) + len(refused) - len(shown)) > 0:
        lines.append(f"{left_out} more like these are printed with --all")
    totals, order = frame.status.value_counts(), ("passed", "refused", "failed")
    verdict = ", ".join(f"{totals[status]} {status}" for status in order if status in totals)
    echo("\n".join([*lines, f"{title}: {verdict}"]))
    return len(failed) > 0


def _line(record: Record, alike: int) -> str:
    """Return the line of a record, and of so many from the same line of code."""
    place = f", {record.problem} / {record.loss} / {record.algorithm}" if record.problem else ""
    if record.place and alike:
        place += f" ({alike} alike)"
    measured = [f"{each:.3g}" for each in (record.number, record.limit) if each is not None]
    numbers = f" ({', limit '.join(measured)})" if measured else ""
    return f"{record.status}: {record.check}{place}{numbers}: {record.reason}"
