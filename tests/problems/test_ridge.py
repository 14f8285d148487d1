"""Ridge regression: the curse of unrolling against its closed form, and the problem itself with its
refusals.
"""

import numpy as np
import pytest
import tolerances
import torch
from comparisons import refusal

import pudle

DEPTHS = [*range(1, 101), 200, 400]


def ridge_along(count):
    """An inner problem of condition number 100 with L = 1, whose observation and weights lie along
    its first singular vectors.
    """
    random, strength = np.random.default_rng(11), 0.005
    left, right = (np.linalg.qr(random.standard_normal((8, 8)))[0] for _ in range(2))
    dictionary = left * np.sqrt(np.geomspace(1, 0.01, 8) - strength) @ right.T
    observation, weights = (vectors[:, :count].sum(1) for vectors in (left, right))
    return pudle.Ridge(
        observations=observation[None], dictionary=dictionary, strength=strength, weights=weights
    )


@pytest.mark.parametrize("name", ["backprop", "forward", "checkpointed"])
def test_burn_in_oracle(name):
    """``|1 - eta L|^(t-1) |1 + (t - 1) eta L|`` at eta = 2/(L + mu), to 1e-9 absolute: it grows
    before it falls.
    """
    problem = ridge_along(1)
    smallest, largest = problem.extreme_eigenvalues
    step = 2 / (largest + smallest)
    truth = float(pudle.reference(problem).gradient)
    estimates = pudle.make_estimator(name).sweep(problem, pudle.Ista(step=step), DEPTHS)
    errors = {}
    for depth, estimate in zip(DEPTHS, estimates, strict=True):
        oracle = abs(1 - step * largest) ** (depth - 1) * abs(1 + (depth - 1) * step * largest)
        errors[depth] = abs(float(estimate.gradient) - truth) / abs(truth)
        assert abs(errors[depth] - oracle) < tolerances.BURN_IN
    assert max(errors.values()) == errors[50] == pytest.approx(36.79, abs=0.005)


def test_no_burn_in_at_one_over_lipschitz_constant():
    """Along all directions together: along the top one such a step ends in two layers."""
    problem = ridge_along(8)
    truth = float(pudle.reference(problem).gradient)
    sweep = pudle.make_estimator("backprop").sweep(problem, pudle.Ista(), range(1, 121))
    errors = [abs(float(estimate.gradient) / truth - 1) for estimate in sweep]
    assert (np.diff(errors) < 0).all() and errors[0] <= 1


ONES = torch.ones(5, dtype=torch.float64)
REFUSED = [
    ({"weights": ONES * float("nan")}, "weights has 5 entries that are NaN"),
    ({"weights": ONES[:4]}, "weights (4,); give (n, m), (m, p) and (p,)"),
    ({"strength": -1.0}, "strength=-1.0 is out of range: give a number >= 0"),
    ({"strength": 0.0}, "leaves the inner problem flat: give a larger strength"),
    ({"theta": ONES[:1]}, "theta has shape (1,): give a tensor of shape ()"),
    ({"weights": ONES.float()}, "weights and observations differ in dtype"),
]


@pytest.mark.parametrize("changes, text", REFUSED)
def test_bad_input_is_refused(changes, text):
    good = {"observations": torch.ones(4, 3).double(), "dictionary": torch.eye(3, 5).double()}
    good |= {"strength": 0.1, "weights": ONES}
    assert text in refusal(lambda: pudle.Ridge(**good | changes))
