"""Surfaces over depth and window, the error of the Jacobian over depth, and the dataset of the curse of unrolling."""

from __future__ import annotations

import dataclasses

import numpy as np
import oracles
import pytest
import tolerances
import torch
from examples import PENALTY, arrays_of, directions, ridge_problem, sparse_problem

import pudle
from pudle.measuring import surfaces
from pudle.measuring.case import Case
from pudle.measuring.runner import measure
from pudle.measuring.store import Store
from pudle.measuring.surfaces import JacobianError, burn_in, exact_product, jacobian_error, window_surface

#: Two ways to sum the same products.
ROUNDING = 1e-12
KAPPA = 100.0
#: The step that contracts the codes fastest, 2/(L + mu) with L = 1.
FASTEST = 2 * KAPPA / (KAPPA + 1)


def refusal(call) -> str:
    """The one line that a refused call says."""
    with pytest.raises(pudle.InvalidArgument) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    return text


def oracle(step: float, depth: int, largest: float = 1.0) -> float:
    """Relative error of dz_t/dtheta along the direction of largest curvature; one where nothing has been unrolled."""
    if depth == 0:
        return 1.0
    return abs(1 - step * largest) ** (depth - 1) * abs(1 + (depth - 1) * step * largest)


def curve(values) -> list[JacobianError]:
    return [JacobianError(depth, value, value) for depth, value in enumerate(values)]


class TestCurseOfUnrolling:
    @pytest.fixture
    def top(self):
        return pudle.make_dataset(f"ridge(kappa={KAPPA})").problem()

    def test_peak_at_the_fastest_step(self, top):
        found = burn_in(jacobian_error(top, pudle.Ista(step=FASTEST), range(400)))
        assert found.peak_depth == 50
        assert abs(found.peak - oracle(FASTEST, 50)) < tolerances.BURN_IN
        assert round(found.peak, 2) == 36.79
        assert found.settled_depth == next(depth for depth in range(1, 400) if oracle(FASTEST, depth) < 1)

    @pytest.mark.parametrize("step", [FASTEST, 1.9, 1.0, 0.5])
    def test_whole_curve(self, top, step):
        errors = jacobian_error(top, pudle.Ista(step=step), range(300))
        assert [error.depth for error in errors] == list(range(300))
        assert max(abs(error.relative_error - oracle(step, error.depth)) for error in errors) < tolerances.BURN_IN

    @pytest.mark.parametrize("kappa", [10.0, 1000.0])
    def test_other_condition_numbers(self, kappa):
        step = 2 * kappa / (kappa + 1)
        problem = pudle.make_dataset(f"ridge(kappa={kappa}, n_samples=3, n_components=5, seed=4)").problem()
        errors = jacobian_error(problem, pudle.Ista(step=step), range(0, 600, 7))
        assert max(abs(error.relative_error - oracle(step, error.depth)) for error in errors) < tolerances.BURN_IN

    def test_falls_monotonically_at_the_inverse_curvature(self, top):
        values = [error.relative_error for error in jacobian_error(top, pudle.Ista(), range(100))]
        assert all(later <= earlier + tolerances.BURN_IN for earlier, later in zip(values, values[1:], strict=False))

    def test_random_observations_have_no_burn_in(self):
        problem = pudle.make_dataset(f"ridge(kappa={KAPPA}, observations='random')").problem()
        errors = jacobian_error(problem, pudle.Ista(step=FASTEST), range(400))
        assert burn_in(errors).peak == 1.0
        assert errors[-1].relative_error < 0.2

    def test_single_precision_follows_it(self):
        problem = pudle.make_dataset(f"ridge(kappa={KAPPA})").problem(dtype=torch.float32)
        errors = jacobian_error(problem, pudle.Ista(step=1.9), range(60))
        assert max(abs(error.relative_error - oracle(1.9, error.depth)) for error in errors) < 1e-3


