"""The framework of the checks: an estimator under check, a check and its record, how checks are
registered, and how all of them run.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import MissingDependency, PudleError, UnsupportedProblem
from ..estimator import Estimate
from ..validation import check_choice
from ..workers import failure, restart_clock
from .explanations import Array, Mistakes, distance, explain
from .specimens import Specimen


class Defect(Exception):
    """What is wrong with an estimator, perhaps with the number that shows it and its limit."""


def require(condition: Any, reason: str, *numbers: float) -> tuple[float, ...]:
    """Fail with a reason unless a condition holds; return what was measured, if anything: a number
    and its limit.
    """
    if not condition:
        raise Defect(reason, *numbers)
    return numbers


class Subject(NamedTuple):
    """An estimator under check on a specimen, which is None for checks of the class alone."""

    estimator: Any
    specimen: Any = None

    @property
    def claim(self) -> Any:
        """What the estimator claims to compute, whatever that is."""
        return getattr(self.estimator, "computes", None)

    @property
    def options(self) -> set[str]:
        """The names of the estimator's fields."""
        return set(getattr(self.estimator, "__dataclass_fields__", ()))

    def having(self, **options: Any) -> Subject:
        """Return the same with other options."""
        return Subject(replace(self.estimator, **options), self.specimen)

    def estimate(self, depth: Any, *dtype: Any, **changes: Any) -> Any:
        """Return an estimate in a dtype and on a device, perhaps of a changed problem."""
        made = self.specimen.make(*dtype, **changes), self.specimen.make_algorithm(*dtype)
        restart_clock()
        return self.estimator.estimate(*made, depth)

    def gradient(self, depth: int, *dtype: Any) -> Array:
        """Return the gradient of an estimate."""
        return gradient_of(self.estimate(depth, *dtype))

    def sweep(self, depths: Iterable[Any]) -> list[Estimate]:
        """Return the estimates of a sweep."""
        made = self.specimen.make(), self.specimen.make_algorithm()
        results = []
        for result in self.estimator.sweep(*made, list(depths)):
            restart_clock()
            results.append(result)
        return results


class Distance(NamedTuple):
    """How far a gradient is from another, relative to the norm of that: reported, and held to no
    limit.

    The target is ``exact`` (that of the minimizer), ``unrolled`` or ``implicit``, the latter two at
    the given depth.
    """

    target: str
    depth: int
    error: float


#: What a check measures: numbers with their limits, and distances.
Measurements = Iterator[tuple[float, ...] | Distance]


def compare(
    what: str,
    mine: Array,
    expected: Array,
    limit: float = 0.0,
    size: float | None = None,
    mistakes: Mistakes = (),
) -> tuple[float, ...]:
    """Fail unless an array is as close to an expected one, which `what` names, as a limit says."""
    error = distance(mine, expected, size)
    # NaN must fail.
    if not error <= limit:
        raise Defect(explain(mine, expected, what, mistakes), error, limit)
    return error, limit


class Record(NamedTuple):
    """The outcome of one check on one specimen.

    Attributes
    ----------
    check : str
        A name in `CHECKS`.
    problem, loss, algorithm : str
        The specimen; empty for checks that look only at the class.
    status : {"passed", "failed", "refused"}
        ``refused``: the estimator raised `UnsupportedProblem` and gave the reason.
    number, limit : float or None
        The measured number and its limit, for checks that measure.
    reason : str
        Why it failed or was refused, in one line; empty if it passed.
    distances : tuple of Distance
        What the claim ``approximate`` reports in place of a limit; empty for others.
    place : str
        Where the estimator raised an error: its kind, the file and the line; empty without one.
    """

    check: str
    problem: str
    loss: str
    algorithm: str
    status: str
    number: float | None = None
    limit: float | None = None
    reason: str = ""
    distances: tuple[Distance, ...] = ()
    place: str = ""


