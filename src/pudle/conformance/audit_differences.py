"""Derivatives along a line by differences: a ladder of steps, the noise of the values, and what is
known after all.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .closed_forms import Array

#: Steps of the ladder, as shares of the size of what is varied, each the one before by a ratio.
RATIO = 8.0
LADDER = 0.1 * RATIO ** -np.arange(8)
#: Values from which noise is estimated, and their spacing: close, so that kinks hardly count.
SAMPLES, SPACING = 9, 1.5e-8
#: Order of the differences from which noise is estimated.
ORDER = 5
#: Standard deviations that a difference is trusted to.
DEVIATIONS = 3.0
#: Times an interval, or a difference its uncertainty, that a gap is beyond doubt.
BEYOND = 10.0
#: A jump of the derivative is a kink beyond this share of it.
KINK = 1e-3


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


def slope(function: Callable[[float], float], noise: float, steps: Array = LADDER) -> Slope:
    """Return the derivative of a function at zero by central differences over three steps or
    more.
    """
    middle = function(0.0)
    above, below = np.array([(function(step), function(-step)) for step in steps]).T
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
    left = np.where(np.isfinite(left), left, np.inf)
    best = int(np.argmin(left))
    value, uncertainty, jump = (float(each[best]) for each in (values, left, jumps))
    # A smaller one may be what is left of the curvature.
    kink = jump if jump > KINK * (abs(value) + jump) else 0.0
    return Slope(value, uncertainty, kink, steps, quotients, noise)


def noise_of(function: Callable[[float], float], precision: float) -> float:
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
