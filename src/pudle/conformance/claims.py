"""Checks of the claim: codes and gradients are what the algorithm, `computes`, `window` and
`consistent_for` say.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from scipy.stats import sem

from ..estimator import Estimate, GradientEstimator
from ..measuring.scoring import score
from ..references import certified
from ..streams import generator
from . import tolerances
from .checks import (
    Defect,
    Distance,
    Measurement,
    Specimens,
    claim_of,
    codes_of,
    distance,
    gradient_of,
    is_quotient,
    options_of,
    register,
)
from .closed_forms import Array
from .contract import DIFFERENT
from .explanations import explain_codes, explain_gradient, explain_ratio
from .specimens import (
    DRAWN,
    GRID,
    PLAIN,
    SMALL,
    VARIED,
    Specimen,
    specimens,
)
from .tolerances import (
    DEEP,
    EXACT,
    QUOTIENT,
    QUOTIENT_DRAWN,
    ROUNDED,
    SAME,
    SETTLED,
    SHALLOW,
    SINGLE,
    SINGLE_DRAWN,
    SINGLE_QUOTIENT,
    SOLVED,
)

#: Problems on which implicit gradients are regular, and errors vanish within `DEEP` layers.
REGULAR = specimens("square", "convolutional", "penalty", "ridge", algorithms=PLAIN)
TINY = tuple(
    dataclasses.replace(each, drawn=True)
    for each in specimens("tiny", algorithms=("ista(step=0.02/L)",))
)
#: Claims whose gradient at a depth is one vector, which a derivative in numpy gives.
EXACT_CLAIMS = ("direct", "unrolled", "truncated", "implicit")

Measurements = Iterator[Measurement | Distance]


# The tiny ones have small steps, so that layers far back still count.
@register((*VARIED, *DRAWN, *TINY))
def check_claim(estimator: GradientEstimator, specimen: Specimen) -> Measurements:
    """Codes, and gradients of exact claims, are those of numpy at all depths, from `estimate` and
    `sweep`.
    """
    depths = specimen.depths
    if specimen.drawn and _has_window(estimator):
        random = generator(0, f"conformance window {specimen.problem}")
        window = max(int(random.choice([1, depths[0] - 1, depths[2], 1000])), 1)
        estimator = dataclasses.replace(estimator, window=window)  # type: ignore[type-var]
    alone, swept = specimen.estimate(estimator, depths[2]), specimen.sweep(estimator, depths)
    if len(swept) != len(depths):
        raise Defect(f"sweep over {depths} yields {len(swept)} estimates instead of {len(depths)}")
    for depth, result in zip([depths[2], *depths], [alone, *swept], strict=True):
        mine, expected = codes_of(result), specimen.form.codes(depth)
        explain = functools.partial(explain_codes, mine, expected, specimen, depth)
        yield distance(mine, expected), EXACT, explain
        yield from _exact(estimator, result, specimen, depth)
    expected = gradient_of(alone)
    error = distance(gradient_of(swept[2]), expected, _size(expected, specimen))
    reason = f"the gradient of sweep and of estimate at depth {depths[2]} differ by {error:.1e}"
    yield error, SAME, f"{reason} on {specimen}"


def _exact(
    estimator: GradientEstimator, result: Estimate, specimen: Specimen, depth: int
) -> Measurements:
    """Compare a gradient with the one that is claimed, if the claim names a single vector."""
    mine, claim, form = gradient_of(result), claim_of(estimator), specimen.form
    if mine.shape != form.theta.shape:
        raise Defect(f"shape {mine.shape} instead of {form.theta.shape}")
    if claim not in EXACT_CLAIMS or (claim == "implicit" and not form.regular):
        return
    quotient, window = is_quotient(result), window_of(estimator, result, depth)
    expected = specimen.along_directions(claim, depth, window)
    # A quotient's rounding is that of the loss, whatever the size of the gradient.
    size = _size(expected, specimen, 1.0 if quotient and specimen.drawn else ROUNDED)
    error = distance(specimen.directions @ mine.ravel(), expected, size)
    limit = SOLVED if claim == "implicit" else EXACT
    if quotient:
        limit = QUOTIENT_DRAWN if specimen.drawn else QUOTIENT
    what = f"the derivative through {window} of {depth} layers" if window else "the direct part"
    what = "the implicit gradient" if claim == "implicit" else what
    yield error, limit, functools.partial(explain_gradient, mine, expected, specimen, depth, what)


def _size(gradient: Array, specimen: Specimen, share: float = ROUNDED) -> float:
    """Return the size that errors of a gradient are relative to: its norm, or more where its parts
    nearly cancel.

    The norm is estimated where the gradient is known along some directions alone. The loss at zero
    codes per size of theta is the size of the parts; a `share` of it is the least size returned.
    """
    theta, codes = specimen.form.theta, np.zeros_like(specimen.form.codes(0))
    norm = float(np.linalg.norm(gradient)) * (theta.size / gradient.size) ** 0.5
    loss = abs(complex(specimen.form.loss(codes, theta)))
    return max(norm, share * loss / (float(np.linalg.norm(theta)) or 1.0)) or 1.0


def window_of(estimator: GradientEstimator, result: Estimate, depth: int) -> int:
    """Return through how many of the last layers the claimed derivative goes, or fail if a
    truncated estimate does not say, or says another number than was asked for.
    """
    claim = claim_of(estimator)
    if claim != "truncated":
        return 0 if claim == "direct" else depth
    reported = result.diagnostics.get("layers_differentiated")
    if not isinstance(reported, int) or not 0 <= reported <= depth:
        raise Defect(
            f"diagnostics report layers_differentiated={reported!r} at depth {depth}: report the"
            " window in use"
        )
    window = getattr(estimator, "window", None)
    if isinstance(window, int) and min(window, depth) != reported:
        reason = f"window={window} at depth {depth} differentiates {reported} layers"
        raise Defect(f"{reason} instead of {min(window, depth)}")
    return reported


def claiming(claim: str, specimens: Specimens) -> Callable[[GradientEstimator], Specimens]:
    """Return the specimens for estimators with a claim, and none for others."""
    return lambda estimator: specimens if getattr(estimator, "computes", None) == claim else ()


@register(claiming("heuristic", GRID))
def check_descent(estimator: GradientEstimator, specimen: Specimen) -> Measurements:
    """A heuristic is within 90 degrees of the direct part: a step against it lowers the loss.

    Nothing more can be required of a vector that is the gradient of no loss. Its own tests check
    its formula.
    """
    for depth in SHALLOW:
        mine = gradient_of(specimen.estimate(estimator, depth))
        # Where the loss depends on theta through the codes alone, no direction lowers it at fixed
        # codes.
        angle, cosine = _angle(mine, [specimen.unrolled(depth, 0)])
        reason = f"cosine {cosine} to the direct part at depth {depth}"
        yield angle, 1.0, f"{reason}: a step against it does not lower the loss"


def _angle(mine: Array, targets: list[Array]) -> tuple[float, str]:
    """Return one minus the largest cosine to a target that is not zero, and that cosine."""
    if mine.shape != targets[0].shape:
        raise Defect(f"shape {mine.shape} instead of {targets[0].shape}")
    size = np.linalg.norm(mine) or 1.0
    cosines = [
        float((mine * target).sum() / (size * norm))
        for target in targets
        if (norm := np.linalg.norm(target))
    ]
    cosine = max(cosines, default=1.0)
    return 1 - cosine, f"{cosine:.3g}"


@functools.cache
def certified_of(specimen: Specimen) -> certified.Reference:
    """Return the certified reference of a specimen that has one."""
    reference = certified.reference(specimen.make())
    assert reference.status == "certified", f"{specimen}: {reference.reason}"
    return reference


@register(claiming("approximate", REGULAR))
def check_approximation(estimator: GradientEstimator, specimen: Specimen) -> Measurements:
    """An approximation is within 90 degrees of a gradient that it may stand for."""
    depths = (*SHALLOW, SETTLED, DEEP)
    for depth, result in zip(depths, specimen.sweep(estimator, depths), strict=True):
        targets = {
            "exact": certified_of(specimen).gradient.numpy(),
            "unrolled": specimen.unrolled(depth),
            "implicit": specimen.implicit(depth),
        }
        mine = gradient_of(result)
        angle, cosine = _angle(mine, list(targets.values()))
        for name, target in targets.items():
            yield Distance(name, depth, distance(mine, target))
        if not mine.any() and not specimen.unrolled(depth, 0).any():
            # An approximation of the direct part alone: it says that codes do not depend on theta.
            continue
        names = ", ".join(targets)
        reason = f"cosine {cosine} to the nearest of the {names} gradients at depth {depth}"
        yield angle, 1.0, f"{reason}: it approximates none of them"


@register(claiming("stochastic", DIFFERENT), few_samples=False)
def check_mean(estimator: GradientEstimator, specimen: Specimen) -> Measurements:
    """The mean of a random gradient over seeds is the unrolled gradient or the direct part."""
    if "seed" not in options_of(estimator):
        raise Defect(
            "a stochastic estimator needs a field `seed`: without it the draws cannot be repeated"
            " or averaged"
        )
    depth = tolerances.AVERAGED
    targets = {
        "the unrolled gradient": specimen.unrolled(depth),
        "the direct part": specimen.unrolled(depth, 0),
    }
    axes: list[Array] = [target for target in targets.values() if target.any()]
    shape = specimen.form.theta.shape
    axes += [np.asarray(np.random.default_rng(index).standard_normal(shape)) for index in range(2)]
    axes = [axis / np.linalg.norm(axis) for axis in axes]
    size = max(float(np.linalg.norm(target)) for target in targets.values())
    draws: list[list[float]] = []
    layers_run = 0
    for seed in range(tolerances.MOST_SEEDS):
        seeded = dataclasses.replace(estimator, seed=seed)  # type: ignore[type-var]
        result = specimen.estimate(seeded, depth)
        draws.append([float((gradient_of(result) * axis).sum()) for axis in axes])
        runs = result.diagnostics.get("evaluations", 1)
        layers_run += int(result.diagnostics.get("layers", depth * runs))
        enough = len(draws) >= tolerances.SEEDS and layers_run >= tolerances.LAYERS
        if enough and sem(draws).max() < tolerances.RESOLVING * size:
            break
    spread, mean = sem(draws), np.mean(draws, axis=0)
    # A mean that does not vary is held to the accuracy of a difference quotient.
    scale = np.maximum(spread, QUOTIENT * size / tolerances.STANDARD_ERRORS)
    projected = {
        name: np.array([(target * axis).sum() for axis in axes]) for name, target in targets.items()
    }
    worst, name = min(
        (float((np.abs(mean - expected) / scale).max()), name)
        for name, expected in projected.items()
    )
    largest = float(spread.max() / size)
    if worst < tolerances.STANDARD_ERRORS and largest >= tolerances.RESOLVING:
        reason = (
            f"after {len(draws)} seeds the standard error is still {largest:.2g} of the gradient"
        )
        remedy = "which hides any bias: check it with more samples"
        raise Defect(f"{reason}, {remedy}", largest, tolerances.RESOLVING)
    ratio = float(mean[0] / projected["the unrolled gradient"][0])
    reason = f"the mean over {len(draws)} seeds is {worst:.3g} standard errors from {name}"
    along = f"along the unrolled gradient it is {ratio:.3g} times that"
    explained = explain_ratio(ratio, estimator)
    yield worst, tolerances.STANDARD_ERRORS, f"{reason}; {along}{explained}"


def _has_window(estimator: GradientEstimator) -> bool:
    return getattr(estimator, "computes", "") == "truncated" and "window" in options_of(estimator)


def _windowed(estimator: GradientEstimator) -> tuple[Specimen, ...]:
    windowed = specimens("sparse coding", algorithms=PLAIN) + TINY
    return windowed if _has_window(estimator) else ()


@register(_windowed)
def check_window(estimator: GradientEstimator, specimen: Specimen) -> Measurements:
    """The window asked for is the one used, and one above the depth is full backpropagation."""
    depth, windows = 40, [1, 7, 39, 40, 400]
    if specimen in TINY:
        depth, windows = specimen.depths[-1], specimen.depths[1:]
    for window in windows:
        windowed = dataclasses.replace(estimator, window=window)  # type: ignore[type-var]
        yield from _exact(windowed, specimen.estimate(windowed, depth), specimen, depth)


def _consistent_on(estimator: GradientEstimator) -> tuple[Specimen, ...]:
    losses = type(estimator).consistent_for
    random = getattr(estimator, "computes", None) == "stochastic"
    return tuple(each for each in REGULAR if not random and (losses is None or each.loss in losses))


@register(_consistent_on)
def check_consistency(estimator: GradientEstimator, specimen: Specimen) -> Measurements:
    """The error against the certified reference vanishes with depth for the losses in
    `consistent_for`.
    """
    reference = certified_of(specimen)
    # A sweep is often cheaper than two estimates, and another check holds the two to agree.
    scores = [score(result, reference) for result in specimen.sweep(estimator, [DEEP // 2, DEEP])]
    for each in scores:
        if each.status != "ok":
            raise Defect(each.reason)
    earlier, last = (each.relative_error for each in scores)
    claim = f"consistent_for claims {specimen.loss}"
    if type(estimator).consistent_for is None:
        claim = "consistent_for is None, which claims every loss"
    reason = f"relative error {last:.2g} at depth {DEEP}, {earlier:.2g} at {DEEP // 2}"
    reason = f"{reason}: it does not vanish, though {claim}"
    yield last, tolerances.VANISHED, reason


@register(SMALL[::2])
def check_samples(estimator: GradientEstimator, specimen: Specimen) -> Measurements:
    """The gradient is the mean of the gradients for each sample alone."""
    # Deeper than the usual windows: samples may influence each other from some layer on.
    depth, problem, algorithm = 25, specimen.make(), specimen.make_algorithm()
    whole = specimen.estimate(estimator, depth)
    # A step of 1/L does not depend on the samples.
    parts = []
    for row in range(len(whole.codes)):
        rows = {name: each[row : row + 1] for name, each in _per_sample(problem).items()}
        start = None if algorithm.initial is None else algorithm.initial[row : row + 1]
        alone = estimator.estimate(
            dataclasses.replace(problem, **rows),  # type: ignore[type-var]
            dataclasses.replace(algorithm, initial=start),
            depth,
        )
        parts.append(gradient_of(alone))
    mean = np.mean(parts, axis=0)
    error = distance(gradient_of(whole), mean, _size(mean, specimen))
    limit = SOLVED if claim_of(estimator) == "implicit" or is_quotient(whole) else EXACT
    reason = f"{error:.1e} off from the mean over samples taken one by one on {specimen}"
    yield error, limit, reason


def _per_sample(problem: Any) -> dict[str, torch.Tensor]:
    """Return the fields of a problem that have one row for each sample."""
    fields = {name: getattr(problem, name) for name in problem.per_sample}
    return {name: each for name, each in fields.items() if each is not None}


#: A power of two, so that no product with it is rounded.
FACTOR = 4.0


@register(SMALL[1::2])
def check_units(estimator: GradientEstimator, specimen: Specimen) -> Measurements:
    """In units 4 times smaller the codes are 4 times, and the gradient 16 times as large (4 times
    for a linear loss).
    """
    if (claim := claim_of(estimator)) == "heuristic":
        return
    depth, problem = 5, specimen.make()
    changes: dict[str, Any] = {name: FACTOR * each for name, each in _per_sample(problem).items()}
    fields = vars(problem)
    if "log_penalty" in fields:
        changes["log_penalty"] = fields["log_penalty"] + np.log(FACTOR)
    elif "penalty" in fields:
        changes["penalty"] = FACTOR * fields["penalty"]
    scaled = dataclasses.replace(problem, **changes)  # type: ignore[type-var]
    algorithm = specimen.algorithm_for(scaled, FACTOR * specimen.initial)
    first, second = (
        specimen.estimate(estimator, depth),
        estimator.estimate(scaled, algorithm, depth),
    )
    limit = SOLVED if claim in ("implicit", "stochastic") or is_quotient(first) else EXACT
    factor = FACTOR if specimen.loss == "linear" else FACTOR**2
    for what, array_of, times in (("codes", codes_of, FACTOR), ("gradient", gradient_of, factor)):
        error = distance(array_of(second), times * array_of(first))
        reason = f"the {what} of a problem in other units are off by {error:.1e}"
        yield error, limit, f"{reason} on {specimen}"


@register(specimens("square", algorithms=PLAIN) + SMALL[::3])
def check_single_precision(estimator: GradientEstimator, specimen: Specimen) -> Measurements:
    """float32 gives what float64 gives, to the accuracy of float32, and to a few digits on drawn
    problems.
    """
    depth = 4 if specimen.drawn else SETTLED
    single, double = (
        specimen.estimate(estimator, depth, dtype) for dtype in (torch.float32, torch.float64)
    )
    expected, limit = gradient_of(double), SINGLE_QUOTIENT if is_quotient(double) else SINGLE
    size = None
    if specimen.drawn and is_quotient(double):
        # In float32 a quotient has two digits, and none where a kink lies within the step.
        return
    if specimen.drawn:
        # Where the parts of a gradient cancel, it is as accurate as they are: to SINGLE of their
        # size.
        size, limit = _size(expected, specimen, SINGLE / SINGLE_DRAWN), SINGLE_DRAWN
    error = distance(gradient_of(single), expected, size)
    reason = f"float32 and float64 differ by {error:.1e} at depth {depth} on {specimen}"
    yield error, limit, reason
