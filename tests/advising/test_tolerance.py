"""What a few seeds say about all, against published factors and closed forms."""

import math

import numpy as np
import pytest

from pudle.advising.tolerance import least_share, tolerance_limit

#: One-sided factors for confidence 0.95: Natrella, Experimental Statistics (NBS Handbook 91), table
#: A-7.
PUBLISHED = {
    (10, 0.90): 2.355,
    (10, 0.95): 2.911,
    (20, 0.95): 2.396,
    (12, 0.95): 2.736,
}


@pytest.mark.parametrize(("n", "share"), PUBLISHED)
def test_the_factor_is_the_published_one(n, share):
    logs = np.random.default_rng(n).standard_normal(n)
    factor = (math.log(tolerance_limit(np.exp(logs), share)) - logs.mean()) / logs.std(ddof=1)
    # The table was computed by hand methods: its last digit is off by one in places.
    assert factor == pytest.approx(PUBLISHED[n, share], abs=2e-3)


@pytest.mark.parametrize("errors", [[0.1], [0.1, math.inf], [0.1, math.nan]])
def test_there_is_no_limit_without_errors(errors):
    assert tolerance_limit(errors) == math.inf


@pytest.mark.parametrize(("kept", "tried"), [(20, 20), (19, 20), (1, 3)])
def test_at_the_least_share_so_many_successes_are_just_so_unlikely(kept, tried):
    share = least_share(kept, tried)
    at_least = sum(
        math.comb(tried, k) * share**k * (1 - share) ** (tried - k) for k in range(kept, tried + 1)
    )
    assert at_least == pytest.approx(0.05) and least_share(0, tried) == 0
