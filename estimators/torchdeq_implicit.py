"""Implicit differentiation by TorchDEQ, a peer to measure against."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pudle import peers
from pudle.algorithms import Ista
from pudle.estimator import CheckedOptions
from pudle.problems import SparseCoding


@dataclass(frozen=True)
class TorchdeqImplicit(CheckedOptions, peers.ImplicitPeer):
    r"""Implicit differentiation of the fixed point :math:`z = \Phi(z, D)` at the codes z_T by a
    ``torchdeq`` model.

    :math:`\Phi` is one proximal gradient layer at the algorithm's step. The model starts from z_T
    and runs no iterations of its own, so that it differentiates there; its backward solver then
    iterates
    :math:`v \leftarrow \partial_z \Phi^\top v + \partial_z \ell`, each sample stopping at its
    smallest residual. With plain fixed-point iterations, the default of TorchDEQ, this is the
    series of `fixed_point` summed until it has converged or ``iterations`` are spent: on a slow
    problem, where :math:`\rho^K` is not small, it keeps that floor.

    TorchDEQ offers two accelerated solvers as well, which are not used here. Its Anderson mixing
    adds 1e-4 to the squared residuals it compares, and so stops mixing once these are smaller. Its
    Broyden iterations converge in tens of steps, but go on for a sample that has converged until
    all have, and then divide zero by zero: the gradient is NaN.

    Cost: T + 1 layers forward, at most ``iterations`` vector-Jacobian products of one layer; memory
    independent of T.

    Parameters
    ----------
    iterations : int
        Largest number of iterations of the backward solver, >= 1; 40 in TorchDEQ.
    rtol : float
        Stop when an iteration changes no sample by more than this many times its size; the dtype's
        rounding unit where that is larger.
    """

    iterations: int = 1000
    rtol: float = 1e-13

    name = "torchdeq_implicit"
    references = (
        "Geng and Kolter, TorchDEQ: A Library for Deep Equilibrium Models, 2023",
        "Bai, Kolter and Koltun, Deep Equilibrium Models, NeurIPS 2019",
    )
    distributions = ("torchdeq",)
    instead = "fixed_point"

    def solve(
        self, problem: SparseCoding, step: float, codes: Tensor, code_gradient: Tensor
    ) -> peers.AdjointSolution:
        """Solve by a TorchDEQ model that starts from the codes and iterates in its backward pass
        alone.

        Imports torchdeq. The diagnostics are ``layers_differentiated``, ``solves`` and
        ``iterations``.
        """
        model = peers.require("torchdeq").get_deq(
            hook_ift=True,
            f_max_iter=0,
            b_solver="fixed_point_iter",
            b_max_iter=self.iterations,
            b_stop_mode="rel",
            b_tol=max(self.rtol, torch.finfo(codes.dtype).eps),
        )
        records: list[dict[str, Tensor]] = []

        def implicit(live: SparseCoding, offset: Tensor) -> Tensor:
            def image(points: Tensor) -> Tensor:
                return Ista().plain_layer(live, points, step, 0) + offset

            final: Tensor = model(image, codes.clone(), backward_writer=records.append)[0][0]
            return final

        through_codes, solution = peers.pull_back(problem, codes, code_gradient, implicit)
        iterations = int(records[0]["nstep"].max()) if records else 0
        work = {"layers_differentiated": 1, "solves": 1, "iterations": iterations}
        return peers.AdjointSolution(through_codes, solution, work)
