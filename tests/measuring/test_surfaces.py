"""Surfaces over depth and window, the error of the Jacobian over depth, and the dataset of the
curse of unrolling.
"""

import numpy as np
import oracles
import pytest
import tolerances
import torch
from comparisons import refusal
from examples import PENALTY, arrays_of, sparse_problem

import pudle
from pudle.measuring import surfaces

#: Two ways to sum the same products.
ROUNDING = 1e-12
KAPPA = 100.0
#: The step that contracts the codes fastest, 2/(L + mu) with L = 1.
FASTEST = 2 * KAPPA / (KAPPA + 1)


def jacobian_curve(problem, algorithm, depths):
    """Errors of the Jacobian against the problem's own reference, one for each depth."""
    rows = surfaces.jacobian_error(problem, algorithm, depths, pudle.reference(problem))
    assert [row["depth"] for row in rows] == list(depths)
    return [row["relative_error"] for row in rows]


class TestCurseOfUnrolling:
    @pytest.mark.parametrize(
        "step, options",
        [
            (FASTEST, ""),
            (0.5, ""),
            (2000 / 1001, ", kappa=1000.0, n_samples=3, n_components=5, seed=4"),
        ],
    )
    def test_whole_curve(self, step, options):
        problem = pudle.make_dataset(f"ridge(observations='top'{options})").problem()
        errors = jacobian_curve(problem, pudle.Ista(step=step), range(300))
        expected = [oracles.burn_in(step, depth) for depth in range(300)]
        assert np.abs(np.subtract(errors, expected)).max() < tolerances.BURN_IN
        if step == FASTEST:
            assert errors.index(max(errors)) == 50 and round(max(errors), 2) == 36.79

    def test_single_precision_follows_it(self):
        problem = pudle.make_dataset(f"ridge(kappa={KAPPA})").problem(dtype=torch.float32)
        errors = jacobian_curve(problem, pudle.Ista(step=1.9), range(60))
        assert (
            max(abs(error - oracles.burn_in(1.9, depth)) for depth, error in enumerate(errors))
            < 1e-3
        )


def test_the_step_is_found_before_directions_are_mapped():
    problem = pudle.make_dataset("convolutional(n_samples=1)").problem()
    assert jacobian_curve(problem, pudle.Ista(), [0]) == [1]


def lasso_product(x, d, codes, direction):
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
    @pytest.mark.parametrize("algorithm", [pudle.Ista(), pudle.Fista()], ids=["ista", "fista"])
    def test_error_on_the_lasso(self, algorithm):
        problem = sparse_problem()
        x, d = arrays_of(problem)
        codes = oracles.exact_codes(x, d, PENALTY).astype(float)
        chosen, depths = surfaces.directions(problem.theta).numpy(), (0, 3, 40)
        exact = np.array([lasso_product(x, d, codes, direction) for direction in chosen])
        errors = jacobian_curve(problem, algorithm, depths)
        for depth, error in zip(depths, errors, strict=True):
            unrolled = [
                oracles.unroll(
                    x,
                    d + 1e-30j * direction,
                    PENALTY,
                    algorithm.step_size(problem),
                    depth,
                    accelerated=isinstance(algorithm, pudle.Fista),
                ).imag
                / 1e-30
                for direction in chosen
            ]
            assert (
                abs(error - np.linalg.norm(np.array(unrolled) - exact) / np.linalg.norm(exact))
                < ROUNDING * 100
            )
        assert errors[0] == 1.0

    def test_wrong_supports_make_a_burn_in_on_the_lasso_and_it_passes(self):
        problem = pudle.make_dataset("sparse_gaussian(n_samples=40)").problem()
        depths = range(0, 301, 10)
        errors = jacobian_curve(problem, pudle.Fista(restart=True), depths)
        assert 1.2 < max(errors) < 2
        assert depths[errors.index(max(errors))] <= 20
        assert errors[-1] < 1e-8

    def test_refusals(self):
        problem = sparse_problem()
        reference = pudle.reference(problem)

        def text(thresholding="soft", reference=reference):
            algorithm = pudle.Ista(thresholding=thresholding)
            return refusal(lambda: surfaces.jacobian_error(problem, algorithm, (5,), reference))

        assert "use soft thresholding" in text("hard")
        assert "target 'gstar'" in text(reference=pudle.reference(problem, "gstar"))
        empty = sparse_problem(penalty=100.0)
        assert "zero in all directions" in refusal(lambda: jacobian_curve(empty, pudle.Ista(), [5]))
