"""The framework of the checks: an estimator under check, a check and its record, how checks are
registered, and how all of them run.
"""

from __future__ import annotations

import inspect
import pickle
import random
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..auditing.distances import Array, distance
from ..errors import MissingDependency, UnsupportedProblem
from ..estimator import Estimate, GradientEstimator
from ..problems import Problem
from ..validation import check_choice
from ..workers import failure, restart_clock
from .brought import OUTSIDE
from .explanations import Mistakes, explain
from .records import CheckRecord, Distance, Measurement, everything_refused
from .specimens import Specimen, options_of, tensors_of, with_values
from .truth import array

#: The numbers that a check measures.
Measurements = Iterator[Measurement | Distance]
Measure = Callable[["Subject"], Measurements | None]
#: With ``--quick``, one of so many subjects is left.
QUICK = 7


class CheckFailure(Exception):
    """A defect of an estimator, perhaps with the number that shows it and its limit, and with the
    known mistakes that were compared and do not fit.
    """

    def __init__(
        self,
        reason: str,
        measured: Measurement | None = None,
        compared: tuple[str, ...] = (),
    ) -> None:
        super().__init__(reason)
        self.measured, self.compared = measured, compared


def require(condition: object, reason: str, *numbers: float) -> None:
    """Raise CheckFailure with a reason unless a condition holds; `numbers` are what was measured,
    if anything: a number and its limit.
    """
    if not condition:
        raise CheckFailure(reason, Measurement(*numbers) if numbers else None)


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
        """The estimator's fields and their values; none if it is no dataclass."""
        dataclass = hasattr(self.estimator, "__dataclass_fields__")
        return options_of(self.estimator) if dataclass else {}

    def having(self, **options: int) -> Subject:
        """Return the same with other options, where it has them."""
        options = {name: value for name, value in options.items() if name in self.options}
        return Subject(with_values(self.estimator, **options), self.specimen)

    def estimates(
        self, depths: Sequence[Any], *, sweep: bool = False, dtype: torch.dtype = torch.float64
    ) -> list[Estimate]:
        """Return the estimates at some depths, by a call for each or by a sweep, which grad mode
        must not matter to: it is off in a sweep, else on.

        The problem is made anew. CheckFailure says that an estimate has not the form that it must
        have, or that the call changes a tensor, random states, grad mode, the default dtype or the
        number of threads. The time that a worker's job may take begins anew with each estimate.
        """
        problem, algorithm = self.specimen.make(dtype)
        tensors = {"a weight of the user's loss": OUTSIDE}
        tensors |= tensors_of(problem) | tensors_of(algorithm)
        results, method = list[Estimate](), self.estimator.estimate
        with torch.no_grad() if sweep else torch.enable_grad():
            before, imported = _watched(tensors), len(sys.modules)
            if sweep:
                calls = self.estimator.sweep(problem, algorithm, depths)
            else:
                calls = (method(problem, algorithm, depth) for depth in depths)
            # A generator that pauses inside a context would leave its mode with the caller.
            for result in calls:
                restart_clock()
                _require_form(result, problem)
                results.append(result)
                for watched_name, state in _watched(tensors).items():
                    # What is imported at the first call may draw as it loads: the next one tells.
                    if watched_name != RANDOM or len(sys.modules) == imported:
                        require(state == before[watched_name], f"changes {watched_name}")
        return results

    def estimate(self, depth: Any, dtype: torch.dtype = torch.float64) -> Estimate:
        """Return an estimate in a dtype."""
        return self.estimates([depth], dtype=dtype)[0]

    def gradient(self, depth: int) -> Array:
        """Return the gradient of an estimate."""
        return gradient_of(self.estimate(depth))


RANDOM = "the random state of torch, numpy or random: use pudle.streams.generator"


