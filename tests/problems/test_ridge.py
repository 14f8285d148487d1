"""Ridge regression: the curse of unrolling against its closed form, and the problem itself with its
refusals.
"""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import tolerances
import torch
from estimator_limits import FLOORS
from estimator_specs import LIMIT_SPECS, NAMES
from examples import ridge_problem

import pudle

CONDITION = 100.0
DEPTHS = [*range(1, 31), *range(35, 101, 5), 200, 400]


def conditioned_dictionary() -> tuple[np.ndarray, float]:
    """A square dictionary and a strength that give the inner problem the condition number
    `CONDITION`, with L = 1.
    """
    random = np.random.default_rng(11)
    left, _ = np.linalg.qr(random.standard_normal((8, 8)))
    right, _ = np.linalg.qr(random.standard_normal((8, 8)))
    strength = 0.5 / CONDITION
    eigenvalues = np.geomspace(1 / CONDITION, 1, 8)[::-1]
    return left * np.sqrt(eigenvalues - strength) @ right.T, strength


def top_left_singular_vector(dictionary: np.ndarray) -> np.ndarray:
    return np.linalg.svd(dictionary)[0][:, 0]


def ridge_along(observation: np.ndarray) -> pudle.Ridge:
    dictionary, strength = conditioned_dictionary()
    return pudle.Ridge(
        observations=torch.tensor(observation[None, :]),
        dictionary=torch.tensor(dictionary),
        strength=strength,
        weights=torch.tensor(np.linalg.svd(dictionary)[2][0]),
    )


def relative_errors(problem, step, depths) -> np.ndarray:
    """Relative error of backpropagation, measured against the certified reference."""
    truth = float(pudle.reference(problem).gradient)
    estimates = pudle.make_estimator("backprop").sweep(problem, pudle.Ista(step=step), depths)
    return np.array([abs(float(estimate.gradient) - truth) / abs(truth) for estimate in estimates])


def test_problem_has_its_condition_number():
    problem = ridge_along(top_left_singular_vector(conditioned_dictionary()[0]))
    smallest, largest = problem.extreme_eigenvalues
    assert largest / smallest == pytest.approx(CONDITION, rel=1e-12)


@pytest.mark.parametrize("name", ["backprop", "forward", "checkpointed"])
def test_burn_in_oracle(name):
    """``|1 - eta L|^(t-1) |1 + (t - 1) eta L|`` at eta = 2/(L + mu), to 1e-9 absolute: it grows
    before it falls.
    """
    if name not in NAMES:
        pytest.skip(f"{name} is not registered")
    problem = ridge_along(top_left_singular_vector(conditioned_dictionary()[0]))
    smallest, largest = problem.extreme_eigenvalues
    step = 2 / (largest + smallest)
    truth = float(pudle.reference(problem).gradient)
    estimates = pudle.make_estimator(name).sweep(problem, pudle.Ista(step=step), DEPTHS)
    for depth, estimate in zip(DEPTHS, estimates, strict=True):
        oracle = abs(1 - step * largest) ** (depth - 1) * abs(1 + (depth - 1) * step * largest)
        error = abs(float(estimate.gradient) - truth) / abs(truth)
        assert abs(error - oracle) < tolerances.BURN_IN


def test_burn_in_peaks_at_the_published_place():
    problem = ridge_along(top_left_singular_vector(conditioned_dictionary()[0]))
    smallest, largest = problem.extreme_eigenvalues
    depths = list(range(1, 121))
    errors = relative_errors(problem, 2 / (largest + smallest), depths)
    assert depths[int(errors.argmax())] == 50
    assert errors.max() == pytest.approx(36.79, abs=0.005)


def test_no_burn_in_at_one_over_lipschitz_constant():
    """At a step of 1/L the error falls monotonically, along the top direction and along all
    directions together.
    """
    dictionary, strength = conditioned_dictionary()
    left, _, right = np.linalg.svd(dictionary)
    along_top = relative_errors(ridge_along(left[:, 0]), None, range(1, 20))
    # Along the top direction such a step solves the problem in one layer, and its derivative in
    # two.
    assert along_top[0] == pytest.approx(1.0, abs=tolerances.BURN_IN)
    assert along_top[1:].max() < tolerances.BURN_IN
    spread = pudle.Ridge(
        observations=torch.tensor(left.sum(1)[None, :]),
        dictionary=torch.tensor(dictionary),
        strength=strength,
        weights=torch.tensor(right.sum(0)),
    )
    errors = relative_errors(spread, None, range(1, 151))
    assert (np.diff(errors) < 0).all() and errors[0] <= 1


