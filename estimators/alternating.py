"""Alternating minimization's gradient: the codes are held constant."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from pudle.algorithms import Algorithm
from pudle.algorithms.unrolling import direct_gradients
from pudle.estimator import Estimate, GradientEstimator
from pudle.problems import Problem


@dataclass(frozen=True)
class Alternating(GradientEstimator):
    r"""Direct part of the gradient, with the codes held constant.

    .. math:: g = \partial_\theta \ell(z_T, \theta)

    At the minimizer this is the exact gradient of the lasso loss (Danskin's theorem), and its error at depth T falls as
    :math:`O(\rho^T)`. On the reconstruction loss it has a floor, since the dependence of the codes on theta is dropped.

    Cost: T layers forward, one evaluation of the loss's partial derivative; memory independent of T.
    """

    name = "alternating"
    aliases = ("g_dec", "g1", "danskin", "envelope")
    references = (
        "Ablin, Peyre and Moreau, Super-efficiency of automatic differentiation, ICML 2020",
        "Tolooshams and Ba, Stable and Interpretable Unrolled Dictionary Learning, TMLR 2022",
    )
    computes = "direct"
    consistent_for = ("lasso",)

    def estimate(self, problem: Problem, algorithm: Algorithm, depth: int) -> Estimate:
        return next(self.sweep(problem, algorithm, [depth]))

    def sweep(self, problem: Problem, algorithm: Algorithm, depths: Sequence[int]) -> Iterator[Estimate]:
        """Read every depth off one forward pass."""
        with torch.no_grad():
            trajectory = algorithm.run(problem, max(depths, default=0), keep=depths)
        for depth in depths:
            codes = trajectory.at(depth)
            yield Estimate(direct_gradients(problem, codes)[0], codes, {"layers": depth, "layers_differentiated": 0})
