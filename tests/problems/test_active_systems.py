"""Linear systems on active sets, by eigendecomposition and by conjugate gradients."""

import numpy as np
import pytest
import scipy.linalg
import torch
from support.oracles import tolerances

from pudle.kernel_choice import VARIABLE
from pudle.problems.active_set import solve_active_systems, solve_by_cholesky
from pudle.problems.linearized import conjugate_gradients


def random_systems(seed, *, n, m, p):
    """Return a Gram matrix, right-hand sides and active sets, as tensors."""
    random = np.random.default_rng(seed)
    factor = random.standard_normal((m, p)) * np.exp(random.uniform(-1, 1, p))
    active = random.random((n, p)) < random.random((n, 1))
    right = random.standard_normal((n, m)) @ factor
    return map(torch.as_tensor, (factor.T @ factor, right, active))


@pytest.mark.parametrize("path", ["numba", "torch"])
class TestCholesky:
    @pytest.fixture(autouse=True)
    def chosen(self, path, monkeypatch):
        """Compiled kernels, and the plain torch path."""
        monkeypatch.setenv(VARIABLE, path)

    @pytest.mark.parametrize("seed", range(3))
    def test_against_scipy(self, seed):
        """Solutions, worst condition number and number of singular systems, for systems of all
        sizes and some singular.
        """
        m, p = (3, 8, 40)[seed], (5, 12, 60)[seed]
        hessian, right, active = random_systems(seed, n=60, m=m, p=p)
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

    @pytest.mark.parametrize("distance", 10.0 ** np.arange(-9, 1, 2))
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


def test_conjugate_gradients_of_systems_with_none_and_with_no_solution():
    """The dense solves of a convolution are their truth elsewhere."""
    flat = torch.diag(torch.tensor([2.0, 1.0, 0.0]).double())
    right = torch.tensor([[1.0, 1, 0], [1, 1, 1], [0, 0, 0]]).double()
    result = conjugate_gradients(
        lambda v: v @ flat, right, right == right, tolerance=1e-14, iterations=50, flat=1e-14
    )
    assert torch.allclose(result.solution[::2], torch.tensor([[0.5, 1, 0], [0, 0, 0]]).double())
    assert result.residuals[0] < 1e-14 < 0.1 < result.residuals[1]
    assert result.solution.isfinite().all()
    assert result.residuals[2] == 0 and result.condition_numbers[2] == 1
