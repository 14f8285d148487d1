"""The framework of the checks: an estimator under check, a check and its record, how checks are
registered, and how all of them run.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..errors import MissingDependency, PudleError, UnsupportedProblem
from ..estimator import Estimate, GradientEstimator
from ..validation import check_choice
from ..workers import failure, restart_clock
from .explanations import Array, Mistakes, distance, explain
from .records import Distance, Measured, Record, everything_refused
from .specimens import Specimen, changed
from .truth import array

#: What a check measures.
Measurements = Iterator[Measured | Distance]


class Defect(Exception):
    """What is wrong with an estimator, perhaps with the number that shows it and its limit."""

    def __init__(self, reason: str, measured: Measured | None = None) -> None:
        super().__init__(reason)
        self.measured = measured


def require(condition: object, reason: str, *numbers: float) -> None:
    """Fail with a reason unless a condition holds; `numbers` are what was measured, if anything: a
    number and its limit.
    """
    if not condition:
        raise Defect(reason, Measured(*numbers) if numbers else None)


class Subject(NamedTuple):
    """An estimator under check on a specimen."""

    estimator: GradientEstimator
    specimen: Specimen

    @property
    def claim(self) -> str:
        """What the estimator claims to compute, whatever that is."""
        return getattr(self.estimator, "computes", "")

    @property
    def options(self) -> dict[str, Any]:
        """The estimator's fields."""
        names = getattr(self.estimator, "__dataclass_fields__", ())
        return {name: getattr(self.estimator, name) for name in names}

    def having(self, **options: int) -> Subject:
        """Return the same with other options."""
        return Subject(changed(self.estimator, **options), self.specimen)

    def estimate(
        self,
        depth: Any,
        dtype: torch.dtype = torch.float64,
        device: str = "cpu",
        **changes: object,
    ) -> Estimate:
        """Return an estimate in a dtype and on a device, perhaps of a changed problem."""
        problem = self.specimen.make(dtype, device, **changes)
        algorithm = self.specimen.make_algorithm(dtype, device)
        restart_clock()
        return self.estimator.estimate(problem, algorithm, depth)

    def gradient(self, depth: int) -> Array:
        """Return the gradient of an estimate."""
        return gradient_of(self.estimate(depth))

    def sweep(self, depths: Sequence[Any]) -> list[Estimate]:
        """Return the estimates of a sweep."""
        made = self.specimen.make(), self.specimen.make_algorithm()
        results = []
        for result in self.estimator.sweep(*made, list(depths)):
            restart_clock()
            results.append(result)
        return results


def compare(
    what: str,
    mine: Array,
    expected: Array,
    limit: float = 0.0,
    size: float | None = None,
    mistakes: Mistakes = (),
) -> Measured:
    """Fail unless an array is as close to an expected one, which `what` names, as a limit says."""
    measured = Measured(distance(mine, expected, size), limit)
    # NaN must fail.
    if not measured.number <= limit:
        raise Defect(explain(mine, expected, what, mistakes), measured)
    return measured


