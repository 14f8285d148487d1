"""Checks of the claim: codes and gradients are what the algorithm, `computes`, `window` and
`consistent_for` say.
"""

import dataclasses
import functools
from typing import Any

import numpy as np
import torch
from scipy import stats

from ..algorithms.thresholding import Hard
from ..references import certified
from ..streams import generator
from .checks import (
    Defect,
    Distance,
    Measurements,
    Subject,
    codes_of,
    compare,
    gradient_of,
    is_quotient,
    register,
    require,
    require_finite,
)
from .contract import DIFFERENT
from .explanations import (
    AVERAGED,
    DEEP,
    EVERY,
    EXACT,
    FAR,
    LAYERS,
    MOST_SEEDS,
    QUOTIENT,
    QUOTIENT_DRAWN,
    RESOLVING,
    ROUNDED,
    SAME,
    SEEDS,
    SETTLED,
    SHALLOW,
    SINGLE,
    SINGLE_DRAWN,
    SINGLE_QUOTIENT,
    SINGLE_STIFF,
    SOLVABLE,
    SOLVED,
    STANDARD_ERRORS,
    VANISHED,
    Array,
    Mistakes,
    distance,
    norm,
)
from .specimens import DRAWN, GRID, PLAIN, SAMPLED, SMALL, WHOLE, Specimen, specimens, tensors_of

#: Problems on which implicit gradients are regular, and errors vanish within `DEEP` layers. An
#: approximation may have the wrong sign in an entry, and so in all where there are few.
REGULAR = specimens(
    "square", "elastic net", "convolutional", "penalty", "ridge", algorithms=PLAIN
) + tuple(each for each in WHOLE if "iterations" in each.problem and each.form.theta.size > 3)
#: Drawn ones whose algorithm leads to the minimizer, and a lasso to its own gradient.
LEADING = tuple(
    each
    for each in WHOLE
    if each.make_algorithm().thresholding.proximal
    and getattr(each.original, "targets", None) is None
)
#: Where the loss has targets of its own.
DENOISING = tuple(
    dataclasses.replace(
        each, original=dataclasses.replace(each.original, targets=-each.original.observations)
    )
    for each in specimens("convolutional")
)
#: With small steps, so that layers far back still count.
TINY = specimens("tiny", algorithms=("ista(step=0.01)",))
#: The same, of which gradients are known along some directions.
TINY_DRAWN = tuple(dataclasses.replace(each, drawn=True) for each in TINY)

#: With so many samples that some take them by batches.
MANY = tuple(each for each in WHOLE if each.original.code_shape[0] > 64)
#: With memory, warm starts and every kind: for means, which few entries of theta make cheap.
VARIED = specimens("elastic net", algorithms=("fista",)) + WHOLE[::3] + MANY + TINY


def _alike(specimen: Specimen, difference: float) -> Specimen:
    """Return a problem of which two atoms are nearly parallel, with few zeros in its codes."""
    atoms = specimen.original.dictionary.clone()
    atoms[:, 1] = (1 - difference) * atoms[:, 0] + difference * atoms[:, 1]
    problem = dataclasses.replace(specimen.original, dictionary=atoms, penalty=0.02)
    return dataclasses.replace(specimen, original=problem, drawn=True)


#: Condition numbers of 800, whose square exceeds float32, and of 10 million.
STIFF, STIFFER = (
    tuple(_alike(each, difference) for each in specimens("square")) for difference in (0.12, 1e-3)
)


def mistaken_gradients(specimen: Specimen, depth: int, expected: Array) -> Mistakes:
    """Yield the gradients that common mistakes lead to, the cheap ones first."""
    if specimen.drawn:
        # Gradients are known along some directions, and those of large problems take long.
        return
    form, n = specimen.form, len(specimen.form.codes(0))
    full, direct, implicit = form.unrolled(depth), form.unrolled(depth, 0), form.implicit(depth)
    yield f"a sum over the {n} samples, not a mean", n * expected
    yield "the direct part alone, without the path through the codes", direct
    yield "the derivative through all layers", full
    yield "the path through the codes with the wrong sign", 2 * direct - full
    yield "the implicit gradient on the support of the last codes", implicit
    yield "the correction of the direct part with the wrong sign", 2 * direct - implicit
    yield "transposed", expected.T
    earlier = form.implicit(max(depth - 1, 0))
    yield "the implicit gradient at the codes of an earlier layer", earlier
    for window in range(depth - 1, 0, -1) if depth < SETTLED else ():
        yield f"the derivative through the last {window} layers alone", form.unrolled(depth, window)