def _watched(tensors: Mapping[str, Tensor]) -> dict[str, object]:
    """Return the states that no estimator may change, each under a text that says what to do:
    random states, grad mode, default dtype, number of threads, and values and gradients of tensors.
    """
    leaf = "theta.detach().requires_grad_()"
    drawn = np.random.get_state(), random.getstate()  # noqa: NPY002
    states: dict[str, object] = {
        RANDOM: (
            torch.get_rng_state().numpy().tobytes(),
            pickle.dumps(drawn),
        ),
        "the grad mode: use torch.enable_grad() around no yield": torch.is_grad_enabled(),
        "the default dtype or the number of threads": (
            torch.get_default_dtype(),
            torch.get_num_threads(),
        ),
    }
    for name, tensor in tensors.items():
        values = tensor._version, array(tensor).tobytes()
        states[f"{name}, be it only for a moment: problems are immutable"] = values
        states[f"{name}.requires_grad: use problem.with_theta({leaf})"] = tensor.requires_grad
        states[f"{name}.grad: use torch.autograd.grad on {leaf}"] = (
            tensor.is_leaf and tensor.grad is not None
        )
    return states


def _require_form(result: object, problem: Problem) -> None:
    """Raise CheckFailure unless a result is an Estimate whose gradient and codes are finite tensors
    without a graph, like theta and the codes of a problem, in memory of their own.
    """
    if not isinstance(result, Estimate):
        raise CheckFailure(f"estimate returned a {type(result).__name__}: return pudle.Estimate")
    theta, values = problem.theta, {"gradient": result.gradient, "codes": result.codes}
    for (name, value), shape in zip(values.items(), (theta.shape, problem.code_shape), strict=True):
        if not isinstance(value, Tensor):
            raise CheckFailure(f"{name} is a {type(value).__name__}: return a tensor")
        form, expected = (tuple(value.shape), value.dtype), (tuple(shape), theta.dtype)
        require(
            form == expected,
            f"{name} has shape and dtype {form} instead of {expected}: follow the problem's"
            " tensors",
        )
        require(not value.requires_grad, f"{name} still has a graph: return {name}.detach()")
        n_invalid = int((~value.isfinite()).sum())
        require(
            not n_invalid,
            f"{n_invalid} of {value.numel()} entries of the {name} are NaN or infinite: refuse"
            " with a reason",
            n_invalid,
            0,
        )
        has_own_memory = value.data_ptr() != theta.data_ptr() or not value.numel()
        require(has_own_memory, f"{name} shares its memory with theta: return a tensor of its own")


def compare(
    expected_name: str,
    array: Array,
    expected: Array,
    limit: float = 0.0,
    size: float | None = None,
    mistakes: Mistakes = (),
) -> Measurement:
    """Return the distance of an array from an expected one with its limit; raise CheckFailure if it
    is above that or NaN.

    The distance is relative to `size`, by default the norm of the expected array, and absolute
    where that is zero; it is infinite between arrays of different shapes. The failure says by how
    much the array is off from `expected_name`, and which of `mistakes`, arrays with what each of
    them would lead to, explains it.
    """
    measured = Measurement(distance(array, expected, size), limit)
    # NaN must fail.
    if not measured.number <= limit:
        text, compared = explain(array, expected, expected_name, mistakes)
        raise CheckFailure(text, measured, compared)
    return measured


@dataclass(frozen=True)
class Check:
    """One property of estimators: a function that measures it, the specimens, and the subjects for
    which it is a question.
    """

    name: str
    description: str
    measure: Measure
    specimens: tuple[Specimen, ...]
    concerns: Callable[[Subject], bool]

    def subjects(self, estimator: GradientEstimator, *, quick: bool = False) -> list[Subject]:
        """Return the estimator on each specimen that this check has for it, or with `quick` on one
        of `QUICK` of these; a random one takes three samples: divided by another number, an average
        of few shows it.
        """
        subjects = [Subject(estimator, specimen).having(samples=3) for specimen in self.specimens]
        concerned = [subject for subject in subjects if self.concerns(subject)]
        return concerned[::QUICK] if quick else concerned

    def open_record(self, subject: Subject) -> CheckRecord:
        """Open the record of this check on a subject: failed until it passes."""
        specimen = subject.specimen
        return CheckRecord(
            self.name, specimen.name, "failed", drawn=specimen.drawn, loss=specimen.loss
        )

    def __call__(self, subject: Subject) -> CheckRecord:
        """Carry out the check."""
        record = self.open_record(subject)
        try:
            results = [*(self.measure(subject) or ())]
        except CheckFailure as defect:
            where = f", on {record.drawn}" if record.drawn else ""
            return record._replace(
                measured=defect.measured, reason=f"{defect}{where}", compared=defect.compared
            )
        except MissingDependency:
            # An estimator that cannot run here neither passes nor fails.
            raise
        except (Exception, SystemExit) as error:  # whatever an estimator raises
            if failure(error)[0] == "out-of-memory":
                # The next check would fill the memory as well.
                raise
            return _record_error(record, error, subject)
        distances = tuple(result for result in results if isinstance(result, Distance))
        measurements = [result for result in results if isinstance(result, Measurement)]
        return record._replace(
            status="passed", measured=max(measurements, default=None), distances=distances
        )


