"""References and bounds of smooth, strongly convex inner problems, against closed forms,
differences and extended precision.
"""

import dataclasses
import functools
import math
import re
import tempfile
from pathlib import Path

import numpy as np
import pytest
import sklearn.linear_model
import torch
from support.oracles.comparisons import refusal, relative
from support.oracles.in_numpy import Quadratic, solve

import pudle
from pudle.algorithms.unrolling import direct_gradients
from pudle.problems.linearized import norm
from pudle.references.strongly_convex import bounded_gradient, measured_roundings, parts_at

SPECS = {
    "quadratic": "quadratic(n_samples=60, n_inner=20, n_outer=4, kappa={kappa}, seed={seed})",
    "logistic": "logistic(penalty={penalty}, seed={seed})",
    "logistic_features": "logistic(penalty={penalty}, per_feature=True, seed={seed})",
    "hyper_cleaning": "hyper_cleaning(path={path!r}, n_samples=40, n_validation=30, seed={seed})",
}
#: One of each penalty and condition number; the nightly tests have twenty.
DRAWS = [(name, seed) for name in SPECS for seed in range(3)]
SLOW = [(name, seed) for name in SPECS for seed in range(20)]


@functools.cache
def images():
    """Write images of six pixels in three classes, which overlap; return the path."""
    random = np.random.default_rng(3)
    labels = np.arange(90) % 3
    pixels = random.uniform(0, 200, (90, 2, 3)) + 90 * np.eye(3)[labels][:, None]
    path = Path(tempfile.mkdtemp()) / "images.npz"
    np.savez(path, images=pixels.astype(np.uint8), labels=labels)
    return str(path)


@functools.cache
def drawn(name, seed):
    """Return a problem at a theta that is not the dataset's own, and its reference."""
    options = {"kappa": (3, 30, 300)[seed % 3], "penalty": (1.0, 0.1, 0.01)[seed % 3]}
    spec = SPECS[name].format(seed=seed, path=images(), **options)
    problem = pudle.make_dataset(spec).problem()
    random = torch.tensor(np.random.default_rng([seed, 5]).standard_normal(problem.theta.shape))
    problem = dataclasses.replace(problem, theta=problem.theta + random / 2)
    return problem, pudle.reference(problem)


def value(problem, theta):
    """Return the loss at the minimizer for another theta, by a dense Newton method of its own."""
    state = problem.initial.clone()

    def objective(flat):
        return problem.objective(flat.reshape(state.shape), theta)

    flat = state.ravel()
    for _ in range(60):
        slope, hessian = torch.func.grad(objective)(flat), torch.func.hessian(objective)(flat)
        step = torch.linalg.solve(hessian, slope)
        while step.norm() > 1e-6 and objective(flat - step) > objective(flat):
            step = step / 2
        flat = flat - step
        if step.norm() <= 1e-13 * flat.norm():
            break
    return float(problem.loss(flat.reshape(state.shape), theta))


def richardson(function, step):
    """Return the derivative at zero by central differences at three steps, extrapolated."""
    first = [(function(h) - function(-h)) / (2 * h) for h in (step, step / 2, step / 4)]
    second = [(4 * fine - coarse) / 3 for coarse, fine in zip(first, first[1:], strict=False)]
    return (16 * second[1] - second[0]) / 15


@pytest.mark.parametrize(
    "name, seed",
    [pytest.param(*each, marks=[pytest.mark.nightly] * (each[1] > 1)) for each in SLOW],
)
def test_richardson_differences_of_the_exact_loss(name, seed):
    problem, reference = drawn(name, seed)
    assert reference.status == "certified", reference.reason
    direction = reference.gradient / reference.gradient.norm()
    slope = richardson(lambda h: value(problem, problem.theta + h * direction), 0.005)
    assert slope == pytest.approx(float(reference.gradient.norm()), rel=1e-8)


@pytest.mark.parametrize(
    "seed, kappa, tolerance",
    [*((seed, (3, 30, 300)[seed % 3], 1e-11) for seed in range(20)), (0, 3e8, 1e-7)],
)
def test_a_quadratic_problem_has_its_closed_form(seed, kappa, tolerance):
    problem = pudle.make_dataset(SPECS["quadratic"].format(kappa=kappa, seed=seed)).problem()
    reference = pudle.reference(problem)
    form = Quadratic(problem)
    assert relative(reference.gradient, form.gradient()) < tolerance
    assert relative(reference.codes[0], form.minimizer()) < tolerance


def adjoint_at(problem, codes):
    """Return the adjoint that solves its system at some codes."""
    return problem.solve_active(codes, direct_gradients(problem, codes)[1])[0]