@register((*GRID, *DRAWN, *TINY_DRAWN, *STIFFER))
def check_claim(subject: Subject) -> Measurements:
    """Codes, and gradients of exact claims, are those of numpy at all depths, from `estimate` and
    `sweep`.
    """
    specimen, depths = subject.specimen, subject.specimen.depths
    if specimen.drawn and subject.claim == "truncated" and "window" in subject.options:
        random = generator(0, f"conformance window {specimen.problem}")
        window = max(int(random.choice([1, depths[0] - 1, depths[2], 1000])), 1)
        subject = subject.having(window=window)
    swept = subject.sweep(depths)
    require(
        len(swept) == len(depths),
        f"sweep over {depths} yields {len(swept)} estimates instead of {len(depths)}",
    )
    # Where no gradient is known, the two are all that there is to compare.
    known = subject.claim in ("direct", "unrolled", "truncated", "implicit")
    alone = {depth: subject.estimate(depth) for depth in (depths[1:3] if known else depths[:4])}
    for depth, result in [*zip(depths, swept, strict=True), *alone.items()]:
        require_finite(result, depth)
        mistakes = (
            (f"those of layer {layer}", specimen.form.codes(layer))
            for layer in (max(depth - 1, 0), depth + 1)
            if not specimen.drawn
        )
        what, codes = f"the codes at depth {depth}", specimen.form.codes(depth)
        yield compare(what, codes_of(result), codes, EXACT, mistakes=mistakes)
        yield from _exact(subject, result, depth)
    # A solver ends anywhere within its tolerance: the last bits of its input decide.
    limit = SOLVED if subject.claim == "implicit" else SAME
    for depth, result in zip(depths, swept, strict=True):
        if depth in alone:
            said, others = (
                [each.diagnostics.get(name) for name in ("layers", "layers_differentiated")]
                for each in (result, alone[depth])
            )
            require(said == others, f"a sweep says {said} layers, and estimate {others}")
            what, expected = f"the gradient of estimate at depth {depth}", gradient_of(alone[depth])
            size = _size(expected, specimen, SAME / EXACT)
            yield compare(what, gradient_of(result), expected, limit, size)


def _exact(subject: Subject, result: Any, depth: int) -> Measurements:
    """Compare a gradient with the one that is claimed, if the claim names a single vector."""
    specimen, form, limit, share = subject.specimen, subject.specimen.form, EXACT, ROUNDED
    mine = form.along(gradient_of(result))
    match subject.claim:
        case "implicit" if (condition := form.condition(depth)) < SOLVABLE:
            if result.diagnostics.get("largest_relative_residual", 0.0) > SOLVED:
                # It says itself that it has not solved its systems.
                return
            what, limit = "the implicit gradient", SOLVED * max(1.0, condition / 1e3)
            # That of the layer's fixed point has the layer's active set.
            right = [form.implicit(depth), form.implicit(depth, ahead=True)]
            off = functools.partial(distance, mine)
            if min(map(off, right)) > limit:
                # One step of a better method may lead beyond the codes, to the exact gradient.
                right.append(form.along(_limit(specimen)))
            expected = min(right, key=off)
        case "direct":
            expected = form.unrolled(depth, _window_used(subject, result, depth))
            what = "the direct part"
        case "unrolled" | "truncated" if form.algorithm.differentiable:
            window = _window_used(subject, result, depth)
            what = f"the derivative through {window} of {depth} layers"
            expected = form.unrolled(depth, window)
        case "unrolled" | "truncated" if not is_quotient(result):
            raise Defect("differentiates an algorithm that is not differentiable: refuse it")
        case _:
            return
    if is_quotient(result):
        if isinstance(getattr(form.algorithm, "thresholding", None), Hard):
            # Of many codes one jumps within the step of the quotient.
            return
        # Its rounding is that of the loss, whatever the size of the gradient.
        limit, share = (QUOTIENT_DRAWN, 1.0) if specimen.drawn else (QUOTIENT, ROUNDED)
    yield compare(
        f"{what} at depth {depth}",
        mine,
        expected,
        limit,
        _size(expected, specimen, share),
        mistaken_gradients(specimen, depth, expected),
    )


