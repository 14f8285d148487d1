"""Thresholding rules: how a layer carries out the proximal map of the l1 norm, or what it does
instead.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from ..validation import CheckedOptions, check_options


class Thresholding(ABC):
    """A rule that sets small code entries to zero.

    Attributes
    ----------
    name : str
        Name in specs.
    proximal : bool
        Whether the rule is the proximal map of the problem's own penalty in every layer. Only then
        does the algorithm converge to the minimizer of the inner problem, and only then do targets
        that are defined by the minimizer apply.
    """

    name: ClassVar[str]
    proximal: ClassVar[bool]

    @abstractmethod
    def __call__(
        self, values: Tensor, threshold: float | Tensor, iteration: int, nonnegative: bool
    ) -> Tensor:
        """Apply the rule with `threshold` in this iteration, counted from 0; one-sided if
        `nonnegative`.
        """

    def cutoff(self, threshold: float | Tensor, iteration: int) -> float | Tensor:
        """Return the magnitude up to which entries become zero in this iteration."""
        return threshold


@dataclass(frozen=True)
class Soft(Thresholding):
    """Soft thresholding ``sign(v) max(|v| - threshold, 0)``, the proximal map of ``threshold
    |.|_1``.
    """

    name = "soft"
    proximal = True

    def __call__(
        self, values: Tensor, threshold: float | Tensor, iteration: int, nonnegative: bool
    ) -> Tensor:
        # v - clip(v, -threshold, threshold) is exactly zero inside the dead zone, has the exact
        # derivative, and accepts a threshold that is itself a tensor to differentiate.
        threshold = self.cutoff(threshold, iteration)
        if nonnegative:
            return (values - threshold).clamp(min=0)
        return values - torch.clamp(values, -threshold, threshold)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Decaying(Soft):
    """Soft thresholding with a threshold that decays from layer to layer: ``threshold * decay^t``
    in iteration t from 0.

    Soft thresholding shrinks every active entry, so the codes stay biased at any depth. Here the
    penalty and with it the shrinkage decay: on the support, the codes tend to least squares. If the
    dictionary has more atoms than dimensions and does not represent the observations exactly, more
    and more entries become active, and there is no useful limit.

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
        check_options(self, below_one=("decay",))

    def cutoff(self, threshold: float | Tensor, iteration: int) -> float | Tensor:
        return threshold * self.decay**iteration


@dataclass(frozen=True)
class Hard(CheckedOptions, Thresholding):
    """Hard thresholding: keep v if ``|v| > threshold`` (``v > threshold`` for non-negative codes),
    else zero.

    Kept entries are not shrunk, so a fixed point is the least-squares code on its support. With
    step eta, a layer descends on ``1/2 |x - D z|^2 + mu |z|_0`` with ``mu = threshold^2 / (2
    eta)``. The default threshold ``eta * penalty`` is that of the soft rule, which is often too
    small: hard thresholding keeps whatever exceeds the threshold in full, interference included.
    Too large a threshold loses atoms, because the first layer's entries are only eta times their
    final size.

    Parameters
    ----------
    threshold : float, optional
        Absolute threshold on the values after the gradient step (the bias b of the paper), > 0;
        ``eta * penalty`` by default.

    References
    ----------
    Tolooshams and Ba, "Stable and Interpretable Unrolled Dictionary Learning", TMLR 2022.
    Blumensath and Davies, "Iterative thresholding for sparse approximations", J. Fourier Analysis
    and Applications 2008.
    """

    threshold: float | None = None

    name = "hard"
    proximal = False

    def __call__(
        self, values: Tensor, threshold: float | Tensor, iteration: int, nonnegative: bool
    ) -> Tensor:
        cutoff = self.cutoff(threshold, iteration)
        # A product with the mask would turn an infinite value into NaN.
        return torch.where((values if nonnegative else values.abs()) > cutoff, values, 0)

    def cutoff(self, threshold: float | Tensor, iteration: int) -> float | Tensor:
        return threshold if self.threshold is None else self.threshold