class TestRidgeDataset:
    def test_condition_number(self):
        problem = pudle.make_dataset("ridge(kappa=250.0, n_components=12)").problem()
        hessian = (problem.dictionary.T @ problem.dictionary).numpy() + problem.strength * np.eye(12)
        values = np.linalg.eigvalsh(hessian)
        assert abs(values[-1] - 1) < ROUNDING
        assert abs(values[0] - 1 / 250) < ROUNDING

    def test_observations_lie_along_the_top_singular_vector(self):
        problem = pudle.make_dataset("ridge").problem()
        top = np.linalg.svd(problem.dictionary.numpy())[0][:, 0]
        x = problem.observations.numpy()
        assert np.abs(x - np.outer(x @ top, top)).max() < ROUNDING

    def test_seeds(self):
        def arrays(spec):
            problem = pudle.make_dataset(spec).problem()
            return problem.observations, problem.dictionary, problem.weights

        pairs = zip(arrays("ridge(seed=1)"), arrays("ridge(seed=1)"), arrays("ridge(seed=2)"), strict=True)
        for first, same, other in pairs:
            assert torch.equal(first, same)
            assert not torch.equal(first, other)

    def test_reference_is_certified_against_the_oracle(self):
        problem = pudle.make_dataset("ridge(observations='random')").problem()
        arrays = [getattr(problem, name).numpy() for name in ("observations", "dictionary")]
        exact = oracles.RidgeOracle(*arrays, problem.strength, problem.weights.numpy(), 1.0).exact()
        reference = pudle.reference(problem)
        assert reference.status == "certified"
        assert abs(float(reference.gradient) - exact) < ROUNDING * abs(exact)

    @pytest.mark.parametrize(
        ("spec", "says"),
        [
            ("ridge(kappa=1.0)", "kappa=1.0"),
            ("ridge(n_components=1)", "n_components=1"),
            ("ridge(n_samples=0)", "n_samples=0"),
            ("ridge(observations='left')", "choose from top, random"),
        ],
    )
    def test_refusals(self, spec, says):
        assert says in refusal(lambda: pudle.make_dataset(spec))

    def test_it_has_one_loss(self):
        assert "choose from linear" in refusal(lambda: pudle.make_dataset("ridge").problem("lasso"))

    def test_it_can_be_a_case(self, tmp_path):
        case = Case(
            name="curse-of-unrolling",
            dataset=f"ridge(kappa={KAPPA})",
            algorithm=f"ista(step={FASTEST})",
            loss="linear",
            seeds=(0, 1),
            depths=(1, 50, 400),
        )
        record = measure(case, "backprop", Store(tmp_path, "test"))
        assert record["status"] == "ok", record["reason"]
        # Everything lies in one direction, so that the gradient's relative error is the Jacobian's.
        for row in record["scores"]:
            assert abs(row["relative_error"] - oracle(FASTEST, row["depth"])) < tolerances.BURN_IN
        assert measure(case, "analytic", Store(tmp_path, "test"))["scores"][1]["relative_error"] < 1