class Check(NamedTuple):
    """One property of estimators: a function that measures it, the specimens, and the subjects for
    which it is a question.

    With `few_samples`, a stochastic estimator takes two samples: the check needs no mean. With
    `may_refuse`, an error that says what is missing and what to do passes.
    """

    name: str
    description: str
    measure: Callable[[Subject], Measurements | None]
    specimens: tuple[Specimen | None, ...] = (None,)
    concerns: Callable[[Subject], bool] = lambda subject: True
    few_samples: bool = True
    may_refuse: bool = False

    def subjects(self, estimator: Any) -> list[Subject]:
        """Return the estimator on each specimen that this check has for it."""
        subjects = (Subject(estimator, specimen) for specimen in self.specimens)
        return [*filter(self.concerns, subjects)]

    def record(self, subject: Subject, status: str, *outcome: Any) -> Record:
        """Return the record of an outcome."""
        names = subject.specimen.names if subject.specimen else ("", "", "")
        return Record(*(self.name, *names, status, *outcome))

    def __call__(self, subject: Subject) -> Record:
        """Carry out the check."""
        status, reason, place = "failed", "", ""
        numbers: Any = (None, None)
        measured: list[Any] = []
        try:
            few = self.few_samples and subject.claim == "stochastic"
            few = few and "samples" in subject.options
            measured += self.measure(subject.having(samples=2) if few else subject) or ()
            pairs = [each for each in measured if not isinstance(each, Distance)]
            status, numbers = "passed", max(pairs, default=numbers)
        except Defect as defect:
            reason, *numbers = (*defect.args, None, None)[:3]
            if subject.specimen and subject.specimen.drawn:
                reason += f", on {subject.specimen}"
        except MissingDependency:
            # An estimator that cannot run here neither passes nor fails.
            raise
        except (Exception, SystemExit) as error:  # whatever an estimator raises
            if failure(error)[0] == "out-of-memory":
                # The next check would fill the memory as well.
                raise
            reason = str(error)
            if self.may_refuse and isinstance(error, PudleError):
                status, reason = "passed", ""
            elif not isinstance(error, UnsupportedProblem):
                text = " ".join(reason.split())[:200] or "an empty message"
                advice = "raise UnsupportedProblem, saying what is missing, if this is not treated"
                if "does not require grad" in reason:
                    advice = "differentiate within torch.enable_grad(): callers may turn it off"
                place = type(error).__name__ + _place(error, subject.estimator)
                reason = f"raised {place}: {text}; {advice}"
            elif "\n" in reason or len(reason.split()) < 5:
                remedy = "say in one line what is missing and what to use instead"
                reason = f"refuses with {reason!r}: {remedy}"
            else:
                status = "refused"
        distances = tuple(each for each in measured if isinstance(each, Distance))
        return self.record(subject, status, *numbers, reason, distances, place)


def _place(error: BaseException, estimator: Any) -> str:
    """Return the last line that an error passed in an estimator's file."""
    try:
        file = inspect.getfile(type(estimator))
    except (OSError, TypeError):
        return ""
    own = [each for each in traceback.extract_tb(error.__traceback__) if each.filename == file]
    return f" at {Path(file).name}:{own[-1].lineno} ({own[-1].line})" if own else ""


CHECKS: dict[str, Check] = {}


def register(*conditions: Any, **options: Any) -> Callable[[Any], Any]:
    """Register a function ``check_<name>``; the first sentence of its docstring is the description.

    The arguments are those of `Check` after `measure`.
    """

    def add(measure: Any) -> Any:
        name = measure.__name__.removeprefix("check_")
        description = " ".join(measure.__doc__.split("\n\n")[0].split())
        CHECKS[name] = Check(name, description, measure, *conditions, **options)
        return measure

    return add


def check(estimator: Any, names: tuple[str, ...] = ()) -> list[Record]:
    """Run all checks, or the named ones, on an estimator.

    Raises
    ------
    InvalidArgument
        If a name is unknown.
    MissingDependency
        If the estimator needs a library that is not installed.
    """
    checks = [CHECKS[check_choice("check", name, CHECKS)] for name in names or CHECKS]
    records = [each(subject) for each in checks for subject in each.subjects(estimator)]
    return records + everything_refused(records)


def everything_refused(records: list[Record]) -> list[Record]:
    """Return a failure if every problem on which the claim was to be checked was refused, else
    nothing.
    """
    claims = [record for record in records if record.check == "claim"]
    if {record.status for record in claims} != {"refused"}:
        return []
    reason = f"refuses every problem, so that nothing was checked: {claims[0].reason}"
    return [Record("claim", "", "", "", "failed", reason=reason)]


# --- shared by the checks


def require_finite(result: Estimate, depth: int) -> None:
    """Fail if the gradient or the codes have entries that are NaN or infinite."""
    for name, tensor in (("gradient", result.gradient), ("codes", result.codes)):
        bad = int((~tensor.isfinite()).sum())
        require(
            not bad,
            f"{bad} of {tensor.numel()} entries of the {name} are NaN or infinite at depth {depth}:"
            " refuse with a reason",
            bad,
            0,
        )


def gradient_of(result: Estimate) -> Array:
    """Return an estimate's gradient as a float64 array, or fail if it is complex."""
    require(
        not result.gradient.is_complex(),
        "the gradient is complex: return a real one, as the loss and theta are real",
    )
    return result.gradient.double().numpy(force=True)


def codes_of(result: Estimate) -> Array:
    """Return an estimate's codes as a float64 array with one row per sample."""
    return result.codes.double().flatten(1).numpy(force=True)


def is_quotient(result: Estimate) -> bool:
    """Return whether an estimate says that it was made from loss values: no difference quotient is
    more accurate.
    """
    said = result.diagnostics
    return said.get("evaluations", 0) > 1 and not said.get("layers_differentiated")
