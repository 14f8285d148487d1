"""Fixed points and the steps close to them: iterations whose spectral radius is known."""

import itertools

import numpy as np
import pytest
import torch
from support.oracles.comparisons import refusal

import pudle
from pudle.problems.linearized import Linearized
from pudle.references.stability import stability

#: Size of a state whose derivative is known by its products alone.
LARGE = 300


def rotation(size, seed):
    random = np.random.default_rng([size, seed, 54])
    return np.linalg.qr(random.standard_normal((size, size)))[0]


def symmetric(radius, size):
    basis = rotation(size, 1)
    eigenvalues = np.linspace(-0.8, 0.8, size)
    eigenvalues[0] = radius
    return (basis * eigenvalues) @ basis.T


def complex_pair(radius, size):
    """A normal matrix whose largest eigenvalues are ``radius * exp(+-i)``."""
    basis, matrix = rotation(size, 2), np.diag(np.linspace(-0.8, 0.8, size))
    matrix[:2, :2] = radius * np.array([[np.cos(1), -np.sin(1)], [np.sin(1), np.cos(1)]])
    return basis @ matrix @ basis.T


def non_normal(radius, size):
    """A matrix whose powers grow by about a thousand before they decay."""
    basis, matrix = rotation(size, 3), np.diag(np.linspace(-0.8, 0.8, size))
    matrix[0, 0] = matrix[1, 1] = radius
    matrix[0, 1] = 30
    return basis @ matrix @ basis.T


KINDS = (symmetric, complex_pair, non_normal)


def iteration(matrix, start=1.0, shape=lambda values: values, **changes):
    """Return the iteration ``z -> theta + shape(M (z - theta))``, whose fixed point is theta."""
    size = len(matrix)
    random = np.random.default_rng([size, 4])
    theta, weights, push = (torch.tensor(random.standard_normal(size)) for _ in range(3))
    matrix = torch.tensor(matrix)
    fields = {
        "theta": theta,
        "step": lambda z, theta: theta + shape((z - theta) @ matrix.T),
        "loss": lambda z, theta: (z * weights).sum(),
        "initial": theta + start * push,
    }
    return pudle.FixedPoint(**fields | changes)


@pytest.mark.parametrize(
    "size, radius",
    [
        *itertools.product((2, 40, LARGE), (0.9, 0.99, 1.05)),
        *itertools.product((2, 40), (0.998, 1.002)),
        pytest.param(LARGE, 0.998, marks=pytest.mark.slow),
        pytest.param(LARGE, 1.005, marks=pytest.mark.slow),
        # Growth by that factor takes 20,000 products to be hopeless.
        pytest.param(LARGE, 1.002, marks=pytest.mark.nightly),
    ],
)
@pytest.mark.parametrize("kind", KINDS)
def test_powers_tell_whether_the_spectral_radius_is_below_one(kind, radius, size):
    matrix = torch.tensor(kind(radius, size))
    codes = torch.zeros(1, size).double()
    seen = stability(Linearized(lambda z: z - z @ matrix.T, codes, joint=True))
    assert seen.stable == (radius < 1)
    # By products it is the mean growth of later steps: a double eigenvalue adds a factor of k to
    # step k.
    assert seen.radius == pytest.approx(radius, abs=1e-2 if size == LARGE else 1e-6)
    if radius < 1:
        powers = itertools.accumulate([matrix.numpy()] * 12, lambda power, _: power @ power)
        norms = [np.linalg.norm(power, 2) for power in powers]
        assert seen.growth >= 0.5 * max(norms)


