"""How much a few seeds say about all of them."""

from collections.abc import Sequence
from math import inf, sqrt

import numpy as np
from scipy import stats

#: Share of all seeds that are to keep an error, and the confidence with which that is stated.
SHARE, CONFIDENCE = 0.95, 0.95


def tolerance_limit(values: Sequence[float], share: float = SHARE) -> float:
    r"""Return an upper limit on the values of a share of all seeds, with `CONFIDENCE`, from those
    of a few.

    The logarithms of the values are taken as normal. With their mean m and standard deviation s
    over n seeds the limit is
    :math:`\exp(m + k s)`, where :math:`k = t_{n-1,\, z_p \sqrt n}^{-1}(\text{confidence}) / \sqrt
    n` is the quantile of a noncentral t distribution and :math:`z_p` the normal quantile of the
    share. It is infinite for one seed and where a value is not finite.

    References
    ----------
    Krishnamoorthy and Mathew, Statistical Tolerance Regions, Wiley 2009, section 2.2.
    """
    known = np.asarray(values, float)
    n = len(known)
    if n < 2 or not np.isfinite(known).all():
        return inf
    # A value of exactly zero does not occur: errors are never below their reference's bound.
    logs = np.log(known)
    factor = stats.nct.ppf(CONFIDENCE, n - 1, stats.norm.ppf(share) * sqrt(n)) / sqrt(n)
    return float(np.exp(logs.mean() + factor * logs.std(ddof=1)))


def least_share(n_within: int, n_tried: int, confidence: float = CONFIDENCE) -> float:
    """Return a lower limit, with a confidence, on the share of all seeds that keep an error, where
    `n_within` of `n_tried` seeds keep it; 0 if none does.

    It is the one-sided limit of Clopper and Pearson, which assumes nothing about the errors.
    """
    if n_within == 0:
        return 0.0
    return float(stats.beta.ppf(1 - confidence, n_within, n_tried - n_within + 1))
