"""Bounds on the curvature of a mean of losses of linear scores, for the constants of a smooth
problem.
"""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from torch import Tensor

#: A radius beyond all data.
LARGEST = 1e300


class MeanLoss(ABC):
    """A mean over rows of a loss of their scores, which are linear in the weights.

    Attributes
    ----------
    slope, steepest : float
        Largest norm of the loss's first, and of its second derivative.
    rows : Tensor, shape (n, m)
    lengths : Tensor, shape (n,)
        Norms of the rows.
    largest : float
        Largest eigenvalue of the rows' second moments.
    """

    slope: ClassVar[float]
    steepest: ClassVar[float]

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows.double()
        self.lengths: Tensor = self.rows.norm(dim=1)
        self.largest = self._moment(self.rows)

    @staticmethod
    def _moment(rows: Tensor) -> float:
        spectral: Tensor = torch.linalg.matrix_norm(rows, 2)
        return float(spectral) ** 2 / len(rows)

    def scores(self, weights: Tensor) -> Tensor:
        """Return the scores of all rows."""
        return self.rows @ weights.double()

    def reach(self, radius: float) -> Tensor:
        """Bound the change of the score of each row in a ball of weights."""
        return self.lengths * min(radius, LARGEST)

    @abstractmethod
    def curvatures(self, weights: Tensor, radius: float) -> Tensor:
        """Return the largest curvature of each row's loss in a ball around some weights, shape
        (n,).
        """

    def curvature(self, weights: Tensor, radius: float) -> float:
        """Return the largest curvature of the mean in a ball around some weights."""
        return self._moment(self.rows * self.curvatures(weights, radius)[:, None].sqrt())

    def terms(self, size: float) -> float:
        """Return the size of the terms of the mean's gradient at weights of some size."""
        root: float = self.largest**0.5
        return root * (self.slope + root * self.steepest * size)
