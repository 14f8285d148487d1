"""The truncated Neumann series: its terms, and the layer that it differentiates."""

import pytest
from support.estimators.estimator_specs import VISIBLE, estimate
from support.oracles.comparisons import relative
from support.oracles.tolerances import SAME_ARITHMETIC
from support.problems.small_problems import sparse_problem

import pudle

#: The same fixed point, reached by two algorithms.
SAME_FIXED_POINT = 1e-10


@pytest.fixture(scope="module")
def converged():
    """On the reconstruction loss, where the correction does not vanish at convergence, and an
    algorithm started there.
    """
    problem = sparse_problem("reconstruction")
    return problem, pudle.Ista(initial=pudle.Ista().run(problem, 4000).codes)


@pytest.mark.parametrize("terms", [1, 2, 7, 20, 50])
def test_terms_are_layers_at_a_converged_code(converged, terms):
    problem, algorithm = converged
    windowed = estimate(f"truncated(window={terms})", problem, algorithm, terms + 10).gradient
    for count in (terms - 1, terms, terms + 1):
        if count:
            error = relative(
                estimate(f"fixed_point(terms={count})", problem, algorithm, terms + 10).gradient,
                windowed,
            )
            assert error < SAME_ARITHMETIC if count == terms else error > VISIBLE


def test_the_layer_is_plain_for_an_accelerated_algorithm(converged):
    problem, algorithm = converged
    plain = estimate("fixed_point(terms=20)", problem, algorithm, 1).gradient
    accelerated = estimate("fixed_point(terms=20)", problem, pudle.Fista(), 4000).gradient
    assert relative(accelerated, plain) < SAME_FIXED_POINT