def lasso_product(x: np.ndarray, d: np.ndarray, codes: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """Complex step of the active normal equations, signs held."""
    moved = d + 1e-30j * direction
    product = np.zeros_like(codes)
    for i, code in enumerate(codes):
        active = code != 0
        atoms = moved[:, active]
        solved = np.linalg.solve(atoms.T @ atoms, atoms.T @ x[i] - PENALTY * np.sign(code[active]))
        product[i, active] = solved.imag / 1e-30
    return product


class TestJacobian:
    @pytest.mark.parametrize("nonnegative", [False, True])
    def test_exact_product_of_the_lasso(self, nonnegative):
        problem = sparse_problem(nonnegative=nonnegative)
        x, d = arrays_of(problem)
        codes = oracles.exact_codes(x, d, PENALTY, nonnegative=nonnegative).astype(float)
        for direction in directions(d.shape):
            mine = exact_product(problem, torch.tensor(codes), torch.tensor(direction)).numpy()
            truth = lasso_product(x, d, codes, direction)
            assert np.linalg.norm(mine - truth) < ROUNDING * np.linalg.norm(truth)

    def test_exact_product_of_ridge(self):
        problem = ridge_problem()
        x, d = problem.observations.numpy(), problem.dictionary.numpy()
        hessian = d.T @ d + problem.strength * np.eye(8)
        codes = np.linalg.solve(hessian, (x @ d).T).T
        mine = exact_product(problem, torch.tensor(codes), torch.ones(())).numpy()
        truth = -np.linalg.solve(hessian, codes.T).T
        assert np.linalg.norm(mine - truth) < ROUNDING * np.linalg.norm(truth)

    @pytest.mark.parametrize("algorithm", [pudle.Ista(), pudle.Fista()], ids=["ista", "fista"])
    def test_error_on_the_lasso(self, algorithm):
        problem = sparse_problem()
        x, d = arrays_of(problem)
        codes = oracles.exact_codes(x, d, PENALTY).astype(float)
        chosen, depths = directions(d.shape, 2), (0, 3, 40)
        exact = np.array([lasso_product(x, d, codes, direction) for direction in chosen])
        errors = jacobian_error(problem, algorithm, depths, directions=torch.tensor(np.array(chosen)))
        for error in errors:
            unrolled = [
                oracles.unroll(
                    x,
                    d + 1e-30j * direction,
                    PENALTY,
                    algorithm.step_size(problem),
                    error.depth,
                    accelerated=isinstance(algorithm, pudle.Fista),
                )[0].imag
                / 1e-30
                for direction in chosen
            ]
            distances = np.linalg.norm(np.array(unrolled) - exact, axis=(0, 2))
            size = np.linalg.norm(exact)
            assert abs(error.relative_error - np.linalg.norm(distances) / size) < ROUNDING * 100
            assert abs(error.worst_sample - distances.max() / (size / len(x) ** 0.5)) < ROUNDING * 100
        assert errors[0].relative_error == 1.0

    def test_wrong_supports_make_a_burn_in_on_the_lasso_and_it_passes(self):
        problem = pudle.make_dataset("sparse_gaussian(n_samples=40)").problem()
        errors = jacobian_error(problem, pudle.Fista(restart=True), range(0, 301, 5), directions=2)
        found = burn_in(errors)
        assert 1.2 < found.peak < 2
        assert found.peak_depth <= 20
        assert found.settled_depth is not None
        assert errors[-1].relative_error < 1e-8

    def test_loss_plays_no_part(self):
        values = [jacobian_error(sparse_problem(loss), pudle.Ista(), [10]) for loss in ("lasso", "reconstruction")]
        assert values[0] == values[1]

    def test_directions_come_from_the_seed(self):
        problem = sparse_problem()
        first, same, other = (jacobian_error(problem, pudle.Ista(), [10], seed=seed) for seed in (0, 0, 1))
        assert first == same != other

    def test_refusals(self):
        problem = sparse_problem()
        hard = pudle.Ista(thresholding="hard")
        assert "use soft thresholding" in refusal(lambda: jacobian_error(problem, hard, [5]))
        gstar = pudle.reference(problem, "gstar")
        assert "target 'gstar'" in refusal(lambda: jacobian_error(problem, pudle.Ista(), [5], truth=gstar))
        doubtful = dataclasses.replace(pudle.reference(problem), status="uncertified", reason="why")
        assert "uncertified" in refusal(lambda: jacobian_error(problem, pudle.Ista(), [5], truth=doubtful))
        assert "(count, 12, 18)" in refusal(
            lambda: jacobian_error(problem, pudle.Ista(), [5], directions=torch.zeros(12, 18, dtype=torch.float64))
        )
        assert "is too small" in refusal(lambda: jacobian_error(problem, pudle.Ista(), [-1]))
        assert "zero in all directions" in refusal(lambda: jacobian_error(sparse_problem(penalty=100.0), pudle.Ista(), [5]))

    def test_no_depths_no_errors(self):
        assert jacobian_error(sparse_problem(), pudle.Ista(), []) == []


class TestBurnIn:
    @pytest.mark.parametrize(
        ("values", "expected"),
        [
            ([1, 3, 3, 0.9, 0.5], (3, 1, 3)),
            ([1, 0.5, 1.5, 0.2], (1.5, 2, 3)),
            ([0.5, 0.4], (0.5, 0, 0)),
            ([1, 2, 1], (2, 1, None)),
            ([1, 0.5, float("nan")], (1, 0, None)),
        ],
    )
    def test_peak_and_where_it_settles(self, values, expected):
        assert dataclasses.astuple(burn_in(curve(values))) == expected

    def test_nothing_to_summarize(self):
        assert "at least one depth" in refusal(lambda: burn_in([]))


class TestWindows:
    DEPTHS, WINDOWS = (0, 6, 40), (1, 5, 20, 60)

    @pytest.mark.parametrize("algorithm", [pudle.Ista(), pudle.Fista()], ids=["ista", "fista"])
    def test_each_point_is_the_estimators_own(self, loss, algorithm):
        problem = sparse_problem(loss)
        truth = pudle.reference(problem)
        found = window_surface(problem, algorithm, self.DEPTHS, self.WINDOWS)
        assert [(point.depth, point.window) for point in found] == [(d, w) for d in self.DEPTHS for w in self.WINDOWS]
        for point in found:
            estimator = pudle.make_estimator(f"truncated(window={point.window})")
            alone = pudle.score(estimator.estimate(problem, algorithm, point.depth), truth)
            assert point.status == alone.status == "ok"
            assert abs(point.relative_error - alone.relative_error) < ROUNDING
            assert point.layers_differentiated == min(point.depth, point.window)

    def test_windows_from_the_depth_on_are_full_backpropagation(self, loss):
        problem = sparse_problem(loss)
        full = pudle.make_estimator("backprop").estimate(problem, pudle.Ista(), 6)
        error = pudle.score(full, pudle.reference(problem)).relative_error
        for point in window_surface(problem, pudle.Ista(), [6], [6, 7, 50]):
            assert abs(point.relative_error - error) < ROUNDING

    def test_reconstruction_has_a_floor_that_the_window_sets_and_the_lasso_none(self):
        errors = {
            loss: {
                (point.depth, point.window): point.relative_error
                for point in window_surface(sparse_problem(loss), pudle.Ista(), (700, 1400), (1, 10, 100))
            }
            for loss in ("lasso", "reconstruction")
        }
        assert all(errors["lasso"][1400, window] < 1e-9 for window in (1, 10, 100))
        floor = errors["reconstruction"]
        assert floor[1400, 1] > 2 * floor[1400, 10] > 4 * floor[1400, 100] > 1e-3
        assert abs(floor[1400, 10] / floor[700, 10] - 1) < 1e-3

    def test_limit_of_another_rule_serves_as_truth(self):
        problem = sparse_problem(m=20, p=12)
        algorithm = pudle.Ista(thresholding="hard(threshold=0.1)")
        limit = pudle.reference(problem, "limit", algorithm)
        shallow, deep = window_surface(problem, algorithm, (5, 600), [1000], limit)
        assert shallow.status == deep.status == "ok"
        assert deep.relative_error < 1e-4 < shallow.relative_error

    def test_core_does_not_import_the_estimators(self):
        assert "pudle.estimators" not in vars(surfaces)
        with open(surfaces.__file__) as source:
            assert "pudle.estimators" not in source.read()
