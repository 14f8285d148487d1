"""Checks of unusual input: depths in any order, extreme or impossible, and extreme steps, observations and penalties."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np
import torch

from ..errors import MissingDependency, PudleError
from ..estimator import GradientEstimator
from .checks import (
    Measurement,
    NotMet,
    codes_of,
    distance,
    gradient_of,
    register,
    require_finite,
    result_unless_refused,
)
from .contract import GRID, PLAIN
from .specimens import Specimen, specimens
from .tolerances import GREAT, SAME, SHALLOW


@register(specimens("sparse coding") + specimens("ridge", algorithms=("fista",)))
def check_sweep(estimator: GradientEstimator, specimen: Specimen) -> Iterator[Measurement]:
    """`sweep` yields what `estimate` returns at each depth, in the order given."""
    for depths in ([1, 5, 12], [12, 0, 5, 5, 1], [3], []):
        alone = [specimen.estimate(estimator, depth) for depth in depths]
        swept = specimen.sweep(estimator, depths)
        if len(swept) != len(depths):
            raise NotMet(f"sweep over {depths} yields {len(swept)} estimates instead of {len(depths)}")
        for depth, expected, mine in zip(depths, alone, swept, strict=True):
            for what, array_of in (("gradient", gradient_of), ("codes", codes_of)):
                error = distance(array_of(mine), array_of(expected))
                reason = f"the {what} of sweep over {depths} and of estimate at depth {depth} differ by {error:.1e}"
                yield error, SAME, reason


@register(GRID)
def check_depth_zero(estimator: GradientEstimator, specimen: Specimen) -> Iterator[Measurement]:
    """With no layer the codes are the initial ones and the gradient is the direct part."""
    result = specimen.estimate(estimator, 0)
    for what, mine, expected in (
        ("codes", codes_of(result), specimen.codes(0)),
        ("gradient", gradient_of(result), specimen.direct(0)),
    ):
        error = distance(mine, expected)
        yield error, SAME, f"the {what} at depth 0 differ by {error:.1e} from those without any layer"


@register(specimens("sparse coding"))
def check_impossible_depth(estimator: GradientEstimator, specimen: Specimen) -> None:
    """A negative or fractional depth is refused, not run as another."""
    for depth in (-1, -20, 2.5):
        for method in ("estimate", "sweep"):
            try:
                if method == "estimate":
                    specimen.estimate(estimator, depth)  # type: ignore[arg-type]
                else:
                    specimen.sweep(estimator, [2, depth])  # type: ignore[list-item]
            except MissingDependency:
                raise
            except PudleError:
                continue
            except Exception as error:  # noqa: BLE001  # any other exception is a failed check
                outcome = f"raised {type(error).__name__}, which does not tell a user what to do"
            else:
                outcome = "returned"
            advice = "refuse it, as pudle.algorithms.unrolling.check_depths does"
            raise NotMet(f"{method} at depth {depth} {outcome}: {advice}", depth)


@register(specimens("sparse coding"))
def check_divergent_step(estimator: GradientEstimator, specimen: Specimen) -> None:
    """A step above 2/L is refused, as `Algorithm.step_size` does."""
    problem = specimen.make()
    algorithm = dataclasses.replace(specimen.make_algorithm(), step=2.1 / problem.lipschitz_constant)
    if result_unless_refused(lambda: estimator.estimate(problem, algorithm, 3)) is not None:
        raise NotMet("a step of 2.1/L was run: take the step from algorithm.step_size(problem)", 2.1, 2.0)


@register(specimens("tiny"))
def check_great_depth(estimator: GradientEstimator, specimen: Specimen) -> None:
    """At great depth the gradient is finite, or refused with a reason."""
    result = specimen.estimate(estimator, GREAT)
    require_finite("gradient", result.gradient, GREAT)
    require_finite("codes", result.codes, GREAT)


def _specimens_of_overflow(estimator: GradientEstimator) -> tuple[Specimen, ...]:
    # A gradient of these losses grows with the square of the observations; a heuristic need not.
    return () if getattr(estimator, "computes", None) == "heuristic" else specimens("sparse coding")


@register(_specimens_of_overflow)
def check_overflow(estimator: GradientEstimator, specimen: Specimen) -> None:
    """Observations so large that the gradient exceeds float64 give no finite number, or are refused."""
    huge = specimen.make().observations * 1e200  # type: ignore[attr-defined]
    result = result_unless_refused(lambda: specimen.estimate(estimator, SHALLOW[-1], observations=huge))
    if result is not None and np.isfinite(size := float(torch.linalg.norm(result.gradient))):
        raise NotMet(f"a gradient that exceeds float64 came back with norm {size:.1e}: never replace NaN or infinity", size)


@register(specimens("sparse coding", algorithms=PLAIN))
def check_empty_supports(estimator: GradientEstimator, specimen: Specimen) -> None:
    """A penalty that leaves every code zero gives a zero gradient."""
    result = specimen.estimate(estimator, SHALLOW[-1], penalty=1e3)
    size = max(float(result.codes.abs().max()), float(result.gradient.abs().max()))
    if not size == 0:
        raise NotMet(f"all codes should be zero, but the gradient or the codes reach {size}", size, 0.0)


@register(specimens("sparse coding"))
def check_singular_systems(estimator: GradientEstimator, specimen: Specimen) -> None:
    """More active atoms than dimensions give a finite gradient, and diagnostics say how singular the systems were."""
    result = specimen.estimate(estimator, 1, penalty=1e-4)
    require_finite("gradient", result.gradient, 1)
    reported = {"condition_number", "largest_relative_residual", "unconverged", "singular"} & set(result.diagnostics)
    if result.diagnostics.get("solves") and not reported:
        raise NotMet("diagnostics report solves, but not how singular they were: add condition_number or a residual")
