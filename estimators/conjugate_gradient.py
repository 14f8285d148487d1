"""Implicit differentiation on the active set, with conjugate gradients in place of the exact solve."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pudle.algorithms import Algorithm
from pudle.algorithms.unrolling import check_depths, direct_gradients, gradients
from pudle.estimator import Estimate, GradientEstimator
from pudle.problems import Problem
from pudle.problems.krylov import conjugate_gradients
from pudle.validation import check_integer, check_positive


@dataclass(frozen=True)
class ConjugateGradient(GradientEstimator):
    r"""Implicit differentiation at the codes z_T, the system on their active set S solved by conjugate gradients.

    With H the Hessian of the smooth part and F the gradient of the inner objective on the active set,

    .. math:: H_{SS} v_S = (\partial_z \ell)_S, \qquad g = \partial_\theta \ell - (\partial_\theta F)_S^\top v_S ,

    the estimate of `analytic`. Off S the solution is zero: without that restriction the system is another one. All samples
    advance together, each with step lengths of its own, and H is only ever applied to vectors, by automatic
    differentiation of the smooth part's gradient, so that no Gram matrix is needed.

    Where the Hessian is singular on S and the right-hand side has a part in its null space, no solution exists: such a
    sample stops at the first direction without curvature. Every sample ends with the iterate of smallest residual.
    ``unconverged``, the count of samples above the tolerance, and ``largest_relative_residual``, evaluated at the solution
    and not by the recursion, tell in the diagnostics.

    Cost: T layers forward, one solve per sample by at most ``iterations`` + 1 Hessian-vector products over all samples;
    stored are about ten tensors of the codes' shape, whatever T.

    Parameters
    ----------
    iterations : int
        Most iterations, >= 1.
    rtol : float
        Stop when every residual is at most this many times its right-hand side; the dtype's rounding unit where that is
        larger.
    """

    iterations: int = 100
    rtol: float = 1e-12

    name = "conjugate_gradient"
    aliases = ("aid_cg",)
    references = (
        "Pedregosa, Hyperparameter optimization with approximate gradient, ICML 2016",
        "Grazzi, Franceschi, Pontil and Salzo, On the iteration complexity of hypergradient computation, ICML 2020",
    )
    computes = "implicit"

    def __post_init__(self) -> None:
        check_integer("iterations", self.iterations, 1)
        check_positive("rtol", self.rtol)

    def estimate(self, problem: Problem, algorithm: Algorithm, depth: int) -> Estimate:
        return next(self.sweep(problem, algorithm, [depth]))

    def sweep(self, problem: Problem, algorithm: Algorithm, depths: Sequence[int]) -> Iterator[Estimate]:
        """Read the codes at every depth off one forward pass."""
        depths = check_depths(depths)
        with torch.no_grad():
            trajectory = algorithm.run(problem, max(depths, default=0), keep=depths)
        for depth in depths:
            codes = trajectory.at(depth)
            direct, code_gradient = direct_gradients(problem, codes)
            solution, diagnostics = self._solve(problem, codes, code_gradient)
            with torch.enable_grad():
                theta = problem.theta.detach().requires_grad_()
                stationarity = problem.with_theta(theta).stationarity(codes)
                (through_codes,) = gradients(stationarity, (theta,), solution)
            diagnostics = {"layers": depth, "layers_differentiated": 0, "solves": len(codes), **diagnostics}
            yield Estimate(direct - through_codes, codes, diagnostics)

    def _solve(self, problem: Problem, codes: Tensor, right_hand_side: Tensor) -> tuple[Tensor, dict[str, Any]]:
        active = problem.active(codes)
        with torch.enable_grad():
            leaf = codes.detach().requires_grad_()
            slope = problem.smooth_gradient(leaf)

        def hessian(vectors: Tensor) -> Tensor:
            (product,) = gradients(slope, (leaf,), vectors.reshape(codes.shape), keep_graph=True)
            return torch.where(active, product, 0).flatten(1)

        right = torch.where(active, right_hand_side, 0).flatten(1)
        rounding = torch.finfo(right.dtype).eps
        found = conjugate_gradients(
            hessian,
            right,
            tolerance=max(self.rtol, rounding),
            iterations=self.iterations,
            flat=right.shape[1] * rounding * problem.lipschitz_constant,
        )
        return found.solution.reshape(codes.shape), {
            "iterations": found.iterations,
            "vector_products": found.iterations + 1,
            "largest_relative_residual": float(found.residuals.max()),
            "unconverged": int((~found.converged).sum()),
        }
