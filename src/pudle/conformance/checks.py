"""The framework of the checks: a check and its record, how checks are registered, and how all of
them run.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from ..errors import MissingDependency, PudleError, UnsupportedProblem
from ..estimator import CLAIMS, Estimate, GradientEstimator
from .oracles import Array
from .specimens import Specimen


class Distance(NamedTuple):
    """How far a gradient is from another, relative to the norm of that: reported, and held to no
    limit.

    The target is ``exact`` (that of the minimizer), ``unrolled`` or ``implicit``, the latter two at
    the given depth.
    """

    target: str
    depth: int
    error: float


@dataclass(frozen=True)
class Record:
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


class NotMet(Exception):
    """The estimator does not meet a check."""

    def __init__(
        self, reason: str, number: float | None = None, limit: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason, self.number, self.limit = reason, number, limit


#: A number, the limit that it has to stay below (or 0 if it has to be 0), and the reason to give if
#: it does not.
Measurement = tuple[float, float, str | Callable[[], str]]
Measure = Callable[[GradientEstimator, Specimen], Iterator[Measurement | Distance] | None]
Specimens = tuple[Specimen, ...]


@dataclass(frozen=True)
class Check:
    """One property that estimators are checked for.

    `measure` takes the estimator and a specimen, and yields measurements and distances or raises
    `NotMet`; `specimens` returns what the check runs on for a given estimator. With `few_samples`,
    a stochastic estimator takes two samples, because the check needs no mean.
    """

    name: str
    description: str
    measure: Measure
    specimens: Callable[[GradientEstimator], Specimens]
    few_samples: bool = False

    def __call__(self, estimator: GradientEstimator, specimen: Specimen) -> Record:
        where = (self.name, specimen.problem, specimen.loss, specimen.algorithm)
        worst: tuple[float | None, float | None] = (None, None)
        distances: list[Distance] = []
        try:
            tried = _with_few_samples(estimator) if self.few_samples else estimator
            for measured in self.measure(tried, specimen) or ():
                if isinstance(measured, Distance):
                    distances.append(measured)
                    continue
                number, limit, reason = measured
                # Not the opposite comparison: NaN must fail.
                if not (number < limit or number == limit == 0):
                    raise NotMet(reason if isinstance(reason, str) else reason(), number, limit)
                worst = max(worst, (number, limit), key=lambda found: (found[0] is not None, found))
        except NotMet as failure:
            return Record(
                *where, "failed", failure.number, failure.limit, failure.reason, tuple(distances)
            )
        except UnsupportedProblem as refusal:
            text = str(refusal)
            if len(text.splitlines()) == 1 and len(text.split()) >= 5:
                return Record(*where, "refused", reason=text)
            reason = (
                f"refuses with {text!r}: say in one line what is missing and what to use instead"
            )
            return Record(*where, "failed", reason=reason)
        except MissingDependency:
            # An estimator that cannot run here neither passes nor fails.
            raise
        except (Exception, SystemExit) as error:  # noqa: BLE001
            # Whatever the estimator raises is a failed check.
            advice = "raise UnsupportedProblem, saying what is missing, if this cannot be treated"
            return Record(*where, "failed", reason=f"raised {one_line(error)[:200]}; {advice}")
        return Record(*where, "passed", *worst, "", tuple(distances))


CHECKS: dict[str, Check] = {}


def register(
    specimens: Specimens | Callable[[GradientEstimator], Specimens], *, few_samples: bool = False
) -> Callable[[Measure], Check]:
    """Register a function ``check_<name>`` as a check; the first line of its docstring is the
    description.
    """

    def add(measure: Measure) -> Check:
        name, description = (
            measure.__name__.removeprefix("check_"),
            (measure.__doc__ or "").splitlines()[0],
        )
        chosen = specimens if callable(specimens) else lambda estimator: specimens
        CHECKS[name] = Check(name, description, measure, chosen, few_samples)
        return CHECKS[name]

    return add


def check(
    estimator: GradientEstimator,
    progress: Callable[[str, int, int], None] | None = None,
    names: tuple[str, ...] = (),
) -> list[Record]:
    """Run all checks, or the named ones, on an estimator.

    Parameters
    ----------
    estimator : GradientEstimator
    progress : callable, optional
        Called before each step with the step's name, the number of steps done and their total.
    names : tuple of str
        Names in `CHECKS`; all checks if empty.

    Raises
    ------
    MissingDependency
        If the estimator needs a library that is not installed.
    """
    progress = progress or (lambda step, done, total: None)
    chosen = [one for one in CHECKS.values() if not names or one.name in names]
    steps = [(one, specimen) for one in chosen for specimen in one.specimens(estimator)]
    records = []
    for done, (one, specimen) in enumerate(steps):
        progress(f"{one.name} {specimen}" if specimen.problem else one.name, done, len(steps))
        records.append(one(estimator, specimen))
    progress("done", len(steps), len(steps))
    return records + everything_refused(records)


def everything_refused(records: list[Record]) -> list[Record]:
    """Return a failure if every problem on which the claim was to be checked was refused, else
    nothing.
    """
    claims = [record for record in records if record.check == "claim"]
    if not claims or any(record.status != "refused" for record in claims):
        return []
    reason = f"refuses every problem, so that nothing was checked: {claims[0].reason}"
    return [Record("claim", "", "", "", "failed", reason=reason)]


# --- shared by the checks


def require_finite(result: Estimate, depth: int) -> None:
    """Fail if the gradient or the codes have entries that are NaN or infinite."""
    for name, tensor in (("gradient", result.gradient), ("codes", result.codes)):
        bad = int((~torch.isfinite(tensor)).sum())
        if bad:
            entries = f"{bad} of {tensor.numel()} entries of the {name} are NaN or infinite"
            raise NotMet(f"{entries} at depth {depth}: refuse with a reason", bad, 0)


def result_unless_refused(call: Callable[[], Any]) -> Any:
    """Return what a call returns, or None if it raises an error that names the problem and the
    remedy.
    """
    try:
        return call()
    except MissingDependency:
        raise
    except PudleError:
        return None


def claim_of(estimator: GradientEstimator) -> str:
    """Return what an estimator claims to compute, or fail if that is not a known claim."""
    claim = getattr(estimator, "computes", None)
    if claim not in CLAIMS:
        raise NotMet(f"computes is {claim!r}: set it to one of {', '.join(CLAIMS)}")
    return claim


def options_of(estimator: GradientEstimator) -> set[str]:
    """Return the names of an estimator's fields."""
    return (
        {field.name for field in dataclasses.fields(estimator)}
        if dataclasses.is_dataclass(estimator)
        else set()
    )


