"""Implicit differentiation with a truncated Neumann series in place of the solve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from pudle.algorithms import Algorithm, Ista, State
from pudle.algorithms.unrolling import check_depths, direct_gradients, gradients
from pudle.estimator import Estimate, GradientEstimator
from pudle.problems import Problem
from pudle.validation import check_integer


@dataclass(frozen=True)
class FixedPointAdjoint(GradientEstimator):
    r"""Implicit differentiation of the fixed point :math:`z = \Phi(z, \theta)`, by K terms of a Neumann series.

    .. math:: g = \partial_\theta \ell + (\partial_\theta \Phi)^\top v, \qquad
              v = \sum_{k=0}^{K-1} \big[(\partial_z \Phi)^\top\big]^k \, \partial_z \ell
                \approx (I - \partial_z \Phi^\top)^{-1} \partial_z \ell

    with all derivatives at the last codes :math:`z_T`. :math:`\Phi` is one plain proximal gradient layer at the
    algorithm's step, for an accelerated algorithm as well: their fixed points are the same. A rule that changes from
    layer to layer is taken as it stands in the last one. At depth zero, where no layer made the codes, the estimate is the
    direct part alone.

    The series converges as :math:`\rho^K`. At a converged code the estimate equals `truncated` with a window of K layers
    of ISTA; so the error falls with depth on the lasso loss, and keeps a floor of order :math:`\rho^K` on the
    reconstruction loss.

    Cost: T + 1 layers forward, K vector-Jacobian products of one layer, no exact solve; stored are the tensors of one
    layer, whatever T and K.

    Parameters
    ----------
    terms : int
        Number K of terms, k = 0 to K - 1; >= 1.
    """

    terms: int

    name = "fixed_point"
    aliases = ("neumann", "aid_fp")
    references = (
        "Lorraine, Vicol and Duvenaud, Optimizing millions of hyperparameters by implicit differentiation, AISTATS 2020",
        "Grazzi, Franceschi, Pontil and Salzo, On the iteration complexity of hypergradient computation, ICML 2020",
    )
    computes = "implicit"
    consistent_for = ("lasso",)

    def __post_init__(self) -> None:
        check_integer("terms", self.terms, 1)

    def estimate(self, problem: Problem, algorithm: Algorithm, depth: int) -> Estimate:
        return next(self.sweep(problem, algorithm, [depth]))

    def sweep(self, problem: Problem, algorithm: Algorithm, depths: Sequence[int]) -> Iterator[Estimate]:
        """Read the codes at every depth off one forward pass."""
        depths = check_depths(depths)
        with torch.no_grad():
            trajectory = algorithm.run(problem, max(depths, default=0), keep=depths)
        step = algorithm.step_size(problem)
        plain = Ista(step=step, thresholding=algorithm.thresholding)
        for depth in depths:
            codes = trajectory.at(depth)
            direct, term = direct_gradients(problem, codes)
            if depth == 0:
                yield Estimate(direct, codes, {"layers": 0, "layers_differentiated": 0, "iterations": 0})
                continue
            with torch.enable_grad():
                theta = problem.theta.detach().requires_grad_()
                leaf = codes.detach().requires_grad_()
                state = State(codes=leaf, point=leaf, iteration=depth - 1)
                image = plain.advance(problem.with_theta(theta), state, step).codes
            total = term
            for _ in range(self.terms - 1):
                (term,) = gradients(image, (leaf,), term, keep_graph=True)
                total = total + term
            (through_codes,) = gradients(image, (theta,), total)
            yield Estimate(
                direct + through_codes,
                codes,
                {
                    "layers": depth + 1,
                    "layers_differentiated": 1,
                    "iterations": self.terms,
                    "vector_products": self.terms,
                    "solves": 0,
                },
            )
