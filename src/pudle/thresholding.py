"""Thresholding rules: how an unrolled layer carries out the proximal map of the l1 norm."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor


class Thresholding(ABC):
    """A rule that sets small code entries to zero."""

    name: ClassVar[str]

    @abstractmethod
    def __call__(self, values: Tensor, level: float | Tensor, iteration: int, nonnegative: bool) -> Tensor:
        """Apply the rule at threshold `level` in the given iteration (from 0), one-sided where `nonnegative`."""


@dataclass(frozen=True)
class Soft(Thresholding):
    """Soft threshold ``sign(v) max(|v| - level, 0)``, the proximal map of ``level |.|_1``."""

    name = "soft"

    def __call__(self, values: Tensor, level: float | Tensor, iteration: int, nonnegative: bool) -> Tensor:
        # v - clip(v, -level, level) is exactly zero inside the dead zone, exact in its derivative, and works for a level
        # that is itself a tensor to differentiate.
        if nonnegative:
            return (values - level).clamp(min=0)
        return values - torch.clamp(values, -level, level)  # type: ignore[arg-type]
