"""Estimators of other libraries, from the optional extra `peers`: refusals, and agreement with
ours.

Without the extra only the tests of refusals and of the missing library run.
"""

import dataclasses
import sys

import numpy as np
import pytest
import torch
from support.estimators.estimator_specs import at_minimizer
from support.oracles import tolerances
from support.oracles.comparisons import relative
from support.problems.small_problems import TINY, ridge_problem, sparse_problem

import pudle
from pudle import peers
from pudle.bench.cases import PEERS
from pudle.measuring.store import Store

#: Implicit peers with the accuracy of their solves.
SOLVES = {
    "jaxopt_implicit": tolerances.PEER_SOLVE,
    "optimistix_implicit": tolerances.PEER_SOLVE,
    "torchdeq_implicit": tolerances.PEER_ITERATIONS,
    "torchopt_implicit": tolerances.PEER_SOLVE,
}
#: Depth at which the supports of the small problem are right while its codes have not converged.
SUPPORTED = 60


def estimate(spec, problem, algorithm=None, depth=SUPPORTED):
    return pudle.make_estimator(spec).estimate(problem, algorithm or pudle.Ista(), depth)


# --- without the extra


@pytest.mark.parametrize("name", PEERS)
def test_a_missing_library_says_what_to_install(name, monkeypatch):
    module = pudle.make_estimator(name).distributions[-1]
    monkeypatch.setitem(sys.modules, module, None)
    missing = rf"^install pudle\[peers\]: {module} is not installed$"
    with pytest.raises(pudle.MissingDependency, match=missing):
        estimate(name, sparse_problem())
    # A problem that it cannot treat is refused for that reason.
    with pytest.raises(pudle.UnsupportedProblem, match="not Ridge: use "):
        estimate(name, ridge_problem())


def test_installing_or_updating_a_library_outdates_what_is_stored(tmp_path, monkeypatch):
    store, keys = Store(tmp_path, "quick"), set()
    other = store.path(TINY, "backprop")
    for version in ("", "0.1.0", "0.2.0"):
        monkeypatch.setattr(peers, "versions", lambda *names, v=version: dict.fromkeys(names, v))
        keys.add(store.path(TINY, "torchdeq_implicit"))
        assert store.path(TINY, "backprop") == other
    assert len(keys) == 3


# --- agreement


@pytest.mark.parametrize("changes", [{"nonnegative": True}, {"l2_penalty": 0.1}], ids=str)
@pytest.mark.parametrize("spec", SOLVES)
def test_implicit_peers_agree_with_the_certified_gradient(spec, loss, changes):
    problem = dataclasses.replace(sparse_problem(loss), **changes)
    reference, algorithm = at_minimizer(problem)
    gradient = estimate(spec, problem, algorithm, 1).gradient
    assert relative(gradient, reference.gradient) < SOLVES[spec]


@pytest.mark.parametrize("spec", SOLVES)
def test_implicit_peers_agree_with_analytic_once_the_supports_are_right(spec):
    """At codes that have not converged, all of them differentiate at z_T."""
    problem = sparse_problem("reconstruction")
    expected, actual = estimate("analytic", problem), estimate(spec, problem)
    assert torch.equal(actual.codes, expected.codes)
    assert relative(actual.gradient, expected.gradient) < SOLVES[spec]
    assert actual.diagnostics["largest_relative_residual"] < SOLVES[spec]


def test_torchdeq_by_fixed_point_iterations_is_the_series(loss):
    """K iterations from zero add up the first K terms, at any codes."""
    problem = sparse_problem(loss)
    actual = estimate("torchdeq_implicit(iterations=25)", problem)
    series = estimate("fixed_point(terms=25)", problem).gradient
    assert relative(actual.gradient, series) < tolerances.SAME_ARITHMETIC
    # The residual shows that it has not converged.
    assert actual.diagnostics["largest_relative_residual"] > 1e-3


@pytest.mark.parametrize(
    "algorithm, changes",
    [
        (pudle.Ista(step=0.1), {"nonnegative": True}),
        (pudle.Fista(), {"l2_penalty": 0.1}),
        (pudle.Fista(initial=torch.full((40, 18), 0.1, dtype=torch.float64)), {}),
    ],
    ids=["step-nonnegative", "fista-elastic", "fista-warm"],
)
def test_jaxopt_unrolled_is_backprop(algorithm, changes, loss):
    problem = dataclasses.replace(sparse_problem(loss), **changes)
    expected, actual = (
        estimate(spec, problem, algorithm, 4) for spec in ("backprop", "jaxopt_unrolled")
    )
    assert relative(actual.codes, expected.codes) < tolerances.SAME_ARITHMETIC
    assert relative(actual.gradient, expected.gradient) < tolerances.SAME_ARITHMETIC


@pytest.mark.parametrize("name", ["jaxopt_implicit", "jaxopt_unrolled", "optimistix_implicit"])
def test_jax_settings_do_not_change(name):
    assert estimate(name, sparse_problem(), depth=2).gradient.dtype == torch.float64
    jax = peers.require("jax")
    assert not jax.config.jax_enable_x64
    assert jax.numpy.ones(1).dtype == np.float32
