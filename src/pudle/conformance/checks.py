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

from ..errors import MissingDependency, UnsupportedProblem
from ..estimator import CLAIMS, Estimate, GradientEstimator
from .closed_forms import Array
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


#: A number, the limit that it has to stay below (or 0 if it has to be 0), and the reason to give if
#: it does not.
Measurement = tuple[float, float, str | Callable[[], str]]


class Defect(Exception):
    """What is wrong with an estimator, with the number that shows it and its limit."""

    def __init__(
        self, reason: str, number: float | None = None, limit: float | None = None
    ) -> None:
        super().__init__(reason)
        self.reason, self.number, self.limit = reason, number, limit


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


#: Takes an estimator and a specimen, None where a check looks only at the class; yields what it
#: measures, and raises a `Defect` at once where nothing more can be measured.
Measure = Callable[[Any, Any], Iterator[Measurement | Distance] | None]
Specimens = tuple[Specimen | None, ...]


@dataclass(frozen=True)
class Check:
    """One property of estimators: its name, how it is measured, and the specimens that it is
    measured on for a given estimator.

    With `few_samples`, a stochastic estimator takes two samples: the check needs no mean.
    """

    name: str
    description: str
    measure: Measure
    specimens: Callable[[GradientEstimator], Specimens]
    few_samples: bool = True

    def record(self, specimen: Specimen | None, status: str, *outcome: Any) -> Record:
        """Return the record of an outcome on a specimen."""
        names = ("", "", "") if specimen is None else specimen.names
        return Record(self.name, *names, status, *outcome)

    def __call__(self, estimator: GradientEstimator, specimen: Specimen | None) -> Record:
        measured: list[tuple[float, float]] = []
        distances: list[Distance] = []
        try:
            few = self.few_samples and getattr(estimator, "computes", None) == "stochastic"
            if few and "samples" in options_of(estimator):
                estimator = dataclasses.replace(estimator, samples=2)  # type: ignore[type-var]
            for each in self.measure(estimator, specimen) or ():
                if isinstance(each, Distance):
                    distances.append(each)
                    continue
                number, limit, reason = each
                # Not the opposite comparison: NaN must fail.
                if not (number < limit or number == limit == 0):
                    raise Defect(reason if isinstance(reason, str) else reason(), number, limit)
                measured.append((number, limit))
        except Defect as defect:
            numbers, reason = (defect.number, defect.limit), defect.reason
            return self.record(specimen, "failed", *numbers, reason, tuple(distances))
        except MissingDependency:
            # An estimator that cannot run here neither passes nor fails.
            raise
        except UnsupportedProblem as refusal:
            reason, status = str(refusal), "refused"
            if "\n" in reason or len(reason.split()) < 5:
                remedy = "say in one line what is missing and what to use instead"
                reason, status = f"refuses with {reason!r}: {remedy}", "failed"
            return self.record(specimen, status, None, None, reason)
        except (Exception, SystemExit) as error:  # noqa: BLE001  # whatever an estimator raises
            text = " ".join(str(error).split())[:200] or "an empty message"
            advice = "raise UnsupportedProblem, saying what is missing, if this cannot be treated"
            reason = f"raised {type(error).__name__}: {text}; {advice}"
            return self.record(specimen, "failed", None, None, reason)
        worst = max(measured, default=(None, None))
        return self.record(specimen, "passed", *worst, "", tuple(distances))


CHECKS: dict[str, Check] = {}


def register(
    specimens: Specimens | Callable[[GradientEstimator], Specimens] = (None,),
    *,
    few_samples: bool = True,
) -> Callable[[Measure], Measure]:
    """Register a function ``check_<name>`` as a check; the first line of its docstring is the
    description.
    """

    def add(measure: Measure) -> Measure:
        name = measure.__name__.removeprefix("check_")
        description = (measure.__doc__ or "").splitlines()[0]
        chosen = specimens if callable(specimens) else lambda estimator: specimens
        CHECKS[name] = Check(name, description, measure, chosen, few_samples)
        return measure

    return add


def check(estimator: GradientEstimator, names: tuple[str, ...] = ()) -> list[Record]:
    """Run all checks, or the named ones, on an estimator.

    Raises
    ------
    MissingDependency
        If the estimator needs a library that is not installed.
    """
    chosen = [CHECKS[name] for name in names or CHECKS]
    records = [
        each(estimator, specimen) for each in chosen for specimen in each.specimens(estimator)
    ]
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
            raise Defect(f"{entries} at depth {depth}: refuse with a reason", bad, 0)


def claim_of(estimator: GradientEstimator) -> str:
    """Return what an estimator claims to compute, or fail if that is not a known claim."""
    claim = getattr(estimator, "computes", None)
    if claim not in CLAIMS:
        raise Defect(f"computes is {claim!r}: set it to one of {', '.join(CLAIMS)}")
    return claim


def options_of(estimator: GradientEstimator) -> set[str]:
    """Return the names of an estimator's fields."""
    return set(getattr(estimator, "__dataclass_fields__", ()))


def gradient_of(result: Estimate) -> Array:
    """Return an estimate's gradient as a float64 array, or fail if it is complex."""
    if result.gradient.is_complex():
        raise Defect("the gradient is complex: return a real one, as the loss and theta are real")
    return result.gradient.detach().cpu().double().numpy()


def codes_of(result: Estimate) -> Array:
    """Return an estimate's codes as a float64 array with one row per sample."""
    return result.codes.detach().cpu().double().flatten(1).numpy()


def distance(mine: Array, expected: Array, size: float | None = None) -> float:
    """Return the distance relative to a size, by default the expected norm; absolute if that is
    zero, infinite for another shape.
    """
    if mine.shape != expected.shape:
        return float("inf")
    size = float(np.linalg.norm(expected)) if size is None else size
    return float(np.linalg.norm(mine - expected)) / (size or 1.0)


def is_quotient(result: Estimate) -> bool:
    """Return whether an estimate says that it was made from loss values: no difference quotient is
    more accurate.
    """
    differentiated = result.diagnostics.get("layers_differentiated")
    return "evaluations" in result.diagnostics and not differentiated
