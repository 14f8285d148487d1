"""What a problem is: an outer parameter, an inner objective with a smooth part and a penalty, and an outer loss."""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor

from ..algorithms.thresholding import Thresholding


class Problem(ABC):
    """A loss that depends on its parameter both directly and through the output of an inner algorithm.

    The inner problem is ``z(theta) = argmin_z f(z, theta) + h(z, theta)`` for every sample, with f smooth and h a penalty
    with a proximal map; the outer loss is the mean over samples of ``loss(z, theta)``. Problems are immutable; a copy at
    another parameter comes from `with_theta`. A concrete problem is a frozen dataclass that keeps its parameter in the
    field named by `parameter`.
    """

    parameter: str

    @property
    def theta(self) -> Tensor:
        """The outer parameter, the thing gradients are taken with respect to."""
        return getattr(self, self.parameter)

    def with_theta(self, theta: Tensor) -> Problem:
        """Return a copy at another value of the parameter.

        A `lipschitz_constant` that was already computed is kept: an unrolled program's step is a constant of that
        program, and must not move while the program is differentiated. A new problem at a new parameter is made by its
        constructor.
        """
        other = copy.copy(self)
        for name, value in self.fields_at(theta).items():
            object.__setattr__(other, name, value)
        return other

    def fields_at(self, theta: Tensor) -> dict[str, Any]:
        """Fields that hold a value of the parameter: the one named by `parameter`, unless overridden."""
        return {self.parameter: theta}

    @property
    @abstractmethod
    def code_shape(self) -> tuple[int, ...]:
        """Shape of the codes, samples first."""

    @property
    @abstractmethod
    def lipschitz_constant(self) -> float:
        """Largest curvature L of the smooth part: the largest eigenvalue of its Hessian, maximized over samples."""

    @property
    def lipschitz_bound(self) -> float:
        """Upper bound on `lipschitz_constant`, itself unless overridden where a bound is much cheaper."""
        return self.lipschitz_constant

    @abstractmethod
    def smooth_gradient(self, codes: Tensor) -> Tensor:
        """Gradient of f in the codes, per sample; same shape as the codes."""

    @abstractmethod
    def prox(self, values: Tensor, step: float, thresholding: Thresholding, iteration: int) -> Tensor:
        """Proximal map of ``step * h`` as the algorithm's thresholding rule carries it out at that iteration (from 0)."""

    @abstractmethod
    def outer_loss(self, codes: Tensor) -> Tensor:
        """Mean over samples of the outer loss; a scalar, differentiable in the codes and in theta."""

    @abstractmethod
    def active(self, codes: Tensor) -> Tensor:
        """Boolean mask of the code entries on which the penalty is smooth: the support."""

    @abstractmethod
    def stationarity(self, codes: Tensor) -> Tensor:
        """Gradient of f + h on the active entries (elsewhere arbitrary): zero there at a minimizer."""

    @abstractmethod
    def solve_active(self, codes: Tensor, right_hand_side: Tensor) -> tuple[Tensor, dict[str, Any]]:
        """Solve ``H_SS v_S = r_S`` per sample, H the Hessian of f and S the active set; zero off S.

        Returns
        -------
        solution : Tensor
            Shape of the codes.
        diagnostics : dict
            At least ``condition_number``, the largest over samples, and ``singular``, the count of singular systems
            that were solved in the minimum-norm sense.
        """

    def initial_codes(self) -> Tensor:
        """All-zero codes with the parameter's dtype and device."""
        return torch.zeros(self.code_shape, dtype=self.theta.dtype, device=self.theta.device)
