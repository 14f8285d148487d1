"""Implicit differentiation by Optimistix, as a peer to measure against."""

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
from pudle.validation import check_choice

#: Samples whose dense systems are held at a time: several p x p matrices each.
CHUNK = 500
#: How Lineax, which solves for Optimistix, is told what to expect of a system.
WELL_POSED = {"lu": None, "svd": False}


@dataclass(frozen=True)
class OptimistixImplicit(GradientEstimator):
    r"""Implicit differentiation of the fixed point :math:`z = \Phi(z, D)` at z_T by ``optimistix.ImplicitAdjoint``.

    :math:`\Phi` is one proximal gradient layer at the algorithm's step, written in jax. For each sample the system
    :math:`(I - \partial_z \Phi^\top) v = \partial_z \ell` is written out as a dense matrix and solved directly. Optimistix's
    own default is an LU factorization, which fails, or returns numbers of size 1e13, where more atoms are active than there
    are dimensions. Its solver for ill-posed systems, a singular value decomposition, gives the minimum-norm solution there.
    At depth zero, where no layer made the codes, the estimate is the direct part alone.

    Cost: T layers forward, p Jacobian-vector products of one layer and one decomposition of a p x p matrix per sample;
    stored are several such matrices for each of some hundred samples, whatever T. Everything but the layers is compiled
    once for each shape and precision.

    Parameters
    ----------
    solver : {"svd", "lu"}
        How the dense systems are solved.
    """

    solver: str = "svd"

    name = "optimistix_implicit"
    references = (
        "Rader, Lyons and Kidger, Optimistix: modular optimization in JAX and Equinox, 2024",
        "Blondel et al., Efficient and Modular Implicit Differentiation, NeurIPS 2022",
    )
    computes = "implicit"

    def __post_init__(self) -> None:
        check_choice("solver", self.solver, WELL_POSED)

    def fingerprint(self) -> str:
        return str(peers.versions("jax", "jaxlib", "lineax", "optimistix"))

    def estimate(self, problem: Problem, algorithm: Algorithm, depth: int) -> Estimate:
        return next(self.sweep(problem, algorithm, [depth]))

    def sweep(self, problem: Problem, algorithm: Algorithm, depths: Sequence[int]) -> Iterator[Estimate]:
        """Read the codes at every depth off one forward pass."""
        depths = check_depths(depths)
        problem = peers.check_treatable(self, problem, algorithm, "analytic", cpu_only=True)
        peers.require("optimistix")
        with torch.no_grad():
            trajectory = algorithm.run(problem, max(depths, default=0), keep=depths)
        step = algorithm.step_size(problem)
        for depth in depths:
            codes = trajectory.at(depth)
            direct, code_gradient = direct_gradients(problem, codes)
            if depth == 0:
                yield Estimate(direct, codes, {"layers": 0, "layers_differentiated": 0, "solves": 0})
                continue
            through_codes, solutions = torch.zeros_like(direct), []
            with peers.jax_precision(codes.dtype):
                program = _program(WELL_POSED[self.solver], problem.nonnegative)
                for rows in torch.arange(len(codes)).split(CHUNK):
                    chunk = (codes[rows], problem.observations[rows], code_gradient[rows])
                    found = program(
                        *peers.to_arrays((problem.dictionary, *chunk)), step, problem.penalty, problem.l2_penalty
                    )
                    through_codes += peers.to_tensor(found[0])
                    solutions.append(peers.to_tensor(found[1]))
            residual = peers.fixed_point_residual(problem, algorithm, codes, code_gradient, torch.cat(solutions))
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


# Optimistix requires of these two that they take everything as arguments, and hold nothing from outside.
def _solve(inputs: Any) -> tuple[Any, None]:
    return inputs[0], None


def _optimality(point: Any, residual: None, inputs: Any) -> Any:
    _, dictionary, offset, observation, step, constants, _ = inputs
    # The offset changes nothing; its gradient is the solution of the linear system.
    return peers.layer(point, dictionary, observation, step, constants) + offset - point


@functools.cache
def _program(well_posed: bool | None, nonnegative: bool) -> Callable[..., Any]:
    """Compile the pull-back of all samples' implicit functions: it returns the gradient and the systems' solutions."""
    jax, lineax = peers.require("jax"), peers.require("lineax")
    adjoint = peers.require("optimistix").ImplicitAdjoint(linear_solver=lineax.AutoLinearSolver(well_posed=well_posed))

    def pull_back(dictionary, codes, observations, code_gradient, step, penalty, l2_penalty):
        constants = {"penalty": penalty, "l2_penalty": l2_penalty, "nonnegative": nonnegative}

        def minimizer(point, dictionary, offset, observation):
            inputs = (point, dictionary, offset, observation, step, constants)
            return adjoint.apply(_solve, _optimality, inputs, frozenset())[0]

        def contracted(dictionary, offsets):
            minimizers = jax.vmap(minimizer, (0, None, 0, 0))(codes, dictionary, offsets, observations)
            return (minimizers * code_gradient).sum()

        return jax.grad(contracted, (0, 1))(dictionary, 0 * codes)

    return jax.jit(pull_back)
