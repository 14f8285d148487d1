"""Convolutional sparse coding with one penalty per filter, learned together with the filters."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from .convolutional import ConvolutionalSparseCoding


@dataclass(frozen=True, eq=False, kw_only=True, repr=False)
class ThresholdedConvolutionalSparseCoding(ConvolutionalSparseCoding):
    """Convolutional sparse coding whose outer parameter holds the filters and the logarithms of
    their penalties.

    The inner problem is ``z(theta) = argmin_z 1/2 |x - D * z|^2 + sum_j penalty_j |z_j|_1``, with
    z_j the code maps of filter D_j. Row j of theta, shape (p, c k k + 1), is the flattened filter
    D_j followed by ``log penalty_j``: one gradient covers both. A layer's threshold is the step
    times the penalty.

    All other parameters are those of `ConvolutionalSparseCoding`.

    To learn penalties, use clean or held-out `targets` and the reconstruction loss. This loss
    depends on the penalties through the codes alone, so an estimator that holds the codes constant
    never moves them. The lasso loss contains the penalties and is smallest where they vanish.

    Parameters
    ----------
    penalty : float or Tensor, shape () or (p,) or (p, 1, 1)
        Weights of the l1 norm, > 0: one for all filters or one for each. Stored as (p, 1, 1), to
        broadcast over the codes.

    Raises
    ------
    InvalidArgument
        As in `ConvolutionalSparseCoding`, and if `penalty` does not hold one or p positive finite
        numbers.

    References
    ----------
    Gregor and LeCun, "Learning fast approximations of sparse coding", ICML 2010 (learned
    thresholds). Simon and Elad, "Rethinking the CSC model for natural images", NeurIPS 2019 (one
    per filter, denoising).
    """

    # A tensor, where the base class has a number.
    penalty: float | Tensor  # type: ignore[assignment]

    parameter = "theta"

    @classmethod
    def specimen(cls, random: np.random.Generator) -> Self:
        problem: Any = super().specimen(random)
        factors = np.exp(0.3 * random.standard_normal(len(problem.dictionary)))
        return dataclasses.replace(
            problem, penalty=problem.penalty.flatten() * torch.tensor(factors)
        )

    def _check_penalty(self) -> Tensor:
        return self._penalty_of_each("filter", len(self.dictionary)).reshape(-1, 1, 1)

    @property
    def theta(self) -> Tensor:  # type: ignore[override]  # made of two fields
        """The filters and the logarithms of their penalties, shape (p, c k k + 1)."""
        assert isinstance(self.penalty, Tensor)
        return torch.cat([self.dictionary.flatten(1), self.penalty.log().flatten(1)], 1)

    def fields_at(self, theta: Tensor) -> dict[str, Any]:
        return {"dictionary": self.dictionary_of(theta), "penalty": theta[:, -1, None, None].exp()}

    def dictionary_of(self, theta: Tensor) -> Tensor:
        return theta[:, :-1].unflatten(1, self.dictionary.shape[1:])
