"""Checks of the claim: codes and gradients are what the algorithm, `computes`, `window` and
`consistent_for` say.
"""

import functools
from dataclasses import replace

import numpy as np
import torch
from scipy import stats

from ..algorithms.thresholding import Hard
from ..estimator import Estimate
from ..streams import generator
from .checks import (
    Defect,
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
    EXACT,
    QUOTIENT,
    QUOTIENT_DRAWN,
    ROUNDED,
    SAME,
    Array,
    Mistakes,
    distance,
    norm,
)
from .records import Distance, Measured
from .specimens import (
    DRAWN,
    EVERY_DEPTH,
    FAR,
    GRID,
    PLAIN,
    SHALLOW,
    Specimen,
    changed,
    in_units,
    named,
    specimens,
)
from .truth import REGULAR

# --- tolerances, relative to the Euclidean norm of the expected value, and depths

#: An implicit system solved iteratively, to a tolerance that the estimator chooses.
SOLVED = 1e-6
#: Condition number up to which its relative error is bounded at all.
SOLVABLE = 1e8
#: float32 has 6e-8 relative precision; sixty layers and the sum over the samples cost two digits.
SINGLE = 2e-5
#: The same on drawn problems, whose gradients may be differences of larger terms.
SINGLE_DRAWN = 1e-2
#: Twenty times 6e-8 times a condition number of 800.
SINGLE_STIFF = 1e-3
#: A difference quotient of a loss known to 6e-8, with a step that balances truncation: the cube
#: root of the precision.
SINGLE_QUOTIENT = 5e-2
#: Error left after `DEEP` layers on the regular problems, where backpropagation through all layers
#: is below 1e-7. A window of 50 layers still shows its floor, above 1e-5 for most problems.
VANISHED = 1e-6
#: Standard errors that the mean of a random gradient may be off by.
STANDARD_ERRORS = 4.0
#: Standard error, as a share of the gradient's norm, that is small enough to show a biased mean.
RESOLVING = 0.1

#: Deep enough for an implicit system on the support to be regular and for the codes to have nearly
#: converged.
SETTLED = 60
#: For means over draws, which cost the most.
AVERAGED = 8
DEEP = 250
#: Layers that a method runs which has one pass for every entry of theta.
LAYERS = 1_200
#: Fewest and most draws of a random gradient. A bias of a few percent shows only after
#: hundreds of draws.
SEEDS, MOST_SEEDS = 16, 400
#: Layers after which no more draws are made once the mean is resolved: a method with hundreds of
#: runs per draw is slow.
RESOLVED_LAYERS = 20_000

#: Claims that name a single vector.
KNOWN = "direct", "unrolled", "truncated", "implicit"
#: Drawn ones of few entries of theta, with memory, warm starts and every kind.
FEW = tuple(each for each in DRAWN if each.few)
#: Problems on which implicit gradients are regular, and errors vanish within `DEEP` layers. An
#: approximation may have the wrong sign in an entry, and so in all where there are few.
FALLING = (
    *specimens("square", "elastic net", "convolutional", "penalty", "ridge", algorithms=PLAIN),
    *(each for each in FEW if each.original.joint and each.original.theta.numel() > 3),
)
#: Drawn ones whose algorithm leads to the minimizer, and a lasso to its own gradient.
LEADING = tuple(
    each
    for each in FEW
    if each.make_algorithm().thresholding.proximal
    and getattr(each.original, "targets", None) is None
)
#: With so many samples that some take them by batches.
MANY = tuple(each for each in FEW if each.original.code_shape[0] > 64)
#: With small steps, so that layers far back still count.
TINY = (named("tiny", "reconstruction", "ista(step=0.01)"),)
#: For means.
VARIED = specimens("elastic net", algorithms=("fista",)) + FEW[::3] + MANY + TINY


def _denoising(specimen: Specimen) -> Specimen:
    """Return a problem whose loss has targets of its own."""
    problem = specimen.original
    return replace(specimen, original=changed(problem, targets=-problem.observations))


