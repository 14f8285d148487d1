"""`pudle check` checks estimators that specs name."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar, TypeVarTuple

import click
from rich.markup import escape

from .. import conformance, names
from ..errors import InvalidArgument, MissingDependency
from ..measuring import checked
from ..terminal import POSITIVE, echo, progress_bar
from ..text import count
from ..workers import START, Pool, limit_memory
from .records import Record, everything_refused, in_common

if TYPE_CHECKING:
    # The program prints what a worker found, and waits for no torch.
    from ..estimator import GradientEstimator

Arguments = TypeVarTuple("Arguments")
T = TypeVar("T")
#: Exit code for a failed check; 2 is wrong usage.
FAILED = 1
#: Failures of one check that are printed: they mostly have one cause.
FEW = 4
#: Processor time of a step of backprop, and how many times as long a method takes that runs a pass
#: for every entry of theta.
SECONDS, SLOWEST = 0.05, 4
#: What may stand between the words of an expression.
OPERATORS = "and", "or", "not"


class Plan(NamedTuple):
    """An estimator's spec and the key of what was found, what the checks ask, and their steps: what
    to say if one does not come to its end, and the index of its subject.
    """

    title: str
    key: str
    descriptions: dict[str, str]
    steps: list[tuple[Record, int]]


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
def check_command(
    targets: tuple[str, ...],
    quick: bool,
    expression: str,
    last_failed: bool,
    timeout: float,
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
    with Pool(1) as pool:
        # Every target is made before the first is checked, so that wrong usage is told at once.
        plans = {
            target: _call(pool, max(timeout, START), _plan, target, quick) for target in targets
        }
        failed = False
        for target, (title, key, descriptions, every) in plans.items():
            steps = [step for step in every if matches(expression, step[0].title)]
            if not steps:
                raise InvalidArgument(f"-k {expression!r} matches none of {len(every)} checks")
            spec = names.placed(target, Path.absolute)
            known = checked.failures().get(spec, [])
            again = [step for step in steps if last_failed and step[0].title in known]
            records = _carry_out(pool, timeout, target, title, again or steps, quick)
            # Some checks alone say nothing good about the estimator, and few problems little.
            bad = any(each.status == "failed" for each in records)
            own = [checked.QUICKLY * (quick and not bad) + key]
            own *= bad or len(records) >= len(every)
            _remember([spec, *own], records)
            print_result(title, descriptions, records)
            failed |= bad
    if failed:
        click.get_current_context().exit(FAILED)


def matches(expression: str, text: str) -> bool:
    """Return whether an expression of words, and, or, not and parentheses holds for a text; an
    empty one does.
    """

    def told(found: re.Match[str]) -> str:
        word = found[0].lower()
        return word if word in OPERATORS else str(word in text.lower())

    try:
        # Nothing is left but True, False, the operators and parentheses.
        return bool(eval(re.sub(r"[^\s()]+", told, expression) or "True", {"__builtins__": {}}))
    except (SyntaxError, TypeError):
        wrong = "join words by and, or, not and parentheses, as in 'claim and not ridge'"
        raise InvalidArgument(f"-k {expression!r}: {wrong}") from None


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


def _carry_out(
    pool: Pool,
    timeout: float,
    target: str,
    title: str,
    steps: list[tuple[Record, int]],
    quick: bool,
) -> list[Record]:
    """Carry out steps, and show how far they are."""
    records: list[Record] = []
    least = max(SECONDS * len(steps), 1.0)
    times = f"about {least:.0f} s, {SLOWEST} times that with a pass for every entry of theta"
    echo(f"checking {title}: {count(len(steps), 'step')}, {times}", err=True)
    with progress_bar(transient=True) as progress:
        task = progress.add_task(title, total=len(steps))
        for unfinished, number in steps:
            try:
                records.append(
                    _call(pool, timeout, _check, target, unfinished.check, number, quick)
                )
            except InvalidArgument as ended:
                # What hangs or ends the process once would most likely do so again.
                reason = f"{ended}; the checks after this one were not run"
                return [*records, unfinished._replace(reason=reason)]
            shown = f"{title}: {unfinished.check}"[:60]
            progress.update(task, advance=1, description=escape(shown))
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


@functools.cache
def _make(target: str) -> GradientEstimator:
    """Return the estimator that a target names, in a process of limited memory."""
    limit_memory()
    return names.make_estimator(target)


def _plan(target: str, quick: bool) -> Plan:
    """Return what is to be checked; a target that names nothing is refused before the checks are
    imported, which takes longer.
    """
    estimator = _make(target)
    key, every = checked.key_of(estimator), conformance.CHECKS.values()
    steps = [
        (check.record(subject), index)
        for check in every
        for index, subject in enumerate(check.subjects(estimator, quick=quick))
    ]
    return Plan(names.text(estimator), key, {each.name: each.description for each in every}, steps)


def _check(target: str, name: str, index: int, quick: bool) -> Record:
    """Carry out one step."""
    check = conformance.CHECKS[name]
    record: Record = check(check.subjects(_make(target), quick=quick)[index])
    return record


def print_result(title: str, descriptions: dict[str, str], records: list[Record]) -> None:
    """Print what one estimator's checks gave: a line for each check, then the failures and
    refusals.
    """
    lines, alike = [title], dict[str, list[Record]]()
    for name, description in descriptions.items():
        if own := [record for record in records if record.check == name]:
            worst = max(own, key=lambda record: (record.status == "failed", record.measured or ()))
            lines.append(f"{name}: {_verdict(own)}{_numbers(worst)}: {description}")
    for record in records:
        lines += [
            f"{record.specimen}, depth {depth}: relative distance {error:.2g} from the {target}"
            " gradient"
            for target, depth, error in record.distances
        ]
        # One line stands for all errors from one line of code, and for all refusals in one way.
        once = record.place or record.reason * (record.status == "refused")
        if record.status != "passed":
            alike.setdefault(once or record.check, []).append(record)
    for once, every in alike.items():
        few = every[: FEW if once == every[0].check else 1]
        more = f" ({len(every) - len(few)} more like it)" * (len(every) > len(few))
        lines += [f"{each.status}: {each.title}{_numbers(each)}: {each.reason}" for each in few]
        lines[-1] += more
    if common := in_common(records):
        lines.append(f"all draws that failed have in common: {', '.join(common)}")
    echo("\n".join([*lines, f"{title}: {_verdict(records)}"]))


def _verdict(records: list[Record]) -> str:
    statuses = [record.status for record in records]
    order = ("passed", "refused", "failed")
    return ", ".join(f"{statuses.count(each)} {each}" for each in order if each in statuses)


def _numbers(record: Record) -> str:
    return " ({:.3g}, limit {:.3g})".format(*record.measured) if record.measured else ""
