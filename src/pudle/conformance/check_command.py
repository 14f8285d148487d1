"""`pudle check` checks estimators that specs name."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple, TypeVar, TypeVarTuple

import click
from rich.markup import escape

from .. import conformance, names
from ..errors import InvalidArgument, MissingDependency
from ..measuring import check_results
from ..terminal import POSITIVE, echo, progress_bar
from ..text import count
from ..workers import BUILT_IN, START, Pool, limit_memory
from .records import (
    CheckRecord,
    consistent_losses,
    everything_refused,
    option_in_words,
    options_of_failures,
)

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


class CheckStep(NamedTuple):
    """One check on one subject: the record to show if it does not come to its end, and the index of
    the subject.
    """

    unfinished: CheckRecord
    subject_index: int


class CheckPlan(NamedTuple):
    """The checks of an estimator: its spec, the key under which failures are remembered, what each
    check asks, the steps, and what the checks leave open, if they leave much.
    """

    title: str
    key: str
    descriptions: dict[str, str]
    steps: list[CheckStep]
    remark: str = ""


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
    "--verbose",
    is_flag=True,
    help="List all distances of an approximation, and all failures and refusals.",
)
def check_command(
    targets: tuple[str, ...],
    quick: bool,
    expression: str,
    last_failed: bool,
    timeout: float,
    verbose: bool,
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
            target: _call(pool, max(timeout, START), target, _plan, quick) for target in targets
        }
        failed = False
        for target, plan in plans.items():
            steps = _select_steps(plan.steps, expression)
            spec = names.move_paths(target, Path.absolute)
            if last_failed:
                failed_before = check_results.failures().get(spec, [])
                steps = [step for step in steps if step.unfinished.title in failed_before] or steps
            records = _carry_out(pool, timeout, target, plan.title, steps, quick)
            target_failed = any(record.status == "failed" for record in records)
            keys = [spec]
            # Some checks alone say nothing good about the estimator, and few problems little.
            if target_failed:
                keys.append(plan.key)
            elif len(records) >= len(plan.steps):
                whole = plan.key, f"{check_results.CHECKED}{spec}"
                keys += [f"{check_results.QUICKLY}{plan.key}"] if quick else whole
            _remember(keys, records)
            print_result(plan.title, plan.descriptions, records, plan.remark, verbose)
            failed |= target_failed
    if failed:
        click.get_current_context().exit(FAILED)


def _select_steps(steps: list[CheckStep], expression: str) -> list[CheckStep]:
    """Return the steps whose title matches an expression, or raise InvalidArgument if none does."""
    matching = [step for step in steps if matches(expression, step.unfinished.title)]
    if not matching:
        raise InvalidArgument(f"-k {expression!r} matches none of {len(steps)} checks")
    return matching


def matches(expression: str, text: str) -> bool:
    """Tell whether an expression of words, and, or, not and parentheses holds for a text, whatever
    the case of letters; an empty one does.

    A word holds if the text contains it. Anything else than an expression is InvalidArgument.
    """

    def evaluate_word(match: re.Match[str]) -> str:
        word = match[0].lower()
        return word if word in OPERATORS else str(word in text.lower())

    # Nothing is left but True, False, the operators and parentheses.
    condition = re.sub(r"[^\s()]+", evaluate_word, expression) or "True"
    try:
        return bool(eval(condition, {"__builtins__": {}}))
    except (SyntaxError, TypeError):
        wrong = "join words by and, or, not and parentheses, as in 'claim and not ridge'"
        raise InvalidArgument(f"-k {expression!r}: {wrong}") from None


def _call(
    pool: Pool,
    limit: float,
    target: str,
    function: Callable[[str, *Arguments], T],
    *arguments: *Arguments,
) -> T:
    """Return the result of a call in the worker of a target, which makes its estimator: its module
    may do anything when it is imported.

    Raises
    ------
    MissingDependency
        If the estimator needs a library that is not installed.
    InvalidArgument
        If the call fails otherwise, ends its process, or takes too long.
    """
    built_in = names.is_built_in("estimators", target)
    owners = BUILT_IN if built_in else frozenset([target])
    outcome = pool.call_for(owners, limit, function, target, *arguments)
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
    steps: list[CheckStep],
    quick: bool,
) -> list[CheckRecord]:
    """Carry out steps in a worker, and show on stderr how far they are; return their records.

    A step that ends the process or takes too long is a failure, and the last record: the others are
    not run. Where the claim was refused on every problem, a failure that says so is added.
    """
    records: list[CheckRecord] = []
    least = max(SECONDS * len(steps), 1.0)
    times = (
        f"about {least:.0f} s of processor time if it is as fast as backprop, and {SLOWEST} times"
        " that if it runs a pass for every entry of theta, as forward does"
    )
    echo(f"checking {title}: {count(len(steps), 'step')}, {times}", err=True)
    with progress_bar(transient=True) as progress:
        task = progress.add_task(title, total=len(steps))
        for unfinished, number in steps:
            try:
                records.append(
                    _call(pool, timeout, target, _check, unfinished.check, number, quick)
                )
            except InvalidArgument as ended:
                # What hangs or ends the process once would most likely do so again.
                reason = f"{ended}; the checks after this one were not run"
                return [*records, unfinished._replace(reason=reason)]
            description = f"{title}: {unfinished.check}"[:60]
            progress.update(task, advance=1, description=escape(description))
    return records + everything_refused(records)


def _remember(keys: Iterable[str], records: list[CheckRecord]) -> None:
    """Write, under each key, what failed now, and what failed before and did not run, to the user's
    cache of check results.
    """
    ran = {record.title for record in records}
    failed = [record.title for record in records if record.status == "failed"]
    known = check_results.failures()
    check_results.remember(
        {
            key: [*(title for title in known.get(key, []) if title not in ran), *failed]
            for key in keys
        }
    )


@functools.cache
def _make(target: str) -> GradientEstimator:
    """Return the estimator that a target names, the same at each call, in this worker, whose memory
    is limited from now on; a user's file is run.
    """
    limit_memory()
    return names.make_estimator(target)


def _plan(target: str, quick: bool) -> CheckPlan:
    """Make the estimator of a target in this worker, and plan its checks, all subjects of each; one
    that names nothing is refused before checks are imported, which takes longer.
    """
    estimator = _make(target)
    checks = conformance.CHECKS.values()
    steps = [
        CheckStep(check.open_record(subject), index)
        for check in checks
        for index, subject in enumerate(check.subjects(estimator, quick=quick))
    ]
    descriptions = {check.name: check.description for check in checks}
    return CheckPlan(
        names.text(estimator),
        check_results.key_of(estimator),
        descriptions,
        steps,
        _remark(estimator),
    )


def _remark(estimator: GradientEstimator) -> str:
    """Say what was not tested of an approximation that names no gradient that it tends to; empty
    for any other estimator.
    """
    if getattr(estimator, "computes", "") != "approximate" or estimator.approaches:
        return ""
    return (
        "nothing beyond shape, dtype, determinism, the direct part and an angle below 90 degrees is"
        " tested of an approximation: say which gradient it tends to with which options, as in"
        ' approaches = {"implicit": {"terms": 1000}}'
    )


def _check(target: str, name: str, index: int, quick: bool) -> CheckRecord:
    """Carry out one check on the subject of an index, in this worker."""
    check = conformance.CHECKS[name]
    record: CheckRecord = check(check.subjects(_make(target), quick=quick)[index])
    return record


def print_result(
    title: str,
    descriptions: dict[str, str],
    records: list[CheckRecord],
    remark: str = "",
    verbose: bool = False,
) -> None:
    """Print the records of one estimator on stdout: failures first, then a line for each check, the
    distances of an approximation, what was refused, and the counts.
    """
    lines = [title, *_failure_lines(records, "failed", verbose)]
    lines += _hint_lines(records)
    for name, description in descriptions.items():
        records_of_check = [record for record in records if record.check == name]
        if records_of_check:
            worst = max(
                records_of_check,
                key=lambda record: (record.status == "failed", record.measured or ()),
            )
            counts = _count_statuses(records_of_check)
            lines.append(f"{name}: {counts}{_numbers(worst)}: {description}")
    lines += _distance_lines(records, verbose)
    if refusals := list(_failure_lines(records, "refused", verbose)):
        lines += ["What the estimator refuses with a reason is no failure:", *refusals]
    if remark:
        lines.append(remark)
    echo("\n".join([*lines, f"{title}: {_count_statuses(records)}"]))


def _hint_lines(records: list[CheckRecord]) -> Iterator[str]:
    """Yield lines that help with failures: which mistakes were compared where none fits, what all
    drawn problems that failed have in common, and which losses `consistent_for` may name.
    """
    compared = dict.fromkeys(mistake for record in records for mistake in record.compared)
    if compared:
        yield f"where no known mistake fits, these were compared: {'; '.join(compared)}"
    if options := options_of_failures(records):
        n_failed = len({record.drawn for record in records if record.status == "failed"})
        yield (
            f"the {n_failed} drawn problems that failed have in common, unlike most that passed:"
            f" {', '.join(map(option_in_words, options))}"
        )
    vanishing, remaining = consistent_losses(records)
    if remaining:
        names_of_losses = " ".join(f'"{loss}",' for loss in vanishing)
        yield (
            f"the error vanishes with depth for {', '.join(vanishing) or 'no loss'}, and not for"
            f" {', '.join(remaining)}: if that is all that the method can do, write"
            f" consistent_for = ({names_of_losses})"
        )


def _distance_lines(records: list[CheckRecord], verbose: bool) -> Iterator[str]:
    """Yield a line on the distances from each gradient at the deepest depth, with their median and
    the largest, or with `verbose` one on each distance.
    """
    if verbose:
        for record in records:
            for target, depth, error in record.distances:
                yield (
                    f"{record.specimen}, depth {depth}: relative distance {error:.2g} from the"
                    f" {target} gradient"
                )
        return
    distances = [distance for record in records for distance in record.distances]
    deepest = max((distance.depth for distance in distances), default=0)
    errors: dict[str, list[float]] = {}
    for target, depth, error in distances:
        if depth == deepest:
            errors.setdefault(target, []).append(error)
    for target, numbers in errors.items():
        yield (
            f"relative distance from the {target} gradient at depth {deepest}: median"
            f" {median(numbers):.2g}, largest {max(numbers):.2g} of"
            f" {count(len(numbers), 'problem')}; --verbose lists all"
        )


def _failure_lines(records: list[CheckRecord], status: str, verbose: bool) -> Iterator[str]:
    """Yield lines on the records of a status, failed or refused; with `verbose` one for each.

    Without it there is one for all errors from one line of code, one for all refusals with one
    reason, and at most `FEW` for each check that failed otherwise. The last line of such a group
    says how many more like it there are.
    """
    groups: dict[str, list[CheckRecord]] = {}
    for record in records:
        if record.status == status:
            groups.setdefault(_cause(record) or record.check, []).append(record)
    for group in groups.values():
        printed = group if verbose else group[:1] if _cause(group[0]) else group[:FEW]
        for number, record in enumerate(printed, 1):
            line = f"{record.status}: {record.title}{_numbers(record)}: {record.reason}"
            if number == len(printed) < len(group):
                line += f" ({len(group) - len(printed)} more like it)"
            yield line


def _cause(record: CheckRecord) -> str:
    """Return the cause that a record may share with others; empty for a failure of its own."""
    if record.place:
        return record.place
    return record.reason if record.status == "refused" else ""


def _count_statuses(records: list[CheckRecord]) -> str:
    statuses = [record.status for record in records]
    order = ("passed", "refused", "failed")
    return ", ".join(f"{statuses.count(status)} {status}" for status in order if status in statuses)


def _numbers(record: CheckRecord) -> str:
    return " ({:.3g}, limit {:.3g})".format(*record.measured) if record.measured else ""