@pytest.mark.parametrize("shape", [lambda values: values, torch.tanh], ids=["linear", "tanh"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [2, 40, pytest.param(LARGE, marks=pytest.mark.slow)])
def test_a_radius_below_one_has_a_limit(kind, size, shape):
    for radius in (0.9, 0.985):
        problem = iteration(kind(radius, size), start=1e-6, shape=shape)
        reference = pudle.reference(problem)
        assert reference.status == "limit", reference.reason
        assert torch.allclose(reference.codes[0], problem.theta, atol=1e-9)


@pytest.mark.parametrize("size", [2, pytest.param(LARGE, marks=pytest.mark.slow)])
def test_steps_that_pass_by_an_unstable_fixed_point_have_no_limit(size):
    """They come nearer to it for more than a thousand steps, and would leave it by a factor of a
    thousand only after nine hundred more.
    """
    matrix = np.diag([0.999, 1.008, *np.full(size - 2, 0.5)])
    push = torch.zeros(size).double()
    push[0], push[1] = 1, 1e-6
    problem = iteration(matrix)
    problem = iteration(matrix, initial=problem.theta + push)
    reference = pudle.reference(problem)
    assert reference.status == "uncertified"
    assert "spectral radius of the step's derivative is 1.008" in reference.reason
    assert "damp the step" in reference.reason


@pytest.mark.parametrize("size", [2, LARGE])
def test_a_start_at_an_unstable_fixed_point_has_no_limit(size):
    problem = iteration(symmetric(1.01, size), start=0.0)
    reference = pudle.reference(problem)
    assert reference.status == "uncertified"
    assert "the steps do not lead to the state that they are at" in reference.reason
    assert "is 1.01" in reference.reason


@pytest.mark.parametrize("sign", [-1, 1])
def test_of_two_stable_points_the_one_that_the_steps_come_to_is_the_limit(sign):
    """Steps from close to the unstable point between them stay there for a while."""
    theta = torch.tensor([0.0]).double()
    problem = pudle.FixedPoint(
        theta,
        lambda z, theta: theta + torch.tanh(1.01 * z),
        lambda z, theta: z.square().sum() + z.sum(),
        torch.tensor([sign * 1e-8]).double(),
    )
    reference = pudle.reference(problem)
    state = problem.initial
    for _ in range(30_000):
        state = problem.step(state, theta)
    assert reference.status == "limit", reference.reason
    assert float(reference.codes) == pytest.approx(float(state), rel=1e-9)


@pytest.mark.parametrize("size", [40, LARGE])
def test_a_solution_that_the_step_leaves_is_refused_at_any_size(size):
    problem = iteration(complex_pair(1.02, size), solution=lambda theta: theta)
    reference = pudle.reference(problem)
    assert reference.status == "uncertified"
    assert "where the spectral radius of the step's derivative is 1.02" in reference.reason
    stable = iteration(complex_pair(0.98, size), solution=lambda theta: theta)
    assert pudle.reference(stable).status == "certified"


def test_several_tensors_as_theta_are_refused_with_the_way_out():
    text = refusal(lambda: iteration(np.eye(2), theta={"weight": torch.zeros(2)}))
    assert "theta is a dict" in text and "torch.func.functional_call" in text


@pytest.mark.parametrize("size", [1, LARGE])
@pytest.mark.parametrize(
    "factor, stable, growth",
    # A single product with 1e-6 shows that powers decay.
    [(0.5, True, 1.0), (0.9, True, 1.0), (1e-6, True, 1.0), (-1.5, False, None)],
)
def test_powers_of_a_number_are_those_of_the_number(factor, stable, growth, size):
    """The largest of all powers of a contraction is the zeroth, which is one."""
    codes = torch.zeros(1, size).double()
    seen = stability(Linearized(lambda z: z - factor * z, codes, joint=True))
    assert seen.stable is stable and seen.radius == pytest.approx(abs(factor))
    assert growth is None or seen.growth == growth


@pytest.mark.parametrize("size", [3, LARGE])
def test_a_step_that_loses_all_digits_at_once_is_not_stable(size):
    codes = torch.zeros(1, size).double()
    seen = stability(Linearized(lambda z: z - 1e17 * z, codes, joint=True))
    assert not seen.stable and seen.radius == pytest.approx(1e17)


@pytest.mark.parametrize("solution", [None, lambda theta: theta.sum() * torch.ones(LARGE).double()])
def test_a_step_that_all_but_forgets_its_state_has_a_reference(solution):
    """One product decides on its stability, whichever reference is asked for."""
    problem = pudle.FixedPoint(
        torch.ones(3).double(),
        lambda z, theta: theta.sum() + 1e-6 * (z - theta.sum()),
        lambda z, theta: z.square().sum(),
        torch.zeros(LARGE).double(),
        solution=solution,
    )
    reference = pudle.reference(problem)
    assert reference.status == ("certified" if solution else "limit"), reference.reason
    assert torch.allclose(reference.gradient, torch.full((3,), 6.0 * LARGE).double())