def _alike(specimen: Specimen, difference: float) -> Specimen:
    """Return a problem of which two atoms are nearly parallel, with few zeros in its codes."""
    problem = specimen.original
    atoms = problem.theta.clone()
    atoms[:, 1] = (1 - difference) * atoms[:, 0] + difference * atoms[:, 1]
    return replace(specimen, original=changed(problem, dictionary=atoms, penalty=0.02))


DENOISING = tuple(map(_denoising, specimens("convolutional")))
#: Condition numbers of 800, whose square exceeds float32, and of 10 million.
STIFF, STIFFER = (
    tuple(_alike(each, difference) for each in specimens("square")) for difference in (0.12, 1e-3)
)


def mistaken_gradients(specimen: Specimen, depth: int, expected: Array) -> Mistakes:
    """Yield the gradients that common mistakes lead to, the cheap ones first."""
    truth, n = specimen.truth, len(specimen.truth.codes(0))
    full, direct = truth.unrolled(depth), truth.unrolled(depth, 0)
    implicit = truth.implicit(depth).gradient
    yield f"a sum over the {n} samples, not a mean", n * expected
    yield "the direct part alone, without the path through the codes", direct
    yield "the derivative through all layers", full
    yield "the path through the codes with the wrong sign", 2 * direct - full
    yield "the implicit gradient on the support of the last codes", implicit
    yield "the correction of the direct part with the wrong sign", 2 * direct - implicit
    yield "transposed", expected.T
    earlier = truth.implicit(max(depth - 1, 0)).gradient
    yield "the implicit gradient at the codes of an earlier layer", earlier
    for window in range(depth - 1, 0, -1) if depth <= SHALLOW[1] else ():
        yield (
            f"the derivative through the last {window} layers alone",
            truth.unrolled(depth, window),
        )


def _mistaken_codes(specimen: Specimen, depth: int) -> Mistakes:
    """Yield the codes of other layers."""
    for layer in (max(depth - 1, 0), depth + 1):
        yield f"those of layer {layer}", specimen.truth.codes(layer)


