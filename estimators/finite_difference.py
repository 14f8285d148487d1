"""Central differences of the loss after T layers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pudle import streams
from pudle.algorithms import Algorithm
from pudle.algorithms.unrolling import check_depths, losses_at
from pudle.errors import UnsupportedProblem
from pudle.estimator import Estimate, GradientEstimator
from pudle.problems import Problem
from pudle.validation import check_integer, check_positive

#: Steps by dtype. Smooth losses would take the cube root of the rounding unit, 6e-6 and 5e-3; but unrolled ones have kinks
#: from the threshold, and the fewer of them lie within a step the better.
STEPS = {torch.float64: 1e-6, torch.float32: 3e-3}


@dataclass(frozen=True)
class FiniteDifference(GradientEstimator):
    r"""Central differences of :math:`f(\theta) = \ell(z_T(\theta), \theta)`, the algorithm's step held constant.

    .. math:: g = \frac{P}{K} \sum_{k=1}^{K} \frac{f(\theta + h e_k) - f(\theta - h e_k)}{2 h} \, e_k

    Without ``directions`` the :math:`e_k` are all K = P coordinate axes, and g is the gradient of f up to
    :math:`O(h^2)`, rounding of order :math:`\epsilon f / h`, and the kinks within h of theta. With it they are K random
    orthonormal directions: g is the gradient's projection on their span, times P / K so that its mean over the draws is
    the gradient, and the estimator claims ``stochastic``. K >= P is all coordinates.

    ``asymmetry`` in the diagnostics is half the distance between the forward and the backward differences of all directions
    (Euclidean norm): where kinks lie within h it is the error they cause, elsewhere it is :math:`O(h)`.

    Cost: 2 (K + 1) T layers forward, none differentiated, no solves; stored are the tensors of one layer, and the K
    directions where they are random.

    Parameters
    ----------
    step : float, optional
        Distance h in theta; 1e-6 in float64 and 3e-3 in float32 where not given.
    directions : int, optional
        Number K of random directions, >= 1; all coordinates where not given.
    seed : int
        Of the directions.
    max_evaluations : int
        Refuse where more than this many loss evaluations (2 K + 1) would be needed.
    """

    step: float | None = None
    directions: int | None = None
    seed: int = 0
    max_evaluations: int = 2000

    name = "finite_difference"
    aliases = ("numerical",)
    references = ("Nocedal and Wright, Numerical Optimization, 2nd edition, section 8.1, 2006",)
    computes = "unrolled"

    def __post_init__(self) -> None:
        if self.step is not None:
            check_positive("step", self.step)
        if self.directions is not None:
            check_integer("directions", self.directions, 1)
            object.__setattr__(self, "computes", "stochastic")
        check_integer("seed", self.seed, 0)
        check_integer("max_evaluations", self.max_evaluations, 3)

    def estimate(self, problem: Problem, algorithm: Algorithm, depth: int) -> Estimate:
        return next(self.sweep(problem, algorithm, [depth]))

    @torch.no_grad()
    def sweep(self, problem: Problem, algorithm: Algorithm, depths: Sequence[int]) -> Iterator[Estimate]:
        """Evaluate the losses at all depths in one run per point."""
        depths = check_depths(depths)
        theta = problem.theta.detach()
        total = theta.numel()
        count = total if self.directions is None else min(self.directions, total)
        evaluations = 2 * count + 1
        if evaluations > self.max_evaluations:
            fewer = (self.max_evaluations - 1) // 2
            raise UnsupportedProblem(
                f"finite_difference needs {evaluations} loss evaluations for {count} directions of theta, above "
                f"max_evaluations={self.max_evaluations}: raise that, give directions={fewer} or fewer for the projection "
                f"on random ones, or use backprop, which computes the same without them"
            )
        trajectory = algorithm.run(problem, max(depths, default=0), keep=depths)
        step = STEPS[theta.dtype] if self.step is None else self.step
        gradient = theta.new_zeros(len(depths), *theta.shape)
        squares = theta.new_zeros(len(depths))
        center = losses_at(problem, algorithm, theta, depths) if depths else squares
        for direction in self._directions(theta, count) if depths else ():
            above = losses_at(problem, algorithm, theta + step * direction, depths)
            below = losses_at(problem, algorithm, theta - step * direction, depths)
            gradient += torch.tensordot((above - below) / (2 * step), direction, dims=0)
            squares += ((above - 2 * center + below) / (2 * step)).square()
        for depth, row, square in zip(depths, gradient * (total / count), squares, strict=True):
            yield Estimate(
                row,
                trajectory.at(depth),
                {
                    "layers": 2 * depth * (count + 1),
                    "layers_differentiated": 0,
                    "evaluations": evaluations,
                    "directions": count,
                    "asymmetry": float(square.sqrt()),
                },
            )

    def _directions(self, theta: Tensor, count: int) -> Iterator[Tensor]:
        if count == theta.numel():
            for index in range(count):
                direction = torch.zeros_like(theta)
                direction.view(-1)[index] = 1
                yield direction
        else:
            random = streams.generator(self.seed, "estimator finite_difference")
            basis, _ = np.linalg.qr(random.standard_normal((theta.numel(), count)))
            for column in basis.T:
                yield torch.as_tensor(column).to(theta).reshape(theta.shape)
