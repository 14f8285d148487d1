"""Functions that users wrote: what hides a part of a derivative is refused by its name."""

import dataclasses

import numpy as np
import pytest
import torch

import pudle
from pudle.references.differences import FunctionOnLine, LineValue, Move, _boole


def drawn(*shape, seed):
    return torch.tensor(np.random.default_rng([seed, 48]).standard_normal(shape))


ROWS, RIGHT, HELD, ANSWERS = (
    drawn(*shape, seed=number) for number, shape in enumerate(((30, 6), (30,), (20, 6), (20,)))
)


class Halved(torch.autograd.Function):
    """A hyperbolic tangent whose backward loses half of the gradient."""

    @staticmethod
    def forward(context, values):
        context.save_for_backward(values)
        return values.tanh()

    @staticmethod
    def backward(context, slope):
        (values,) = context.saved_tensors
        return slope * (1 - values.tanh() ** 2) / 2


def rounded(values, places):
    """Round straight through: the derivative is that of the identity."""
    return values + ((values * places).round() / places - values).detach()


def frozen(z):
    with torch.no_grad():
        return 1 + z.square().sum()


def fit(z):
    return (ROWS.to(z) @ z - RIGHT.to(z)).square().mean() / 2


def ridge(z, theta):
    return fit(z) + (theta.exp() * z * z).sum() / 10 + z.square().sum() / 20


def validation(z, theta):
    return (HELD.to(z) @ z - ANSWERS.to(z)).square().mean() / 2


LOSSES = {
    "detached weights": (lambda z, t: (z.sigmoid().detach() * (z - 1) ** 2).sum(), "loss in the s"),
    "detached theta": (
        lambda z, t: validation(z, t) + (t.detach() * z).sum() + t.square().sum() / 9,
        "loss in theta",
    ),
    "wrong in the state": (lambda z, t: validation(z, t) + Halved.apply(z).sum(), "loss in the s"),
    "wrong in theta": (lambda z, t: validation(z, t) + Halved.apply(t).sum(), "loss in theta"),
    "no_grad": (lambda z, t: validation(z, t) * frozen(z), "loss in the state"),
    "rounded straight through": (lambda z, t: validation(rounded(z, 100), t), "loss in the state"),
    "rounded": (lambda z, t: validation(z, t) + (z * 10).round().sum() / 10, "loss in the state"),
}
OBJECTIVES = {
    "detached weights": (
        lambda z, t: ridge(z, t) + (z.sigmoid().detach() * z.square()).sum(),
        "objective in the state",
    ),
    "detached theta": (
        lambda z, t: fit(z) + (t.detach().exp() * z * z).sum() / 10 + (t * z).sum() / 10,
        "objective's derivative in theta",
    ),
    "frozen state": (
        lambda z, t: fit(z) + (t.exp() * z * z.detach()).sum() / 10 + z.square().sum() / 20,
        "objective in the state",
    ),
    "frozen scale": (lambda z, t: ridge(z, t) / frozen(z), "objective in the state"),
    "wrong in theta": (
        lambda z, t: fit(z) + ((1 + Halved.apply(t)) * z * z).sum() / 4,
        "objective's derivative in theta",
    ),
    "rounded theta": (
        lambda z, t: fit(z) + (rounded(t, 10).exp() * z * z).sum() / 10,
        "objective's derivative in theta",
    ),
}
SHIFT = drawn(6, seed=9)


def constants(z, theta, adjoint, radius):
    """Constants that are large enough for all of the problems."""
    return pudle.Constants(1e2, 1e2, 1e2, 1e2, 1e2, 1e2, 1e2)


def convex(objective=ridge, loss=validation, **changes):
    fields = {"initial": torch.zeros(6).double(), "modulus": lambda theta: 0.01}
    return pudle.StronglyConvex(SHIFT, objective, loss, **fields | changes)


def descent(loss=validation, theta_of=lambda theta: theta, solved=True):
    """Gradient descent on the ridge problem, with its minimizer in closed form."""

    def hessian(theta):
        return ROWS.T @ ROWS / 30 + torch.diag(theta.exp() / 5 + 0.1)

    def step(z, theta):
        return z - 0.2 * (hessian(theta_of(theta)) @ z - ROWS.T @ RIGHT / 30)

    def solution(theta):
        return torch.linalg.solve(hessian(theta_of(theta)), ROWS.T @ RIGHT / 30)

    initial = torch.zeros(6).double()
    return pudle.FixedPoint(SHIFT, step, loss, initial, solution if solved else None)


@pytest.mark.parametrize("known", [None, constants], ids=["estimated", "constants"])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_that_hides_a_part_is_named(name, known):
    loss, part = LOSSES[name]
    reference = pudle.reference(convex(loss=loss, constants=known), "limit")
    assert reference.status == "uncertified"
    assert part in reference.reason, reference.reason


