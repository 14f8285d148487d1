"""Checks of the claim: the gradient is what `computes`, `window` and `consistent_for` say."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator

import numpy as np
from scipy.stats import sem

from ..estimator import Estimate, GradientEstimator
from ..measuring.scoring import score
from . import tolerances
from .checks import (
    Distance,
    Measurement,
    NotMet,
    claim_of,
    distance,
    gradient_of,
    is_quotient,
    options_of,
    register,
)
from .distances import certified_of, check_approximation
from .explanations import explain_gradient, explain_ratio
from .oracles import Array
from .specimens import PLAIN, VARIED, Specimen, specimens

#: Problems on which every claim of an implicit gradient is regular, and errors vanish within `DEEP`
#: layers.
REGULAR = specimens("square", "convolutional", "penalty", "ridge", algorithms=PLAIN)
#: The kinds whose gradients are made of the most different parts: few, because a mean takes many
#: draws.
AVERAGED_ON = specimens("sparse coding", "convolutional", "penalty", "ridge")


#: What claims are checked on, if not on every kind and algorithm.
CLAIMED_ON = {"implicit": REGULAR, "approximate": REGULAR, "stochastic": AVERAGED_ON}


@register(lambda estimator: CLAIMED_ON.get(getattr(estimator, "computes", ""), VARIED))
def check_claim(
    estimator: GradientEstimator, specimen: Specimen
) -> Iterator[Measurement | Distance]:
    """The gradient is what `computes` says, by a derivative that uses no estimator."""
    special = {
        "stochastic": _check_mean,
        "implicit": _check_implicit,
        "heuristic": _check_descent,
        "approximate": check_approximation,
    }
    claim = claim_of(estimator)
    if claim in special:
        yield from special[claim](estimator, specimen)
        return
    for depth in tolerances.SHALLOW:
        result = specimen.estimate(estimator, depth)
        window = (
            window_of(result, depth) if claim == "truncated" else 0 if claim == "direct" else depth
        )
        yield _compare(result, specimen, depth, window)


def _check_implicit(estimator: GradientEstimator, specimen: Specimen) -> Iterator[Measurement]:
    """Compare with the implicit function theorem at nearly converged codes."""
    mine = gradient_of(specimen.estimate(estimator, tolerances.SETTLED))
    expected = specimen.implicit(tolerances.SETTLED)
    what = "the implicit gradient"
    explain = functools.partial(
        explain_gradient, mine, expected, specimen, tolerances.SETTLED, what
    )
    yield distance(mine, expected), tolerances.SOLVED, explain


def _check_descent(estimator: GradientEstimator, specimen: Specimen) -> Iterator[Measurement]:
    """Check that the gradient is within 90 degrees of the direct part: a step against it lowers the
    loss at fixed codes.

    Nothing more can be required of a vector that is the gradient of no loss. Its own tests check
    its formula.
    """
    for depth in tolerances.SHALLOW:
        mine, direct = gradient_of(specimen.estimate(estimator, depth)), specimen.direct(depth)
        if mine.shape != direct.shape:
            raise NotMet(f"shape {mine.shape} instead of {direct.shape}")
        product, norms = (
            float((mine * direct).sum()),
            float(np.linalg.norm(mine) * np.linalg.norm(direct)),
        )
        # Where the loss depends on theta through the codes alone, no direction lowers it at fixed
        # codes.
        angle = 1 - product / norms if norms else 0.0
        reason = (
            f"cosine {1 - angle:.3g} to the direct part at depth {depth}: a step against it does"
            " not lower the loss"
        )
        yield angle, 1.0, reason


def _check_mean(estimator: GradientEstimator, specimen: Specimen) -> Iterator[Measurement]:
    """Check that, over seeds, projections of the gradient average to those of the unrolled gradient
    or the direct part.
    """
    if "seed" not in options_of(estimator):
        raise NotMet(
            "a stochastic estimator needs a field `seed`: without it the draws cannot be repeated"
            " or averaged"
        )
    depth = tolerances.AVERAGED
    targets = {
        "the unrolled gradient": specimen.unrolled(depth),
        "the direct part": specimen.direct(depth),
    }
    axes: list[Array] = [target for target in targets.values() if target.any()]
    axes += [
        np.asarray(np.random.default_rng(index).standard_normal(specimen.model.theta.shape))
        for index in range(2)
    ]
    axes = [axis / np.linalg.norm(axis) for axis in axes]
    size = max(float(np.linalg.norm(target)) for target in targets.values())
    draws: list[list[float]] = []
    layers_run = 0
    for seed in range(tolerances.MOST_SEEDS):
        seeded = dataclasses.replace(estimator, seed=seed)  # type: ignore[type-var]
        result = specimen.estimate(seeded, depth)
        draws.append([float((gradient_of(result) * axis).sum()) for axis in axes])
        layers_run += int(
            result.diagnostics.get("layers", depth * result.diagnostics.get("evaluations", 1))
        )
        enough = len(draws) >= tolerances.SEEDS and layers_run >= tolerances.LAYERS
        if enough and sem(draws).max() < tolerances.RESOLVING * size:
            break
    spread, mean = sem(draws), np.mean(draws, axis=0)
    # A mean that does not vary is held to the accuracy of a difference quotient.
    scale = np.maximum(spread, tolerances.QUOTIENT * size / tolerances.STANDARD_ERRORS)
    projected = {
        name: [float((target * axis).sum()) for axis in axes] for name, target in targets.items()
    }
    errors = {
        name: float((np.abs(mean - projections) / scale).max())
        for name, projections in projected.items()
    }
    name, worst = min(errors.items(), key=lambda item: item[1])
    largest = float(spread.max() / size)
    if worst < tolerances.STANDARD_ERRORS and largest >= tolerances.RESOLVING:
        reason = (
            f"after {len(draws)} seeds the standard error is still {largest:.2g} of the gradient,"
            " which hides any bias"
        )
        raise NotMet(f"{reason}: check it with more samples", largest, tolerances.RESOLVING)
    ratio = float(mean[0] / projected["the unrolled gradient"][0])
    reason = f"the mean over {len(draws)} seeds is {worst:.3g} standard errors from {name}"
    along = (
        f"along the unrolled gradient it is {ratio:.3g} times that{explain_ratio(ratio, estimator)}"
    )
    yield worst, tolerances.STANDARD_ERRORS, f"{reason}; {along}"


def _specimens_of_window(estimator: GradientEstimator) -> tuple[Specimen, ...]:
    windowed = getattr(estimator, "computes", None) == "truncated" and "window" in options_of(
        estimator
    )
    return specimens("sparse coding", algorithms=PLAIN) if windowed else ()


@register(_specimens_of_window)
def check_window(estimator: GradientEstimator, specimen: Specimen) -> Iterator[Measurement]:
    """The requested window is the one used, and a window above the depth is full backpropagation."""
    depth = 40
    for window in (1, 7, depth - 1, depth, 10 * depth):
        windowed = dataclasses.replace(estimator, window=window)  # type: ignore[type-var]
        result = specimen.estimate(windowed, depth)
        reported, expected = window_of(result, depth), min(window, depth)
        if reported != expected:
            reason = (
                f"window={window} at depth {depth} differentiates {reported} layers instead of"
                f" {expected}"
            )
            raise NotMet(reason, reported, expected)
        yield _compare(result, specimen, depth, expected)


def _specimens_of_consistency(estimator: GradientEstimator) -> tuple[Specimen, ...]:
    if getattr(estimator, "computes", None) == "stochastic":
        return ()
    claimed = type(estimator).consistent_for
    return tuple(specimen for specimen in REGULAR if claimed is None or specimen.loss in claimed)


@register(_specimens_of_consistency)
def check_consistency(estimator: GradientEstimator, specimen: Specimen) -> Iterator[Measurement]:
    """The error against the certified reference vanishes with depth for the losses in
    `consistent_for`.
    """
    reference, deep = certified_of(specimen), tolerances.DEEP
    # A sweep is often cheaper than two estimates, and another check holds the two to agree.
    scores = [score(result, reference) for result in specimen.sweep(estimator, [deep // 2, deep])]
    for found in scores:
        if found.status != "ok":
            raise NotMet(found.reason)
    earlier, last = (found.relative_error for found in scores)
    everything = type(estimator).consistent_for is None
    claim = (
        "consistent_for is None, which claims every loss"
        if everything
        else f"consistent_for claims {specimen.loss}"
    )
    reason = (
        f"relative error {last:.2g} at depth {deep}, {earlier:.2g} at {deep // 2}: it does not"
        " vanish, though"
    )
    yield last, tolerances.VANISHED, f"{reason} {claim}"


def _compare(result: Estimate, specimen: Specimen, depth: int, window: int) -> Measurement:
    """Compare a gradient with the derivative through the last `window` layers."""
    mine, expected = gradient_of(result), specimen.unrolled(depth, window)
    # If the expected value is zero, the scale is that of the derivative through all layers.
    size = float(np.linalg.norm(expected)) or float(np.linalg.norm(specimen.unrolled(depth)))
    error = (
        float(np.linalg.norm(mine - expected)) / size
        if mine.shape == expected.shape
        else float("inf")
    )
    what = (
        "the direct part" if window == 0 else f"the derivative through {window} of {depth} layers"
    )
    explain = functools.partial(explain_gradient, mine, expected, specimen, depth, what)
    return error, tolerances.QUOTIENT if is_quotient(result) else tolerances.EXACT, explain


def window_of(result: Estimate, depth: int) -> int:
    """Return how many layers an estimate says were differentiated, or fail if it does not say."""
    reported = result.diagnostics.get("layers_differentiated")
    if not isinstance(reported, int) or not 0 <= reported <= depth:
        raise NotMet(
            f"diagnostics report layers_differentiated={reported!r} at depth {depth}: report the"
            " window in use"
        )
    return reported
