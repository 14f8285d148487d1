"""Least squares with an l1 penalty: what the problems of the sparse coding family share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from ..algorithms.thresholding import Thresholding
from .active_set import solve_active_systems
from .problem import Problem


class L1Problem(Problem):
    """Least squares with an l1 penalty on the codes: what the problems of the sparse coding family share.

    The inner problem, per sample x, is ``argmin_z 1/2 |A z - x|^2 + l2_penalty/2 |z|^2 + penalty |z|_1``, A being linear
    (over z >= 0 where `nonnegative`). A concrete class has `penalty` and `nonnegative` as fields or properties, and says
    what A is by `residual` and `adjoint`.

    Attributes
    ----------
    penalty : float or Tensor
        Weight of the l1 norm; a tensor broadcasts against the codes.
    nonnegative : bool
        Whether the codes are restricted to the non-negative orthant.
    l2_penalty : float
        Weight of half the squared l2 norm, which is part of f: positive for the elastic net.
    targets : Tensor or None
        What the outer loss compares ``A z`` with, where that is not the observations.
    """

    penalty: float | Tensor
    nonnegative: bool
    l2_penalty: float = 0.0
    targets: Tensor | None = None

    @abstractmethod
    def residual(self, codes: Tensor) -> Tensor:
        """``A z - x`` per sample; shape of the observations."""

    @abstractmethod
    def adjoint(self, residual: Tensor) -> Tensor:
        """``A^T r`` per sample; shape of the codes."""

    def outer_residual(self, codes: Tensor) -> Tensor:
        """``A z - y`` per sample, y being the targets, or the observations where there are none."""
        return self.residual(codes)

    def smooth_gradient(self, codes: Tensor) -> Tensor:
        gradient = self.adjoint(self.residual(codes))
        return gradient + self.l2_penalty * codes if self.l2_penalty else gradient

    def prox(self, values: Tensor, step: float, thresholding: Thresholding, iteration: int) -> Tensor:
        return thresholding(values, step * self.penalty, iteration, self.nonnegative)

    def active(self, codes: Tensor) -> Tensor:
        return codes != 0

    def stationarity(self, codes: Tensor) -> Tensor:
        return self.smooth_gradient(codes) + self.penalty * codes.sign()


def _lasso(problem: L1Problem, codes: Tensor) -> Tensor:
    sizes = codes.abs()
    # One penalty is one product, and not as many as there are codes.
    weighted = (problem.penalty * sizes).sum() if isinstance(problem.penalty, Tensor) else problem.penalty * sizes.sum()
    penalty = weighted / len(codes)
    if problem.l2_penalty:
        penalty = penalty + 0.5 * problem.l2_penalty * codes.square().sum() / len(codes)
    return _reconstruction(problem, codes) + penalty


def _reconstruction(problem: L1Problem, codes: Tensor) -> Tensor:
    return 0.5 * problem.outer_residual(codes).square().sum() / len(codes)


#: Outer losses of `SparseCoding` and `ConvolutionalSparseCoding`, by name. Both are means over the n samples.
SPARSE_CODING_LOSSES: dict[str, Callable[[L1Problem, Tensor], Tensor]] = {
    "lasso": _lasso,
    "reconstruction": _reconstruction,
}


def solve_dense(
    problem: L1Problem, hessian: Tensor, codes: Tensor, right_hand_side: Tensor
) -> tuple[Tensor, dict[str, Any]]:
    """Solve the active systems of a Hessian (p, p) that all samples share; see `Problem.solve_active`."""
    systems = solve_active_systems(hessian, problem.active(codes), right_hand_side)
    return systems.solution, {
        "condition_number": float(systems.condition_numbers.max()),
        "singular": int(systems.singular.sum()),
    }


def largest_gram_eigenvalue(matrix: Tensor) -> float:
    """Largest eigenvalue of ``A^T A``, from the smaller of the two Gram matrices."""
    matrix = matrix.detach()
    rows, columns = matrix.shape
    smaller = matrix @ matrix.T if rows < columns else matrix.T @ matrix
    return float(torch.linalg.eigvalsh(smaller)[-1])
