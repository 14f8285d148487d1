"""Random roundings have the distribution that is said, and tell what rounding does."""

import math

import numpy as np
import pytest
import torch

from pudle.references.rounding import MAGNIFIED, RandomRounding, rounding_errors

N = 10_000


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_random_roundings_are_uniform_around_the_operand(dtype):
    """Of mean zero and variance s²/3 for a share s, which the largest ones come close to."""
    share = MAGNIFIED * torch.finfo(dtype).eps / 2
    ones = torch.ones(N, dtype=dtype)
    with RandomRounding(0):
        rounded = ones * 1.0
    off = (rounded.double() - 1) / share
    # Five standard deviations of a mean, and of a mean of squares, whose variance is 4/45.
    assert abs(float(off.mean())) < 5 / math.sqrt(3 * N)
    assert abs(float(off.square().mean()) - 1 / 3) < 5 * math.sqrt(4 / 45 / N)
    assert 0.99 < float(off.abs().max()) < 1.01
    # The seed decides.
    with RandomRounding(0):
        again = ones * 1.0
    with RandomRounding(1):
        others = ones * 1.0
    assert torch.equal(again, rounded) and not torch.equal(others, rounded)


def test_what_rounds_nothing_is_left_exact():
    values = torch.arange(1.0, 9).double()
    with RandomRounding(0):
        signs, descending = values.sign(), values.sort(descending=True).values
    assert signs.tolist() == [1.0] * 8
    assert descending.tolist() == [*range(8, 0, -1)]


def test_options_of_a_function_are_passed_on():
    ones = torch.ones(4).double()
    with RandomRounding(0):
        added = torch.add(ones, ones, alpha=2)
    assert torch.allclose(added, 3 * ones, rtol=1e-12, atol=0)


def test_the_estimate_is_of_the_size_of_the_error_where_a_sum_cancels():
    """Adding a large number and taking it away again leaves its roundings, which are exact: the
    difference of two floats that are that close is.
    """
    values = torch.tensor(np.random.default_rng(0).uniform(-1, 1, N))

    def compute():
        return ((values + 1e8) - 1e8,)

    (computed,) = compute()
    error = float((computed - values).norm())
    (estimate,) = rounding_errors(compute, (computed,))
    assert error > 1e-7
    # Two operations round, each by the same uniform law: no factor of four lies between them.
    assert error / 4 < estimate < 4 * error
