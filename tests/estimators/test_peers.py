"""Other libraries, from the optional extra `peers`: their estimators, their codes, and what is known to be wrong with them.

Without the extra these tests skip, but for those of what then happens.
"""

from __future__ import annotations

import dataclasses
import sys

import numpy as np
import pytest
import tolerances
import torch
from estimator_specs import relative
from examples import ridge_problem, sparse_problem

import pudle
from pudle import peers
from pudle.algorithms.unrolling import direct_gradients
from pudle.bench.cases import PEERS, PROFILES
from pudle.measuring.case import Case
from pudle.measuring.runner import measure
from pudle.measuring.store import Store

#: The module that each needs first.
MODULES = {
    "jaxopt_implicit": "jaxopt",
    "jaxopt_unrolled": "jaxopt",
    "optimistix_implicit": "optimistix",
    "torchdeq_implicit": "torchdeq",
    "torchopt_implicit": "torchopt",
}
#: Implicit peers with how exactly they solve.
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
CASE = Case(
    name="tiny",
    dataset="sparse_gaussian(n_samples=20, n_features=10, n_components=15, n_nonzero_coefs=2)",
    algorithm="ista",
    loss="lasso",
    seeds=(0, 1),
    depths=(1, 5),
)
#: Depth at which the supports of the small problem are right while its codes are still on their way.
SUPPORTED = 60


def at_minimizer(problem: pudle.SparseCoding) -> tuple[pudle.Reference, pudle.Ista]:
    """The certified reference, and an algorithm that starts from its codes and so stays there."""
    reference = pudle.reference(problem)
    assert reference.status == "certified"
    return reference, pudle.Ista(initial=reference.codes)


# --- without the extra


def test_named_here_and_in_the_larger_profiles_but_not_in_quick():
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
    # What it could not treat in any case is refused for that reason, and wrong arguments for theirs.
    with pytest.raises(pudle.UnsupportedProblem):
        pudle.make_estimator(name).estimate(ridge_problem(), pudle.Ista(), 3)
    with pytest.raises(pudle.InvalidArgument):
        pudle.make_estimator(name).estimate(sparse_problem(), pudle.Ista(), -1)


