"""Batched linear systems on active sets that differ from sample to sample."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor


class ActiveSystems(NamedTuple):
    """Solutions of active systems, one entry per sample."""

    #: ``H_SS^+ r_S`` on the active set, zero elsewhere; shape (n, p).
    solution: Tensor
    #: Smallest eigenvalue and condition number of H_SS; infinity and one if the active set is empty.
    smallest_eigenvalues: Tensor
    condition_numbers: Tensor
    #: Whether H_SS is singular to working precision; the condition number is then infinite.
    singular: Tensor


def groups_by_size(active: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield ``(rows, indices)`` for each size k > 0 of an active set: rows (r,), and their active entries (r, k)."""
    sizes = active.sum(1)
    for size in torch.unique(sizes).tolist():
        if size:
            rows = (sizes == size).nonzero().squeeze(1)
            yield rows, active[rows].nonzero()[:, 1].reshape(len(rows), size)


def solve_active_systems(hessian: Tensor, active: Tensor, right_hand_side: Tensor) -> ActiveSystems:
    """Solve ``H_SS v_S = r_S`` for every sample by symmetric eigendecomposition.

    Directions whose eigenvalue is below ``k eps`` times the largest are left out. This gives the minimum-norm solution if
    more atoms are active than there are dimensions; a plain solve returns entries of about 1e13 then. The Hessian H has the
    shape (p, p), the mask of the active sets S and r have the shape (n, p).
    """
    solution, singular = torch.zeros_like(right_hand_side), torch.zeros_like(active[:, 0])
    smallest, condition = hessian.new_full((len(active),), torch.inf), hessian.new_ones(len(active))
    for rows, indices in groups_by_size(active):
        values, vectors = torch.linalg.eigh(hessian[indices[:, :, None], indices[:, None, :]])
        cutoff = indices.shape[1] * torch.finfo(hessian.dtype).eps * values[:, -1:]
        kept = values > cutoff
        inverse = torch.where(kept, 1 / torch.where(kept, values, 1), 0)
        right = right_hand_side[rows[:, None], indices]
        coefficients = inverse * torch.einsum("rki,rk->ri", vectors, right)
        solution[rows[:, None], indices] = torch.einsum("rki,ri->rk", vectors, coefficients)
        smallest[rows] = values[:, 0]
        singular[rows] = ~kept.all(1)
        condition[rows] = torch.where(kept.all(1), values[:, -1] / values[:, 0], torch.inf)
    return ActiveSystems(solution, smallest, condition, singular)
