"""Implicit differentiation on the active set, with conjugate gradients in place of the exact solve."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pudle.algorithms import Algorithm, State
from pudle.algorithms.unrolling import gradients
from pudle.estimator import Contribution, ImplicitEstimator, through_minimizer
from pudle.problems import Problem
from pudle.problems.krylov import conjugate_gradients
from pudle.validation import check_integer, check_positive


@dataclass(frozen=True)
class ConjugateGradient(ImplicitEstimator):
    r"""Implicit differentiation at the codes z_T, the system on their active set S solved by conjugate gradients.

    With H the Hessian of the smooth part and F the gradient of the inner objective on the active set,

    .. math:: H_{SS} v_S = (\partial_z \ell)_S, \qquad g = \partial_\theta \ell - (\partial_\theta F)_S^\top v_S ,

    the estimate of `analytic`. Off S the solution is zero. All samples advance together, each with its own step lengths. H
    is only applied to vectors, by automatic differentiation of the smooth part's gradient: no Gram matrix is needed.

    Where H is singular on S there may be no solution: such a sample stops at the first direction without curvature. Every
    sample ends with the iterate of smallest residual. The diagnostics hold ``unconverged``, the count of samples above the
    tolerance, and ``largest_relative_residual``, evaluated at the solution and not by the recursion.

    Cost: T layers forward, one solve per sample by at most ``iterations`` + 1 Hessian-vector products over all samples;
    stored are about ten tensors of the codes' shape, whatever T.

    Parameters
    ----------
    iterations : int
        Largest number of iterations, >= 1.
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

    def through_codes(self, problem: Problem, algorithm: Algorithm, state: State, code_gradient: Tensor) -> Contribution:
        codes, eps = state.codes, torch.finfo(state.codes.dtype).eps
        with torch.enable_grad():
            leaf = codes.detach().requires_grad_()
            slope = problem.smooth_gradient(leaf)

        def product(vectors: Tensor) -> Tensor:
            return gradients(slope, (leaf,), vectors, keep_graph=True)[0]

        stops = {"tolerance": max(self.rtol, eps), "flat": codes[0].numel() * eps * problem.lipschitz_bound}
        solved = conjugate_gradients(product, code_gradient, problem.active(codes), iterations=self.iterations, **stops)
        return through_minimizer(problem, codes, solved.solution), {
            "solves": len(codes),
            "iterations": solved.iterations,
            "vector_products": solved.iterations + 1,
            "largest_relative_residual": float(solved.residuals.max()),
            "unconverged": int((~solved.converged).sum()),
        }
