"""Implicit differentiation on the active set, with conjugate gradients in place of a solve."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pudle.algorithms.algorithm import unspecified
from pudle.estimator import ActiveSystemEstimator, CheckedOptions, Contribution, Problem
from pudle.problems.linearized import conjugate_gradients, norm


@dataclass(frozen=True)
class ConjugateGradient(CheckedOptions, ActiveSystemEstimator):
    r"""Implicit differentiation at the codes z_T, the system on their active set S solved by
    conjugate gradients.

    With H the Hessian of the smooth part and F the gradient of the inner objective on the active
    set,

    .. math:: H_{SS} v_S = (\partial_z \ell)_S, \qquad g = \partial_\theta \ell - (\partial_\theta
              F)_S^\top v_S ,

    the estimate of `analytic`. Off S the solution is zero. All samples advance together, each with
    its own step lengths. H is only applied to vectors, by automatic differentiation of F: no Gram
    matrix is needed.

    Conjugate gradients need a symmetric matrix. Where symmetry is not known by construction, as for
    `pudle.FixedPoint`, two products with random vectors test it; a system that fails the test is
    solved by the normal equations, whose condition number is the square (``normal_equations`` in
    the diagnostics).

    Where H is singular on S there may be no solution: such a sample stops at the first direction
    without curvature. Every sample ends with the iterate of smallest residual. The diagnostics hold
    ``unconverged``, the count of samples above the tolerance, and ``largest_relative_residual``,
    evaluated at the solution and not by the recursion.

    Cost: T layers forward, one solve per sample by at most ``iterations`` + 1 Hessian-vector
    products over all samples; stored are about ten tensors of the codes' shape, whatever T.

    Parameters
    ----------
    iterations : int
        Largest number of iterations, >= 1.
    rtol : float
        Stop when every residual is at most this many times its right-hand side; the dtype's
        rounding unit where that is larger.
    adjoint : Tensor, optional
        Where the iterations start, shape of the codes: the `adjoint` of an earlier estimate, such
        as that of the last step of a training; by default zero. Like a warm start of an algorithm
        it is data, which no spec holds.
    """

    iterations: int = 100
    rtol: float = 1e-12
    adjoint: Tensor | None = unspecified()

    name = "conjugate_gradient"
    aliases = ("aid_cg",)
    references = (
        "Pedregosa, Hyperparameter optimization with approximate gradient, ICML 2016",
        (
            "Grazzi, Franceschi, Pontil and Salzo, On the iteration complexity of hypergradient"
            " computation, ICML 2020"
        ),
    )
    computes = "implicit"

    def solve(self, problem: Problem, codes: Tensor, right_hand_side: Tensor) -> Contribution:
        """Solve the system on the active set by conjugate gradients; return the solution and, as
        diagnostics, ``solves``, ``iterations``, ``normal_equations``, ``largest_relative_residual``
        and ``unconverged``.
        """
        if self.adjoint is not None:
            problem.check_codes("adjoint", self.adjoint)
        system, active = problem.linearized(codes), problem.active(codes)
        scale = (
            problem.lipschitz_bound
            if problem.symmetric
            else system.norm_estimate ** (1 if system.symmetric else 2)
        )
        right = torch.where(active, right_hand_side, 0)

        def product(vectors: Tensor) -> Tensor:
            image = torch.where(active, system.transposed(vectors), 0)
            return image if system.symmetric else system.product(image)

        eps = torch.finfo(right.dtype).eps
        solved = conjugate_gradients(
            product,
            right if system.symmetric else system.product(right),
            active,
            tolerance=max(self.rtol, eps),
            iterations=self.iterations,
            flat=active.numel() // system.rows * eps * scale,
            joint=problem.joint,
            start=self.adjoint,
        )
        solution, residual = solved.solution, float(solved.residuals.max())
        if not system.symmetric:
            difference = torch.where(active, system.transposed(solution) - right, 0)
            residual = norm(difference) / norm(right) if right.any() else 0.0
        return solution, {
            "solves": system.rows,
            "iterations": solved.iterations,
            "normal_equations": not system.symmetric,
            "largest_relative_residual": residual,
            "unconverged": int((~solved.converged).sum()),
        }
