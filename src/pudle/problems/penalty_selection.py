"""Choice of the lasso's penalty by held-out error."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..validation import check_alike, check_tensor
from .l1 import L1Problem, largest_gram_eigenvalue, solve_dense


@dataclass(frozen=True, eq=False, kw_only=True)
class PenaltySelection(L1Problem):
    """Lasso regression with the logarithm of its penalty as the outer parameter, and the held-out error as outer loss.

    The inner problem, per row y of the observations, is
    ``z(theta) = argmin_z 1/2 |y - A z|^2 + sum_j exp(theta_j) |z_j|`` with design A (over z >= 0 where `nonnegative`). The
    outer loss is the mean over rows of ``1/2 |y' - B z|^2``, with y' and B the held-out observations and design. It depends
    on theta through the codes alone: its direct part is zero. With S the active set and s its signs,

    ``dz_S/dtheta_j = -exp(theta_j) s_j (A_S^T A_S)^{-1} e_j`` (one penalty for all entries collects the sum over j in S).

    Parameters
    ----------
    observations : Tensor, shape (n, m)
        Responses of n regressions on one design.
    design : Tensor, shape (m, p)
    held_out_observations : Tensor, shape (n, m2)
    held_out_design : Tensor, shape (m2, p)
    log_penalty : Tensor, shape () or (p,)
        The outer parameter theta: one for all entries of the codes, or one for each. The gradient has this shape.
    nonnegative : bool
        Restrict the codes to the non-negative orthant.

    Raises
    ------
    InvalidArgument
        For tensors that are not finite floating tensors of fitting shapes.

    References
    ----------
    Bertrand et al., "Implicit differentiation of Lasso-type models for hyperparameter optimization", ICML 2020.
    """

    observations: Tensor
    design: Tensor
    held_out_observations: Tensor
    held_out_design: Tensor
    log_penalty: Tensor
    nonnegative: bool = False

    parameter = "log_penalty"
    loss: ClassVar[str] = "held_out"

    def __post_init__(self) -> None:
        shapes = {
            "observations": "(n, m)",
            "design": "(m, p)",
            "held_out_observations": "(n, m2)",
            "held_out_design": "(m2, p)",
        }
        for name, shape in shapes.items():
            object.__setattr__(self, name, check_tensor(name, getattr(self, name), shape))
            check_alike(name, getattr(self, name), "observations", self.observations)
        # A Python number stands for a 0-d tensor of the problem's dtype.
        theta = torch.as_tensor(self.log_penalty)
        if theta.ndim == 0 and not isinstance(self.log_penalty, Tensor):
            theta = theta.to(self.observations)
        theta = check_tensor("log_penalty", theta, "(p,)" if theta.ndim else "()")
        check_alike("log_penalty", theta, "observations", self.observations)
        object.__setattr__(self, "log_penalty", theta)
        weights = theta.detach().exp()
        if not (torch.isfinite(weights) & (weights > 0)).all():
            raise InvalidArgument(
                "log_penalty has entries whose exponential is zero or infinite: give the natural logarithm of the penalty"
            )
        (n, m), (rows, p) = self.observations.shape, self.design.shape
        expected = (n, self.held_out_design.shape[0]), (m, p), (self.held_out_observations.shape[1], p)
        if (self.held_out_observations.shape, (rows, p), self.held_out_design.shape) != expected:
            given = ", ".join(f"{name} {tuple(getattr(self, name).shape)}" for name in shapes)
            raise InvalidArgument(f"shapes do not fit: {given}; give (n, m), (m, p), (n, m2) and (m2, p)")
        if theta.ndim and len(theta) != p:
            raise InvalidArgument(
                f"log_penalty has shape {tuple(theta.shape)}: give one number for all entries of a code, or ({p},), one "
                f"for each"
            )

    @property
    def penalty(self) -> Tensor:  # type: ignore[override]  # derived from theta here, where others keep it as a field
        """``exp(log_penalty)``, differentiable."""
        return self.log_penalty.exp()

    @property
    def code_shape(self) -> tuple[int, int]:
        return len(self.observations), self.design.shape[1]

    @functools.cached_property
    def lipschitz_constant(self) -> float:
        return largest_gram_eigenvalue(self.design)

    def residual(self, codes: Tensor) -> Tensor:
        """``z A^T - y`` per row, shape (n, m)."""
        return torch.addmm(self.observations, codes, self.design.T, beta=-1)

    def adjoint(self, residual: Tensor) -> Tensor:
        """``r A`` per row, shape (n, p)."""
        return residual @ self.design

    def outer_loss(self, codes: Tensor) -> Tensor:
        held_out = torch.addmm(self.held_out_observations, codes, self.held_out_design.T, beta=-1)
        return 0.5 * held_out.square().sum() / len(codes)

    def solve_active(self, codes: Tensor, right_hand_side: Tensor) -> tuple[Tensor, dict[str, Any]]:
        design = self.design.detach()
        return solve_dense(self, design.T @ design, codes, right_hand_side)
