"""The lasso solved by active-set steps, one change of the support after another."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ..problems.active_set import solve_active_systems
from .stepless import LassoSolver

#: What counts as zero in a correlation, in rounding units of its terms.
ROUNDING = 64


@dataclass(frozen=True)
class ActiveSet(LassoSolver):
    r"""Lasso by active-set steps: exact after finitely many, and then it stays where it is.

    A step of a sample that minimizes the objective on its support S lets the atom j enter that
    violates the optimality conditions most, where :math:`|d_j^\top (x - D z)|` exceeds its penalty.
    Then, with s the signs of the codes on S, each step moves towards the minimizer for these signs,

    .. math:: z_S \leftarrow z_S + \alpha \, (H_{SS}^{-1} (D_S^\top x - \lambda s) - z_S),

    up to :math:`\alpha = 1`, or to the first entry that becomes zero, which leaves S. Where
    :math:`H_{SS}` is singular, it moves along its null space to such an entry. So the objective
    never rises, and no support comes twice. From zero codes there are about as many steps as
    entries in the solution; from codes near the solution, one for each change of the support, and
    one.

    It solves `SparseCoding` and `PenaltySelection`, and its steps are not differentiated: use it
    with an implicit estimator such as `analytic`.

    Parameters
    ----------
    initial : Tensor, optional
        Warm start, such as the solution for a dictionary nearby.

    References
    ----------
    Lee, Battle, Raina and Ng, "Efficient sparse coding algorithms", NIPS 2006. Osborne, Presnell
    and Turlach, "A new approach to variable selection in least squares problems", IMA J. Numerical
    Analysis 2000. Mairal, Bach and Ponce, "Task-driven dictionary learning", PAMI 2012.
    """

    name = "active_set"

    def improved(self, problem: Any, codes: Tensor) -> Tensor:
        hessian = problem.hessian
        correlation = -problem.smooth_gradient(codes)
        products = problem.smooth_gradient(torch.zeros_like(codes)).abs().amax(1, keepdim=True)
        scale = products + hessian.diagonal().max() * codes.norm(dim=1, keepdim=True)
        rounding = ROUNDING * torch.finfo(codes.dtype).eps * scale

        signs = codes.sign()
        slope = torch.where(signs == 0, 0, correlation - problem.penalty * signs)
        settled = slope.abs().amax(1, keepdim=True) <= rounding
        excess = (correlation if problem.nonnegative else correlation.abs()) - problem.penalty
        excess = torch.where(codes == 0, excess, -torch.inf)
        most, entering = excess.max(1, keepdim=True)
        enters = settled & (most > rounding)
        done = settled & ~enters
        if done.all():
            return codes
        chosen = enters & (torch.arange(codes.shape[1]).to(entering) == entering)
        signs = torch.where(chosen, correlation, codes).sign()
        slope = torch.where(chosen, correlation - problem.penalty * signs, slope)

        systems = solve_active_systems(hessian, signs != 0, slope)
        direction, left, flat = systems.solution, slope, systems.singular[:, None]
        if flat.any():
            # What no solution reaches lies in the null space, along which the objective falls; the
            # second turn removes the rounding of the first.
            for _ in range(2):
                reached = solve_active_systems(hessian, signs != 0, left).solution
                left = torch.where(signs == 0, 0, left - reached @ hessian)
            flat = flat & (left.abs().amax(1, keepdim=True) > rounding)
            direction = torch.where(flat, left, direction)

        limits = torch.where(direction * signs < 0, -codes / direction, torch.inf)
        length = limits.amin(1, keepdim=True)
        length = torch.where(flat, length.nan_to_num(posinf=0), length.clamp(max=1))
        moved = codes + length * direction
        moved = torch.where((limits > length) & (moved * signs > 0), moved, 0)
        return torch.where(done, codes, moved)