def test_missing_library_is_scored_as_skipped(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchdeq", None)
    store = Store(tmp_path, "quick")
    measure(CASE, "torchdeq_implicit", store)
    record = store.read(CASE, "torchdeq_implicit")
    assert record["status"] == "skipped"
    assert record["reason"].startswith("install pudle[peers]")
    assert len(record["scores"]) == len(CASE.seeds) * len(CASE.depths)
    for row in record["scores"]:
        assert row["status"] == "skipped" and row["reason"] == record["reason"] and row["relative_error"] is None


def test_installing_or_updating_a_library_outdates_what_is_stored(tmp_path, monkeypatch):
    store, keys = Store(tmp_path, "quick"), set()
    for version in ("", "0.1.0", "0.2.0"):
        monkeypatch.setattr(peers, "versions", lambda *names, version=version: dict.fromkeys(names, version))
        keys.add(store.key(CASE, "torchdeq_implicit"))
        other = store.key(CASE, "backprop")
    assert len(keys) == 3
    monkeypatch.undo()
    assert store.key(CASE, "backprop") == other


# --- refusals


@pytest.mark.parametrize("name", MODULES)
def test_refusals_name_what_to_use(name):
    estimator = pudle.make_estimator(name)
    with pytest.raises(pudle.UnsupportedProblem, match="treats SparseCoding with a dense dictionary, not Ridge: use "):
        estimator.estimate(ridge_problem(), pudle.Ista(), 3)
    with pytest.raises(pudle.UnsupportedProblem, match="treats soft thresholding, not hard: use "):
        estimator.estimate(sparse_problem(), pudle.Ista(thresholding="hard"), 3)


def test_jaxopt_unrolled_refuses_restart():
    with pytest.raises(pudle.UnsupportedProblem, match="without restart, not fista.restart=True.: use backprop"):
        pudle.make_estimator("jaxopt_unrolled").estimate(sparse_problem(), pudle.Fista(restart=True), 3)


# --- agreement


@pytest.mark.parametrize(
    "changes", [{}, {"nonnegative": True}, {"l2_penalty": 0.1}], ids=["lasso", "nonnegative", "elastic"]
)
@pytest.mark.parametrize("spec", SOLVES)
def test_implicit_peers_agree_with_the_certified_gradient(spec, loss, changes):
    problem = dataclasses.replace(sparse_problem(loss), **changes)
    reference, algorithm = at_minimizer(problem)
    estimate = pudle.make_estimator(spec).estimate(problem, algorithm, 1)
    assert relative(estimate.gradient, reference.gradient) < SOLVES[spec]


@pytest.mark.parametrize("spec", SOLVES | OTHER_SOLVES)
def test_implicit_peers_agree_with_analytic_once_the_supports_are_right(spec):
    """At codes that are still on their way all of them differentiate at z_T, and nowhere else."""
    problem = sparse_problem("reconstruction")
    expected = pudle.make_estimator("analytic").estimate(problem, pudle.Ista(), SUPPORTED)
    estimate = pudle.make_estimator(spec).estimate(problem, pudle.Ista(), SUPPORTED)
    tolerance = (SOLVES | OTHER_SOLVES)[spec]
    assert torch.equal(estimate.codes, expected.codes)
    assert relative(estimate.gradient, expected.gradient) < tolerance
    assert estimate.diagnostics["largest_relative_residual"] < tolerance


def test_torchdeq_by_fixed_point_iterations_is_the_series(loss):
    """K iterations from zero add up the first K terms, wherever the codes are."""
    problem, terms = sparse_problem(loss), 25
    series = pudle.make_estimator(f"fixed_point(terms={terms})").estimate(problem, pudle.Ista(), SUPPORTED)
    estimate = pudle.make_estimator(f"torchdeq_implicit(iterations={terms})").estimate(problem, pudle.Ista(), SUPPORTED)
    assert relative(estimate.gradient, series.gradient) < tolerances.SAME_ARITHMETIC
    # It says that it has not converged.
    assert estimate.diagnostics["largest_relative_residual"] > 1e-3


@pytest.mark.parametrize("spec", ["jaxopt_implicit(iterations=3)", "torchopt_implicit(iterations=3)"])
def test_a_solve_cut_short_is_told(spec):
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
def test_jax_settings_are_left_alone(name):
    problem = sparse_problem()
    estimate = pudle.make_estimator(name).estimate(problem, pudle.Ista(), 2)
    assert estimate.gradient.dtype == torch.float64
    jax = peers.require("jax")
    assert not jax.config.jax_enable_x64
    assert jax.numpy.ones(1).dtype == np.float32


# --- known defects: recorded with the number measured, so that a repair upstream is noticed


def known_defect(what: str, measured: float, recorded: float, within: float, right: float) -> None:
    """Report a defect as an expected failure, if it is still the one that was recorded.

    Parameters
    ----------
    what : str
        Library, version and defect.
    measured, recorded : float
        The number that shows it, now and when it was recorded.
    within : float
        Factor that the number may differ by.
    right : float
        What it is without the defect, or below that where it is an error.
    """
    text = f"{what}: measured {measured:.3g}, recorded {recorded:.3g}"
    if abs(measured) <= right * (1 + 1e-6):
        pytest.fail(f"{text}, right is {right:.3g}: fixed upstream: remove this test, and what the docstrings say of it")
    assert recorded / within <= measured <= recorded * within, f"{text}: the defect has changed, measure it anew"
    pytest.xfail(text)


@pytest.mark.parametrize(
    ("measured", "outcome"),
    [(1.7, pytest.xfail.Exception), (1e-9, pytest.fail.Exception), (40.0, AssertionError), (float("nan"), AssertionError)],
    ids=["as recorded", "fixed", "changed", "not a number"],
)
def test_a_repair_upstream_is_noticed(measured, outcome):
    with pytest.raises(outcome, match="fixed upstream: remove this" if measured < 1e-6 else "some library: measured"):
        known_defect("some library", measured, 1.7, 5, 1e-6)


class Fixed:
    """A distribution that always draws the same vector, so that a smoothing gradient is exact."""

    def __init__(self, draw: torch.Tensor) -> None:
        self.draw = draw

    def sample(self, sample_shape: torch.Size) -> torch.Tensor:
        assert self.draw.shape == sample_shape
        return self.draw


def smoothing_ratio(method: str, scale: float, samples: int) -> float:
    """TorchOpt's gradient by smoothing of a linear function, over the right one for the noise drawn: 1 if it is right."""
    peers.require("torchopt")
    zero_order = peers.require("torchopt.diff.zero_order").zero_order
    slope, noise = torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor([0.3, 0.4, -1.0]).double()
    function = zero_order(Fixed(noise), method=method, argnums=(0,), num_samples=samples, sigma=scale)(
        lambda point: (slope * point).sum()
    )
    point = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(function(point), point)
    return float(gradient @ noise / (slope @ noise * noise @ noise))


@pytest.mark.parametrize("method", ["naive", "antithetic"])
@pytest.mark.parametrize("scale", [1e-2, 1.0, 10.0])
def test_torchopt_smoothing_is_right_by_the_other_methods(method, scale):
    assert smoothing_ratio(method, scale, 2) == pytest.approx(1, rel=tolerances.CLOSED_FORM)


@pytest.mark.parametrize("scale", [1e-2, 0.1, 10.0])
def test_torchopt_forward_smoothing_scales_as_the_squared_scale(scale):
    """It multiplies by the scale where it should divide."""
    ratio = smoothing_ratio("forward", scale, 1)
    if ratio == pytest.approx(1):
        known_defect("torchopt forward smoothing", 1, scale**2, 1, 1)
    assert ratio == pytest.approx(scale**2, rel=tolerances.CLOSED_FORM), "the defect has changed, measure it anew"
    pytest.xfail(f"torchopt 0.7.3: forward smoothing at scale {scale} is {ratio:.3g} times the gradient, the squared scale")


def test_torchopt_forward_smoothing_forgets_the_base_value_after_the_first_sample():
    """It overwrites f(x) by f(x + s e) - f(x); on this linear function the second of two samples is then zero."""
    missing = 1 - smoothing_ratio("forward", 1.0, 2)
    known_defect("torchopt 0.7.3: share of two samples lost by forward smoothing", missing, 0.5, 1.001, 1e-9)


@pytest.mark.parametrize(("iterations", "recorded"), [(100, 0.17), (5000, 5.8)], ids=str)
def test_jaxopt_plain_conjugate_gradients_diverge_on_the_fixed_point(iterations, recorded):
    """The system is not symmetric, and the solver does not say so: the longer it runs, the worse it gets."""
    problem = sparse_problem("reconstruction")
    reference, algorithm = at_minimizer(problem)
    spec = f"jaxopt_implicit(solver='cg', iterations={iterations})"
    error = relative(pudle.make_estimator(spec).estimate(problem, algorithm, 1).gradient, reference.gradient)
    known_defect(f"jaxopt 0.8.5: relative error by plain CG, {iterations} iterations", error, recorded, 5, 1e-6)


def test_jaxopt_plain_conjugate_gradients_by_its_own_solver_class():
    """The same through `ProximalGradient` as its manual has it, whose fixed point is that of a step of one."""
    peers.require("jaxopt")
    problem = sparse_problem("reconstruction")
    reference, _ = at_minimizer(problem)
    jax, jaxopt = peers.require("jax"), peers.require("jaxopt")
    with peers.jax_precision(torch.float64):
        dictionary, observations, codes = peers.to_arrays((problem.dictionary, problem.observations, reference.codes))
        gradients = {}
        for name in ("solve_normal_cg", "solve_cg"):
            solve = getattr(peers.require("jaxopt.linear_solve"), name)
            solver = jaxopt.ProximalGradient(
                lambda z, d, x: 0.5 * ((d @ z - x) ** 2).sum(),
                lambda values, level, scale: peers.soft(values, scale * level, False),
                stepsize=1 / problem.lipschitz_constant,
                maxiter=2,
                tol=1e-13,
                acceleration=False,
                implicit_diff_solve=lambda product, right, solve=solve: solve(product, right, tol=1e-13, maxiter=1000),
            )

            def loss(d, solver=solver):
                z = jax.vmap(lambda start, x: solver.run(start, problem.penalty, d, x).params)(codes, observations)
                return 0.5 * ((z @ d.T - observations) ** 2).sum() / len(z)

            gradients[name] = peers.to_tensor(jax.jit(jax.grad(loss))(dictionary))
    assert relative(gradients["solve_normal_cg"], reference.gradient) < tolerances.PEER_SOLVE
    error = relative(gradients["solve_cg"], reference.gradient)
    known_defect("jaxopt 0.8.5: relative error of ProximalGradient by plain CG, 1000 iterations", error, 2.8, 5, 1e-6)


def test_torchdeq_anderson_mixing_stops_short():
    """It adds 1e-4 to squared residuals, however small they have become."""
    problem = sparse_problem("reconstruction")
    reference, algorithm = at_minimizer(problem)
    estimator = pudle.make_estimator("torchdeq_implicit(solver='anderson')")
    error = relative(estimator.estimate(problem, algorithm, 1).gradient, reference.gradient)
    known_defect("torchdeq 0.1.0: relative error by Anderson mixing, 1000 iterations", error, 1.4e-3, 5, 1e-6)


def test_torchdeq_broyden_is_not_a_number_where_samples_converge_apart():
    """Each sample is solved if it is alone; together, those that are done divide zero by zero until all are."""
    problem = sparse_problem("reconstruction", nonnegative=True)
    reference, algorithm = at_minimizer(problem)
    estimator = pudle.make_estimator("torchdeq_implicit(solver='broyden', iterations=100)")
    for row in range(0, 40, 8):
        rows = slice(row, row + 1)
        alone = dataclasses.replace(problem, observations=problem.observations[rows], generating_codes=None)
        start = pudle.Ista(initial=reference.codes[rows])
        truth = pudle.make_estimator("analytic").estimate(alone, start, 1)
        assert relative(estimator.estimate(alone, start, 1).gradient, truth.gradient) < tolerances.PEER_SOLVE
    together = estimator.estimate(problem, algorithm, 1)
    bad = float((~torch.isfinite(together.gradient)).double().mean())
    known_defect("torchdeq 0.1.0: share of NaN in the gradient by Broyden's method", bad, 1.0, 2, 0.0)


def test_optimistix_default_solver_returns_garbage_on_singular_systems():
    """At depth one every atom is active: LU neither fails nor says so."""
    problem = sparse_problem()
    estimates = {
        solver: pudle.make_estimator(f"optimistix_implicit(solver='{solver}')").estimate(problem, pudle.Ista(), 1)
        for solver in ("svd", "lu")
    }
    size = float(torch.linalg.norm(direct_gradients(problem, estimates["svd"].codes)[0]))
    assert float(torch.linalg.norm(estimates["svd"].gradient)) < 100 * size
    ratio = float(torch.linalg.norm(estimates["lu"].gradient)) / size
    # Roundings decide how large: between 1e10 and 1e20 it is the same defect.
    known_defect("optimistix 0.1.0: size of the gradient by LU at depth 1, over the direct part's", ratio, 1e15, 1e5, 100)


# --- codes


def scikit_learn_codes(observations, dictionary, penalty):
    from sklearn.linear_model import Lasso

    model = Lasso(alpha=penalty / len(dictionary), fit_intercept=False, tol=1e-15, max_iter=100_000)
    return np.array([model.fit(dictionary, x).coef_.copy() for x in observations])


def celer_codes(observations, dictionary, penalty):
    model = peers.require("celer").Lasso(alpha=penalty / len(dictionary), fit_intercept=False, tol=1e-14, max_iter=1000)
    return np.array([model.fit(dictionary, x).coef_.copy() for x in observations])


def skglm_codes(observations, dictionary, penalty):
    model = peers.require("skglm").Lasso(alpha=penalty / len(dictionary), fit_intercept=False, tol=1e-14, max_iter=1000)
    return np.array([model.fit(dictionary, x).coef_.copy() for x in observations])


def spams_codes(observations, dictionary, penalty):
    lasso = peers.require("spams").lasso
    samples, atoms = np.asfortranarray(observations.T), np.asfortranarray(dictionary)
    return lasso(samples, D=atoms, lambda1=penalty, lambda2=0.0, mode=2, numThreads=1).toarray().T


def sporco_admm_codes(observations, dictionary, penalty):
    bpdn = peers.require("sporco.admm.bpdn").BPDN
    options = {"Verbose": False, "MaxMainIter": 5000, "RelStopTol": 1e-13, "AutoRho": {"Enabled": False}, "rho": 1.0}
    return bpdn(dictionary, observations.T.copy(), penalty, bpdn.Options(options)).solve().T


def sporco_pgm_codes(observations, dictionary, penalty):
    bpdn = peers.require("sporco.pgm.bpdn").BPDN
    largest = float(np.linalg.eigvalsh(dictionary.T @ dictionary)[-1])
    options = {"Verbose": False, "MaxMainIter": 20_000, "RelStopTol": 1e-14, "L": largest}
    return bpdn(dictionary, observations.T.copy(), penalty, bpdn.Options(options)).solve().T


#: Solvers with how close their codes can be brought to the minimizer.
CODES = {
    scikit_learn_codes: tolerances.SOLVER_CODES,
    celer_codes: tolerances.SOLVER_CODES,
    skglm_codes: tolerances.SOLVER_CODES,
    spams_codes: tolerances.SPAMS_CODES,
    sporco_admm_codes: tolerances.SOLVER_CODES,
    sporco_pgm_codes: tolerances.SOLVER_CODES,
}


@pytest.mark.parametrize("solver", CODES, ids=lambda solver: solver.__name__)
@pytest.mark.parametrize("seed", [0, 1])
def test_certified_codes_are_those_of_other_solvers(solver, seed):
    problem = sparse_problem(seed=seed)
    reference = pudle.reference(problem)
    assert reference.status == "certified"
    with peers.quiet():
        codes = solver(problem.observations.numpy(), problem.dictionary.numpy(), problem.penalty)
    assert np.abs(codes - reference.codes.numpy()).max() < CODES[solver]