@register((*GRID, *DRAWN, *TINY, *STIFFER, *specimens("many samples")), quick=24, seconds=0.06)
def check_claim(subject: Subject) -> Measurements:
    """Codes, and gradients of exact claims, are the right ones at all depths, from `estimate` and
    `sweep`.
    """
    specimen, depths = subject.specimen, subject.specimen.depths
    if specimen.drawn and subject.claim == "truncated" and "window" in subject.options:
        random = generator(0, f"conformance window {specimen.problem}")
        window = max(int(random.choice([1, depths[0] - 1, depths[2], 1000])), 1)
        subject = subject.having(window=window)
    alone = {depth: subject.estimate(depth) for depth in depths[1:3]}
    if specimen.drawn:
        most = max(LAYERS // max(map(_passes, alone.values())), SHALLOW[1])
        depths = [depth if depth in alone else min(depth, most) for depth in depths]
    if subject.claim not in KNOWN:
        # The two are all that there is to compare.
        alone |= {depth: subject.estimate(depth) for depth in depths[:4]}
    swept = subject.sweep(depths)
    require(
        len(swept) == len(depths),
        f"sweep over {depths} yields {len(swept)} estimates instead of {len(depths)}",
    )
    for depth, result in [*zip(depths, swept, strict=True), *alone.items()]:
        require_finite(result, depth)
        what, codes = f"the codes at depth {depth}", specimen.truth.codes(depth)
        mistakes = _mistaken_codes(specimen, depth)
        yield compare(what, codes_of(result), codes, EXACT, mistakes=mistakes)
        yield from _exact(subject, result, depth)
    for depth, result in zip(depths, swept, strict=True):
        if depth in alone:
            yield _same(subject, alone[depth], result, depth)


def _passes(result: Estimate) -> int:
    """Return how many passes a method says that it runs, such as one for every entry of theta."""
    said = result.diagnostics
    return int(max(said.get("evaluations", 1), said.get("directions", 1), 1))


def _same(subject: Subject, alone: Estimate, swept: Estimate, depth: int) -> Measured:
    """Compare a depth of a sweep with the estimate at it."""
    said, others = (
        [each.diagnostics.get(name) for name in ("layers", "layers_differentiated")]
        for each in (swept, alone)
    )
    require(said == others, f"a sweep says {said} layers, and estimate {others}")
    what, expected = f"the gradient of estimate at depth {depth}", gradient_of(alone)
    size = _size(expected, subject.specimen, SAME / EXACT)
    # A solver ends anywhere within its tolerance: the last bits of its input decide.
    limit = SOLVED if subject.claim == "implicit" else SAME
    return compare(what, gradient_of(swept), expected, limit, size)


def _exact(subject: Subject, result: Estimate, depth: int) -> Measurements:
    """Compare a gradient with the one that is claimed, if the claim names a single vector."""
    specimen, mine, share = subject.specimen, gradient_of(result), ROUNDED
    if subject.claim == "implicit":
        expected = _implicit(subject, result, mine, depth)
    elif subject.claim in KNOWN:
        expected = _through_layers(subject, result, depth)
    else:
        return
    if not expected:
        return
    what, right, limit = expected
    if is_quotient(result):
        if isinstance(specimen.truth.algorithm.thresholding, Hard):
            # Of many codes one jumps within the step of the quotient.
            return
        # Its rounding is that of the loss, whatever the size of the gradient.
        limit, share = (QUOTIENT, ROUNDED) if specimen in GRID else (QUOTIENT_DRAWN, 1.0)
    size, mistakes = _size(right, specimen, share), mistaken_gradients(specimen, depth, right)
    yield compare(f"{what} at depth {depth}", mine, right, limit, size, mistakes)


#: What a gradient is called that a claim names, the gradient, and how near others have to come.
Expected = tuple[str, Array, float]


def _implicit(subject: Subject, result: Estimate, mine: Array, depth: int) -> Expected | None:
    """Return the nearest implicit gradient, unless the systems are singular, or the estimate says
    itself that it has not solved them.
    """
    truth, off = subject.specimen.truth, functools.partial(distance, mine)
    # That of the layer's fixed point has the layer's active set.
    found = [truth.implicit(depth), truth.implicit(depth, ahead=True)]
    condition = max(each.condition for each in found)
    solved = result.diagnostics.get("largest_relative_residual", 0.0) <= SOLVED
    if condition >= SOLVABLE or not solved:
        return None
    limit, right = SOLVED * max(1.0, condition / 1e3), [each.gradient for each in found]
    if min(map(off, right)) > limit:
        # One step of a better method may lead beyond the codes, to the exact gradient.
        right.append(truth.limit)
    return "the implicit gradient", min(right, key=off), limit


def _through_layers(subject: Subject, result: Estimate, depth: int) -> Expected | None:
    """Return the derivative through the layers that are claimed, unless there is none."""
    truth = subject.specimen.truth
    if subject.claim == "direct":
        window = _window_used(subject, result, depth)
        return "the direct part", truth.unrolled(depth, window), EXACT
    if not truth.algorithm.differentiable:
        what = "differentiates an algorithm that is not differentiable: refuse it"
        require(is_quotient(result), what)
        return None
    window = _window_used(subject, result, depth)
    what = f"the derivative through {window} of {depth} layers"
    return what, truth.unrolled(depth, window), EXACT


def _window_used(subject: Subject, result: Estimate, depth: int) -> int:
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
    asked = min(subject.options.get("window", asked), depth)
    require(asked == used, f"{says} instead of {asked}: differentiate the layers asked for")
    return used


def _size(gradient: Array, specimen: Specimen, share: float = ROUNDED) -> float:
    """Return the size that errors of a gradient are relative to: its norm, or more where its parts
    nearly cancel; a `share` of the size of the parts is the least.
    """
    return max(norm(gradient), share * specimen.truth.scale) or 1.0


@register(GRID + DENOISING, lambda subject: subject.claim == "heuristic")
def check_descent(subject: Subject) -> Measurements:
    """A heuristic is within 90 degrees of the direct part: a step against it lowers the loss.

    Nothing more can be required of a vector that is the gradient of no loss. Its own tests check
    its formula.
    """
    for depth in SHALLOW:
        # Where the loss depends on theta through the codes alone, no direction lowers it at fixed
        # codes.
        direct = subject.specimen.truth.unrolled(depth, 0)
        yield _angle(subject.gradient(depth), {"direct": direct}, depth)


def _angle(mine: Array, targets: dict[str, Array], depth: int) -> Measured:
    """Fail unless one minus the largest cosine to a target that is not zero is below one."""
    size = norm(mine) or 1.0
    cosines = [
        (mine * target).sum() / size / norm(target) for target in targets.values() if target.any()
    ]
    measured = Measured(1 - max(cosines, default=1.0), 1.0)
    require(
        measured.number < 1,
        f"at depth {depth} the cosine to the gradients {', '.join(targets)} is"
        f" {1 - measured.number:.3g}: a step against it lowers none of the losses",
        *measured,
    )
    return measured


@register(FALLING, lambda subject: subject.claim == "approximate", seconds=0.3)
def check_approximation(subject: Subject) -> Measurements:
    """An approximation is within 90 degrees of a gradient that it may stand for."""
    depths, truth = (*SHALLOW, SETTLED, DEEP), subject.specimen.truth
    for depth, result in zip(depths, subject.sweep(depths), strict=True):
        mine, unrolled = gradient_of(result), truth.unrolled(depth)
        implicit = truth.implicit(depth).gradient
        targets = {"exact": truth.limit, "unrolled": unrolled, "implicit": implicit}
        for name, target in targets.items():
            yield Distance(name, depth, distance(mine, target))
        # One of the direct part alone may be zero: it says that codes do not depend on theta.
        if mine.any() or truth.unrolled(depth, 0).any():
            yield _angle(mine, targets, depth)


@register(
    DIFFERENT + VARIED,
    lambda subject: subject.claim == "stochastic",
    few_samples=False,
    quick=2,
    seconds=0.5,
)
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
        yield _mean(subject, AVERAGED, RESOLVED_LAYERS)
    if "samples" in subject.options:
        # An average that is divided by another number than that of its terms shows most with few.
        subject = subject.having(samples=2)
    random = generator(0, f"conformance mean {subject.specimen.problem}")
    depth = int(random.choice([12, 8, 3, 2, 1, 0])) if subject.specimen in VARIED else AVERAGED
    yield _mean(subject, EVERY_DEPTH if subject.specimen in TINY else depth)


def _mean(subject: Subject, depth: int, least: int = 0) -> Measured:
    """Compare the mean over seeds with the two gradients that it may be; after at least so many
    layers it must be resolved.
    """
    truth = subject.specimen.truth
    targets = np.stack([truth.unrolled(depth), truth.unrolled(depth, 0)]).reshape(2, -1)
    if subject.specimen.loss != "lasso" and _claims_consistency(subject):
        targets[1] = targets[0]
    size = _size(targets[0], subject.specimen)
    # The mean is compared along the targets and along two random directions.
    random = np.random.default_rng(0).standard_normal((2, targets.shape[1]))
    axes = np.array([*targets[targets.any(1)], *random])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    draws = _draws(subject, depth, least, axes, RESOLVING * size)
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
    require(
        worst < limit,
        f"the mean over {len(draws)} seeds at depth {depth} is {worst:.3g} standard errors from the"
        " nearest of the unrolled gradient and the direct part; along the former it is"
        f" {mean[0] / (expected[0, 0] or np.nan):.3g} times that",
        worst,
        limit,
    )
    return Measured(float(worst), float(limit))


def _draws(subject: Subject, depth: int, least: int, axes: Array, resolved: float) -> list[Array]:
    """Return the products of random gradients with some axes, of so many seeds that their mean is
    resolved, or the most.
    """
    draws, layers_run = list[Array](), 0.0
    for seed in range(MOST_SEEDS):
        result = subject.having(seed=seed).estimate(depth)
        draws.append(axes @ gradient_of(result).ravel())
        layers_run += result.diagnostics.get("layers", depth * _passes(result))
        enough = len(draws) >= (SEEDS if least else MOST_SEEDS // 4) and layers_run >= least
        if enough and stats.sem(draws).max() < resolved:
            break
    return draws


def _claims_consistency(subject: Subject) -> bool:
    losses = subject.estimator.consistent_for
    return losses is None or subject.specimen.loss in losses


@register(
    FALLING + LEADING,
    lambda subject: (
        (subject.specimen in FALLING or subject.claim == "approximate")
        and subject.claim != "stochastic"
        and _claims_consistency(subject)
    ),
    seconds=0.2,
)
def check_consistency(subject: Subject) -> Measurements:
    """The error against the certified reference vanishes with depth for the losses in
    `consistent_for`.
    """
    truth = subject.specimen.truth
    deep = DEEP * (1 if subject.specimen in FALLING else 4)
    left = distance(truth.codes(deep), truth.codes(2 * deep))
    if left > VANISHED / 10 or truth.implicit(deep).condition > REGULAR:
        # Some drawn ones are slower.
        return
    if "window" in subject.options:
        # A claim holds for all options, and shows at the shorter ones.
        subject = subject.having(window=50)
    # A sweep is often cheaper than two estimates, and another check holds the two to agree.
    earlier, error = (
        distance(gradient_of(each), truth.limit) for each in subject.sweep([deep // 2, deep])
    )
    if VANISHED <= error < earlier / 4:
        # It falls: a slower one is given more layers.
        earlier, deep = error, 4 * deep
        error = distance(subject.gradient(deep), truth.limit)
    require(
        error < VANISHED,
        f"relative error {error:.2g} at depth {deep}, {earlier:.2g} before:"
        " it does not vanish, though consistent_for is"
        f" {subject.estimator.consistent_for or 'None (every loss)'}",
        error,
        VANISHED,
    )
    yield Measured(error, VANISHED)


@register(
    (each for each in DRAWN if each.original.per_sample),
    lambda subject: subject.claim not in ("stochastic", "heuristic"),
    seconds=0.03,
)
def check_samples(subject: Subject) -> Measurements:
    """The last sample counts twice where it stands twice, in other units: the gradient changes by
    the square of their ratio (the ratio itself for a linear loss), the codes by the ratio.
    """
    # Deeper than the usual windows: samples may influence each other from some layer on.
    depth, specimen, problem = 25, subject.specimen, subject.specimen.original
    random = generator(0, f"conformance units {specimen.problem}")
    # A power of two, so that no product with it is rounded.
    ratio = 1.0 if specimen.loss == "function" else float(2.0 ** random.choice([-40, 3, 40]))

    def estimate(rows: list[int], ratio: float) -> Estimate:
        other = specimen.make(**in_units(problem, ratio, rows))
        algorithm = specimen.algorithm_on(other, ratio * specimen.initial[rows])
        return subject.estimator.estimate(other, algorithm, depth)

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


@register(specimens("square", algorithms=PLAIN) + STIFF + TINY + DRAWN, quick=6, seconds=0.02)
def check_single_precision(subject: Subject) -> Measurements:
    """float32 gives what float64 gives, to the accuracy of float32, and to a few digits on drawn
    problems.
    """
    specimen, size = subject.specimen, None
    exact = specimen in GRID
    depth = FAR[0] if specimen in TINY else SETTLED if exact else 4
    solves = subject.claim in ("implicit", "approximate")
    if solves and specimen.truth.implicit(depth).condition > REGULAR:
        # No claim is made about singular systems, in which single precision counts other ranks.
        return
    single, double = (subject.estimate(depth, dtype) for dtype in (torch.float32, torch.float64))
    expected, quotient = gradient_of(double), is_quotient(double)
    limit = SINGLE_QUOTIENT if quotient else SINGLE
    if not exact:
        if quotient:
            # In float32 a quotient has two digits, and none where a kink lies within the step.
            return
        # Where the parts of a gradient cancel, it is as accurate as they are: to SINGLE of their
        # size.
        limit = SINGLE_STIFF if specimen in STIFF else SINGLE_DRAWN
        size = _size(expected, specimen, SINGLE / limit)
    yield compare("the gradient in float64", gradient_of(single), expected, limit, size)
    yield compare("the codes in float64", codes_of(single), codes_of(double), limit)
