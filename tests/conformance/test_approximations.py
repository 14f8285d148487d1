"""What approximations tend to is checked, and a direct part that is forgotten is named under every
claim.
"""

import pytest
import torch
from support.estimators import planted

import pudle
from pudle import conformance
from pudle.auditing.distances import distance
from pudle.conformance.approximations import between
from pudle.conformance.specimens import named_specimen
from pudle.estimators.alternating import Alternating
from pudle.estimators.analytic import Analytic
from pudle.estimators.backprop import Backprop
from pudle.estimators.fixed_point import FixedPointAdjoint

#: An estimator of each claim whose direct part is forgotten, and the check that names it.
CLAIMS = {
    "direct": (Alternating(), "claim"),
    "unrolled": (Backprop(), "claim"),
    "truncated": (planted.WINDOW, "claim"),
    "implicit": (Analytic(), "claim"),
    "stochastic": (planted.RANDOM, "mean"),
    "approximate": (FixedPointAdjoint(terms=3), "direct_part"),
    "heuristic": (planted.ReducedStep(), "direction"),
}


def record_of(estimator, check, problem="square", loss="reconstruction", algorithm="ista"):
    """Return the record of a check on one specimen."""
    subject = conformance.Subject(estimator, named_specimen(problem, loss, algorithm))
    return conformance.CHECKS[check](subject)


@pytest.mark.parametrize("claim", CLAIMS)
def test_a_forgotten_direct_part_is_named_under_every_claim(claim: str) -> None:
    base, check = CLAIMS[claim]
    assert base.computes == claim
    # The depth of the means that are compared is drawn for each specimen: here it is not zero.
    specimen = ("elastic net", "reconstruction", "fista") if check == "mean" else ()
    sound = record_of(base, check, *specimen)
    assert sound.status == "passed", sound
    record = record_of(planted.without_direct_part(base), check, *specimen)
    assert record.status == "failed" and "the direct part" in record.reason, record
    assert "forgotten" in record.reason, record


def test_every_claim_is_covered() -> None:
    assert CLAIMS.keys() == pudle.estimator.CLAIMS.keys()


@pytest.mark.parametrize(
    ("problem", "loss"),
    [("square", "lasso"), ("square", "reconstruction"), ("ridge", "linear")],
)
def test_a_series_tends_to_what_it_says(problem: str, loss: str) -> None:
    record = record_of(planted.neumann(lambda k: 1.0), "approach", problem, loss)
    assert record.status == "passed", record


@pytest.mark.parametrize("name", planted.DEFECTS["approach"])
def test_a_series_that_tends_to_another_gradient_fails(name: str) -> None:
    record = record_of(planted.DEFECTS["approach"][name], "approach")
    assert record.status == "failed" and planted.EXPLAINED.get(name, "") in record.reason, record


def test_the_built_in_series_tends_to_the_implicit_gradient() -> None:
    for subject in conformance.CHECKS["approach"].subjects(FixedPointAdjoint(terms=3))[::8]:
        record = conformance.CHECKS["approach"](subject)
        assert record.status == "passed", record


@pytest.mark.parametrize(
    ("first", "last", "share", "expected"),
    [
        (1, 1000, 0.5, 32),
        (1e-2, 1e-6, 0.5, 1e-4),
        (1.0, 0.0, 0.5, 0.5),
        ("a", "b", 0.5, "b"),
        (3, 1000, 0.0, 3),
        (None, 7, 0.5, 7),
    ],
)
def test_options_change_by_powers(first, last, share, expected) -> None:
    value = between(first, last, share)
    assert type(value) is type(expected) and value == pytest.approx(expected)


def test_the_product_with_the_jacobian_of_a_layer_is_that_of_differences() -> None:
    problem = pudle.make_dataset("sparse_gaussian(n_samples=4, seed=1)").problem()
    algorithm, random = pudle.Ista(), torch.Generator().manual_seed(0)
    step = algorithm.step_size(problem)
    codes = algorithm.run(problem, 20).codes
    vector = torch.randn(codes.shape, generator=random, dtype=codes.dtype)
    products = Backprop().layer_vector_jacobian_product(problem, algorithm, codes, vector)
    assert not any(product.requires_grad for product in products)

    def value(theta, codes):
        # The step is a constant of the layers.
        return (vector * algorithm.plain_layer(problem.with_theta(theta), codes, step, 0)).sum()

    theta, length = problem.theta, 1e-6
    for product, point in zip(products, (theta, codes), strict=True):
        along = torch.randn(point.shape, generator=random, dtype=codes.dtype)
        # Entries at a kink stay there.
        along = along * (point != 0) if point is codes else along
        shift = length * along
        if point is theta:
            change = value(theta + shift, codes) - value(theta - shift, codes)
        else:
            change = value(theta, codes + shift) - value(theta, codes - shift)
        expected = (product * along).sum()
        assert float(change) / (2 * length) == pytest.approx(float(expected), rel=1e-6)


def test_a_layer_that_does_not_depend_on_theta_has_the_product_zero() -> None:
    """Where torch says that theta was not used in the graph."""
    problem = pudle.FixedPoint(
        torch.ones(2).double(),
        lambda z, theta: z / 2,
        lambda z, theta: (z**2).sum() + theta.sum(),
        torch.ones(3).double(),
    )
    algorithm = pudle.make_algorithm("iteration")
    codes = problem.initial_codes()
    by_theta, by_codes = Backprop().layer_vector_jacobian_product(
        problem, algorithm, codes, torch.ones_like(codes)
    )
    assert not by_theta.any() and distance(by_codes.numpy(), 0.5 * codes.numpy()) == 0


def test_an_error_about_an_unused_tensor_says_what_to_pass() -> None:
    def unused(problem, algorithm, depth):
        theta = problem.theta.detach().requires_grad_()
        weights = torch.ones(2, requires_grad=True)
        with torch.enable_grad():
            torch.autograd.grad((weights**2).sum(), theta)

    record = record_of(planted.instead(unused), "claim")
    assert record.status == "failed" and "materialize_grads=True" in record.reason, record
    assert "layer_vector_jacobian_product" in record.reason


def test_an_estimator_without_options_need_not_be_a_dataclass() -> None:
    for check in ("description", "direction", "impossible_depth"):
        record = record_of(planted.ReducedStep(), check, "sparse coding", "lasso")
        assert record.status == "passed", record
