"""Linear models ``A z ~ x`` as the exact solvers need them: products, active systems and the
constants of error bounds.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from torch import Tensor

from ..problems.active_set import ActiveSystems, groups_by_size, solve_active_systems
from ..problems.l1 import DenseL1Problem

#: Rounding unit of float64.
ROUNDING = torch.finfo(torch.float64).eps / 2


def row_norms(matrix: Tensor) -> Tensor:
    """Return the Euclidean norms of a matrix's rows."""
    return matrix.norm(dim=1)


class LinearModel(ABC):
    """A linear model ``A z ~ x`` with A linear in a parameter, and ``l2_penalty/2 |z|^2`` in the
    smooth part.

    Samples are rows; observations have the shape (n, m), codes (n, p). All tensors are in float64
    on the CPU.
    """

    observations: Tensor
    l2_penalty: float
    #: Largest eigenvalue of the smooth part's Hessian H, ``A^T A + l2_penalty I``.
    lipschitz_constant: float
    #: Spectral norm of A and the Euclidean norms of its columns, shape (p,), or bounds on them.
    spectral_norm: float
    column_norms: Tensor
    #: A constant c with ``|contract(r, z)| <= c |r| |z|`` for one sample.
    overlap: float
    #: Number of products that one entry of a gradient sums over: over the samples, and within the
    #: residual.
    summands: int
    #: Largest number of active entries for which a sample is certified.
    max_active: float = float("inf")

    @property
    def values(self) -> int:
        """Number m of values of an observation."""
        return self.observations.shape[1]

    @abstractmethod
    def synthesize(self, codes: Tensor) -> Tensor:
        """Return ``A z`` per sample: (n, p) to (n, m)."""

    @abstractmethod
    def correlate(self, residual: Tensor) -> Tensor:
        """Return ``A^T r`` per sample: (n, m) to (n, p)."""

    @abstractmethod
    def contract(self, residual: Tensor, codes: Tensor) -> Tensor:
        """Return the gradient of ``sum_i <r_i, A z_i>`` in the parameter."""

    @abstractmethod
    def active_hessians(
        self, active: Tensor, wanted: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield the wanted samples (r,) that share a number k > 0 of active entries, these (r, k),
        and H_SS (r, k, k).
        """

    @abstractmethod
    def solve_active(self, active: Tensor, right: Tensor) -> ActiveSystems:
        """Solve all active systems, and compute their extreme eigenvalues."""

    def solve_definite(
        self, active: Tensor, right: Tensor, wanted: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Solve the active systems of the wanted samples; return the solution (n, p) and which are
        singular (n,).

        Singular means not positive definite, or too large to be certified. The solution is zero for
        these samples and for those that are not wanted.
        """
        singular = wanted & (active.sum(1) > self.max_active)
        solution, wanted = torch.zeros_like(right), wanted & ~singular
        for rows, indices, hessians in self.active_hessians(active, wanted):
            factor, info = torch.linalg.cholesky_ex(hessians)
            singular[rows] = info > 0
            at = rows[:, None], indices
            values = torch.cholesky_solve(right[at][..., None], factor).squeeze(2)
            solution[at] = torch.where(info[:, None] > 0, 0, values)
        return solution, singular

    def hessian_product(self, vectors: Tensor) -> Tensor:
        """Return ``(A^T A + l2_penalty I) v`` per sample, shape (n, p)."""
        return self.correlate(self.synthesize(vectors)) + self.l2_penalty * vectors

    def negative_gradient(self, codes: Tensor) -> Tensor:
        """Return ``A^T (x - A z) - l2_penalty z`` per sample, computed from the observations; shape
        (n, p).
        """
        correlation = self.correlate(self.observations - self.synthesize(codes))
        return correlation - self.l2_penalty * codes

    def residual_rounding(self, codes: Tensor) -> Tensor:
        """Return a bound, shape (n,), on the Euclidean norm of the rounding error of ``x - A z``.

        Independent roundings add up like a random walk: of terms of the sizes ``|x|`` and ``|a_j|
        |z_j|``, with u the rounding unit, it is ``u sqrt(m) (|x| + |(|a_j| z_j)_j|)``. Times
        ``|a_j|`` it bounds that of ``a_j^T (x - A z)``.
        """
        sizes = row_norms(self.observations) + row_norms(codes * self.column_norms)
        return ROUNDING * self.values**0.5 * sizes

    def solve_refined(self, active: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        """Solve all active systems with one refinement; return the solution (n, p) and its residual
        norms (n,).

        The right-hand side must be zero outside the active set.
        """
        solution, residual = torch.zeros_like(right), right
        for _ in range(2):
            solution = solution + self.solve_active(active, residual).solution
            residual = right - self.hessian_product(solution) * active
        return solution, row_norms(residual)


class DenseModel(LinearModel):
    """The linear model of a problem with a matrix A, shape (m, p), which is also the parameter."""

    def __init__(self, problem: DenseL1Problem) -> None:
        self.observations, self.matrix = problem.observations, problem.matrix
        self.l2_penalty = problem.l2_penalty
        self.hessian = problem.hessian
        self.lipschitz_constant = float(torch.linalg.eigvalsh(self.hessian)[-1])
        self.spectral_norm = float(torch.linalg.matrix_norm(self.matrix, 2))
        self.column_norms = self.matrix.norm(dim=0)
        self.overlap = 1.0
        self.summands = len(self.observations) + self.values

    def synthesize(self, codes: Tensor) -> Tensor:
        return codes @ self.matrix.T

    def correlate(self, residual: Tensor) -> Tensor:
        return residual @ self.matrix

    def hessian_product(self, vectors: Tensor) -> Tensor:
        return vectors @ self.hessian

    def contract(self, residual: Tensor, codes: Tensor) -> Tensor:
        return residual.T @ codes

    def active_hessians(
        self, active: Tensor, wanted: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        candidates = wanted.nonzero().squeeze(1)
        for group, indices, matrices in groups_by_size(self.hessian, active[candidates]):
            yield candidates[group], indices, matrices

    def solve_active(self, active: Tensor, right: Tensor) -> ActiveSystems:
        return solve_active_systems(self.hessian, active, right)