@pytest.mark.parametrize(
    "seed", [pytest.param(seed, marks=[pytest.mark.nightly] * (seed > 1)) for seed in range(20)]
)
def test_codes_of_hyper_cleaning_are_those_of_scikit_learn(seed):
    dataset = pudle.make_dataset(SPECS["hyper_cleaning"].format(seed=seed, path=images()))
    problem, reference = drawn("hyper_cleaning", seed)
    training, *others = dataset.draw()
    assert [len(each.images) for each in others] == [30, 20]
    # The squared norm counts 0.2 there and 1/(2C) here, times 40 samples.
    fitted = sklearn.linear_model.LogisticRegression(
        C=1 / (0.4 * 40), fit_intercept=False, tol=1e-13, solver="newton-cg", max_iter=1000
    ).fit(training.images, training.labels, sample_weight=problem.theta.sigmoid().numpy())
    assert np.abs(reference.codes.numpy() - fitted.coef_.T).max() < 1e-7


def points(problem):
    """Yield states and adjoints on the way to the minimizer, with exact and with poor adjoints."""
    algorithm, state, done = pudle.GradientDescent(), problem.initial_codes(), 0
    slowness = problem.lipschitz_constant / problem.curvature
    for number in range(10):
        depth = round(number * slowness / 3) + number
        # Its steps are alike: each state begins where the one before has ended.
        state, done = algorithm.run(problem, depth - done, initial=state).codes, depth
        exact = adjoint_at(problem, state)
        yield state, exact if number % 2 else exact * (1 + 0.5**number)


def ratios(name, seed):
    """Return bounds on state, adjoint and gradient, each divided by the true error."""
    problem, reference = drawn(name, seed)
    adjoint = adjoint_at(problem, reference.codes)
    for state, v in points(problem):
        found = bounded_gradient(problem, state, v)
        yield (
            found.state / norm(state - reference.codes),
            found.adjoint / norm(v - adjoint),
            found.error / norm(found.gradient - reference.gradient),
        )


@pytest.mark.parametrize("name, seed", DRAWS)
def test_bounds_hold_and_are_no_hundred_times_the_error_in_most(name, seed):
    found = np.array([*ratios(name, seed)])
    assert (found >= 1).all(), found
    assert np.median(found[:, 2]) < 100


@pytest.mark.nightly
@pytest.mark.parametrize("name, seed", SLOW)
def test_bounds_hold_in_twenty_draws(name, seed):
    found = np.array([*ratios(name, seed)])
    assert (found >= 1).all(), found


def test_the_bound_holds_in_single_precision():
    dataset = pudle.make_dataset("logistic(penalty=1e3, per_feature=True)")
    problem, state = dataset.problem(dtype=torch.float32), torch.full((1, 30), 100.0)
    found = bounded_gradient(problem, state, state)
    assert norm(found.gradient - pudle.reference(problem).gradient) <= found.error


def test_the_bound_holds_where_the_weights_of_images_are_almost_one():
    base = pudle.make_dataset(SPECS["hyper_cleaning"].format(path=images(), seed=0)).problem()
    problem = dataclasses.replace(base, theta=base.theta + 25)
    reference, theta = pudle.reference(problem), problem.theta
    at_zero = bounded_gradient(base, reference.codes, adjoint_at(problem, reference.codes))
    expected = at_zero.gradient * 4 * theta.sigmoid() * (-theta).sigmoid()
    assert relative(reference.gradient, expected) <= reference.bound < 0.01


@pytest.mark.parametrize("seed", range(4))
def test_the_bound_holds_at_the_reference_in_extended_precision(seed):
    """Logistic regression with two features and a penalty for each, by Newton's method."""
    random = np.random.default_rng([seed, 9])
    rows, held = random.standard_normal((12, 2)), random.standard_normal((9, 2))
    dataset = pudle.make_dataset("logistic(per_feature=True)")
    object.__setattr__(dataset, "draw", lambda: (rows, held))
    theta = torch.tensor([-1.0, -3.0 - seed / 2]).double()
    reference = pudle.reference(dataclasses.replace(dataset.problem(), theta=theta))
    x, y, penalties, w = (
        each.astype(np.longdouble)
        for each in (rows, held, theta.numpy(), reference.codes[0].numpy())
    )
    penalties = np.exp(penalties)
    for _ in range(5):
        shares = 1 / (1 + np.exp(x @ w))
        hessian = np.diag(penalties) + (x.T * (shares * (1 - shares))) @ x / 12
        w = w - solve(hessian, penalties * w - x.T @ shares / 12)
    outside = -y.T @ (1 / (1 + np.exp(y @ w))) / 9
    true = -penalties * w * solve(hessian, outside)
    error = np.linalg.norm((reference.gradient.numpy() - true).astype(float))
    assert error <= reference.bound * np.linalg.norm(true.astype(float))
    assert reference.bound < 1e-9


