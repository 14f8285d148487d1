"""Ridge regression; the outer parameter is its regularization strength."""

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..validation import check_positive
from .linearized import Solution
from .problem import SmoothProblem


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class Ridge(SmoothProblem):
    """Ridge regression: a smooth problem with an exact closed form at every depth.

    The inner problem, per sample x, is ``z(theta) = argmin_z 1/2 |x - D z|^2 + (strength + theta)/2
    |z|^2``; the outer loss is the mean over samples of ``c^T z``. At ``theta = 0``, ``dz/dtheta =
    -(D^T D + strength I)^{-1} z``.

    Parameters
    ----------
    observations : Tensor, shape (n, m)
    dictionary : Tensor, shape (m, p)
    strength : float
        The regularization mu_0 to which theta is added, >= 0.
    weights : Tensor, shape (p,)
        The vector c of the outer loss.
    theta : Tensor, shape (), optional
        The outer parameter; zero by default.

    Raises
    ------
    InvalidArgument
        If a tensor is not a finite floating tensor of a fitting shape, strength < 0, or the Hessian
        is not positive definite.

    References
    ----------
    Scieur, Bertrand, Gidel and Pedregosa, "The Curse of Unrolling", NeurIPS 2022.
    """

    observations: Tensor
    dictionary: Tensor
    strength: float
    weights: Tensor
    theta: Tensor = None  # type: ignore[assignment]  # zero by default

    parameter = "theta"
    symmetric = True
    per_sample = ("observations",)

    def __post_init__(self) -> None:
        self._convert(observations="(n, m)", dictionary="(m, p)", weights="(p,)", theta="()")
        if self.theta is None:
            object.__setattr__(self, "theta", self.observations.new_zeros(()))
        check_positive("strength", self.strength, allow_zero=True)
        if self.extreme_eigenvalues[0] <= 0:
            raise InvalidArgument(
                "strength + theta leaves the inner problem flat: give a larger strength"
            )

    @property
    def code_shape(self) -> tuple[int, int]:
        return len(self.observations), self.dictionary.shape[1]

    @property
    def hessian(self) -> Tensor:
        """``D^T D + (strength + theta) I``, shape (p, p), differentiable in theta."""
        diagonal = torch.eye(len(self.weights)).to(self.weights) * (self.strength + self.theta)
        return self.dictionary.T @ self.dictionary + diagonal

    @functools.cached_property
    def extreme_eigenvalues(self) -> tuple[float, float]:
        """Smallest and largest eigenvalue of the Hessian."""
        values: Tensor = torch.linalg.eigvalsh(self.hessian.detach())
        return float(values[0]), float(values[-1])

    @property
    def lipschitz_constant(self) -> float:
        return self.extreme_eigenvalues[1]

    def smooth_gradient(self, codes: Tensor) -> Tensor:
        residual = torch.addmm(self.observations, codes, self.dictionary.T, beta=-1)
        return residual @ self.dictionary + (self.strength + self.theta) * codes

    def outer_loss(self, codes: Tensor) -> Tensor:
        return (codes @ self.weights).mean()

    def solve_active(self, codes: Tensor, right_hand_side: Tensor) -> Solution:
        smallest, largest = self.extreme_eigenvalues
        solution: Tensor = torch.linalg.solve(self.hessian.detach(), right_hand_side.T)
        return solution.T, {"condition_number": largest / smallest, "singular": 0}