@pytest.mark.parametrize("seed", range(3))
def test_no_burn_in_with_a_random_right_hand_side(seed):
    """Burn-in needs a right-hand side along the top direction: in a random one the slow directions
    dominate.
    """
    dictionary, strength = conditioned_dictionary()
    observation = torch.tensor(np.random.default_rng([seed, 77]).standard_normal((1, 8)))
    depths = [1, 2, 5, 10, 20, 50, 100, 200]
    squares, total = np.zeros(len(depths)), 0.0
    # Each choice of weights gives one of the eight entries of dz/dtheta.
    for weights in torch.eye(8, dtype=torch.float64):
        problem = pudle.Ridge(
            observations=observation,
            dictionary=torch.tensor(dictionary),
            strength=strength,
            weights=weights,
        )
        smallest, largest = problem.extreme_eigenvalues
        truth = float(pudle.reference(problem).gradient)
        estimates = pudle.make_estimator("backprop").sweep(
            problem, pudle.Ista(step=2 / (largest + smallest)), depths
        )
        squares += [(float(estimate.gradient) - truth) ** 2 for estimate in estimates]
        total += truth**2
    errors = np.sqrt(squares / total)
    assert errors.max() <= 1 + tolerances.BURN_IN
    assert (np.diff(errors) < 0).all()


def test_reference_is_the_limit_of_the_closed_form():
    problem = ridge_problem()
    x, d, c = (
        tensor.numpy() for tensor in (problem.observations, problem.dictionary, problem.weights)
    )
    oracle = oracles.RidgeOracle(x, d, problem.strength, c, 1 / problem.lipschitz_constant)
    truth = float(pudle.reference(problem).gradient)
    assert oracle.unrolled(2000) == pytest.approx(oracle.exact(), rel=1e-12)
    assert truth == pytest.approx(oracle.exact(), rel=tolerances.CLOSED_FORM)


@pytest.mark.parametrize("name", NAMES)
def test_deep_estimates_reach_the_exact_gradient(name):
    """At great depth every estimator of the total derivative reaches the reference; the direct part
    stays zero.
    """
    estimator = pudle.make_estimator(LIMIT_SPECS.get(name, name))
    if estimator.computes == "stochastic":
        pytest.skip("a random vector is checked by its mean, in the estimator's own tests")
    problem = ridge_problem()
    try:
        estimate = estimator.estimate(problem, pudle.Ista(), 600)
    except pudle.UnsupportedProblem as refusal:
        pytest.skip(str(refusal))
    score = pudle.score(estimate, pudle.reference(problem))
    assert score.status == "ok"
    if estimator.computes == "direct":
        assert score.relative_error == 1.0 and score.cosine_error == 1.0
    elif estimator.computes == "truncated":
        contraction = 1 - problem.extreme_eigenvalues[0] / problem.extreme_eigenvalues[1]
        window = estimate.diagnostics["layers_differentiated"]
        assert 1e-6 < score.relative_error < 10 * contraction**window
    elif name in FLOORS:
        assert 1e-10 < score.relative_error < FLOORS[name]
    else:
        assert score.relative_error < (
            tolerances.DIFFERENCE_QUOTIENT if name == "finite_difference" else 1e-10
        )


NAN, INFINITY = float("nan"), float("inf")
X, D = torch.ones(4, 3, dtype=torch.float64), torch.eye(3, 5, dtype=torch.float64)


def ridge_arguments(**changes):
    arguments = {
        "observations": X,
        "dictionary": D,
        "strength": 0.1,
        "weights": torch.ones(5, dtype=torch.float64),
    }
    return arguments | changes


