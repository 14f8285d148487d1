"""How much a few seeds say about all seeds."""

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy import stats

#: Share of all seeds that are to keep an error, and the confidence with which that is stated.
SHARE, CONFIDENCE = 0.95, 0.95


def tolerance_limit(
    errors: ArrayLike, share: float = SHARE, confidence: float = CONFIDENCE
) -> float:
    r"""Return an upper limit on the errors of a share of all seeds, with a confidence, from the
    errors of a few.

    The logarithms of the errors are taken as normal. With their mean m and standard deviation s
    over n seeds the limit is
    :math:`\exp(m + k s)`, where :math:`k = t_{n-1,\, z_p \sqrt n}^{-1}(\text{confidence}) / \sqrt
    n` is the quantile of a noncentral t distribution and :math:`z_p` the normal quantile of the
    share. It is infinite for one seed and where an error is not finite.

    References
    ----------
    Krishnamoorthy and Mathew, Statistical Tolerance Regions, Wiley 2009, section 2.2.
    """
    values = np.asarray(errors, dtype=float)
    n = len(values)
    if n < 2 or not np.isfinite(values).all():
        return math.inf
    # An error of exactly zero does not occur: scores are never below their reference's bound.
    logs = np.log(values)
    factor = stats.nct.ppf(confidence, n - 1, stats.norm.ppf(share) * math.sqrt(n)) / math.sqrt(n)
    return float(np.exp(logs.mean() + factor * logs.std(ddof=1)))


def least_share(kept: int, tried: int, confidence: float = CONFIDENCE) -> float:
    """Return the share of all seeds that keep an error at least, with a confidence, if `kept` of
    `tried` seeds kept it.

    It is the one-sided limit of Clopper and Pearson, which assumes nothing about the errors.
    """
    return float(stats.beta.ppf(1 - confidence, kept, tried - kept + 1)) if kept else 0.0
