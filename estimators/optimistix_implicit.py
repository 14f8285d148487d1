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
#: The value of ``well_posed`` that makes Lineax, which solves for Optimistix, choose each solver.
WELL_POSED = {"lu": None, "svd": False}


@dataclass(frozen=True)
class OptimistixImplicit(peers.ImplicitPeer):
    r"""Implicit differentiation of the fixed point :math:`z = \Phi(z, D)` at z_T by
    ``optimistix.ImplicitAdjoint``.

    :math:`\Phi` is one proximal gradient layer at the algorithm's step, written in jax. For each
    sample the system
    :math:`(I - \partial_z \Phi^\top) v = \partial_z \ell` is written out as a dense matrix and
    solved directly. Optimistix's own default is an LU factorization, which fails, or returns
    numbers of size 1e13, where more atoms are active than there are dimensions. Its solver for
    ill-posed systems, a singular value decomposition, gives the minimum-norm solution there. At
    depth zero the estimate is the direct part alone.

    Cost: T layers forward, p Jacobian-vector products of one layer and one decomposition of a p x p
    matrix per sample; stored are several such matrices for each of some hundred samples, whatever
    T. Everything but the layers is compiled once for each shape and precision.

    Parameters
    ----------
    solver : {"svd", "lu"}
        The direct solver for the dense systems.
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
        check_choice("solver", self.solver, WELL_POSED)

    def solve(
        self, problem: SparseCoding, step: float, codes: Tensor, code_gradient: Tensor
    ) -> peers.Solved:
        program = _program(WELL_POSED[self.solver], problem.nonnegative)
        constants = (step, problem.penalty, problem.l2_penalty)
        through_codes, solutions = torch.zeros_like(problem.dictionary), []
        for chunk in zip(
            codes.split(CHUNK),
            problem.observations.split(CHUNK),
            code_gradient.split(CHUNK),
            strict=True,
        ):
            share, solution = peers.run_jax(
                program, problem.dictionary, *chunk, constants=constants
            )
            through_codes += share
            solutions.append(solution)
        return through_codes, torch.cat(solutions), {"solves": len(codes)}


# Optimistix requires that these two are global functions, which take everything as arguments.
def _solve(inputs):
    return inputs[0], None


def _optimality(codes, residual, inputs):
    return peers.layer(codes, *inputs[1:6]) - codes


@functools.cache
def _program(well_posed: bool | None, nonnegative: bool) -> Callable[..., Any]:
    solver = peers.require("lineax").AutoLinearSolver(well_posed=well_posed)
    adjoint = peers.require("optimistix").ImplicitAdjoint(linear_solver=solver)

    def minimizer(*inputs):
        return adjoint.apply(_solve, _optimality, (*inputs, nonnegative), frozenset())[0]

    return peers.jax_implicit_gradient(minimizer)
