"""Checks of the claim: codes and gradients are what the algorithm, `computes`, `window` and
`consistent_for` say.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from ..auditing.distances import EXACT, ROUNDED, SAME, Array, distance, distance_in_any_unit, norm
from ..estimator import Estimate
from ..streams import generator
from .checks import (
    CheckFailure,
    Measurements,
    Subject,
    codes_of,
    compare,
    gradient_of,
    is_quotient,
    register,
    require,
)
from .explanations import QUOTIENT, QUOTIENT_DRAWN, KnownMistake, Mistakes
from .records import Distance, Measurement
from .specimens import (
    DRAWN,
    GRID,
    SHALLOW,
    Specimen,
    in_units,
    named_specimen,
    specimens,
    with_values,
)
from .truth import REGULAR, Truth, array

# --- tolerances, relative to the Euclidean norm of the expected value, and depths

#: An implicit system solved iteratively, to a tolerance that the estimator chooses.
SOLVED = 1e-6
#: Condition number up to which its relative error is bounded at all.
SOLVABLE, SINGULAR = 1e8, 1e13
#: Error left after `DEEP` layers on the regular problems, where backpropagation through all layers
#: is below 1e-7. A window of 50 layers still shows its floor, above 1e-5 for most problems.
VANISHED = 1e-6
#: Standard errors that the mean of a random gradient may be off by.
STANDARD_ERRORS = 5.0
#: Standard error, as a share of the gradient's norm, that is small enough to show a biased mean.
RESOLVING = 0.01
#: float32 has 6e-8 relative precision; layers and the sum over the samples cost two digits.
SINGLE = 2e-5
#: The same on drawn problems, whose gradients may be differences of larger terms.
SINGLE_DRAWN = 1e-2
#: A difference quotient of a loss known to 6e-8, with a step that balances truncation: the cube
#: root of the precision.
SINGLE_QUOTIENT = 5e-2
#: Deep enough for an implicit system on the support to be regular and for the codes to have nearly
#: converged.
SETTLED = 60
#: For means over draws, which cost the most, where layers far back count.
AVERAGED = 40
DEEP, SAMPLED = 250, 25
#: Layers that a method runs which has one pass for every entry of theta.
LAYERS = 1_200
#: Fewest and most draws of a random gradient.
SEEDS, MOST_SEEDS = 16, 400
#: Claims that name a single vector.
KNOWN = "direct", "unrolled", "truncated", "implicit"
#: Drawn ones of few entries of theta, with memory, warm starts and every kind.
FEW = tuple(specimen for specimen in DRAWN if specimen.has_few_parameters)
#: Problems on which implicit gradients are regular, and errors vanish within `DEEP` layers. An
#: approximation may have the wrong sign in an entry, and so in all where there are few.
FALLING = (
    *(specimen for specimen in GRID if specimen.problem != "sparse coding"),
    *(
        specimen
        for specimen in FEW
        if specimen.original.joint and specimen.original.theta.numel() > 3
    ),
)
#: With small steps, so that layers far back still count.
TINY = (named_specimen("tiny", "reconstruction", "ista(step=0.01)"),)

#: The gradient that a claim names, of a truth at a depth.
Right = Callable[[Truth, int], Array]


@register((*GRID, *DRAWN, *TINY))
def check_claim(subject: Subject) -> Measurements:
    """Codes, and gradients of exact claims, are the right ones at all depths, from `estimate` and
    `sweep`.

    It yields the measurements, and raises CheckFailure where one is above its limit. Of other
    claims than `KNOWN` only the codes, and a sweep beside single estimates, are compared. On drawn
    problems a truncated estimator gets a window from a fixed stream.
    """
    specimen, depths = subject.specimen, subject.specimen.depths
    if specimen.drawn:
        subject = _with_drawn_window(subject)
        depths = _affordable_depths(subject)
    # Where no vector is named, an estimate and a sweep are all that there is to compare.
    compared_depths = depths[1:3] if subject.claim in KNOWN else depths[:4]
    alone = {depth: subject.estimate(depth) for depth in compared_depths}
    swept = subject.estimates(depths, sweep=True)
    require(
        len(swept) == len(depths),
        f"sweep over {depths} yields {len(swept)} estimates instead of {len(depths)}",
    )
    for depth, result in [*zip(depths, swept, strict=True), *alone.items()]:
        # A method that is accurate enough after fewer layers says so.
        reached = min(depth, int(result.diagnostics.get("layers", depth)))
        description, codes = f"the codes at depth {reached}", specimen.truth.codes(reached)
        mistakes = _mistaken_codes(specimen.truth, reached)
        yield compare(description, codes_of(result), codes, EXACT, mistakes=mistakes)
        if subject.claim in KNOWN:
            yield from _exact(subject, result, depth)
    # A solver ends anywhere within its tolerance: the last bits of its input decide.
    limit = SOLVED if subject.claim == "implicit" else SAME
    for depth, result in zip(depths, swept, strict=True):
        if depth in alone:
            expected = gradient_of(alone[depth])
            description = f"the gradient of estimate at depth {depth}"
            size = size_of(expected, specimen, depth, SAME / EXACT)
            yield compare(description, gradient_of(result), expected, limit, size)


def _with_drawn_window(subject: Subject) -> Subject:
    """Return a truncated estimator with a window of one layer, of all but one, as deep as another
    depth of the specimen, or of more layers than there are, from a fixed stream; any other as it
    is.
    """
    if subject.claim != "truncated":
        return subject
    depths = subject.specimen.depths
    random = generator(0, f"conformance window {subject.specimen.problem}")
    window = max(int(random.choice([1, depths[0] - 1, depths[2], 1000])), 1)
    return subject.having(window=window)


def _affordable_depths(subject: Subject) -> list[int]:
    """Return the specimen's depths, lowered so far that an estimate runs `LAYERS` layers at most if
    it says that it runs many passes, such as one for every entry of theta.
    """
    depths = subject.specimen.depths
    said = subject.estimate(depths[1]).diagnostics
    passes = max(said.get("evaluations", 1), said.get("directions", 1), 1)
    deepest = max(int(LAYERS / passes), SHALLOW[0])
    return [min(depth, deepest) for depth in depths]


@register((*GRID, *(specimen for specimen in DRAWN if specimen.originals[1].differentiable)))
def check_single_precision(subject: Subject) -> Measurements:
    """float32 gives what float64 gives, to the accuracy of float32.

    It yields both measurements, and raises CheckFailure where one is above its limit. Nothing is
    compared for drawn problems by a difference quotient, nor where systems are singular.
    """
    specimen, double = subject.specimen, subject.estimate(2)
    quotient, solves = is_quotient(double), subject.claim in ("implicit", "approximate")
    # No claim is made about singular systems, in which single precision counts other ranks, nor of
    # a quotient with a kink within its step.
    if quotient and specimen.drawn or solves and specimen.truth.implicit(2).condition > REGULAR:
        return
    limit = SINGLE_DRAWN if specimen.drawn else SINGLE_QUOTIENT if quotient else SINGLE
    single, expected = subject.estimate(2, torch.float32), gradient_of(double)
    size = size_of(expected, specimen, 2, SINGLE / limit)
    yield compare("the gradient in float64", gradient_of(single), expected, limit, size)
    yield compare("the codes in float64", codes_of(single), codes_of(double), limit)


def _exact(subject: Subject, result: Estimate, depth: int) -> Measurements:
    """Compare a gradient with the one that is claimed, which is a single vector, and yield the
    measurement.

    Nothing is compared where that is not defined: for singular systems that the diagnostics report,
    and for difference quotients where codes jump. Diagnostics that contradict the claim raise
    CheckFailure.
    """
    specimen, share, limit = subject.specimen, ROUNDED, EXACT
    truth = specimen.truth
    if subject.claim == "implicit":
        implicits = [truth.implicit(depth), truth.implicit(depth, ahead=True)]
        condition = max(implicit.condition for implicit in implicits)
        says, residual = _singular(result), "largest_relative_residual" in result.diagnostics
        require(
            specimen.drawn or implicits[0].condition < SINGULAR or says or residual,
            "the systems are singular: say so by `condition_number` or a residual in diagnostics",
        )
        if condition >= SOLVABLE or says:
            return
        description, limit = "the implicit gradient", SOLVED * max(1.0, condition / 1e3)
        right = nearest(gradient_of(result), truth, depth)
    else:
        window = _window_used(subject, result, depth)
        description = f"the derivative through {window} of {depth} layers"
        right = lambda truth, depth: truth.unrolled(depth, window)  # noqa: E731
        if not window and subject.claim == "direct":
            description = "the direct part"
        elif not truth.algorithm.differentiable:
            description = "differentiates an algorithm that is not differentiable: refuse it"
            require(is_quotient(result), description)
            return
    if is_quotient(result):
        if specimen.jumps:
            # Of many codes one jumps within the step of the quotient.
            return
        # Its rounding is that of the loss, whatever the size of the gradient.
        limit, share = (QUOTIENT_DRAWN, 1.0) if specimen.drawn else (QUOTIENT, ROUNDED)
    expected = right(truth, depth)
    size, mistakes = size_of(expected, specimen, depth, share), mistakes_of(truth, depth, right)
    yield compare(
        f"{description} at depth {depth}", gradient_of(result), expected, limit, size, mistakes
    )


def _singular(result: Estimate) -> bool:
    """Tell whether an estimate says that its systems are singular or that it has not solved them:
    by `singular`, `unconverged`, a large `condition_number` or a large `largest_relative_residual`
    in its diagnostics.
    """
    said = result.diagnostics
    return (
        bool(said.get("singular") or said.get("unconverged"))
        or said.get("condition_number", 0.0) > SOLVABLE
        or said.get("largest_relative_residual", 0.0) > SOLVED
    )


def nearest(estimated: Array, truth: Truth, depth: int) -> Right:
    """Choose the gradient that an implicit estimator stands for: the first of those it may stand
    for that is within the tolerance of the estimated one, or the implicit gradient at the codes.
    """
    # That of the layer's fixed point has the layer's active set; one step of a better method may
    # lead beyond the codes, to the exact gradient.
    rights: list[Right] = [
        lambda truth, depth: truth.implicit(depth).gradient,
        lambda truth, depth: truth.implicit(depth, ahead=True).gradient,
        lambda truth, depth: truth.limit,
    ]
    near = (
        right for right in rights if distance_in_any_unit(estimated, right(truth, depth)) < SOLVED
    )
    return next(near, rights[0])


def _window_used(subject: Subject, result: Estimate, depth: int) -> int:
    """Return the number of last layers that the claimed derivative goes through, as the diagnostics
    say: all for ``unrolled``, none for ``direct``.

    CheckFailure says that a truncated estimate does not report it, or another number than was asked
    for, or that another claim is contradicted.
    """
    used = result.diagnostics.get("layers_differentiated")
    says = f"diagnostics report layers_differentiated={used!r} at depth {depth}"
    if subject.claim != "truncated":
        every_layer = 0 if subject.claim == "direct" else depth
        require(used in (None, 0, every_layer), f"{says}, which the claim contradicts")
        return every_layer
    if not isinstance(used, int) or not 0 <= used <= depth:
        raise CheckFailure(f"{says}: report the window in use")
    requested = min(subject.options.get("window", used), depth)
    require(requested == used, f"{says} instead of {requested}: differentiate the layers asked for")
    return used


def size_of(gradient: Array, specimen: Specimen, depth: int, share: float = ROUNDED) -> float:
    """Return the size that errors of a gradient are relative to: its norm, or more where its parts
    nearly cancel; a `share` of the size of the parts is the least. It is never zero.
    """
    return max(norm(gradient), share * specimen.truth.scale(depth)) or 1.0


# --- the names of mistakes


def mistakes_of(truth: Truth, depth: int, right: Right) -> Mistakes:
    """Yield common mistakes and the gradients that they lead to, in place of the `right` one, the
    cheap ones first; each is computed when it is asked for.
    """
    n, before, expected = len(truth.codes(0)), max(depth - 1, 0), right(truth, depth)
    full, direct = truth.unrolled(depth), truth.unrolled(depth, 0)
    implicit = truth.implicit(depth).gradient
    yield KnownMistake(
        f"a sum over the {n} samples, not a mean", n * expected, "a sum over samples, not a mean"
    )
    for name, mistaken_gradient in (
        ("the direct part alone, without the path through the codes", direct),
        ("the path through the codes alone: the direct part is forgotten", expected - direct),
        ("half of the path through the codes", (expected + direct) / 2),
        ("the derivative through all layers", full),
        ("the path through the codes with the wrong sign", 2 * direct - full),
        ("the implicit gradient on the support of the last codes", implicit),
        ("the correction of the direct part with the wrong sign", 2 * direct - implicit),
    ):
        yield KnownMistake(name, mistaken_gradient)
    for ahead in (False, True):
        yield KnownMistake(
            "a series with alternating signs, of I + J in place of I - J",
            truth.alternating(depth, ahead=ahead),
        )
    yield KnownMistake("transposed", expected.T)
    yield KnownMistake("the gradient at the last but one iterate", right(truth, before))
    for name, mistaken in _mistaken(truth):
        yield KnownMistake(name, right(mistaken, depth))
    if truth.problem.parameter == "dictionary":
        theta, gradient = truth.problem.theta, torch.tensor(expected)
        units = theta / _by_atom(theta.square()).sqrt()
        tangent = gradient - units * _by_atom(units * gradient)
        yield KnownMistake("the gradient on the sphere of atoms of unit norm", array(tangent))
    for window in range(before, 0, -1) if depth <= SHALLOW[1] else ():
        yield KnownMistake(
            f"the derivative through the last {window} layers alone",
            truth.unrolled(depth, window),
            "the derivative through fewer of the last layers",
        )


def _mistaken_codes(truth: Truth, depth: int) -> Mistakes:
    """Yield the codes of the layers before and after, and those that common mistakes lead to, by
    name.
    """
    for layer in (max(depth - 1, 0), depth + 1):
        yield KnownMistake(
            f"those of layer {layer}", truth.codes(layer), "those of the layer before or after"
        )
    for name, mistaken in _mistaken(truth):
        yield KnownMistake(name, mistaken.codes(depth))


def _mistaken(truth: Truth) -> Iterator[tuple[str, Truth]]:
    """Yield by name the truth in which a part of the problem or of the algorithm is forgotten:
    everywhere, in the layers or in the loss alone, or in the derivatives alone.

    Parts are the l2 penalty, the norms of atoms, and the start of the algorithm, where there are
    any.
    """
    problem = truth.problem
    algorithm = with_values(truth.algorithm, step=truth.step)
    altered_problems = {}
    if getattr(problem, "l2_penalty", 0.0):
        altered_problems["l2_penalty is forgotten"] = with_values(problem, l2_penalty=0.0)
    if problem.parameter == "dictionary":
        units = problem.theta / _by_atom(problem.theta.square()).sqrt()
        altered_problems["atoms are taken to have unit norm"] = problem.with_theta(units)
    for name, altered in altered_problems.items():
        for layers, loss in ((altered, altered), (altered, problem), (problem, altered)):
            yield name, Truth(layers, algorithm, loss)
            yield name, Truth(layers, algorithm, loss, truth)
    if algorithm.initial is not None:
        cold = Truth(problem, with_values(algorithm, initial=None), problem)
        yield "the start, initial, is ignored", cold


def _by_atom(entries: Tensor) -> Tensor:
    """Return the sums over the entries of each atom or filter."""
    return entries.sum(0 if entries.ndim == 2 else (1, 2, 3), keepdim=True)


# --- what is left open


@register(FALLING, lambda subject: subject.claim in ("approximate", "heuristic"))
def check_direction(subject: Subject) -> Measurements:
    """An approximation is within 90 degrees of the exact, the unrolled or the implicit gradient,
    and a heuristic is within 90 degrees of the direct part: a small step against it lowers the loss
    that has this gradient.

    It yields a measurement at each depth: one minus the largest cosine. Of an approximation it also
    yields the distances from the three gradients. CheckFailure says that no angle is below 90
    degrees, as for an estimate of zero. Any estimate passes where all these gradients are zero, and
    an approximation of zero where the direct part is, without a measurement.
    """
    depths, truth = (*SHALLOW, SETTLED, DEEP), subject.specimen.truth
    for depth, result in zip(depths, subject.estimates(depths, sweep=True), strict=True):
        estimated, targets = gradient_of(result), {"direct": truth.unrolled(depth, 0)}
        if subject.claim == "approximate":
            targets = {"exact": truth.limit, "unrolled": truth.unrolled(depth)}
            targets["implicit"] = truth.implicit(depth).gradient
            for name, target in targets.items():
                yield Distance(name, depth, distance(estimated, target))
            # One of the direct part alone may be zero: it says that codes do not depend on theta.
            if not estimated.any() and not truth.unrolled(depth, 0).any():
                continue
        cosines = [
            (estimated * target).sum() / (norm(estimated) * norm(target) or 1.0)
            for target in targets.values()
            if target.any()
        ]
        measured = Measurement(1 - max(cosines, default=1.0), 1.0)
        reason = (
            f"at depth {depth} the cosine to the gradients {', '.join(targets)} is"
            f" {1 - measured.number:.3g}: a step against it lowers none of the losses"
        )
        direct = truth.unrolled(depth, 0)
        if subject.claim == "heuristic" and ((estimated + direct) * direct).sum() > 0:
            reason += "; with the direct part it would: perhaps the direct part is forgotten"
        require(measured.number < 1, reason, *measured)
        yield measured


@register(
    specimens("elastic net", "convolutional", "penalty", "ridge", algorithms=("fista",))
    + FEW[::3]
    + TINY,
    lambda subject: subject.claim == "stochastic",
)
def check_mean(subject: Subject) -> Measurements:
    """The mean of a random gradient over seeds is the unrolled gradient or the direct part.

    It draws until the mean is known well enough, `MOST_SEEDS` times at most, and yields one
    measurement, in standard errors; CheckFailure says that it is too large, or that there is no
    `seed`.
    """
    require(
        "seed" in subject.options,
        "a stochastic estimator needs a field `seed`: without it the draws cannot be repeated or"
        " averaged",
    )
    truth, specimen = subject.specimen.truth, subject.specimen
    random = generator(0, f"conformance mean {specimen.problem}")
    depth = AVERAGED if specimen in TINY else int(random.choice([8, 3, 2, 1, 0]))
    unrolled, direct = truth.unrolled(depth).ravel(), truth.unrolled(depth, 0).ravel()
    targets = np.stack([unrolled, direct])
    if specimen.loss != "lasso" and _claims_consistency(subject):
        targets[1] = unrolled
    size = size_of(unrolled, specimen, depth)
    # The mean is compared along the targets and along two random directions: unit vectors, as rows.
    axes = np.array([*targets[targets.any(1)], *random.standard_normal((2, targets.shape[1]))])
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    draws = list[Array]()
    for seed in range(MOST_SEEDS):
        draws.append(axes @ subject.having(seed=seed).gradient(depth).ravel())
        if len(draws) >= SEEDS and stats.sem(draws).max() < RESOLVING * size:
            break
    mean = np.mean(draws, axis=0)
    # A mean that does not vary is held to the accuracy of a difference quotient.
    standard_errors = np.maximum(stats.sem(draws), QUOTIENT * size / STANDARD_ERRORS)

    def errors_from_nearest(vectors: Array) -> float:
        """Return by how many standard errors the mean is off from the nearest of some vectors, as
        rows, along the axis where that is most.
        """
        errors = np.abs(mean - vectors @ axes.T) / standard_errors
        return float(errors.max(1).min())

    worst = errors_from_nearest(targets)
    # Of few draws the standard error itself is a draw.
    limit = float(stats.t.isf(stats.norm.sf(STANDARD_ERRORS), len(draws) - 1))
    along_unrolled = (targets @ axes.T)[0, 0] or np.nan
    reason = (
        f"the mean over {len(draws)} seeds at depth {depth} is {worst:.3g} standard errors from the"
        " nearest of the unrolled gradient and the direct part; along the former it is"
        f" {mean[0] / along_unrolled:.3g} times that"
    )
    if errors_from_nearest(targets - direct) < limit:
        reason += ", as if the direct part is forgotten"
    require(worst < limit, reason, worst, limit)
    yield Measurement(worst, limit)


def _claims_consistency(subject: Subject) -> bool:
    losses = subject.estimator.consistent_for
    return losses is None or subject.specimen.loss in losses


@register(FALLING, lambda subject: subject.claim != "stochastic" and _claims_consistency(subject))
def check_consistency(subject: Subject) -> Measurements:
    """The error against the certified reference vanishes with depth for the losses in
    `consistent_for`.

    It takes a window of 50 layers where there is one, and goes deeper once; it yields the error,
    and raises CheckFailure where that is too large.
    """
    truth, error = subject.specimen.truth, np.inf
    # A claim holds for all options, and shows at the shorter windows.
    subject = subject.having(window=50)
    for depth in (DEEP, 4 * DEEP):
        # A slower one is given more layers.
        if error >= VANISHED:
            earlier, error = error, distance(subject.gradient(depth), truth.limit)
    require(
        error < VANISHED,
        f"relative error {error:.2g} at depth {depth}, {earlier:.2g} at depth {DEEP}: it does not"
        f" vanish, which consistent_for = {subject.estimator.consistent_for!r} claims for"
        f" {'this' if subject.estimator.consistent_for else 'every'} loss",
        error,
        VANISHED,
    )
    yield Measurement(error, VANISHED)


@register(
    (
        specimen
        for specimen in DRAWN
        if specimen.original.per_sample and specimen.loss not in ("function", "linear")
    ),
    lambda subject: subject.claim == "approximate",
)
def check_samples(subject: Subject) -> Measurements:
    """The last sample counts twice where it stands twice, and in other units the gradient changes
    by the square of their ratio.

    It yields one measurement, and raises CheckFailure where that is above its limit.
    """
    rows = [*range(subject.specimen.original.code_shape[0]), -1]
    # A power of two, so that no product with it is rounded.
    ratio = 2.0**40

    def estimate(rows: list[int], ratio: float) -> Estimate:
        """Return the estimate for some rows of the samples, in other units."""
        problem, algorithm = subject.specimen.make()
        rescaled = in_units(problem, ratio, rows), in_units(algorithm, ratio, rows)
        # Deeper than the usual windows: samples may influence each other from some layer on.
        return subject.estimator.estimate(*rescaled, SAMPLED)

    once, last_alone, repeated = (
        estimate(rows[:-1], 1.0),
        estimate([-1], 1.0),
        estimate(rows, ratio),
    )
    limit = SOLVED if is_quotient(once) or subject.claim == "implicit" else EXACT
    parts = gradient_of(once) * (1 - 1 / len(rows)), gradient_of(last_alone) / len(rows)
    size = ratio**2 * max(size_of(part, subject.specimen, SAMPLED) for part in parts)
    description = f"{ratio**2:g} times the gradient in other units, with the last sample twice"
    yield compare(description, gradient_of(repeated), ratio**2 * (parts[0] + parts[1]), limit, size)