def _window_used(subject: Subject, result: Any, depth: int) -> int:
    """Return through how many of the last layers the claimed derivative goes, or fail if a
    truncated estimate does not say, or says another number than was asked for.
    """
    used = result.diagnostics.get("layers_differentiated")
    whole = depth * (subject.claim != "direct")
    if subject.claim != "truncated" and used in (None, 0):
        return whole
    says = f"diagnostics report layers_differentiated={used!r} at depth {depth}"
    if not isinstance(used, int) or not 0 <= used <= depth:
        raise Defect(f"{says}: report the window in use")
    asked = used if subject.claim == "truncated" else whole
    asked = min(subject.estimator.window, depth) if "window" in subject.options else asked
    require(asked == used, f"{says} instead of {asked}: differentiate the layers asked for")
    return used


def _size(gradient: Array, specimen: Specimen, share: float = ROUNDED) -> float:
    """Return the size that errors of a gradient are relative to: its norm, or more where its parts
    nearly cancel.

    The norm is estimated where the gradient is known along some directions alone. The loss at the
    start without signs, so that nothing cancels, per size of theta is the size of the parts; a
    `share` of it is the least size returned.
    """
    theta = specimen.form.theta
    size = norm(gradient) * (theta.size / gradient.size) ** 0.5
    loss = abs(specimen.form.loss(np.abs(specimen.form.codes(0)), np.abs(theta)))
    return max(size, share * loss / (norm(theta) or 1.0)) or 1.0


@register(GRID + DENOISING, lambda subject: subject.claim == "heuristic")
def check_descent(subject: Subject) -> Measurements:
    """A heuristic is within 90 degrees of the direct part: a step against it lowers the loss.

    Nothing more can be required of a vector that is the gradient of no loss. Its own tests check
    its formula.
    """
    for depth in SHALLOW:
        # Where the loss depends on theta through the codes alone, no direction lowers it at fixed
        # codes.
        direct = subject.specimen.form.unrolled(depth, 0)
        yield _angle(subject.gradient(depth), {"direct": direct}, depth)


def _angle(mine: Array, targets: dict[str, Array], depth: int) -> tuple[float, ...]:
    """Fail unless one minus the largest cosine to a target that is not zero is below one."""
    size = norm(mine) or 1.0
    cosines = [
        (mine * target).sum() / size / norm(target) for target in targets.values() if target.any()
    ]
    cosine = max(cosines, default=1.0)
    return require(
        cosine > 0,
        f"at depth {depth} the cosine to the gradients {', '.join(targets)} is {cosine:.3g}: a step"
        " against it lowers none of the losses",
        1 - cosine,
        1.0,
    )


@functools.cache
def _certified(specimen: Specimen) -> Any:
    """Return the certified reference of a specimen, or None if it has none."""
    problem = specimen.make()
    if certified.default_target(problem) != "exact":
        return None
    reference = certified.reference(problem)
    return reference if reference.status == "certified" else None


def _limit(specimen: Specimen) -> Array:
    """Return the gradient at the limit, certified where there is a certificate."""
    reference = _certified(specimen)
    return reference.gradient.numpy() if reference else specimen.form.implicit(4 * DEEP)


@register(REGULAR, lambda subject: subject.claim == "approximate")
def check_approximation(subject: Subject) -> Measurements:
    """An approximation is within 90 degrees of a gradient that it may stand for."""
    depths, form = (*SHALLOW, SETTLED, DEEP), subject.specimen.form
    exact = _limit(subject.specimen)
    for depth, result in zip(depths, subject.sweep(depths), strict=True):
        mine, unrolled = gradient_of(result), form.unrolled(depth)
        targets = {"exact": exact, "unrolled": unrolled, "implicit": form.implicit(depth)}
        for name, target in targets.items():
            yield Distance(name, depth, distance(mine, target))
        # One of the direct part alone may be zero: it says that codes do not depend on theta.
        if mine.any() or form.unrolled(depth, 0).any():
            yield _angle(mine, targets, depth)


