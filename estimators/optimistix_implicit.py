"""Implicit differentiation by Optimistix, a peer to measure against."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pudle import peers
from pudle.problems import SparseCoding
from pudle.validation import check_choice

#: Number of samples whose dense systems are in memory at a time: several p x p matrices each.
CHUNK = 500
#: Tolerance of the iterative solver, or the dtype's rounding unit where that is larger.
RTOL = 1e-13
#: For each solver the call of Lineax, which solves for Optimistix, that makes it; the last takes the tolerance.
SOLVERS: dict[str, Callable[[Any, float], Any]] = {
    "svd": lambda lineax, _: lineax.AutoLinearSolver(well_posed=False),
    "lu": lambda lineax, _: lineax.AutoLinearSolver(well_posed=None),
    "lsmr": lambda lineax, rtol: lineax.LSMR(rtol=rtol, atol=rtol),
}


@dataclass(frozen=True)
class OptimistixImplicit(peers.ImplicitPeer):
    r"""Implicit differentiation of the fixed point :math:`z = \Phi(z, D)` at z_T by ``optimistix.ImplicitAdjoint``.

    :math:`\Phi` is one proximal gradient layer at the algorithm's step, written in jax. For each sample the system
    :math:`(I - \partial_z \Phi^\top) v = \partial_z \ell` is written out as a dense matrix and solved directly, or solved
    without the matrix by LSMR (Fong and Saunders 2011). Optimistix's own default is an LU factorization, which fails, or
    returns numbers of size 1e13, where more atoms are active than there are dimensions. Its solver for ill-posed systems, a
    singular value decomposition, gives the minimum-norm solution there; LSMR iterates towards it and stops at its limit of
    iterations where the system is badly conditioned. At depth zero the estimate is the direct part alone.

    Cost: T layers forward, and per sample p Jacobian-vector products of one layer and one decomposition of a p x p matrix,
    or, with LSMR, two products with one layer's Jacobian in each iteration. A decomposition of 500 systems of 100 codes
    takes some ten times as long as LSMR. Stored are several such matrices for each of some hundred samples, whatever T.
    Everything but the layers is compiled once for each shape and precision.

    Parameters
    ----------
    solver : {"svd", "lu", "lsmr"}
        The direct solver for the dense systems, or the iterative one.
    """

    solver: str = "svd"

    name = "optimistix_implicit"
    references = (
        "Rader, Lyons and Kidger, Optimistix: modular optimization in JAX and Equinox, 2024",
        "Blondel et al., Efficient and Modular Implicit Differentiation, NeurIPS 2022",
    )
    distributions = ("jax", "jaxlib", "lineax", "optimistix")
    instead = "analytic"
    cpu_only = True

    def __post_init__(self) -> None:
        check_choice("solver", self.solver, SOLVERS)

    def solve(self, problem: SparseCoding, step: float, codes: Tensor, code_gradient: Tensor) -> peers.Solved:
        program = _program(self.solver, max(RTOL, torch.finfo(codes.dtype).eps), problem.nonnegative)
        constants = (step, problem.penalty, problem.l2_penalty)
        through_codes, solutions = torch.zeros_like(problem.dictionary), []
        for chunk in zip(codes.split(CHUNK), problem.observations.split(CHUNK), code_gradient.split(CHUNK), strict=True):
            share, solution = peers.run_jax(program, problem.dictionary, *chunk, constants=constants)
            through_codes += share
            solutions.append(solution)
        return through_codes, torch.cat(solutions), {"solves": len(codes)}


# Optimistix requires that these two are global functions, which take everything as arguments.
def _solve(inputs):
    return inputs[0], None


def _optimality(codes, residual, inputs):
    return peers.layer(codes, *inputs[1:6]) - codes


@functools.cache
def _program(solver: str, rtol: float, nonnegative: bool) -> Callable[..., Any]:
    linear_solver = SOLVERS[solver](peers.require("lineax"), rtol)
    adjoint = peers.require("optimistix").ImplicitAdjoint(linear_solver=linear_solver)

    def minimizer(*inputs):
        return adjoint.apply(_solve, _optimality, (*inputs, nonnegative), frozenset())[0]

    return peers.jax_implicit_gradient(minimizer)
