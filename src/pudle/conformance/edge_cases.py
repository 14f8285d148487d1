"""Checks of unusual input: depths in any order, extreme or impossible, and extreme steps,
observations and penalties.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..errors import MissingDependency
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
from .specimens import GRID, PLAIN, Specimen, specimens
from .tolerances import GREAT, SAME, SHALLOW


@register(specimens(algorithms=("fista",)))
def check_sweep(estimator: GradientEstimator, specimen: Specimen) -> Iterator[Measurement]:
    """`sweep` yields what `estimate` returns at each depth, in the order given."""
    for depths in ([1, 5, 12], [12, 0, 5, 5, 1], [3], []):
        alone = [specimen.estimate(estimator, depth) for depth in depths]
        swept = specimen.sweep(estimator, depths)
        if len(swept) != len(depths):
            raise NotMet(
                f"sweep over {depths} yields {len(swept)} estimates instead of {len(depths)}"
            )
        for depth, expected, mine in zip(depths, alone, swept, strict=True):
            for what, array_of in (("gradient", gradient_of), ("codes", codes_of)):
                error = distance(array_of(mine), array_of(expected))
                reason = (
                    f"the {what} of sweep over {depths} and of estimate at depth {depth} differ by"
                    f" {error:.1e}"
                )
                yield error, SAME, reason


@register(GRID)
def check_depth_zero(estimator: GradientEstimator, specimen: Specimen) -> Iterator[Measurement]:
    """The codes at depth 0 are the initial ones, and the gradient is the direct part."""
    result = specimen.estimate(estimator, 0)
    errors = {"codes": distance(codes_of(result), specimen.codes(0))}
    errors["gradient"] = distance(gradient_of(result), specimen.direct(0))
    for what, error in errors.items():
        yield (
            error,
            SAME,
            f"the {what} at depth 0 differ by {error:.1e} from those without any layer",
        )


@register(specimens("sparse coding"))
def check_impossible_depth(estimator: GradientEstimator, specimen: Specimen) -> None:
    """A negative or fractional depth is refused, not run as another."""
    for depth, method in itertools.product((-1, -20, 2.5), ("estimate", "sweep")):
        depths: Any = depth if method == "estimate" else [2, depth]
        try:
            if (
                result_unless_refused(
                    functools.partial(getattr(specimen, method), estimator, depths)
                )
                is None
            ):
                continue
            outcome = "returned"
        except MissingDependency:
            raise
        except Exception as error:  # noqa: BLE001  # any other exception is a failed check
            outcome = f"raised {type(error).__name__}, which does not tell a user what to do"
        advice = "refuse it, as pudle.algorithms.unrolling.check_depths does"
        raise NotMet(f"{method} at depth {depth} {outcome}: {advice}", depth)


@register(specimens("sparse coding"))
def check_divergent_step(estimator: GradientEstimator, specimen: Specimen) -> None:
    """A step above 2/L is refused, as `Algorithm.step_size` does."""
    problem = specimen.make()
    algorithm = dataclasses.replace(
        specimen.make_algorithm(), step=2.1 / problem.lipschitz_constant
    )
    if result_unless_refused(lambda: estimator.estimate(problem, algorithm, 3)) is not None:
        raise NotMet(
            "a step of 2.1/L was run: take the step from algorithm.step_size(problem)", 2.1, 2.0
        )


@register(specimens("tiny"))
def check_great_depth(estimator: GradientEstimator, specimen: Specimen) -> None:
    """At great depth the gradient is finite, or refused with a reason."""
    require_finite(specimen.estimate(estimator, GREAT), GREAT)


# A gradient of these losses grows with the square of the observations; a heuristic need not.
@register(
    lambda estimator: (
        () if getattr(estimator, "computes", None) == "heuristic" else specimens("sparse coding")
    )
)
def check_overflow(estimator: GradientEstimator, specimen: Specimen) -> None:
    """Observations so large that the gradient exceeds float64 give no finite number, or are
    refused.
    """
    huge = specimen.make().observations * 1e200  # type: ignore[attr-defined]
    result = result_unless_refused(
        lambda: specimen.estimate(estimator, SHALLOW[-1], observations=huge)
    )
    if result is not None and np.isfinite(size := float(torch.linalg.norm(result.gradient))):
        raise NotMet(
            f"a gradient that exceeds float64 came back with norm {size:.1e}: never replace NaN or"
            " infinity",
            size,
        )


@register(specimens("sparse coding", algorithms=PLAIN))
def check_empty_supports(estimator: GradientEstimator, specimen: Specimen) -> Iterator[Measurement]:
    """A penalty that leaves every code zero gives a zero gradient."""
    result = specimen.estimate(estimator, SHALLOW[-1], penalty=1e3)
    for what, tensor in (("codes", result.codes), ("gradient", result.gradient)):
        size = float(tensor.abs().max())
        yield size, 0, f"all codes should be zero, but the {what} reach {size}"


@register(specimens("sparse coding"))
def check_singular_systems(estimator: GradientEstimator, specimen: Specimen) -> None:
    """More active atoms than dimensions give a finite gradient, and diagnostics say how singular
    the systems were.
    """
    result = specimen.estimate(estimator, 1, penalty=1e-4)
    require_finite(result, 1)
    reported = {"condition_number", "largest_relative_residual", "unconverged", "singular"} & set(
        result.diagnostics
    )
    if result.diagnostics.get("solves") and not reported:
        raise NotMet(
            "diagnostics report solves, but not how singular they were: add condition_number or a"
            " residual"
        )