@pytest.mark.parametrize("known", [None, constants], ids=["estimated", "constants"])
@pytest.mark.parametrize("name", OBJECTIVES)
def test_an_objective_that_hides_a_part_is_named(name, known):
    objective, part = OBJECTIVES[name]
    reference = pudle.reference(convex(objective, constants=known), "limit")
    assert reference.status == "uncertified"
    assert part in reference.reason, reference.reason


@pytest.mark.parametrize("solved", [True, False])
@pytest.mark.parametrize("name", LOSSES)
def test_a_loss_of_a_fixed_point_that_hides_a_part_is_named(name, solved):
    loss, part = LOSSES[name]
    reference = pudle.reference(descent(loss, solved=solved))
    assert reference.target == ("exact" if solved else "limit")
    assert reference.status == "uncertified"
    assert part in reference.reason, reference.reason


@pytest.mark.parametrize("solved", [True, False])
@pytest.mark.parametrize(
    "theta_of", [Halved.apply, lambda t: rounded(t, 10), lambda t: t / 2 + t.detach() / 2]
)
def test_a_step_that_hides_the_same_part_as_its_solution_is_named(theta_of, solved):
    reference = pudle.reference(descent(theta_of=theta_of, solved=solved))
    assert reference.status == "uncertified"
    assert "step in theta" in reference.reason, reference.reason


def test_what_is_right_stays():
    assert pudle.reference(convex()).status == "limit"
    assert pudle.reference(descent()).status == "certified"
    assert pudle.reference(descent(solved=False)).status == "limit"


def test_a_loss_of_a_rule_that_has_no_minimizer_is_compared():
    """Hard thresholds are no proximal map: central differences of the limit are not taken there."""
    data = pudle.make_dataset("sparse_gaussian(n_samples=5, n_features=20, n_components=12)")
    problem = dataclasses.replace(
        data.problem(), loss=lambda codes, d: (codes.detach() * codes).sum() / len(codes)
    )
    algorithm = pudle.make_algorithm("ista(thresholding='hard(threshold=0.1)')")
    reference = pudle.reference(problem, "limit", algorithm)
    assert reference.status == "uncertified" and "loss in the state" in reference.reason


@pytest.mark.parametrize("scale", [1e-12, 1e-6, 1e6])
@pytest.mark.parametrize("condition", [1.0, 1e4, 1e8])
def test_units_and_conditioning_refuse_nothing(scale, condition):
    """Differences take their sizes from the state, however flat the objective is."""
    curvatures = torch.logspace(0, -float(np.log10(condition)), 6).double()

    def objective(z, theta):
        return (curvatures * (z / scale - theta.tanh()).square()).sum() / 2

    problem = convex(
        objective,
        lambda z, theta: (z / scale - 1).square().sum(),
        modulus=lambda theta: float(curvatures[-1]) / scale**2 * (1 - 1e-6),
    )
    reference = pudle.reference(problem)
    assert "derivative of" not in reference.reason, reference.reason
    if condition < 1e8:
        assert reference.status == "limit", reference.reason


def test_rounding_is_not_called_a_kink():
    def single(z, theta):
        return (ROWS.float() @ z.float() - RIGHT.float()).square().mean().double() + ridge(z, theta)

    reference = pudle.reference(convex(single))
    assert reference.status == "uncertified"
    assert "rounding hides" in reference.reason and "abs" not in reference.reason


def polynomial_on_line(degree):
    """Return the number ``z ** degree`` along the line of all z, with its own derivative."""

    def function(codes, theta, move):
        z, direction = float(codes), float(move.codes)
        return LineValue(z**degree, (degree * z ** (degree - 1) * direction if degree else 0.0,))

    zero, unit = torch.zeros(()).double(), Move(codes=torch.ones(()).double())
    return FunctionOnLine(function, zero + 0.25, zero, unit, unit)


@pytest.mark.parametrize("degree", range(7))
def test_booles_rule_integrates_what_grows_with_the_fifth_power_exactly(degree):
    """The integral of the derivative is the difference of the values, a closed form."""
    for length in (0.5, 2.0):
        exact = (0.25 + length) ** degree - (0.25 - length) ** degree
        assert _boole(polynomial_on_line(degree), length) == pytest.approx(exact, rel=1e-13)


def test_of_a_place_where_a_function_raises_value_and_slope_are_unknown():
    def function(codes, theta, move):
        if float(codes) > 1:
            raise ValueError("not defined here")
        return LineValue(1.0, (2.0,))

    start, unit = torch.zeros(()).double(), Move(codes=torch.ones(()).double())
    line = FunctionOnLine(function, start, start, unit, unit)
    assert line.at(0.5) == LineValue(1.0, (2.0,))
    unknown = line.at(2.0)
    assert np.isnan(unknown.value) and np.isnan(unknown.slope)
    with pytest.raises(ValueError, match="not defined here"):
        FunctionOnLine(function, start + 2, start, unit, unit).at(0)