@dataclass(frozen=True)
class Check:
    """One property of estimators: a function that measures it, the specimens, and the subjects for
    which it is a question.

    With `few_samples`, a stochastic estimator takes two samples: the check needs no mean. With
    `may_refuse`, an error that says what is missing and what to do passes. `quick` is how many
    subjects ``--quick`` leaves, and `seconds` what one typically takes.
    """

    name: str
    description: str
    measure: Callable[[Subject], Measurements | None]
    specimens: tuple[Specimen, ...]
    concerns: Callable[[Subject], bool]
    few_samples: bool = True
    may_refuse: bool = False
    alone: bool = False
    quick: int = 4
    seconds: float = 0.01

    def subjects(self, estimator: GradientEstimator, *, quick: bool = False) -> list[Subject]:
        """Return the estimator on each specimen that this check has for it, or on few of these."""
        every = [Subject(estimator, specimen) for specimen in self.specimens]
        concerned = [*filter(self.concerns, every)]
        apart = max(len(concerned) / self.quick, 1) if quick else 1
        return [concerned[int(place * apart)] for place in range(int(len(concerned) / apart))]

    def record(self, subject: Subject, status: str = "failed") -> Record:
        """Return a record of this check."""
        return Record(self.name, *(("",) * 3 if self.alone else subject.specimen.names), status)

    def __call__(self, subject: Subject) -> Record:
        """Carry out the check."""
        few = self.few_samples and subject.claim == "stochastic" and "samples" in subject.options
        record, found = self.record(subject, "passed"), list[Measured | Distance]()
        try:
            found += self.measure(subject.having(samples=2) if few else subject) or ()
            numbers = max((each for each in found if isinstance(each, Measured)), default=None)
        except Defect as defect:
            numbers, reason = defect.measured, str(defect)
            if subject.specimen.drawn:
                reason += f", on {subject.specimen}"
            record = record._replace(status="failed", reason=reason)
        except MissingDependency:
            # An estimator that cannot run here neither passes nor fails.
            raise
        except (Exception, SystemExit) as error:  # whatever an estimator raises
            if failure(error)[0] == "out-of-memory":
                # The next check would fill the memory as well.
                raise
            numbers = None
            if not (self.may_refuse and isinstance(error, PudleError)):
                record = _raised(record, error, subject)
        if numbers:
            record = record._replace(number=numbers.number, limit=numbers.limit)
        distances = tuple(each for each in found if isinstance(each, Distance))
        return record._replace(distances=distances)


def _raised(record: Record, error: BaseException, subject: Subject) -> Record:
    """Return the record of an error that an estimator raised: a refusal, if it is one."""
    reason = str(error)
    if not isinstance(error, UnsupportedProblem):
        says = " ".join(reason.split())[:200] or "an empty message"
        advice = "raise UnsupportedProblem, saying what is missing, if this is not treated"
        if "does not require grad" in reason:
            advice = "differentiate within torch.enable_grad(): callers may turn it off"
        place = type(error).__name__ + _place(error, subject.estimator)
        reason = f"raised {place}: {says}; {advice}"
        return record._replace(status="failed", reason=reason, place=place)
    if "\n" in reason or len(reason.split()) < 5:
        remedy = "say in one line what is missing and what to use instead"
        return record._replace(status="failed", reason=f"refuses with {reason!r}: {remedy}")
    return record._replace(status="refused", reason=reason)


def _place(error: BaseException, estimator: GradientEstimator) -> str:
    """Return the last line that an error passed in an estimator's file."""
    try:
        file = inspect.getfile(type(estimator))
    except (OSError, TypeError):
        return ""
    own = [each for each in traceback.extract_tb(error.__traceback__) if each.filename == file]
    return f" at {Path(file).name}:{own[-1].lineno} ({own[-1].line})" if own else ""


CHECKS: dict[str, Check] = {}
Measure = Callable[[Subject], Measurements | None]


def register(
    specimens: Iterable[Specimen],
    concerns: Callable[[Subject], bool] = lambda subject: True,
    **options: Any,
) -> Callable[[Measure], Measure]:
    """Register a function ``check_<name>``; the first sentence of its docstring is the description.

    The arguments are those of `Check` after `measure`.
    """

    def add(measure: Measure) -> Measure:
        name = measure.__name__.removeprefix("check_")
        description = " ".join((measure.__doc__ or "").split("\n\n")[0].split())
        CHECKS[name] = Check(name, description, measure, tuple(specimens), concerns, **options)
        return measure

    return add


def check(estimator: GradientEstimator, names: tuple[str, ...] = ()) -> list[Record]:
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
    return array(result.gradient.double())


def codes_of(result: Estimate) -> Array:
    """Return an estimate's codes as a float64 array with one row per sample."""
    return array(result.codes.double().flatten(1))


def is_quotient(result: Estimate) -> bool:
    """Return whether an estimate says that it was made from loss values: no difference quotient is
    more accurate.
    """
    said = result.diagnostics
    return said.get("evaluations", 0) > 1 and not said.get("layers_differentiated")