def _record_error(record: CheckRecord, error: BaseException, subject: Subject) -> CheckRecord:
    """Return the record of an error that an estimator raised: ``refused`` for UnsupportedProblem
    with a reason that says enough, else ``failed``, with the line of its file and what to do.
    """
    reason = str(error)
    if not isinstance(error, UnsupportedProblem):
        says = " ".join(reason.split())[:200] or "an empty message"
        advice = "raise UnsupportedProblem, saying what is missing, if this is not treated"
        if "does not require grad" in reason:
            advice = "differentiate within torch.enable_grad(): callers may turn it off"
        if "not have been used in the graph" in reason:
            advice = (
                "pass allow_unused=True, materialize_grads=True to torch.autograd.grad, or take"
                " self.layer_vector_jacobian_product"
            )
        place = type(error).__name__ + _place(error, subject.estimator)
        return record._replace(reason=f"raised {place}: {says}; {advice}", place=place)
    if "\n" in reason or len(reason.split()) < 5:
        remedy = "say in one line what is missing and what to use instead"
        return record._replace(reason=f"refuses with {reason!r}: {remedy}")
    return record._replace(status="refused", reason=reason)


def _place(error: BaseException, estimator: GradientEstimator) -> str:
    """Return the last line that an error passed in an estimator's file, as `` at FILE:LINE
    (source)``; empty if there is none.
    """
    try:
        file = inspect.getfile(type(estimator))
    except (OSError, TypeError):
        return ""
    frames = [
        frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file
    ]
    return f" at {Path(file).name}:{frames[-1].lineno} ({frames[-1].line})" if frames else ""


CHECKS: dict[str, Check] = {}


def register(
    specimens: Iterable[Specimen],
    concerns: Callable[[Subject], bool] = lambda subject: True,
) -> Callable[[Measure], Measure]:
    """Return a decorator that adds a function ``check_<name>``, whose docstring begins with the
    description, to `CHECKS`; the function itself stays as it is.
    """

    def add(measure: Measure) -> Measure:
        name = measure.__name__.removeprefix("check_")
        description = " ".join((measure.__doc__ or "").split("\n\n")[0].split())
        CHECKS[name] = Check(name, description, measure, tuple(specimens), concerns)
        return measure

    return add


def check(estimator: GradientEstimator, names: tuple[str, ...] = ()) -> list[CheckRecord]:
    """Run all checks, or the named ones, on an estimator, in this process, and return the record of
    each check on each specimen; one check also starts another process.

    If the claim was refused on every problem, a failure that says so is the last record.

    Raises
    ------
    InvalidArgument
        If a name is unknown.
    MissingDependency
        If the estimator needs a library that is not installed.
    """
    checks = [CHECKS[check_choice("check", name, CHECKS)] for name in names or CHECKS]
    records = [
        registered(subject) for registered in checks for subject in registered.subjects(estimator)
    ]
    return records + everything_refused(records)


# --- shared by the checks


def gradient_of(result: Estimate) -> Array:
    """Return an estimate's gradient as a float64 array."""
    return array(result.gradient.double())


def codes_of(result: Estimate) -> Array:
    """Return an estimate's codes as a float64 array with one row per sample."""
    return array(result.codes.double().flatten(1))


def is_quotient(result: Estimate) -> bool:
    """Tell whether an estimate says that it was made from loss values: no difference quotient is
    more accurate.
    """
    said = result.diagnostics
    return said.get("evaluations", 0) > 1 and not said.get("layers_differentiated")