RIDGE_REFUSED = {
    "NaN weights": (
        {"weights": torch.full((5,), NAN, dtype=torch.float64)},
        "weights has 5 entries that are NaN",
    ),
    "integer weights": (
        {"weights": torch.ones(5, dtype=torch.int64)},
        "weights has dtype int64: convert it to float32",
    ),
    "matrix of weights": (
        {"weights": torch.ones(5, 1, dtype=torch.float64)},
        "weights has shape (5, 1): give a tensor of shape (p,)",
    ),
    "weights of another length": (
        {"weights": torch.ones(4, dtype=torch.float64)},
        (
            "shapes do not fit: observations (4, 3), dictionary (3, 5), weights (4,); give (n, m),"
            " (m, p) and (p,)"
        ),
    ),
    "dictionary that does not fit": (
        {"dictionary": D.T},
        "shapes do not fit: observations (4, 3), dictionary (5, 3)",
    ),
    "negative strength": ({"strength": -1.0}, "strength=-1.0 is out of range: give a number >= 0"),
    "NaN strength": ({"strength": NAN}, "strength=nan is not a finite number: give a number >= 0"),
    "flat inner problem": (
        {"strength": 0.0},
        "strength + theta leaves the inner problem flat: give a larger strength",
    ),
    "theta that takes all the strength": (
        {"theta": torch.tensor(-0.2, dtype=torch.float64)},
        "strength + theta leaves the inner problem flat: give a larger strength",
    ),
    "theta as a vector": (
        {"theta": torch.zeros(1, dtype=torch.float64)},
        "theta has shape (1,): give a tensor of shape ()",
    ),
    "infinite observations": (
        {"observations": torch.where(torch.arange(3) + torch.arange(4)[:, None] == 0, INFINITY, X)},
        "observations has 1 entry that is NaN or infinite: remove or replace what is not finite",
    ),
    "two dtypes": ({"weights": torch.ones(5)}, "weights and observations differ in dtype"),
}


class TestRidge:
    @pytest.mark.parametrize("changes, text", RIDGE_REFUSED.values(), ids=RIDGE_REFUSED)
    def test_bad_input_is_refused(self, changes, text):
        with pytest.raises(pudle.InvalidArgument) as failure:
            pudle.Ridge(**ridge_arguments(**changes))
        assert str(failure.value).startswith(text)
        assert len(str(failure.value).splitlines()) == 1

    def test_theta_defaults_to_zero(self, ridge):
        assert ridge.theta.shape == () and float(ridge.theta) == 0.0

    def test_theta_adds_to_the_strength(self):
        theta = torch.tensor(0.4, dtype=torch.float64)
        one = pudle.Ridge(**ridge_arguments(strength=0.1, theta=theta))
        other = pudle.Ridge(**ridge_arguments(strength=0.5))
        codes = torch.ones(4, 5, dtype=torch.float64)
        assert torch.allclose(one.smooth_gradient(codes), other.smooth_gradient(codes), rtol=1e-15)
        assert one.lipschitz_constant == pytest.approx(other.lipschitz_constant, rel=1e-14)
        assert float(pudle.reference(one).gradient) == pytest.approx(
            float(pudle.reference(other).gradient), rel=1e-12
        )

    def test_loss_and_lipschitz_constant(self, ridge):
        d = ridge.dictionary.numpy()
        values = np.linalg.eigvalsh(d.T @ d) + ridge.strength
        assert ridge.lipschitz_constant == pytest.approx(values[-1], rel=1e-13)
        codes = torch.tensor(np.random.default_rng(2).standard_normal(ridge.code_shape))
        truth = (codes.numpy() @ ridge.weights.numpy()).mean()
        assert float(ridge.outer_loss(codes)) == pytest.approx(truth, rel=1e-12)

    def test_active_systems_are_the_whole_system(self, ridge):
        d = ridge.dictionary.numpy()
        hessian = d.T @ d + ridge.strength * np.eye(d.shape[1])
        right = np.random.default_rng(2).standard_normal(ridge.code_shape)
        solution, diagnostics = ridge.solve_active(
            torch.zeros(ridge.code_shape, dtype=torch.float64), torch.tensor(right)
        )
        assert np.abs(solution.numpy() - np.linalg.solve(hessian, right.T).T).max() < 1e-12
        assert diagnostics["condition_number"] == pytest.approx(np.linalg.cond(hessian), rel=1e-9)
