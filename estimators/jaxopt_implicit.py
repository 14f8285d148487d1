"""Implicit differentiation by JAXopt, as a peer to measure against."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from pudle import peers
from pudle.algorithms import Algorithm
from pudle.algorithms.unrolling import check_depths, direct_gradients
from pudle.estimator import Estimate, GradientEstimator
from pudle.problems import Problem
from pudle.validation import check_choice, check_integer, check_positive

SOLVERS = ("normal_cg", "cg", "gmres", "bicgstab")


@dataclass(frozen=True)
class JaxoptImplicit(GradientEstimator):
    r"""Implicit differentiation of the fixed point :math:`z = \Phi(z, D)` at the codes z_T by ``jaxopt.implicit_diff``.

    :math:`\Phi` is one proximal gradient layer at the algorithm's step, written in jax. The system
    :math:`(I - \partial_z \Phi^\top) v = \partial_z \ell` is solved for each sample by one of JAXopt's linear solvers. It is
    not symmetric, because the columns off the support of :math:`\Phi` are zero and the rows are not. JAXopt's default,
    conjugate gradients on the normal equations, is right for it; plain conjugate gradients, which it offers as well, are
    not, and are far off without a word. At depth zero, where no layer made the codes, the estimate is the direct part
    alone.

    Cost: T layers forward, one solve per sample by at most ``iterations`` products with the system and its transpose, all
    samples at a time; memory independent of T. Everything but the layers is compiled once for each shape and precision.

    Parameters
    ----------
    iterations : int
        Most iterations, >= 1.
    rtol : float
        Stop when the residual is at most this many times the right-hand side; the dtype's rounding unit where that is
        larger. JAXopt's default is 1e-5.
    solver : {"normal_cg", "cg", "gmres", "bicgstab"}
        The linear solver.
    """

    iterations: int = 1000
    rtol: float = 1e-13
    solver: str = "normal_cg"

    name = "jaxopt_implicit"
    references = ("Blondel et al., Efficient and Modular Implicit Differentiation, NeurIPS 2022",)
    computes = "implicit"

    def __post_init__(self) -> None:
        check_integer("iterations", self.iterations, 1)
        check_positive("rtol", self.rtol)
        check_choice("solver", self.solver, SOLVERS)

    def fingerprint(self) -> str:
        return str(peers.versions("jax", "jaxlib", "jaxopt"))

    def estimate(self, problem: Problem, algorithm: Algorithm, depth: int) -> Estimate:
        return next(self.sweep(problem, algorithm, [depth]))

    def sweep(self, problem: Problem, algorithm: Algorithm, depths: Sequence[int]) -> Iterator[Estimate]:
        """Read the codes at every depth off one forward pass."""
        depths = check_depths(depths)
        problem = peers.check_treatable(self, problem, algorithm, "fixed_point", cpu_only=True)
        peers.require("jaxopt")
        with torch.no_grad():
            trajectory = algorithm.run(problem, max(depths, default=0), keep=depths)
        step = algorithm.step_size(problem)
        rtol = max(self.rtol, torch.finfo(problem.theta.dtype).eps)
        for depth in depths:
            codes = trajectory.at(depth)
            direct, code_gradient = direct_gradients(problem, codes)
            if depth == 0:
                yield Estimate(direct, codes, {"layers": 0, "layers_differentiated": 0, "solves": 0})
                continue
            with peers.jax_precision(codes.dtype):
                program = _program(self.solver, self.iterations, rtol, problem.nonnegative)
                arrays = peers.to_arrays((problem.dictionary, codes, problem.observations, code_gradient))
                found = program(*arrays, step, problem.penalty, problem.l2_penalty)
                through_codes, solution = (peers.to_tensor(array) for array in found)
            residual = peers.fixed_point_residual(problem, algorithm, codes, code_gradient, solution)
            yield Estimate(
                direct + through_codes,
                codes,
                {
                    "layers": depth,
                    "layers_differentiated": 0,
                    "solves": len(codes),
                    "largest_relative_residual": residual,
                },
            )


@functools.cache
def _program(solver: str, iterations: int, rtol: float, nonnegative: bool) -> Callable[..., Any]:
    """Compile the pull-back of all samples' implicit functions: it returns the gradient and the systems' solutions."""
    jax, jaxopt = peers.require("jax"), peers.require("jaxopt")
    linear_solve = getattr(peers.require("jaxopt.linear_solve"), f"solve_{solver}")
    solve = functools.partial(linear_solve, maxiter=iterations, tol=rtol)

    def pull_back(dictionary, codes, observations, code_gradient, step, penalty, l2_penalty):
        constants = {"penalty": penalty, "l2_penalty": l2_penalty, "nonnegative": nonnegative}

        def image(point, dictionary, offset, observation):
            # The offset changes nothing; its gradient is the solution of the linear system.
            return peers.layer(point, dictionary, observation, step, constants) + offset

        @jaxopt.implicit_diff.custom_fixed_point(image, solve=solve)
        def solver(point, dictionary, offset, observation):
            return point

        def contracted(dictionary, offsets):
            minimizers = jax.vmap(solver, (0, None, 0, 0))(codes, dictionary, offsets, observations)
            return (minimizers * code_gradient).sum()

        return jax.grad(contracted, (0, 1))(dictionary, 0 * codes)

    return jax.jit(pull_back)
