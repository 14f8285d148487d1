"""Central differences of the loss after T layers."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from pudle import streams
from pudle.algorithms.unrolling import losses_at
from pudle.errors import UnsupportedProblem
from pudle.estimator import Algorithm, CheckedOptions, CodesEstimator, Contribution, Problem, State

#: Default steps. For smooth losses the cube root of the rounding unit, 6e-6 and 5e-3, is best;
#: unrolled losses have kinks from the threshold, and a smaller step meets fewer of them.
STEPS = {torch.float64: 1e-6, torch.float32: 3e-3}


@dataclass(frozen=True)
class FiniteDifference(CheckedOptions, CodesEstimator):
    r"""Central differences of :math:`f(\theta) = \ell(z_T(\theta), \theta)`, the algorithm's step
    held constant.

    .. math:: g = \frac{P}{K} \sum_{k=1}^{K} \frac{f(\theta + h e_k) - f(\theta - h e_k)}{2 h} \,
              e_k

    By default the :math:`e_k` are all K = P coordinate axes, and g is the gradient of f up to
    :math:`O(h^2)`, rounding of order :math:`\epsilon f / h`, and the kinks within h of theta. With
    ``directions`` they are K random orthonormal directions: g is the gradient's projection on their
    span, times P / K so that its mean over the draws is the gradient, and the estimator claims
    ``stochastic``. With K >= P all coordinates are used.

    Cost: (2 K + 1) T layers forward, none differentiated, no solves; stored are the tensors of one
    layer and K directions.

    Parameters
    ----------
    step : float, optional
        Distance h in theta; by default 1e-6 in float64 and 3e-3 in float32.
    directions : int, optional
        Number K of random directions, >= 1; by default all coordinates.
    seed : int
        Seed of the random directions.
    max_evaluations : int
        Refuse problems that need more than this many loss evaluations (2 K).
    """

    step: float | None = None
    directions: int | None = None
    seed: int = 0
    max_evaluations: int = 2000

    name = "finite_difference"
    aliases = ("numerical",)
    references = ("Nocedal and Wright, Numerical Optimization, 2nd edition, section 8.1, 2006",)
    #: Along random directions ``stochastic``.
    computes = "unrolled"
    #: It differentiates no layer.
    needs = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.directions:
            object.__setattr__(self, "computes", "stochastic")

    def check_supported(self, problem: Problem, algorithm: Algorithm) -> None:
        """Raise `UnsupportedProblem` also where more than `max_evaluations` losses would be
        evaluated.
        """
        super().check_supported(problem, algorithm)
        size, most = problem.theta.numel(), self.max_evaluations
        count = min(self.directions or size, size)
        if 2 * count > most:
            raise UnsupportedProblem.lacking(
                self.name,
                f"at most max_evaluations={most} loss evaluations",
                f"the {2 * count} of {count} directions of theta",
                f"raise that, give directions={most // 2} or fewer for the projection on"
                " random ones, or use backprop, which computes the same without them",
            )

    @torch.no_grad()
    def gradients_at(
        self, problem: Problem, algorithm: Algorithm, states: list[State]
    ) -> Iterator[Contribution]:
        """Yield the gradient at each depth, from the same directions for all: coordinates, or
        random ones from the stream of the seed.

        The diagnostics are ``layers``, ``evaluations`` and ``directions``.
        """
        theta, depths = problem.theta.detach(), [state.iteration for state in states]
        step = self.step or STEPS[theta.dtype]
        basis = np.eye(theta.numel())
        if self.directions and self.directions < theta.numel():
            random = streams.generator(self.seed, "estimator finite_difference")
            basis = np.linalg.qr(random.standard_normal((theta.numel(), self.directions))).Q
        directions = theta.new_tensor(basis.T).reshape(-1, *theta.shape).unbind()
        count = len(directions)
        gradient = theta.new_zeros(len(depths), *theta.shape)
        for direction in directions:
            above, below = (
                losses_at(problem, algorithm, [theta + move * direction], depths)
                for move in (step, -step)
            )
            gradient += torch.tensordot((above - below) / (2 * step), direction, dims=0)
        rows = (gradient * (theta.numel() / count)).unbind()
        for depth, row in zip(depths, rows, strict=True):
            layers = depth * (2 * count + 1)
            yield row, {"layers": layers, "evaluations": 2 * count, "directions": count}
