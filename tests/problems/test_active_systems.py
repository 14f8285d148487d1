"""Linear systems on active sets, by eigendecomposition and by conjugate gradients."""

from __future__ import annotations

import numpy as np
import tolerances
import torch
from comparisons import relative

from pudle.problems.active_set import solve_active_systems
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
        systems = solve_active_systems(torch.tensor(hessian), torch.tensor(active), torch.tensor(right))
        assert systems.singular.any()
        for mask, r, v in zip(active, right, systems.solution.numpy(), strict=True):
            truth = np.zeros(9)
            truth[mask] = np.linalg.pinv(hessian[np.ix_(mask, mask)], rcond=1e-12, hermitian=True) @ r[mask]
            assert np.abs(v - truth).max() < 1e-9 * max(1, np.abs(truth).max())


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
        result = conjugate_gradients(lambda v: v @ flat, right, everywhere, tolerance=1e-14, iterations=50, flat=1e-14)
        assert torch.allclose(result.solution[0], torch.tensor([0.5, 1.0, 0.0], dtype=torch.float64))
        assert result.residuals[0] < 1e-14 < 0.1 < result.residuals[1]
        assert result.solution.isfinite().all()
