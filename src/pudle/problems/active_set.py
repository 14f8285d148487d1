"""Batched linear systems on active sets that differ from sample to sample."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ..kernel_choice import chosen_path
from ..threads import blocks_of, run_blocks, single_thread

#: Matrix entries that are worked on at once, so that memory is bounded: 2 MB in float64, which fits
#: in cache.
WORKSPACE = 2**18
#: Number of samples whose systems are solved by one call of compiled code.
SYSTEMS = 250
#: Number of systems with the largest bounds whose condition numbers are computed first.
FIRST_ROUND = 8

#: ``(rows, indices, H_SS)`` for samples that share a size k > 0 of their active set: rows (r,), its
#: entries (r, k) and matrices (r, k, k).
Groups = Iterator[tuple[Tensor, Tensor, Tensor]]


class ActiveSystems(NamedTuple):
    """Solutions of active systems, one entry per sample."""

    #: ``H_SS^+ r_S`` on the active set, zero elsewhere; shape (n, p).
    solution: Tensor
    #: Smallest eigenvalue and condition number of H_SS; infinity and one if the active set is
    #: empty.
    smallest_eigenvalues: Tensor
    condition_numbers: Tensor

    @property
    def singular(self) -> Tensor:
        """Whether H_SS is singular to working precision: the condition number is infinite."""
        return self.condition_numbers.isinf()


def groups_by_size(hessian: Tensor, active: Tensor) -> Groups:
    """Yield the groups of samples whose active sets have the same size, which is not zero.

    The largest sizes come first. At most `WORKSPACE` entries of matrices are yielded at once, so
    that several groups may have the same size; samples without active entries are in none.
    """
    sizes = active.sum(1)
    different: list[int] = torch.unique(sizes).flip(0).tolist()
    for size in filter(None, different):
        for rows in torch.split((sizes == size).nonzero().squeeze(1), max(WORKSPACE // size**2, 1)):
            indices = active[rows].nonzero()[:, 1].reshape(len(rows), size)
            yield rows, indices, hessian[indices[:, :, None], indices[:, None, :]]


def solve_active_systems(hessian: Tensor, active: Tensor, right_hand_side: Tensor) -> ActiveSystems:
    """Solve ``H_SS v_S = r_S`` for every sample by symmetric eigendecomposition.

    Directions whose eigenvalue is below ``k eps`` times the largest are left out, with k the number
    of active entries. This gives the minimum-norm solution if more atoms are active than there are
    dimensions; a plain solve returns entries of about 1e13 then. The Hessian H has the shape (p,
    p), the mask of the active sets S and r have the shape (n, p).
    """
    solution = torch.zeros_like(right_hand_side)
    smallest, condition = hessian.new_full((len(active),), torch.inf), hessian.new_ones(len(active))
    values: Tensor
    vectors: Tensor
    for rows, indices, matrices in groups_by_size(hessian, active):
        values, vectors = torch.linalg.eigh(matrices)
        cutoff = indices.shape[1] * torch.finfo(hessian.dtype).eps * values[:, -1:]
        nonzero = values > cutoff
        inverse = torch.where(nonzero, 1 / values, 0)
        right = right_hand_side[rows[:, None], indices]
        coefficients = inverse * torch.einsum("rki,rk->ri", vectors, right)
        solution[rows[:, None], indices] = torch.einsum("rki,ri->rk", vectors, coefficients)
        smallest[rows] = values[:, 0]
        condition[rows] = torch.where(nonzero.all(1), values[:, -1] / values[:, 0], torch.inf)
    return ActiveSystems(solution, smallest, condition)


@single_thread()
def solve_by_cholesky(
    hessian: Tensor, active: Tensor, right_hand_side: Tensor
) -> tuple[Tensor, float, int]:
    """Solve the systems of `solve_active_systems` by compiled Cholesky factors where these apply,
    and those that may be singular as it does.

    Return the solution, the largest condition number, and the number of singular systems, all as
    there. Compiled code is used on the CPU unless PUDLE_KERNELS says ``torch``. The traces and
    Frobenius norms of H_SS and of its inverse bound each condition number; eigenvalues are computed
    only where the bound exceeds the largest condition number known so far. That is a few systems in
    a hundred where few atoms are active.

    References
    ----------
    Wolkowicz and Styan, "Bounds for eigenvalues using traces", Linear Algebra and its Applications
    1980.
    """
    solution, bounds = hessian.new_zeros(active.shape), hessian.new_zeros(len(active))
    sizes = active.sum(1)
    if hessian.device.type == "cpu" and chosen_path() == "numba":
        from .compiled import solve_with_bounds  # numba is slow to import

        tensors = (hessian, active, right_hand_side, solution, bounds)
        matrix, *rows = (tensor.detach().contiguous().numpy() for tensor in tensors)
        run_blocks(
            lambda block: solve_with_bounds(matrix, *(array[block] for array in rows)),
            blocks_of(len(active), SYSTEMS),
            float(sizes.double().pow(3).sum()),
        )
    else:
        bounds.fill_(torch.inf)
    # From a tenth of the condition number on at which a system counts as singular.
    may_be_singular = (sizes > 0) & ~(bounds < 0.1 / (sizes * torch.finfo(hessian.dtype).eps))
    largest, n_singular = 1.0, 0
    if may_be_singular.any():
        systems = solve_active_systems(
            hessian, active[may_be_singular], right_hand_side[may_be_singular]
        )
        solution[may_be_singular] = systems.solution
        largest = float(systems.condition_numbers.max())
        n_singular = int(systems.singular.sum())
    bounds[may_be_singular] = 0
    return solution, _largest_condition(hessian, active, bounds, largest), n_singular


def _largest_condition(hessian: Tensor, active: Tensor, bounds: Tensor, known: float) -> float:
    """Return the largest condition number of the active systems, or the one that is `known` if none
    is larger.

    `bounds`, shape (n,), are upper bounds on the condition numbers, zero where they do not matter;
    they are overwritten. Eigenvalues are computed only of systems whose bound is above the largest
    number so far, in two rounds: that of the largest bounds raises it so far that few are left for
    that of all.
    """
    largest = known
    first_round = bounds.topk(min(FIRST_ROUND, len(bounds))).indices
    for samples in (first_round, torch.arange(len(bounds), device=bounds.device)):
        beyond = samples[bounds[samples] > largest]
        for _, _, matrices in groups_by_size(hessian, active[beyond]):
            eigenvalues: Tensor = torch.linalg.eigvalsh(matrices)
            largest = max(largest, float((eigenvalues[:, -1] / eigenvalues[:, 0]).max()))
        bounds[beyond] = 0
    return largest
