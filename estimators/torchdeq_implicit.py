"""Implicit differentiation by TorchDEQ, as a peer to measure against."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pudle import peers
from pudle.algorithms import Algorithm, Ista, State
from pudle.algorithms.unrolling import check_depths, direct_gradients, gradients
from pudle.estimator import Estimate, GradientEstimator
from pudle.problems import Problem
from pudle.validation import check_choice, check_integer, check_positive

SOLVERS = ("fixed_point_iter", "anderson", "broyden")


@dataclass(frozen=True)
class TorchdeqImplicit(GradientEstimator):
    r"""Implicit differentiation of the fixed point :math:`z = \Phi(z, D)` at the codes z_T by a ``torchdeq`` model.

    :math:`\Phi` is one proximal gradient layer at the algorithm's step. The model is given z_T to start from and no
    iterations of its own, so that it differentiates there; its backward solver then iterates
    :math:`v \leftarrow \partial_z \Phi^\top v + \partial_z \ell`, each sample stopping at its smallest residual. With plain
    fixed-point iterations, the default of TorchDEQ, this is the series of `fixed_point` summed until it has converged or
    ``iterations`` are spent: on a slow problem, where :math:`\rho^K` is not small, it keeps that floor. At depth zero,
    where no layer made the codes, the estimate is the direct part alone.

    TorchDEQ offers two accelerated solvers as well. Its Anderson mixing adds 1e-4 to the squared residuals it compares, and
    so stops mixing once these are smaller. Its Broyden iterations converge in tens of steps, but go on for a sample that has
    converged until all have, and then divide zero by zero: the gradient is NaN. Both are here to show what that costs.

    Cost: T + 1 layers forward, at most ``iterations`` vector-Jacobian products of one layer; memory independent of T.

    Parameters
    ----------
    iterations : int
        Most iterations of the backward solver, >= 1; 40 in TorchDEQ.
    rtol : float
        Stop when an iteration changes no sample by more than this many times its size; the dtype's rounding unit where that
        is larger.
    solver : {"fixed_point_iter", "anderson", "broyden"}
        The backward solver.
    """

    iterations: int = 1000
    rtol: float = 1e-13
    solver: str = "fixed_point_iter"

    name = "torchdeq_implicit"
    references = (
        "Geng and Kolter, TorchDEQ: A Library for Deep Equilibrium Models, 2023",
        "Bai, Kolter and Koltun, Deep Equilibrium Models, NeurIPS 2019",
    )
    computes = "implicit"

    def __post_init__(self) -> None:
        check_integer("iterations", self.iterations, 1)
        check_positive("rtol", self.rtol)
        check_choice("solver", self.solver, SOLVERS)

    def fingerprint(self) -> str:
        return str(peers.versions("torchdeq"))

    def estimate(self, problem: Problem, algorithm: Algorithm, depth: int) -> Estimate:
        return next(self.sweep(problem, algorithm, [depth]))

    def sweep(self, problem: Problem, algorithm: Algorithm, depths: Sequence[int]) -> Iterator[Estimate]:
        """Read the codes at every depth off one forward pass."""
        depths = check_depths(depths)
        problem = peers.check_treatable(self, problem, algorithm, "fixed_point")
        peers.require("torchdeq")
        with torch.no_grad():
            trajectory = algorithm.run(problem, max(depths, default=0), keep=depths)
        step = algorithm.step_size(problem)
        for depth in depths:
            codes = trajectory.at(depth)
            direct, code_gradient = direct_gradients(problem, codes)
            if depth == 0:
                yield Estimate(direct, codes, {"layers": 0, "layers_differentiated": 0, "solves": 0})
                continue
            through_codes, solution, iterations = self._differentiate(problem, step, codes, code_gradient)
            residual = peers.fixed_point_residual(problem, algorithm, codes, code_gradient, solution)
            yield Estimate(
                direct + through_codes,
                codes,
                {
                    "layers": depth + 1,
                    "layers_differentiated": 1,
                    "solves": 1,
                    "iterations": iterations,
                    "largest_relative_residual": residual,
                },
            )

    def _differentiate(
        self, problem: Problem, step: float, codes: Tensor, code_gradient: Tensor
    ) -> tuple[Tensor, Tensor, int]:
        """Return the gradient through the codes, the solution of the linear system, and the iterations it took."""
        plain = Ista(step=step)
        model = peers.require("torchdeq").get_deq(
            hook_ift=True, f_max_iter=0, b_solver=self.solver, b_max_iter=self.iterations, b_stop_mode="rel",
            b_tol=max(self.rtol, torch.finfo(codes.dtype).eps),
        )  # fmt: skip
        told: list[Any] = []
        with torch.enable_grad():
            dictionary = problem.theta.detach().requires_grad_()
            offset = torch.zeros_like(codes).requires_grad_()
            live = problem.with_theta(dictionary)

            def image(points: Tensor) -> Tensor:
                # The offset changes nothing; its gradient is the solution of the linear system.
                return plain.advance(live, State(codes=points, point=points), step).codes + offset

            (final,), _ = model(image, codes.clone(), backward_writer=told.append)
            through_codes, solution = gradients(final, (dictionary, offset), code_gradient)
        return through_codes, solution, int(told[0]["nstep"].max()) if told else 0
