"""Choice of the lasso's penalty by held-out error."""

from dataclasses import dataclass
from typing import ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..validation import check_nonzero
from .l1 import DenseL1Problem
from .problem import drawn, drawn_sizes


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class PenaltySelection(DenseL1Problem):
    """Lasso regression; the outer parameter is the logarithm of the penalty, the outer loss the
    held-out error.

    The inner problem, per row y of the observations, is ``z(theta) = argmin_z 1/2 |y - A z|^2 +
    sum_j exp(theta_j) |z_j|`` with design A (over z >= 0 if `nonnegative`). The outer loss is the
    mean over rows of ``1/2 |y' - B z|^2``, with y' and B the held-out observations and design. It
    depends on theta through the codes alone: its direct part is zero. With S the active set and s
    its signs,

    ``dz_S/dtheta_j = -exp(theta_j) s_j (A_S^T A_S)^{-1} e_j``, summed over j in S if all entries
    share one penalty.

    Parameters
    ----------
    observations : Tensor, shape (n, m)
        Responses of n regressions on one design.
    design : Tensor, shape (m, p)
    held_out_observations : Tensor, shape (n, m2)
    held_out_design : Tensor, shape (m2, p)
    log_penalty : Tensor, shape () or (p,)
        The outer parameter theta: one for all entries of the codes, or one for each. The gradient
        has this shape.
    nonnegative : bool
        Restrict the codes to the non-negative orthant.

    Raises
    ------
    InvalidArgument
        If a tensor is not a finite floating tensor of a fitting shape.

    References
    ----------
    Bertrand et al., "Implicit differentiation of Lasso-type models for hyperparameter
    optimization", ICML 2020.
    """

    observations: Tensor
    design: Tensor
    held_out_observations: Tensor
    held_out_design: Tensor
    log_penalty: Tensor
    nonnegative: bool = False

    parameter = "log_penalty"
    per_sample = ("observations", "held_out_observations")
    loss: ClassVar[str] = "held_out"

    def __post_init__(self) -> None:
        axes = {
            "observations": "(n, m)",
            "design": "(m, p)",
            "held_out_observations": "(n, m2)",
            "held_out_design": "(m2, p)",
        }
        (n, m), (rows, p), held_out, (held_out_rows, held_out_p) = (
            self._convert(*item).shape for item in axes.items()
        )
        check_nonzero("design", self.design)
        theta = torch.as_tensor(self.log_penalty)
        if theta.ndim == 0 and theta is not self.log_penalty:
            # A Python number stands for a scalar tensor of the problem's dtype.
            object.__setattr__(self, "log_penalty", theta.to(self.observations))
        theta = self._convert("log_penalty", "(p,)" if theta.ndim else "()")
        weights = theta.detach().exp()
        if not (torch.isfinite(weights) & (weights > 0)).all():
            raise InvalidArgument(
                "log_penalty has entries whose exponential is zero or infinite: give the natural"
                " logarithm of the penalty"
            )
        if rows != m or held_out != (n, held_out_rows) or held_out_p != p:
            given = ", ".join(f"{name} {tuple(getattr(self, name).shape)}" for name in axes)
            raise InvalidArgument(
                f"shapes do not fit: {given}; give (n, m), (m, p), (n, m2) and (m2, p)"
            )
        if theta.ndim and len(theta) != p:
            raise InvalidArgument(
                f"log_penalty has shape {tuple(theta.shape)}: give one number for all entries of a"
                f" code, or ({p},), one for each"
            )

    @classmethod
    def specimen(cls, random: np.random.Generator) -> Self:
        """Draw regressions with one penalty for each entry of the codes, or one for all."""
        n, m, p, held_out = drawn_sizes(random, 30, 12, 9, 6)
        design = drawn(random, m, p) * 10 ** random.uniform(-1, 1)
        observations = drawn(random, n, m)
        largest = np.abs(observations.numpy() @ design.numpy()).max()
        penalty = np.log(largest * random.uniform(0.05, 0.4)) + 0.3 * drawn(random, p)
        return cls(
            observations=observations,
            design=design,
            log_penalty=penalty if random.random() < 0.6 else penalty[0],
            held_out_observations=drawn(random, n, held_out),
            held_out_design=drawn(random, held_out, p),
            nonnegative=random.random() < 0.3,
        )

    @property
    def penalty(self) -> Tensor:  # type: ignore[override]  # a field in other problems
        """``exp(log_penalty)``, differentiable."""
        return self.log_penalty.exp()

    @property
    def matrix(self) -> Tensor:
        return self.design

    def outer_loss(self, codes: Tensor) -> Tensor:
        held_out = torch.addmm(self.held_out_observations, codes, self.held_out_design.T, beta=-1)
        return 0.5 * held_out.square().sum() / len(codes)
