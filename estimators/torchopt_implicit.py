"""Implicit differentiation by TorchOpt, as a peer to measure against."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from pudle import peers
from pudle.algorithms import Algorithm
from pudle.algorithms.unrolling import check_depths, direct_gradients, gradients
from pudle.estimator import Estimate, GradientEstimator
from pudle.problems import Problem
from pudle.validation import check_integer, check_positive


@dataclass(frozen=True)
class TorchoptImplicit(GradientEstimator):
    r"""Implicit differentiation at the codes z_T by ``torchopt.diff.implicit.custom_root``.

    The root is that of the inner objective's gradient restricted to the active set S of z_T,

    .. math:: F(z, D)_S = D_S^\top (D_S z_S - x) + \lambda \operatorname{sign}(z_S), \qquad F(z, D)_{\bar S} = z_{\bar S},

    whose Jacobian is symmetric: the estimate of `analytic`, with TorchOpt's solve in place of the exact one. The solve is
    TorchOpt's default, conjugate gradients on the normal equations, here with options that let it converge (its own
    default is a relative residual of 1e-5). One recursion serves all samples, so that the worst conditioned of them sets
    the number of iterations, and the normal equations square that condition; but where the system is singular they still
    have a solution.

    Cost: T layers forward, one solve by at most 2 ``iterations`` + 1 Hessian-vector products over all samples; memory
    independent of T.

    Parameters
    ----------
    iterations : int
        Most iterations, >= 1.
    rtol : float
        Stop when the residual of the normal equations is at most this many times their right-hand side; the dtype's
        rounding unit where that is larger.
    """

    iterations: int = 1000
    rtol: float = 1e-13

    name = "torchopt_implicit"
    references = (
        "Ren et al., TorchOpt: An Efficient Library for Differentiable Optimization, JMLR 2023",
        "Rajeswaran et al., Meta-Learning with Implicit Gradients, NeurIPS 2019",
    )
    computes = "implicit"

    def __post_init__(self) -> None:
        check_integer("iterations", self.iterations, 1)
        check_positive("rtol", self.rtol)

    def fingerprint(self) -> str:
        return str(peers.versions("torchopt"))

    def estimate(self, problem: Problem, algorithm: Algorithm, depth: int) -> Estimate:
        return next(self.sweep(problem, algorithm, [depth]))

    def sweep(self, problem: Problem, algorithm: Algorithm, depths: Sequence[int]) -> Iterator[Estimate]:
        """Read the codes at every depth off one forward pass."""
        depths = check_depths(depths)
        problem = peers.check_treatable(self, problem, algorithm, "conjugate_gradient")
        peers.require("torchopt")
        with torch.no_grad():
            trajectory = algorithm.run(problem, max(depths, default=0), keep=depths)
        for depth in depths:
            codes = trajectory.at(depth)
            direct, code_gradient = direct_gradients(problem, codes)
            through_codes, solution, products = self._differentiate(problem, codes, code_gradient)
            active = problem.active(codes)
            image = torch.where(active, solution @ problem.hessian, solution)
            yield Estimate(
                direct + through_codes,
                codes,
                {
                    "layers": depth,
                    "layers_differentiated": 0,
                    "solves": 1,
                    "vector_products": products,
                    "largest_relative_residual": peers.relative_residual(
                        torch.where(active, image - code_gradient, 0), torch.where(active, code_gradient, 0)
                    ),
                },
            )

    def _differentiate(self, problem: Problem, codes: Tensor, code_gradient: Tensor) -> tuple[Tensor, Tensor, int]:
        """Return the gradient through the codes, the solution of the linear system, and the products it took."""
        implicit, linear_solve = peers.require("torchopt.diff.implicit"), peers.require("torchopt.linear_solve")
        active, signs = problem.active(codes), codes.sign()
        products = 0

        def optimality(solution: Tensor, dictionary: Tensor, offset: Tensor) -> Tensor:
            # The offset changes nothing; its gradient is the solution of the linear system, which is not told otherwise.
            slope = problem.with_theta(dictionary).smooth_gradient(torch.where(active, solution, 0))
            return torch.where(active, slope + problem.penalty * signs, solution) - offset

        def solve(product: Callable, right_hand_side: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
            def counted(vectors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
                nonlocal products
                products += 1
                return product(vectors)

            rtol = max(self.rtol, torch.finfo(codes.dtype).eps)
            return linear_solve.solve_normal_cg(maxiter=self.iterations, rtol=rtol)(counted, right_hand_side)

        @implicit.custom_root(optimality, argnums=(1, 2), solve=solve)
        def solver(initial: Tensor, dictionary: Tensor, offset: Tensor) -> Tensor:
            return initial

        with torch.enable_grad(), peers.quiet():
            dictionary = problem.theta.detach().requires_grad_()
            offset = torch.zeros_like(codes).requires_grad_()
            through_codes, solution = gradients(
                solver(codes.detach(), dictionary, offset), (dictionary, offset), torch.where(active, code_gradient, 0)
            )
        return through_codes, solution, products
