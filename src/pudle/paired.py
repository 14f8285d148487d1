"""Times that are measured in turns: the order of a round, and whether two of them can be told
apart.
"""

import random
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

#: Share of comparisons called a difference that may be none, and the confidence of intervals.
SIGNIFICANCE, CONFIDENCE = 0.05, 0.95
#: Ratios closer to one than this are no difference: two copies of one program differ so much by
#: where their memory lies.
LEAST = 1.03
#: Share of the rounds that does not count on either side: those that other work disturbed.
TRIMMED = 0.2


def order(turn: int, number: int) -> list[int]:
    """Return the order of so many things in a round: another one in each, because whatever comes
    finds caches and clock rate as the one before left them. Of two rounds, the second goes
    backwards.

    It depends on these two numbers alone.
    """
    return random.Random(turn // 2).sample(range(number), number)[:: 1 if turn % 2 else -1]


class Ratio(NamedTuple):
    """One time over another: its center over the rounds, the 95 % interval of that, and the p-value
    of no difference.
    """

    value: float
    low: float = np.nan
    high: float = np.nan
    p_value: float = 1.0

    def inverse(self) -> "Ratio":
        """Return the second time over the first."""
        return Ratio(1 / self.value, 1 / self.high, 1 / self.low, self.p_value)


class Ratios(NamedTuple):
    """The same of many at once, an array each."""

    value: Array
    low: Array
    high: Array
    p_value: Array


def compare(first: ArrayLike, second: ArrayLike) -> Ratio:
    """Compare two things' times in the same rounds, see `compare_many`."""
    return Ratio(*map(float, compare_many(first, second)))


def compare_many(first: ArrayLike, second: ArrayLike) -> Ratios:
    r"""Compare times that were measured in the same rounds, which lie along the last axis.

    With x the n logarithms of the ratios, h of which are left when `TRIMMED` are cut on either
    side, and s the standard deviation of x with these moved to the nearest that is left,

    .. math:: t = (|\bar x_h| - \log 1.03) \sqrt{h (h - 1)} \, / \, (s \sqrt{n - 1})

    follows Student's t with h - 1 degrees of freedom where the ratio is just `LEAST`. Fewer than
    two rounds tell nothing: the p-value is 1, and the interval NaN.

    References
    ----------
    Tukey and McLaughlin, "Less vulnerable confidence and significance procedures for location",
    Sankhya A 25, 1963.
    """
    from scipy.special import stdtr, stdtrit  # slow to import, and a full store needs none

    logs: Array = np.sort(np.log(np.divide(first, second)))
    n = logs.shape[-1]
    if n < 2:
        unknown = np.full(logs.shape[:-1], np.nan)
        value = np.exp(logs.sum(-1)) if n else unknown
        return Ratios(value, unknown, unknown, np.ones_like(unknown))
    cut = int(TRIMMED * n)
    inner, h = logs[..., cut : n - cut], n - 2 * cut
    center = inner.mean(-1)
    spread = np.clip(logs, inner[..., :1], inner[..., -1:]).std(-1, ddof=1)
    error = spread * np.sqrt((n - 1) / (h * (h - 1)))
    half = stdtrit(h - 1, (1 + CONFIDENCE) / 2) * error
    with np.errstate(divide="ignore", invalid="ignore"):
        beyond = np.maximum(np.abs(center) - np.log(LEAST), 0.0)
        p_value = np.where(beyond == 0, 1.0, 2 * stdtr(h - 1, -beyond / error))
    return Ratios(np.exp(center), np.exp(center - half), np.exp(center + half), p_value)


def critical(p_values: ArrayLike) -> float:
    """Return the p-value up to which comparisons are called differences, if this is done for all
    those on a page: of such differences the share `SIGNIFICANCE` is none, at most on average.

    It is `SIGNIFICANCE` for no comparisons; the order of the p-values is of no account.

    References
    ----------
    Benjamini and Hochberg, "Controlling the false discovery rate", JRSS B 57, 1995.
    """
    ordered: Array = np.sort(p_values)
    if not len(ordered):
        return SIGNIFICANCE
    limits = SIGNIFICANCE * np.arange(1, len(ordered) + 1) / len(ordered)
    return float(limits[ordered <= limits].max(initial=limits[0]))
