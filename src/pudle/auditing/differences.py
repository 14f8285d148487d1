"""Derivatives of a layer's loss along directions by differences, whose steps follow what the loss
does there, and how far each may be off.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..errors import InvalidArgument, first_line
from ..streams import generator
from .layer import Array, AuditedPart, Layer

#: Rounding in float64.
EPS = float(np.finfo(float).eps)
#: The first step, as a share of what is varied, by what ratio each later one is smaller, and how
#: many there are: to the rounding of what is far smaller than the rest. Powers of two are added
#: without rounding.
FIRST_STEP, STEP_RATIO, MIN_STEPS, MAX_STEPS = 0.125, 8.0, 4, 20
#: The error that is left falls with the step at least: the next one shows seven eighths of it.
REMAINDER = 1.2
#: A derivative that is known to this share of the largest slope seen is a derivative.
RESOLVED = 1e-3
#: Times its uncertainty that a difference is beyond doubt.
BEYOND = 10.0
#: Values from which noise is estimated, their spacing in roundings, and the order of differences at
#: which nothing else is left of them.
SAMPLES, SPACING, ORDER = 17, 2.0**13, 5
#: How often a number is computed with other roundings, by how much operands move then, at most, so
#: that some of it is left in the numbers, and the share of this that is rounding.
ROUNDINGS, MAX_MOVE, ROUNDING_SHARE = 4, 2 * EPS, 0.25
#: Functions that round nothing themselves, and would make much of a rounding of a whole number, or
#: of one of two that are equal.
NOT_ROUNDED = {*"ceil clone eq floor frac gather ne round searchsorted sign sort trunc".split()}
#: Standard deviations that a difference is trusted to; a kink has about so many times its noise.
DEVIATIONS, BENDING = 3.0, 22.0
#: Entries up to which all coordinates are looked at, and of more, how many random directions and
#: coordinates.
MAX_COORDINATES, RANDOM_DIRECTIONS, SOME_COORDINATES = 64, 10, 4

#: A function of the length of a step along a line.
Line = Callable[[float], float]


class Slope(NamedTuple):
    """A derivative along a line.

    Attributes
    ----------
    value, uncertainty : float
        The derivative, and how far it may be off.
    resolved : bool
        Whether this is all that a larger step and a smaller one say too.
    kink : bool
        Whether it differs on both sides.
    """

    value: float = math.nan
    uncertainty: float = math.inf
    resolved: bool = False
    kink: bool = False


def slope(function: Line, size: float, noise: float, precision: float) -> Slope:
    """Return the derivative of a function at zero by central differences.

    The steps fall until noise leaves nothing to win, `MAX_STEPS` at most; `size` is that of what is
    varied, `noise` the standard deviation of that in the values near zero, elsewhere at least their
    rounding to a relative precision. The value is that of Richardson's extrapolation where it is
    known best, with how far it may be off. A value of NaN is one that the function does not have.
    """
    middle, step = function(0.0), FIRST_STEP * size
    values, best = list[tuple[float, float, float]](), Slope()
    while len(values) < MAX_STEPS:
        values.append((step, function(step), function(-step)))
        step /= STEP_RATIO
        if len(values) >= MIN_STEPS:
            best = extrapolated(np.array(values).T, middle, noise, precision)
            if best.resolved and DEVIATIONS * noise / step >= best.uncertainty:
                break
    return best


def extrapolated(values_by_step: Array, middle: float, noise: float, precision: float) -> Slope:
    """Return the derivative from one step of Richardson's extrapolation where it is known best
    relative to the slopes seen up to that step.

    The claim to be tested has no say in it. How far the value may be off is what the neighbors in
    the ladder and the noise leave, and half of what the slopes on both sides differ by: a function
    with a pole or a kink within a step shows it there. A step that contradicts a larger one is in
    noise, or in what only looks smooth from afar.
    """
    steps, above, below = values_by_step
    with np.errstate(all="ignore"):
        quotients = (above - below) / (2 * steps)
        values = quotients[1:] + np.diff(quotients) / (STEP_RATIO**2 - 1)
        changes = REMAINDER * np.abs(np.diff(values))
        reach = np.fmax(np.abs(above - middle), np.abs(below - middle)) / steps
        reach = np.fmax.accumulate(reach)[1:-1]
        rounding = np.fmax(noise, precision * np.fmax(np.abs(above), np.abs(below)))
        doubt = DEVIATIONS * (rounding / steps)[1:-1]
        jumps = slope_jumps(steps, above, middle, below)
        jumps = visible_jumps(jumps, BENDING * doubt, RESOLVED * reach)
        earlier_changes = np.append(0, changes[:-1]) / STEP_RATIO**2
        errors = np.maximum(np.maximum(changes, earlier_changes), doubt) + jumps / 2
        errors[np.isnan(errors)] = np.inf
        resolved = errors <= np.maximum(RESOLVED * reach, BEYOND * doubt)
        best = np.where(reach > 0, errors / reach, errors).argmin()
        values = values[:-1]
        differences = np.abs(values - values[best])
        contradicted = resolved & (differences > BEYOND * (errors + errors[best]))
    contradictions = differences[contradicted]
    return Slope(
        float(values[best]),
        float(max(errors[best], *contradictions, 0.0)),
        resolved=bool(resolved[best] and not contradictions.size),
        kink=bool(jumps[best] > BENDING * doubt[best]),
    )


def slope_jumps(steps: Array, above: Array, middle: float, below: Array) -> Array:
    """Return the absolute slope on one side less that on the other, without what is linear and
    cubic in a step; one for each step but the first and the last.
    """
    bends = (above - 2 * middle + below) / steps
    bends = (STEP_RATIO * bends[1:] - bends[:-1]) / (STEP_RATIO - 1)
    jumps: Array = np.abs(STEP_RATIO**3 * bends[1:] - bends[:-1]) / (STEP_RATIO**3 - 1)
    return jumps


def visible_jumps(jumps: Array, noise: Array, negligible: Array) -> Array:
    """Return the jumps of a slope from the largest step to the smallest, zero where none is seen:
    one that was seen is still there where noise hides it, no larger than that.
    """
    last, visible = 0.0, list[float]()
    for jump, hidden, least in zip(jumps, noise, negligible, strict=True):
        if jump > max(hidden, least):
            last = jump
        else:
            last = min(last, hidden) if hidden > least else 0.0
        visible.append(last)
    return np.array(visible)


def noise_of(function: Line, precision: float) -> float:
    """Return the standard deviation of the noise in a function's values near zero, never below
    rounding to a relative precision; the function is called `SAMPLES` times.

    Differences of an order at which nothing is left of a smooth function have the variance of the
    noise times a binomial coefficient.

    References
    ----------
    Moré and Wild, "Estimating computational noise", SIAM Journal on Scientific Computing 2011.
    """
    values = [function(index * SPACING * precision) for index in range(SAMPLES)]
    level = np.mean(np.diff(values, ORDER) ** 2) / math.comb(2 * ORDER, ORDER)
    return float(np.fmax(precision * abs(values[0]), level**0.5))


# A class of torch's without types.
class PerturbedArithmetic(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Arithmetic whose operands are off by a rounding at random, other than of what is changed in
    place or seen through another tensor: it shows what rounding does inside a solver, which is the
    same for inputs close by.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # Torch would import its compiler, for a second, and call it for each operation.
        return False

    def __torch_dispatch__(
        self, function: Any, types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        exact = function.is_view or function.overloadpacket.__name__ in NOT_ROUNDED
        if not (exact or function._schema.is_mutable):
            args = [*map(perturbed, args)]
        return function(*args, **kwargs or {})


def perturbed(operand: object) -> object:
    """Return a copy of a tensor of real numbers off by a rounding, random from torch's generator;
    anything else as it is.
    """
    if not isinstance(operand, Tensor) or not operand.is_floating_point():
        return operand
    # Constants in single precision are exact, as a rule.
    return torch.empty_like(operand).uniform_(1 - MAX_MOVE, 1 + MAX_MOVE).mul_(operand)


def rounding_of(function: Callable[[], Array], exact: Array) -> Array:
    """Return how far rounding moves what a function computes, root mean square in each entry.

    The function is called `ROUNDINGS` times, once if it has many entries, in arithmetic whose
    operands are off at random; torch's random state is fixed meanwhile and set back.
    """
    # What many entries tell together varies little; few may hang on one direction.
    n_samples = ROUNDINGS if exact.size <= MAX_COORDINATES else 1
    with (
        torch.random.fork_rng(devices=[]),
        PerturbedArithmetic(),  # type: ignore[no-untyped-call]  # as above
    ):
        torch.default_generator.manual_seed(0)
        changes = [function() - exact for _ in range(n_samples)]
    spread: Array = ROUNDING_SHARE * np.mean(np.square(changes), axis=0) ** 0.5
    return spread


def directions(layer: Layer, part: AuditedPart) -> Array:
    """Return the directions in which a part is varied, one a row: all coordinates, or, beyond
    `MAX_COORDINATES` entries, random directions and a few coordinates, from a stream of the layer's
    seed.
    """
    size = part.tensor.numel()
    if size <= MAX_COORDINATES:
        return np.eye(size)
    random = generator(layer.seed, f"audit directions {part.index}")
    rows = random.standard_normal((RANDOM_DIRECTIONS + SOME_COORDINATES, size))
    chosen = random.choice(size, SOME_COORDINATES, replace=False)
    rows[RANDOM_DIRECTIONS:] = np.equal.outer(chosen, np.arange(size))
    return rows


def slopes(
    layer: Layer, part: AuditedPart, rows: Array, precision: float, share: float = 1.0
) -> tuple[list[Slope], float]:
    """Return the derivatives of a layer's loss along directions in a part, and the noise of the
    loss; all steps are a share of the usual ones.

    Where the layer raises an error the loss counts as NaN. The noise is found along one direction
    of random signs, from the layer's seed, and with operations rounded at random.

    Raises
    ------
    InvalidArgument
        If that leaves no derivative known in any direction.
    """
    refusals = list[Exception]()
    theta = layer.theta.numpy(force=True)
    entries = np.abs(theta[part.span])

    def value(row: Array, length: float) -> float:
        """Return the loss at a length along a row, NaN where the layer raises an error, which is
        added to the refusals.
        """
        moved = theta.copy()
        moved[part.span] += length * row
        try:
            return layer.value(torch.as_tensor(moved))
        except Exception as error:  # noqa: BLE001
            refusals.append(error)
            return math.nan

    def loss() -> Array:
        return np.array(value(signs, 0.0))

    random = generator(layer.seed, f"noise {part.index}")
    signs = random.choice(np.array([-1.0, 1.0]), len(entries))
    noise = noise_of(partial(value, signs * np.where(entries > 0, entries, 1.0)), precision)
    noise = max(noise, float(rounding_of(loss, loss())))
    # Of a coordinate its entry, or what the others are; that of random directions as well.
    sizes = np.maximum(1.0, np.abs(rows @ theta[part.span]) / (rows**2).sum(1))
    sizes = share * 2.0 ** np.floor(np.log2(sizes))
    lines = [
        slope(partial(value, row), size, noise, precision)
        for row, size in zip(rows, sizes, strict=True)
    ]
    if refusals and not any(math.isfinite(line.uncertainty) for line in lines):
        raise InvalidArgument(
            f"the layer raises {type(refusals[0]).__name__} where {part.name} is changed"
            f" ({first_line(refusals[0])}): reparametrize it, such as with a softmax inside, or"
            " choose other inputs with wrt"
        )
    return lines, noise