def one(**changes):
    """Return a small problem, with changes."""
    fields = {
        "theta": torch.tensor([1.0, 2.0]).double(),
        "objective": lambda z, theta: (z - theta).square().sum() + z.exp().sum() / 10,
        "loss": lambda z, theta: z.square().sum(),
        "initial": torch.zeros(2).double(),
        "modulus": lambda theta: 2.0,
    }
    return pudle.StronglyConvex(**fields | changes)


def test_without_constants_it_is_a_limit_with_an_estimate_of_its_error():
    problem = one()
    reference = pudle.reference(problem)
    assert reference.target == reference.status == "limit" and 0 < reference.bound < 1e-10
    with pytest.raises(pudle.UnsupportedProblem, match="constants="):
        pudle.reference(problem, target="exact")
    expected = reference.codes[0] * 4 / (2 + reference.codes[0].exp() / 10)
    assert relative(reference.gradient, expected) < 1e-12


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"modulus": lambda theta: 3.0}, "modulus.theta.=3 is above the curvature 2.2"),
        ({"objective": lambda z, theta: (z * theta).sin().sum()}, "not convex"),
        ({"loss": lambda z, theta: (z - 9).log().sum()}, "NaN or infinite"),
        ({"modulus": lambda theta: 1e-14}, "may be .* times its norm"),
        ({"objective": lambda z, t: ((z - t).square() + z * z.detach().exp()).sum()}, "detach"),
    ],
)
def test_a_false_claim_is_uncertified_with_one_line(changes, reason):
    reference = pudle.reference(one(**changes))
    assert reference.status == "uncertified"
    assert "\n" not in reference.reason
    assert re.search(reason, reference.reason), reference.reason


@pytest.mark.parametrize(
    "changes, reason",
    [
        ({"modulus": lambda theta: 0.0}, "modulus.theta.=0.0 is out of range"),
        ({"objective": lambda z, theta: (z.detach() - 1).square().sum()}, "no derivative"),
        ({"objective": lambda z, t: (z - t).float().square().sum()}, "returns torch.float32"),
        ({"constants": lambda *_: pudle.Constants(-1, *[0] * 6)}, "gradient=-1 is negative"),
        ({"modulus": 2.0}, "modulus is a float: give a function"),
        ({"objective": lambda z, theta: z}, "objective returns"),
        ({"objective": lambda z, theta: (z.sum() - 9).sqrt()}, "NaN or infinite"),
        ({"constants": lambda *_: 3.0}, "constants gives a float"),
        (
            {"objective": lambda z, theta: (torch.eye(2) @ (z - theta)).square().sum()},
            "convert the data",
        ),
    ],
)
def test_what_is_no_problem_is_refused_with_one_line(changes, reason):
    text = refusal(lambda: pudle.reference(one(**changes)))
    assert re.search(reason, text), text


def canceling(offset):
    """Return the squared distance from theta, which is the minimizer, plus a large number times a
    sum that is zero: each entry of the slope is ``z - theta + offset - offset``.
    """
    return pudle.StronglyConvex(
        theta=torch.zeros(3).double(),
        objective=lambda z, theta: (
            (z - theta).square().sum() / 2 + offset * z.sum() - (offset * z).sum()
        ),
        loss=lambda z, theta: z.sum(),
        initial=torch.zeros(1, 3).double(),
        modulus=lambda theta: 1.0,
    )


def test_where_the_slope_is_no_number_all_bounds_are_infinite():
    """NaN would be below every other bound that it is compared with."""
    problem = canceling(0.0)
    state = torch.full((1, 3), torch.nan).double()
    unknown = bounded_gradient(problem, state, torch.ones_like(state))
    assert (unknown.state, unknown.adjoint, unknown.error) == (math.inf,) * 3


def test_measured_roundings_grow_with_terms_that_cancel():
    """The slope at one is one, and its rounding that of the offset, each of the operations that it
    takes part in rounding it by half of eps at most.
    """

    def measured(offset):
        problem, codes = canceling(offset), torch.ones(1, 3).double()
        parts = parts_at(problem, codes, codes)
        return measured_roundings(problem, codes, codes, problem.smooth_gradient(codes), parts)

    small, large = measured(0.0), measured(1e8)
    unit = 2.0**-53
    # 64 times what a few roundings of three entries make.
    assert unit < small.slope < 64 * 20 * unit
    assert 1e8 * unit < large.slope < 64 * 20 * 1e8 * unit
