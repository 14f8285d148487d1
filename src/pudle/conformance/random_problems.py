"""Checks on drawn problems: the claim at random depths, and relations that hold for every claim."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

from ..algorithms import Noodl
from ..algorithms.thresholding import Hard
from ..estimator import Estimate, GradientEstimator
from ..problems import Problem
from ..streams import generator
from .checks import (
    Measurement,
    NotMet,
    claim_of,
    codes_of,
    distance,
    gradient_of,
    is_quotient,
    options_of,
    register,
)
from .claims import window_of
from .draws import DRAWN, depths_of, is_regular
from .oracles import Array
from .specimens import KINDS, Specimen, specimens
from .tolerances import (
    EVERY,
    EXACT,
    FAR,
    QUOTIENT_DRAWN,
    ROUNDED,
    SAME,
    SINGLE,
    SINGLE_DRAWN,
    SOLVED,
)

#: Claims whose gradient at a depth is one vector, which a derivative in numpy gives.
EXACT_CLAIMS = ("direct", "unrolled", "truncated", "implicit")


@register(DRAWN, few_samples=True)
def check_random_problems(
    estimator: GradientEstimator, specimen: Specimen
) -> Iterator[Measurement]:
    """On drawn problems, algorithms and depths, the codes and the gradient of estimate and sweep
    are what is claimed.
    """
    depths = depths_of(specimen)
    if "window" in options_of(estimator) and claim_of(estimator) == "truncated":
        window = int(
            generator(0, f"conformance window {specimen.problem}").choice(
                [1, depths[0] - 1, depths[2], 1000]
            )
        )
        estimator = dataclasses.replace(estimator, window=max(window, 1))  # type: ignore[type-var]
    depth_alone = depths[2]
    alone, swept = specimen.estimate(estimator, depth_alone), specimen.sweep(estimator, depths)
    if len(swept) != len(depths):
        raise NotMet(f"sweep over {depths} yields {len(swept)} estimates instead of {len(depths)}")
    for depth, result in zip([depth_alone, *depths], [alone, *swept], strict=True):
        error = distance(codes_of(result), specimen.codes(depth))
        yield (
            error,
            EXACT,
            f"codes at depth {depth} are off by {error:.1e} of their norm on {describe(specimen)}",
        )
        yield from _compare(estimator, result, specimen, depth)
    error = float(np.linalg.norm(gradient_of(swept[2]) - gradient_of(alone))) / _size(
        gradient_of(alone), specimen
    )
    yield (
        error,
        SAME,
        f"the gradient of sweep and of estimate at depth {depth_alone} differ by {error:.1e}",
    )


def _compare(
    estimator: GradientEstimator,
    result: Estimate,
    specimen: Specimen,
    depth: int,
    limit: float = EXACT,
) -> Iterator[Measurement]:
    """Compare a gradient with what is claimed along two random directions: on large problems all
    directions take long.
    """
    claim, mine, model = claim_of(estimator), gradient_of(result), specimen.model
    if mine.shape != model.theta.shape:
        raise NotMet(f"gradient has shape {mine.shape} instead of {model.theta.shape}")
    if claim not in EXACT_CLAIMS or (claim == "implicit" and not is_regular(specimen)):
        return
    # A quotient's rounding is that of the loss, whatever the size of the gradient.
    size = _size(mine, specimen, 1.0 if is_quotient(result) else ROUNDED)
    limit = max(
        limit, QUOTIENT_DRAWN if is_quotient(result) else SOLVED if claim == "implicit" else EXACT
    )
    window = depth
    if claim == "truncated":
        window = window_of(result, depth)
        asked = getattr(estimator, "window", window)
        if min(asked, depth) != window:
            raise NotMet(
                f"window={asked} at depth {depth} differentiates {window} layers on"
                f" {describe(specimen)}"
            )
    for direction, expected in zip(
        directions(specimen), _claimed(specimen, claim, depth, window), strict=True
    ):
        got = float((mine * direction).sum())
        error = abs(got - expected) / max(size, abs(expected))
        along = f"along a random direction it is {got:.6g} instead of {expected:.6g}"
        yield (
            error,
            limit,
            f"off from the {claim} gradient at depth {depth} ({along}) on {describe(specimen)}",
        )


@functools.cache
def _claimed(specimen: Specimen, claim: str, depth: int, window: int) -> list[float]:
    """Return the products of the gradient that is claimed with the directions; the window counts
    for unrolled ones.
    """
    model, codes = specimen.model, specimen.codes(depth)
    if claim in ("direct", "implicit"):
        return [getattr(model, claim)(codes, direction) for direction in directions(specimen)]
    return [
        model.unrolled(specimen.layers, depth, window, direction)
        for direction in directions(specimen)
    ]


# Small steps, so that layers far back still count.
@register(specimens("tiny", algorithms=("ista(step=0.02/L)",)), few_samples=True)
def check_every_depth(estimator: GradientEstimator, specimen: Specimen) -> Iterator[Measurement]:
    """Every depth from 0 to 130, some up to 500, and windows of as many layers give what is
    claimed.
    """
    depths = (*range(EVERY + 1), *FAR)
    for depth, result in zip(depths, specimen.sweep(estimator, list(depths)), strict=True):
        yield from _compare(estimator, result, specimen, depth)
    if claim_of(estimator) == "truncated" and "window" in options_of(estimator):
        for window in depths[1:]:
            windowed = dataclasses.replace(estimator, window=window)  # type: ignore[type-var]
            yield from _compare(
                windowed, specimen.estimate(windowed, depths[-1]), specimen, depths[-1]
            )


def _size(gradient: Array, specimen: Specimen, share: float = ROUNDED) -> float:
    """Return the size that errors of a gradient are relative to: its norm, or more where its parts
    nearly cancel.

    The loss at zero codes per size of theta is the size of the parts; a `share` of it is the least
    size returned.
    """
    model = specimen.model
    loss = abs(float(model.loss(np.zeros_like(specimen.codes(0)), model.theta)))
    return (
        max(
            float(np.linalg.norm(gradient)),
            share * loss / (float(np.linalg.norm(model.theta)) or 1.0),
        )
        or 1.0
    )


@functools.cache
def directions(specimen: Specimen) -> list[Array]:
    """Return two random directions of unit norm in the shape of theta."""
    random, shape = (
        generator(0, f"conformance directions {specimen.problem}"),
        specimen.model.theta.shape,
    )
    drawn = [np.asarray(random.standard_normal(shape)) for _ in range(2)]
    return [direction / np.linalg.norm(direction) for direction in drawn]


@functools.cache
def describe(specimen: Specimen) -> str:
    """Return the shapes and options of a drawn problem and its algorithm."""
    kind, algorithm = KINDS[specimen.problem], specimen.make_algorithm()
    shapes = [
        f"{name} {'x'.join(map(str, array.shape)) or 'scalar'}"
        for name, array in kind.arrays.items()
    ]
    options = [f"{name}={value:.3g}" for name, value in kind.options.items()]
    warm = "" if algorithm.initial is None else " from a warm start"
    return f"{', '.join(shapes + options)}; {algorithm}{warm}"


SMALL = tuple(specimen for specimen in DRAWN if specimen.model.observations.size <= 200)


@register(SMALL[::2], few_samples=True)
def check_samples(estimator: GradientEstimator, specimen: Specimen) -> Iterator[Measurement]:
    """The gradient is the mean of the gradients for each sample alone."""
    # Deeper than the usual windows: samples may influence each other from some layer on.
    depth, problem, algorithm = 25, specimen.make(), specimen.make_algorithm()
    whole = specimen.estimate(estimator, depth)
    # A step of 1/L does not depend on the samples.
    parts = []
    for row in range(len(whole.codes)):
        rows = {name: tensor[row : row + 1] for name, tensor in _per_sample(problem).items()}
        start = None if algorithm.initial is None else algorithm.initial[row : row + 1]
        alone = estimator.estimate(
            dataclasses.replace(problem, **rows),  # type: ignore[type-var]
            dataclasses.replace(algorithm, initial=start),
            depth,
        )
        parts.append(gradient_of(alone))
    mean = np.mean(parts, axis=0)
    error = float(np.linalg.norm(gradient_of(whole) - mean)) / _size(mean, specimen)
    limit = SOLVED if claim_of(estimator) == "implicit" or is_quotient(whole) else EXACT
    yield (
        error,
        limit,
        f"{error:.1e} off from the mean over samples taken one by one on {describe(specimen)}",
    )


def _per_sample(problem: Problem) -> dict[str, torch.Tensor]:
    """Return the fields of a problem that have one row for each sample."""
    names = ("observations", "targets", "generating_codes", "held_out_observations")
    return {
        name: getattr(problem, name) for name in names if getattr(problem, name, None) is not None
    }


#: A power of two, so that no product with it is rounded.
FACTOR = 4.0


@register(SMALL[1::2], few_samples=True)
def check_units(estimator: GradientEstimator, specimen: Specimen) -> Iterator[Measurement]:
    """In units 4 times smaller the codes are 4 times, and the gradient 16 times as large (4 times
    for a linear loss).
    """
    if (claim := claim_of(estimator)) == "heuristic":
        return
    depth, problem, algorithm = 5, specimen.make(), specimen.make_algorithm()
    changes: dict[str, Any] = {
        name: FACTOR * tensor for name, tensor in _per_sample(problem).items()
    }
    fields = {field.name for field in dataclasses.fields(problem)}  # type: ignore[arg-type]
    if "penalty" in fields:
        changes["penalty"] = FACTOR * problem.penalty  # type: ignore[attr-defined]
    if "log_penalty" in fields:
        changes["log_penalty"] = problem.log_penalty + np.log(FACTOR)  # type: ignore[attr-defined]
    rule, start = algorithm.thresholding, algorithm.initial
    if isinstance(rule, Hard) and rule.threshold:
        rule = Hard(FACTOR * rule.threshold)
    scaled = dataclasses.replace(
        algorithm, thresholding=rule, initial=None if start is None else FACTOR * start
    )
    if isinstance(scaled, Noodl):
        thresholds = tuple(FACTOR * threshold for threshold in scaled.thresholds)
        scaled = dataclasses.replace(
            scaled, lower_bound=FACTOR * scaled.lower_bound, thresholds=thresholds
        )
    first = estimator.estimate(problem, algorithm, depth)
    second = estimator.estimate(dataclasses.replace(problem, **changes), scaled, depth)  # type: ignore[type-var]
    power = 1 if specimen.loss == "linear" else 2
    limit = SOLVED if claim == "implicit" or is_quotient(first) or claim == "stochastic" else EXACT
    for what, array_of, factor in (
        ("codes", codes_of, FACTOR),
        ("gradient", gradient_of, FACTOR**power),
    ):
        error = distance(array_of(second), factor * array_of(first))
        yield (
            error,
            limit,
            (
                f"the {what} of a problem in other units are off by {error:.1e} on"
                f" {describe(specimen)}"
            ),
        )


@register(SMALL[::3], few_samples=True)
def check_random_single_precision(
    estimator: GradientEstimator, specimen: Specimen
) -> Iterator[Measurement]:
    """On small drawn problems float32 gives what float64 gives, to a few digits."""
    single, double = (
        specimen.estimate(estimator, 4, dtype) for dtype in (torch.float32, torch.float64)
    )
    if is_quotient(double):
        # In float32 a quotient has two digits, and none where a kink lies within the step.
        return
    # Where the parts of a gradient cancel, it is as accurate as they are: to SINGLE of their size.
    size = _size(gradient_of(double), specimen, SINGLE / SINGLE_DRAWN)
    error = float(np.linalg.norm(gradient_of(single) - gradient_of(double))) / size
    yield error, SINGLE_DRAWN, f"float32 and float64 differ by {error:.1e} on {describe(specimen)}"