def _with_few_samples(estimator: GradientEstimator) -> GradientEstimator:
    """Return a stochastic estimator with two samples, where it has a field for them; any other as
    it is.
    """
    if getattr(estimator, "computes", None) != "stochastic" or "samples" not in options_of(
        estimator
    ):
        return estimator
    few: GradientEstimator = dataclasses.replace(estimator, samples=2)  # type: ignore[type-var]
    return few


def gradient_of(result: Estimate) -> Array:
    """Return an estimate's gradient as a float64 array, or fail if it is complex."""
    if result.gradient.is_complex():
        raise NotMet("the gradient is complex: return a real one, as the loss and theta are real")
    return result.gradient.detach().cpu().double().numpy()


def codes_of(result: Estimate) -> Array:
    """Return an estimate's codes as a float64 array with one row per sample."""
    return result.codes.detach().cpu().double().flatten(1).numpy()


def distance(mine: Array, expected: Array) -> float:
    """Return the distance relative to the expected norm; absolute if that is zero, infinite for
    another shape.
    """
    if mine.shape != expected.shape:
        return float("inf")
    return float(np.linalg.norm(mine - expected)) / (float(np.linalg.norm(expected)) or 1.0)


def is_quotient(result: Estimate) -> bool:
    """Return whether an estimate says that it was made from loss values: no difference quotient is
    more accurate.
    """
    return "evaluations" in result.diagnostics and not result.diagnostics.get(
        "layers_differentiated"
    )


def one_line(error: BaseException) -> str:
    """Return the type and the text of an exception in one line."""
    text = " ".join(str(error).split())
    return (
        f"{type(error).__name__}: {text}"
        if text
        else f"{type(error).__name__} with an empty message"
    )
