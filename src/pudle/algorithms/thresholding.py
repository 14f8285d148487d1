"""Thresholding rules: how an unrolled layer carries out the proximal map of the l1 norm, or what it does instead."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..validation import check_positive


class Thresholding(ABC):
    """A rule that sets small code entries to zero.

    Attributes
    ----------
    name : str
        How specs call it.
    proximal : bool
        Whether it is the proximal map of the problem's own penalty in every layer. Only then is the algorithm's fixed
        point the minimizer of the inner problem; otherwise targets that rest on the minimizer are not what it approaches.
    """

    name: ClassVar[str]
    proximal: ClassVar[bool]

    @abstractmethod
    def __call__(self, values: Tensor, threshold: float | Tensor, iteration: int, nonnegative: bool) -> Tensor:
        """Apply the rule at `threshold` in the given iteration (from 0), one-sided where `nonnegative`."""


@dataclass(frozen=True)
class Soft(Thresholding):
    """Soft threshold ``sign(v) max(|v| - threshold, 0)``, the proximal map of ``threshold |.|_1``."""

    name = "soft"
    proximal = True

    def __call__(self, values: Tensor, threshold: float | Tensor, iteration: int, nonnegative: bool) -> Tensor:
        # v - clip(v, -threshold, threshold) is exactly zero inside the dead zone, exact in its derivative, and works for a
        # threshold that is itself a tensor to differentiate.
        if nonnegative:
            return (values - threshold).clamp(min=0)
        return values - torch.clamp(values, -threshold, threshold)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Decaying(Thresholding):
    """Soft threshold that falls from layer to layer: ``threshold * decay^t`` in iteration t, counted from 0.

    Soft thresholding shrinks every active entry, so that the codes stay biased however deep the network is. Here the
    penalty fades, and with it the shrinkage: on the support the codes tend to least squares. Where the dictionary has more
    atoms than dimensions and does not represent the observations exactly, ever more entries become active as the threshold
    falls, so that the depth decides where the codes stand and there is no useful limit.

    Parameters
    ----------
    decay : float
        Factor per layer, in (0, 1).

    References
    ----------
    Tolooshams and Ba, "Stable and Interpretable Unrolled Dictionary Learning", TMLR 2022.
    """

    decay: float

    name = "decaying"
    proximal = False

    def __post_init__(self) -> None:
        if check_positive("decay", self.decay) >= 1:
            raise InvalidArgument(f"decay={self.decay} does not decay: give a number in (0, 1), or use soft")

    def __call__(self, values: Tensor, threshold: float | Tensor, iteration: int, nonnegative: bool) -> Tensor:
        return Soft()(values, threshold * self.decay**iteration, iteration, nonnegative)


@dataclass(frozen=True)
class Hard(Thresholding):
    """Hard threshold: keep v where ``|v| > b`` (where ``v > b`` for non-negative codes), zero elsewhere.

    What is kept is not shrunk, so that a fixed point is the least-squares code on its support. The bias b acts on the
    values after the gradient step, as in the reference. It is therefore not a penalty: with step eta the layer descends on
    ``1/2 |x - D z|^2 + mu |z|_0`` with ``mu = b^2 / (2 eta)``. The soft rule's bias is ``eta * penalty``, which is the
    default here, but a hard rule needs more of it: entries of the first layer are only eta times their final size, what
    falls below b is lost, and what rises above it by interference is kept in full.

    Parameters
    ----------
    threshold : float, optional
        The bias b, > 0; ``eta * penalty`` where not given.

    References
    ----------
    Tolooshams and Ba, "Stable and Interpretable Unrolled Dictionary Learning", TMLR 2022.
    Blumensath and Davies, "Iterative thresholding for sparse approximations", J. Fourier Analysis and Applications 2008.
    """

    threshold: float | None = None

    name = "hard"
    proximal = False

    def __post_init__(self) -> None:
        if self.threshold is not None:
            check_positive("threshold", self.threshold)

    def __call__(self, values: Tensor, threshold: float | Tensor, iteration: int, nonnegative: bool) -> Tensor:
        bias = threshold if self.threshold is None else self.threshold
        # A selection and not a product with the mask: zero times an infinite value would be NaN.
        return torch.where((values if nonnegative else values.abs()) > bias, values, 0)
