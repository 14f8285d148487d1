"""Linear systems on active sets, by eigendecomposition and by conjugate gradients."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg
import tolerances
import torch
from comparisons import relative

from pudle.kernel_choice import VARIABLE
from pudle.problems.active_set import groups_by_size, solve_active_systems, solve_by_cholesky
from pudle.problems.krylov import conjugate_gradients


class TestActiveSystems:
    def test_singular_systems_get_the_minimum_norm_solution(self):
        """Three active copies of one atom share the solution, and the system counts as singular."""
        hessian = torch.ones(3, 3, dtype=torch.float64)
        active = torch.tensor([[True, True, True], [True, False, False], [False, False, False]])
        right = torch.tensor([[3.0, 3, 3], [5, 7, 7], [1, 1, 1]], dtype=torch.float64)
        systems = solve_active_systems(hessian, active, right)
        expected = torch.tensor([[1.0, 1, 1], [5, 0, 0], [0, 0, 0]], dtype=torch.float64)
        assert torch.allclose(systems.solution, expected, atol=1e-14)
        assert systems.singular.tolist() == [True, False, False]
        assert systems.condition_numbers.tolist() == [float("inf"), 1.0, 1.0]
        assert systems.smallest_eigenvalues[2] == float("inf")

    def test_against_the_pseudoinverse(self):
        random = np.random.default_rng(6)
        factor = random.standard_normal((4, 9))
        hessian = factor.T @ factor
        active = random.random((20, 9)) < 0.7
        right = (random.standard_normal((20, 4)) @ factor) * active
        systems = solve_active_systems(
            torch.tensor(hessian), torch.tensor(active), torch.tensor(right)
        )
        assert systems.singular.any()
        for mask, r, v in zip(active, right, systems.solution.numpy(), strict=True):
            truth = np.zeros(9)
            truth[mask] = (
                np.linalg.pinv(hessian[np.ix_(mask, mask)], rcond=1e-12, hermitian=True) @ r[mask]
            )
            assert np.abs(v - truth).max() < 1e-9 * max(1, np.abs(truth).max())


@pytest.fixture(params=["numba", "torch"])
def path(request, monkeypatch):
    """Compiled kernels, and the plain torch path."""
    if request.param == "numba":
        pytest.importorskip("numba")
    monkeypatch.setenv(VARIABLE, request.param)


def random_systems(seed: int, *, n: int, m: int, p: int, share: float, dtype=torch.float64):
    """Return a Gram matrix, active sets and right-hand sides, as tensors."""
    random = np.random.default_rng(seed)
    factor = random.standard_normal((m, p)) * np.exp(random.uniform(-1, 1, p))
    active = random.random((n, p)) < share * random.random((n, 1))
    right = random.standard_normal((n, m)) @ factor
    return tuple(
        torch.as_tensor(array).to(dtype) for array in (factor.T @ factor, right)
    ), torch.as_tensor(active)


@pytest.mark.usefixtures("path")
class TestCholesky:
    @pytest.mark.parametrize("seed", range(12))
    def test_against_scipy(self, seed):
        """Solutions, worst condition number and number of singular systems, for systems of all
        sizes and some singular.
        """
        m = (3, 8, 40)[seed % 3]
        (hessian, right), active = random_systems(
            seed, n=60, m=m, p=(5, 12, 60)[seed % 3], share=1.0
        )
        solution, condition, singular = solve_by_cholesky(hessian, active, right)
        assert not solution[~active].any()
        conditions, expected = [1.0], 0
        for mask, r, v in zip(active.numpy(), right.numpy(), solution.numpy(), strict=True):
            if not mask.any():
                continue
            matrix = hessian.numpy()[np.ix_(mask, mask)]
            values = scipy.linalg.eigh(matrix, eigvals_only=True)
            cond = values[-1] / values[0] if values[0] > 0 else np.inf
            if mask.sum() > m:
                expected += 1
                truth = np.linalg.pinv(matrix, rcond=1e-11, hermitian=True) @ r[mask]
                assert np.linalg.norm(v[mask] - truth) < 1e-7 * np.linalg.norm(truth)
            else:
                conditions.append(cond)
                truth = scipy.linalg.solve(matrix, r[mask], assume_a="pos")
                assert np.linalg.norm(
                    v[mask] - truth
                ) < tolerances.SAME_ARITHMETIC * cond * np.linalg.norm(truth)
        assert singular == expected
        assert condition == (np.inf if expected else pytest.approx(max(conditions), rel=1e-8))

    def test_float32_errors_are_rounding_times_the_condition(self):
        (hessian, right), active = random_systems(
            3, n=200, m=40, p=60, share=0.5, dtype=torch.float32
        )
        solution, condition, singular = solve_by_cholesky(hessian, active, right)
        exact = solve_active_systems(hessian.double(), active, right.double())
        rounding = torch.finfo(torch.float32).eps
        assert singular == 0 and condition == pytest.approx(
            float(exact.condition_numbers.max()), rel=10 * rounding * condition
        )
        errors = (solution - exact.solution).norm(dim=1)
        assert (
            errors <= 10 * rounding * exact.condition_numbers * exact.solution.norm(dim=1)
        ).all()

    @pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
    @pytest.mark.parametrize("distance", 10.0 ** np.arange(-9, 1))
    def test_the_same_systems_are_singular(self, dtype, distance):
        """Two atoms at any distance, down to a distance that rounding swallows, alone and among
        others.
        """
        random = np.random.default_rng(4)
        atoms = random.standard_normal((9, 6))
        atoms[:, 1] = atoms[:, 0] + distance * atoms[:, 1]
        factor = torch.as_tensor(atoms).to(dtype)
        active = torch.as_tensor(random.random((40, 6)) < 0.6)
        right = torch.as_tensor(random.standard_normal((40, 9))).to(dtype) @ factor
        exact = solve_active_systems(factor.T @ factor, active, right)
        _, condition, singular = solve_by_cholesky(factor.T @ factor, active, right)
        assert singular == int(exact.singular.sum())
        worst = float(exact.condition_numbers.max())
        # Eigenvalues are exact up to rounding of the largest.
        assert (
            condition == worst or abs(condition / worst - 1) <= 10 * torch.finfo(dtype).eps * worst
        )

    def test_degenerate_sets(self):
        hessian = torch.tensor([[1.0, 0, 0], [0, 0, 0], [0, 0, 4]], dtype=torch.float64)
        active = torch.tensor([[False, False, False], [True, False, True], [False, True, False]])
        solution, condition, singular = solve_by_cholesky(
            hessian, active, torch.full((3, 3), 2.0, dtype=torch.float64)
        )
        assert solution.tolist() == [[0, 0, 0], [2, 0, 0.5], [0, 0, 0]]
        assert (condition, singular) == (np.inf, 1)
        none = torch.zeros(4, 3, dtype=torch.bool)
        assert solve_by_cholesky(hessian, none, torch.ones(4, 3, dtype=torch.float64))[1:] == (
            1.0,
            0,
        )
        assert solve_by_cholesky(hessian, none[:0], torch.ones(0, 3, dtype=torch.float64))[1:] == (
            1.0,
            0,
        )

    @pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
    def test_scale_changes_nothing(self, scale):
        (hessian, right), active = random_systems(5, n=30, m=20, p=15, share=1.0)
        plain, scaled = (solve_by_cholesky(hessian * c, active, right * c) for c in (1.0, scale**2))
        assert relative(scaled[0], plain[0]) < tolerances.SAME_ARITHMETIC * plain[1]
        assert scaled[1:] == (pytest.approx(plain[1], rel=1e-8), plain[2])


def test_groups_are_cut_to_a_bounded_size(monkeypatch):
    monkeypatch.setattr("pudle.problems.active_set.WORKSPACE", 100)
    active = torch.as_tensor(np.random.default_rng(2).random((50, 12)) < 0.5)
    groups = list(groups_by_size(active))
    assert (
        sorted(row for rows, _ in groups for row in rows.tolist())
        == active.any(1).nonzero().squeeze(1).tolist()
    )
    for rows, indices in groups:
        assert len(rows) * indices.shape[1] ** 2 <= max(100, indices.shape[1] ** 2)
        assert all(
            active[row].nonzero().squeeze(1).equal(entries)
            for row, entries in zip(rows, indices, strict=True)
        )


class TestConjugateGradients:
    def test_against_dense_solves(self):
        random = np.random.default_rng(5)
        factors = random.standard_normal((4, 12, 9))
        matrices = torch.as_tensor(np.einsum("nij,nik->njk", factors, factors))
        right = torch.as_tensor(random.standard_normal((4, 9)))
        right[3] = 0
        result = conjugate_gradients(
            lambda v: torch.einsum("njk,nk->nj", matrices, v),
            right,
            torch.ones_like(right, dtype=torch.bool),
            tolerance=1e-15,
            iterations=50,
            flat=1e-14,
        )
        assert relative(result.solution, torch.linalg.solve(matrices, right)) < tolerances.CONVERGED
        assert not result.solution[3].any() and result.residuals[3] == 0
        eigenvalues = torch.linalg.eigvalsh(matrices)
        conditions = (eigenvalues[:, -1] / eigenvalues[:, 0])[:3]
        assert torch.allclose(result.condition_numbers[:3], conditions, rtol=1e-3)
        assert result.condition_numbers[3] == 1

    def test_systems_without_a_solution_keep_a_residual(self):
        flat = torch.diag(torch.tensor([2.0, 1.0, 0.0], dtype=torch.float64))
        right = torch.tensor([[1.0, 1.0, 0.0], [1.0, 1.0, 1.0]], dtype=torch.float64)
        everywhere = torch.ones_like(right, dtype=torch.bool)
        result = conjugate_gradients(
            lambda v: v @ flat, right, everywhere, tolerance=1e-14, iterations=50, flat=1e-14
        )
        assert torch.allclose(
            result.solution[0], torch.tensor([0.5, 1.0, 0.0], dtype=torch.float64)
        )
        assert result.residuals[0] < 1e-14 < 0.1 < result.residuals[1]
        assert result.solution.isfinite().all()