@register(DIFFERENT + VARIED, lambda subject: subject.claim == "stochastic", few_samples=False)
def check_mean(subject: Subject) -> Measurements:
    """The mean of a random gradient over seeds is the unrolled gradient or the direct part, with
    two samples as well.
    """
    require(
        "seed" in subject.options,
        "a stochastic estimator needs a field `seed`: without it the draws cannot be repeated or"
        " averaged",
    )
    if subject.specimen in DIFFERENT:
        yield from _mean(subject, AVERAGED, LAYERS)
    if "samples" in subject.options:
        # An average that is divided by another number than that of its terms shows most with few.
        subject = subject.having(samples=2)
    random = generator(0, f"conformance mean {subject.specimen.problem}")
    depth = int(random.choice([12, 8, 3, 2, 1, 0])) if subject.specimen in VARIED else AVERAGED
    yield from _mean(subject, EVERY if subject.specimen in TINY else depth)


def _mean(subject: Subject, depth: int, least: int = 0) -> Measurements:
    """Compare the mean over seeds with the two gradients that it may be; after at least so many
    layers it must be resolved.
    """
    form = subject.specimen.form
    targets = np.stack([form.unrolled(depth), form.unrolled(depth, 0)]).reshape(2, -1)
    if subject.specimen.loss != "lasso" and _claims_consistency(subject):
        targets[1] = targets[0]
    size = _size(targets[0], subject.specimen)
    # The mean is compared along the targets and along two random directions.
    random = np.random.default_rng(0).standard_normal((2, form.theta.size))
    axes = np.array([*targets[targets.any(1)], *random])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    draws, layers_run = list[Array](), 0
    for seed in range(MOST_SEEDS):
        result = subject.having(seed=seed).estimate(depth)
        draws.append(axes @ gradient_of(result).ravel())
        runs = result.diagnostics.get("evaluations", 1)
        layers_run += result.diagnostics.get("layers", depth * runs)
        enough = len(draws) >= (SEEDS if least else MOST_SEEDS // 4) and layers_run >= least
        if enough and stats.sem(draws).max() < RESOLVING * size:
            break
    spread, mean, expected = stats.sem(draws), np.mean(draws, axis=0), targets @ axes.T
    # A mean that does not vary is held to the accuracy of a difference quotient.
    scale = np.maximum(spread, QUOTIENT * size / STANDARD_ERRORS)
    worst, largest = (np.abs(mean - expected) / scale).max(1).min(), spread.max() / size
    # Of few draws the standard error itself is a draw.
    limit = stats.t.isf(stats.norm.sf(STANDARD_ERRORS * (1.0 if least else 1.5)), len(draws) - 1)
    require(
        not least or worst >= limit or largest < RESOLVING,
        f"after {len(draws)} seeds the standard error is still {largest:.2g} of the size of the"
        " gradient, which hides any bias: check it with more samples",
        largest,
        RESOLVING,
    )
    yield require(
        worst < limit,
        f"the mean over {len(draws)} seeds at depth {depth} is {worst:.3g} standard errors from the"
        " nearest of the unrolled gradient and the direct part; along the former it is"
        f" {mean[0] / (expected[0, 0] or np.nan):.3g} times that",
        worst,
        limit,
    )


def _claims_consistency(subject: Subject) -> bool:
    losses = subject.estimator.consistent_for
    return losses is None or subject.specimen.loss in losses


@register(
    REGULAR + LEADING,
    lambda subject: (
        (subject.specimen in REGULAR or subject.claim == "approximate")
        and subject.claim != "stochastic"
        and _claims_consistency(subject)
    ),
)
def check_consistency(subject: Subject) -> Measurements:
    """The error against the certified reference vanishes with depth for the losses in
    `consistent_for`.
    """
    form, exact = subject.specimen.form, _limit(subject.specimen)
    deep = DEEP * (1 if subject.specimen in REGULAR else 4)
    left = distance(form.codes(deep), form.codes(2 * deep))
    if left > VANISHED / 10 or not form.regular:
        # Some drawn ones are slower.
        return
    if "window" in subject.options:
        # A claim holds for all options, and shows at the shorter ones.
        subject = subject.having(window=50)
    # A sweep is often cheaper than two estimates, and another check holds the two to agree.
    earlier, error = (
        distance(gradient_of(each), exact) for each in subject.sweep([deep // 2, deep])
    )
    if VANISHED <= error < earlier / 4:
        # It falls: a slower one is given more layers.
        earlier, deep = error, 4 * deep
        error = distance(subject.gradient(deep), exact)
    yield require(
        error < VANISHED,
        f"relative error {error:.2g} at depth {deep}, {earlier:.2g} before:"
        " it does not vanish, though consistent_for is"
        f" {subject.estimator.consistent_for or 'None (every loss)'}",
        error,
        VANISHED,
    )


@register(SAMPLED, lambda subject: subject.claim not in ("stochastic", "heuristic"))
def check_samples(subject: Subject) -> Measurements:
    """The last sample counts twice where it stands twice, in other units: the gradient changes by
    the square of their ratio (the ratio itself for a linear loss), the codes by the ratio.
    """
    # Deeper than the usual windows: samples may influence each other from some layer on.
    depth, specimen, problem = 25, subject.specimen, subject.specimen.original
    random = generator(0, f"conformance units {specimen.problem}")
    # A power of two, so that no product with it is rounded.
    ratio = 1.0 if specimen.loss == "function" else 2.0 ** random.choice([-40.0, 3.0, 40.0])
    values = tensors_of(problem)

    def estimate(rows: list[int], ratio: float) -> Any:
        changes: dict[str, Any] = {
            name: ratio * values[name][rows] for name in problem.per_sample if name in values
        }
        if hasattr(problem, "log_penalty"):
            changes["log_penalty"] = problem.log_penalty + np.log(ratio)
        elif hasattr(problem, "penalty"):
            changes["penalty"] = ratio * problem.penalty
        changed = specimen.make(**changes)
        algorithm = specimen.algorithm_for(changed, ratio * specimen.initial[rows])
        return subject.estimator.estimate(changed, algorithm, depth)

    rows = [*range(len(specimen.initial)), -1]
    whole, last, second = estimate(rows[:-1], 1.0), estimate([-1], 1.0), estimate(rows, ratio)
    limit = SOLVED if is_quotient(whole) or subject.claim == "implicit" else EXACT
    what = f"{ratio:g} times the codes in other units"
    yield compare(what, codes_of(second), ratio * codes_of(whole)[rows], limit)
    factor = ratio ** (1 + (specimen.loss != "linear"))
    parts = gradient_of(whole), gradient_of(last) / len(rows)
    expected = factor * (parts[0] * (1 - 1 / len(rows)) + parts[1])
    what = f"{factor:g} times the gradient in other units, with the last sample twice"
    size = factor * max(_size(part, specimen) for part in parts)
    yield compare(what, gradient_of(second), expected, limit, size)


@register(specimens("square", algorithms=PLAIN) + STIFF + TINY_DRAWN + SMALL[::3])
def check_single_precision(subject: Subject) -> Measurements:
    """float32 gives what float64 gives, to the accuracy of float32, and to a few digits on drawn
    problems.
    """
    drawn, size = subject.specimen.drawn, None
    if subject.claim in ("implicit", "approximate") and not subject.specimen.form.regular:
        # No claim is made about singular systems, in which single precision counts other ranks.
        return
    depth = FAR[0] if subject.specimen in TINY_DRAWN else 4 if drawn else SETTLED
    single, double = (subject.estimate(depth, dtype) for dtype in (torch.float32, torch.float64))
    expected, quotient = gradient_of(double), is_quotient(double)
    limit = SINGLE_QUOTIENT if quotient else SINGLE
    if drawn:
        if quotient:
            # In float32 a quotient has two digits, and none where a kink lies within the step.
            return
        # Where the parts of a gradient cancel, it is as accurate as they are: to SINGLE of their
        # size.
        limit = SINGLE_STIFF if subject.specimen in STIFF else SINGLE_DRAWN
        size = _size(expected, subject.specimen, SINGLE / limit)
    yield compare("the gradient in float64", gradient_of(single), expected, limit, size)
    yield compare("the codes in float64", codes_of(single), codes_of(double), limit)
