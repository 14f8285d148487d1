"""The implicit function theorem, in closed form on the active set."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from pudle.algorithms import Algorithm
from pudle.algorithms.unrolling import direct_gradients, gradients
from pudle.estimator import Estimate, GradientEstimator
from pudle.problems import Problem


@dataclass(frozen=True)
class Analytic(GradientEstimator):
    r"""Implicit differentiation at the codes z_T, with an exact solve on their active set S.

    With H the Hessian of the smooth part and F the gradient of the inner objective on the active set,

    .. math:: v_S = H_{SS}^{-1} (\partial_z \ell)_S, \qquad
              g = \partial_\theta \ell - (\partial_\theta F)_S^\top v_S .

    For sparse coding this is :math:`g = \partial_D \ell - [(D z - x) v^\top + D v z^\top]`. Its error falls as
    :math:`O(\rho^{2T})` on the lasso loss, for which it keeps the non-zero :math:`\partial_z \ell` of finite depth, and as
    :math:`O(\rho^T)` on the reconstruction loss.

    At small depth more atoms can be active than there are dimensions, and the system is singular: the minimum-norm solution
    is taken, which is finite but wrong where the support is wrong. ``condition_number`` and ``singular`` in the
    diagnostics tell.

    Cost: T layers forward, one solve per sample; memory independent of T.
    """

    name = "analytic"
    aliases = ("implicit", "g3", "ift", "aid")
    references = (
        "Ablin, Peyre and Moreau, Super-efficiency of automatic differentiation, ICML 2020",
        "Bertrand et al., Implicit differentiation of Lasso-type models for hyperparameter optimization, ICML 2020",
    )
    computes = "implicit"

    def estimate(self, problem: Problem, algorithm: Algorithm, depth: int) -> Estimate:
        return next(self.sweep(problem, algorithm, [depth]))

    def sweep(self, problem: Problem, algorithm: Algorithm, depths: Sequence[int]) -> Iterator[Estimate]:
        """Read the codes at every depth off one forward pass."""
        with torch.no_grad():
            trajectory = algorithm.run(problem, max(depths, default=0), keep=depths)
        for depth in depths:
            codes = trajectory.at(depth)
            direct, code_gradient = direct_gradients(problem, codes)
            solution, diagnostics = problem.solve_active(codes, code_gradient)
            with torch.enable_grad():
                theta = problem.theta.detach().requires_grad_()
                stationarity = problem.with_theta(theta).stationarity(codes)
                (through_codes,) = gradients(stationarity, (theta,), solution)
            diagnostics = {"layers": depth, "layers_differentiated": 0, "solves": len(codes), **diagnostics}
            yield Estimate(direct - through_codes, codes, diagnostics)
