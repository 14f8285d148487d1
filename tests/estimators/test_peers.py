"""Estimators of other libraries, from the optional extra `peers`: refusals, and agreement with
ours.

Without the extra only the tests of refusals and of the missing library run.
"""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import tolerances
import torch
from estimator_specs import at_minimizer, relative
from examples import TINY, ridge_problem, sparse_problem

import pudle
from pudle import peers
from pudle.algorithms.unrolling import direct_gradients
from pudle.bench.cases import PEERS, PROFILES
from pudle.measuring.measurement import measure
from pudle.measuring.store import Store

#: The module that each of them imports first.
MODULES = {
    "jaxopt_implicit": "jaxopt",
    "jaxopt_unrolled": "jaxopt",
    "optimistix_implicit": "optimistix",
    "torchdeq_implicit": "torchdeq",
    "torchopt_implicit": "torchopt",
}
#: Implicit peers with the accuracy of their solves.
SOLVES = {
    "jaxopt_implicit": tolerances.PEER_SOLVE,
    "optimistix_implicit": tolerances.PEER_SOLVE,
    "torchdeq_implicit": tolerances.PEER_ITERATIONS,
    "torchopt_implicit": tolerances.PEER_SOLVE,
}
#: Other solvers of the same libraries.
OTHER_SOLVES = {
    "jaxopt_implicit(solver='gmres')": tolerances.PEER_SOLVE,
    "optimistix_implicit(solver='lu')": tolerances.PEER_SOLVE,
    "torchdeq_implicit(solver='broyden')": tolerances.PEER_SOLVE,
}
#: Depth at which the supports of the small problem are right while its codes have not converged.
SUPPORTED = 60


# --- without the extra


def test_larger_profiles_include_all_peers_and_quick_none():
    assert set(PEERS) == set(MODULES) <= set(pudle.list_estimators())
    assert set(PEERS) <= set(PROFILES["default"].estimators)
    assert set(PEERS) <= set(PROFILES["paper"].estimators)
    assert not set(PEERS) & set(PROFILES["quick"].estimators)


@pytest.mark.parametrize("name", MODULES)
def test_missing_library_says_what_to_install(name, monkeypatch):
    monkeypatch.setitem(sys.modules, MODULES[name], None)
    text = rf"^install pudle\[peers\]: {MODULES[name]} is not installed$"
    with pytest.raises(pudle.MissingDependency, match=text):
        pudle.make_estimator(name).estimate(sparse_problem(), pudle.Ista(), 3)
    # A problem that it cannot treat is refused for that reason, and so are wrong arguments.
    with pytest.raises(pudle.UnsupportedProblem):
        pudle.make_estimator(name).estimate(ridge_problem(), pudle.Ista(), 3)
    with pytest.raises(pudle.InvalidArgument):
        pudle.make_estimator(name).estimate(sparse_problem(), pudle.Ista(), -1)


