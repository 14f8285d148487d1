"""Derivatives of a layer's loss along directions by differences: a ladder of steps, the noise of
the values, and what is known after all.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
import torch

from ..errors import InvalidArgument, first_line
from ..streams import generator
from .audit_layer import Array, Layer, Piece

#: Steps of the ladder, as shares of the size of what is varied, each the one before by a ratio.
RATIO = 8.0
LADDER: Array = 0.1 * RATIO ** -np.arange(8.0)
#: Values from which noise is estimated, and their spacing: close, so that kinks hardly count.
SAMPLES, SPACING = 9, 1.5e-8
#: Order of the differences from which noise is estimated.
ORDER = 5
#: Standard deviations that a difference is trusted to.
DEVIATIONS = 3.0
#: Entries up to which all coordinates are looked at, and how many of more.
ALL, SOME = 64, 4

#: A function of the length of a step along a line.
Line = Callable[[float], float]


class Slope(NamedTuple):
    """A derivative along a line.

    Attributes
    ----------
    value, uncertainty : float
        What one step of Richardson's extrapolation gives, at the steps where the neighbors in the
        ladder and the noise leave least uncertain.
    kink : float
        How far the slopes on both sides are apart, zero if noise or curvature explain it; half of
        it counts as uncertain.
    steps, quotients : ndarray
        The ladder, and its central difference quotients.
    noise : float
        Standard deviation of the noise in the function's values.
    """

    value: float
    uncertainty: float
    kink: float
    steps: Array
    quotients: Array
    noise: float


def slope(function: Line, noise: float, steps: Array = LADDER) -> Slope:
    """Return the derivative of a function at zero by central differences over three steps or
    more.
    """
    middle = function(0.0)
    pairs = np.array([(function(step), function(-step)) for step in steps])
    above, below = pairs[:, 0], pairs[:, 1]
    with np.errstate(invalid="ignore", over="ignore"):
        quotients = (above - below) / (2 * steps)
        bends = (above - 2 * middle + below) / steps
        # The errors of a quotient fall with the square of the step, those of a bend with the step.
        changes = np.diff(quotients)
        values = quotients[1:-1] + changes[:-1] / (RATIO**2 - 1)
        jumps = np.abs(RATIO * bends[2:] - bends[1:-1]) / (RATIO - 1)
        jumps[jumps < (RATIO + 1) * DEVIATIONS * noise / steps[1:-1]] = 0
        changes = np.abs(changes)
        left = np.maximum(changes[:-1] / (RATIO**2 - 1), changes[1:])
        left = left + DEVIATIONS * noise / steps[1:-1] + jumps / 2
    left[np.isnan(left)] = np.inf
    best = left.argmin()
    value, uncertainty, jump = (float(each[best]) for each in (values, left, jumps))
    # A smaller one may be what is left of the curvature.
    kink = jump if jump > 1e-3 * (abs(value) + jump) else 0.0
    return Slope(value, uncertainty, kink, steps, quotients, noise)


def noise_of(function: Line, precision: float) -> float:
    """Return the standard deviation of the noise in a function's values, never below rounding to a
    relative precision.

    Differences of an order at which nothing is left of a smooth function have the variance of the
    noise times a binomial coefficient.

    References
    ----------
    Moré and Wild, "Estimating computational noise", SIAM Journal on Scientific Computing 2011.
    """
    values = [function(index * SPACING) for index in range(SAMPLES)]
    level = np.mean(np.diff(values, ORDER) ** 2) / math.comb(2 * ORDER, ORDER)
    return max(precision * abs(values[0]), float(level**0.5))


def directions(layer: Layer, part: Piece, number: int, largest: int) -> Array:
    """Return the directions in which a part is varied, one a row: all coordinates, or so many
    random directions and a few coordinates, the one of the `largest` entry among them.
    """
    size = part.tensor.numel()
    if size <= ALL:
        return np.eye(size)
    random = generator(layer.seed, f"audit directions {part.index}")
    single = [*random.choice(size, SOME - 1, replace=False), largest]
    rows = random.standard_normal((number + SOME, size))
    rows[number:] = np.equal.outer(single, np.arange(size))
    return rows


def slopes(layer: Layer, part: Piece, rows: Array, precision: float) -> list[Slope]:
    """Return the derivatives of a layer's loss along directions in a part."""
    refused = list[Exception]()

    def value(row: Array, length: float) -> float:
        moved = layer.theta.clone()
        moved[part.span] += length * torch.as_tensor(row).to(moved)
        try:
            return layer.value(moved)
        except Exception as error:  # noqa: BLE001
            refused.append(error)
            return math.nan

    noise = noise_of(partial(value, rows.sum(0) / len(rows) ** 0.5), precision)
    found = [slope(partial(value, row), noise) for row in rows]
    if refused and not any(math.isfinite(each.uncertainty) for each in found):
        raise InvalidArgument(
            f"the layer raises {type(refused[0]).__name__} where {part.name} is changed"
            f" ({first_line(refused[0])}): reparametrize it, such as with a softmax inside, or"
            " choose other inputs with wrt"
        )
    return found