def test_missing_library_is_scored_as_skipped(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchdeq", None)
    store = Store(tmp_path, "quick")
    measure(TINY, "torchdeq_implicit", store)
    record = store.read(TINY, "torchdeq_implicit")
    assert record.status == "skipped"
    assert record.reason.startswith("install pudle[peers]")
    assert len(record.scores) == len(TINY.seeds) * len(TINY.depths)
    for row in record.scores:
        assert (
            row["status"] == "skipped"
            and row["reason"] == record.reason
            and row["relative_error"] is None
        )


def test_installing_or_updating_a_library_outdates_what_is_stored(tmp_path, monkeypatch):
    store, keys = Store(tmp_path, "quick"), set()
    for version in ("", "0.1.0", "0.2.0"):
        monkeypatch.setattr(
            peers, "versions", lambda *names, version=version: dict.fromkeys(names, version)
        )
        keys.add(store.path(TINY, "torchdeq_implicit"))
        other = store.path(TINY, "backprop")
    assert len(keys) == 3
    monkeypatch.undo()
    assert store.path(TINY, "backprop") == other


# --- refusals


@pytest.mark.parametrize("name", MODULES)
def test_refusals_name_what_to_use(name):
    estimator = pudle.make_estimator(name)
    with pytest.raises(
        pudle.UnsupportedProblem,
        match="treats SparseCoding with a dense dictionary, not Ridge: use ",
    ):
        estimator.estimate(ridge_problem(), pudle.Ista(), 3)
    with pytest.raises(pudle.UnsupportedProblem, match="treats soft thresholding, not hard: use "):
        estimator.estimate(sparse_problem(), pudle.Ista(thresholding="hard"), 3)


def test_jaxopt_unrolled_refuses_restart():
    with pytest.raises(
        pudle.UnsupportedProblem, match="without restart, not fista.restart=True.: use backprop"
    ):
        pudle.make_estimator("jaxopt_unrolled").estimate(
            sparse_problem(), pudle.Fista(restart=True), 3
        )


# --- agreement


@pytest.mark.parametrize(
    "changes",
    [{}, {"nonnegative": True}, {"l2_penalty": 0.1}],
    ids=["lasso", "nonnegative", "elastic"],
)
@pytest.mark.parametrize("spec", SOLVES)
def test_implicit_peers_agree_with_the_certified_gradient(spec, loss, changes):
    problem = dataclasses.replace(sparse_problem(loss), **changes)
    reference, algorithm = at_minimizer(problem)
    estimate = pudle.make_estimator(spec).estimate(problem, algorithm, 1)
    assert relative(estimate.gradient, reference.gradient) < SOLVES[spec]


@pytest.mark.parametrize("spec", SOLVES | OTHER_SOLVES)
def test_implicit_peers_agree_with_analytic_once_the_supports_are_right(spec):
    """At codes that have not converged, all of them differentiate at z_T."""
    problem = sparse_problem("reconstruction")
    expected = pudle.make_estimator("analytic").estimate(problem, pudle.Ista(), SUPPORTED)
    estimate = pudle.make_estimator(spec).estimate(problem, pudle.Ista(), SUPPORTED)
    tolerance = (SOLVES | OTHER_SOLVES)[spec]
    assert torch.equal(estimate.codes, expected.codes)
    assert relative(estimate.gradient, expected.gradient) < tolerance
    assert estimate.diagnostics["largest_relative_residual"] < tolerance


def test_torchdeq_by_fixed_point_iterations_is_the_series(loss):
    """K iterations from zero add up the first K terms, at any codes."""
    problem, terms = sparse_problem(loss), 25
    series = pudle.make_estimator(f"fixed_point(terms={terms})").estimate(
        problem, pudle.Ista(), SUPPORTED
    )
    estimate = pudle.make_estimator(f"torchdeq_implicit(iterations={terms})").estimate(
        problem, pudle.Ista(), SUPPORTED
    )
    assert relative(estimate.gradient, series.gradient) < tolerances.SAME_ARITHMETIC
    # The residual shows that it has not converged.
    assert estimate.diagnostics["largest_relative_residual"] > 1e-3


@pytest.mark.parametrize(
    "spec", ["jaxopt_implicit(iterations=3)", "torchopt_implicit(iterations=3)"]
)
def test_residual_shows_a_solve_cut_short(spec):
    problem = sparse_problem("reconstruction")
    exact = pudle.make_estimator("analytic").estimate(problem, pudle.Ista(), SUPPORTED)
    estimate = pudle.make_estimator(spec).estimate(problem, pudle.Ista(), SUPPORTED)
    assert relative(estimate.gradient, exact.gradient) > 1e-3
    assert estimate.diagnostics["largest_relative_residual"] > 1e-3


@pytest.mark.parametrize(
    ("algorithm", "changes"),
    [
        (pudle.Ista(), {}),
        (pudle.Ista(step=0.1), {"nonnegative": True}),
        (pudle.Fista(), {"l2_penalty": 0.1}),
        (pudle.Fista(initial=torch.full((40, 18), 0.1, dtype=torch.float64)), {}),
    ],
    ids=["ista", "step-nonnegative", "fista-elastic", "fista-warm"],
)
def test_jaxopt_unrolled_is_backprop(algorithm, changes, loss):
    problem = dataclasses.replace(sparse_problem(loss), **changes)
    expected = pudle.make_estimator("backprop").estimate(problem, algorithm, 4)
    estimate = pudle.make_estimator("jaxopt_unrolled").estimate(problem, algorithm, 4)
    assert relative(estimate.codes, expected.codes) < tolerances.SAME_ARITHMETIC
    assert relative(estimate.gradient, expected.gradient) < tolerances.SAME_ARITHMETIC


def test_chunks_of_samples_add_up(monkeypatch):
    from pudle.estimators import optimistix_implicit

    problem = sparse_problem("reconstruction")
    estimator = pudle.make_estimator("optimistix_implicit")
    whole = estimator.estimate(problem, pudle.Ista(), SUPPORTED)
    monkeypatch.setattr(optimistix_implicit, "CHUNK", 15)
    parts = estimator.estimate(problem, pudle.Ista(), SUPPORTED)
    assert relative(parts.gradient, whole.gradient) < tolerances.SAME_ARITHMETIC


@pytest.mark.parametrize("name", ["jaxopt_implicit", "jaxopt_unrolled", "optimistix_implicit"])
def test_jax_settings_do_not_change(name):
    problem = sparse_problem()
    estimate = pudle.make_estimator(name).estimate(problem, pudle.Ista(), 2)
    assert estimate.gradient.dtype == torch.float64
    jax = peers.require("jax")
    assert not jax.config.jax_enable_x64
    assert jax.numpy.ones(1).dtype == np.float32


def test_optimistix_by_singular_values_stays_bounded_on_singular_systems():
    """At depth one every atom is active."""
    problem = sparse_problem()
    estimate = pudle.make_estimator("optimistix_implicit(solver='svd')").estimate(
        problem, pudle.Ista(), 1
    )
    direct, _ = direct_gradients(problem, estimate.codes)
    assert torch.linalg.norm(estimate.gradient) < 100 * torch.linalg.norm(direct)
