"""Implicit differentiation with a low-rank Nystrom approximation of the Hessian."""

from dataclasses import dataclass

import torch
from torch import Tensor

from pudle import streams
from pudle.errors import UnsupportedProblem
from pudle.estimator import ActiveSystemEstimator, CheckedOptions, Contribution, Problem


@dataclass(frozen=True)
class Nystrom(CheckedOptions, ActiveSystemEstimator):
    r"""Implicit differentiation at the codes z_T, with K columns of the Hessian in place of a
    solve.

    With H the Hessian of the smooth part on the active set S of a sample, F the gradient of the
    inner objective there, and C the columns of H for a random set of at most K active entries,

    .. math:: H \approx H_K = C \, C_K^{+} \, C^\top, \qquad
              v = (H_K + \rho L I)^{-1} \, \partial_z \ell, \qquad
              g = \partial_\theta \ell - (\partial_\theta F)^\top v

    where :math:`C_K` are the rows of C for the chosen entries, and v is zero off S. The inverse is
    exact, from the singular vectors of :math:`C \, C_K^{+1/2}`. With K at least the size of the
    active set, :math:`H_K = H`, and only the bias of
    :math:`\rho` is left. With fewer columns, the part of the right-hand side outside their span is
    multiplied by
    :math:`1 / (\rho L)`: a small :math:`\rho` then makes the estimate much too large.

    The authors draw K of all inner variables, and add an absolute number to H. Here each sample has
    a system of its own, entries off its active set have no effect, and L, the Lipschitz constant of
    the gradient of the smooth part, gives
    :math:`\rho` a scale. One random order of the entries serves all samples: each takes the first K
    that are active. For `pudle.FixedPoint` all samples form one system, with the Jacobian of F for
    H, which has to be symmetric, and an estimate of its norm for L.

    Cost: T layers forward, K Hessian-vector products over all samples, and a singular value
    decomposition of p x K numbers per sample, p the size of its code; stored are K tensors of the
    codes' shape.

    Parameters
    ----------
    rank : int
        Largest number K of columns, >= 1.
    regularization : float
        The number :math:`\rho` > 0, in units of L.
    seed : int
        Seed of the order of the entries.

    Raises
    ------
    UnsupportedProblem
        For a fixed point whose step has a Jacobian that is not symmetric.
    """

    rank: int = 10
    regularization: float = 0.01
    seed: int = 0

    name = "nystrom"
    aliases = ("nystrom_hypergradient",)
    references = (
        "Hataya and Yamada, Nyström method for accurate and scalable implicit differentiation,"
        " AISTATS 2023",
    )
    computes = "approximate"
    consistent_for = ("lasso",)

    def solve(self, problem: Problem, codes: Tensor, right_hand_side: Tensor) -> Contribution:
        """Solve the regularized low-rank system of each sample on its active set; the order of the
        entries is from the stream of the seed, the same at each call.

        Raises
        ------
        UnsupportedProblem
            If the system is not known to be symmetric.
        """
        system, active = problem.linearized(codes), problem.active(codes)
        if not system.symmetric:
            raise UnsupportedProblem.lacking(
                self.name,
                "a symmetric matrix, which it approximates by columns",
                "the Jacobian of this step",
                "use fixed_point, phantom or analytic",
            )
        # From here on one row per system, of shape (n, p).
        support = active.reshape(system.rows, -1)
        right = torch.where(active, right_hand_side, 0)
        chosen = self._chosen_entries(support)
        images = [
            system.transposed(vector.reshape(active.shape).to(right)).reshape(support.shape)
            for vector in chosen.unbind(2)
        ]
        columns = torch.where(support[..., None], torch.stack(images, 2), 0)
        size = problem.lipschitz_constant if problem.symmetric else system.norm_estimate
        solution = regularized_solution(
            columns, chosen, right.reshape(support.shape), self.regularization * size
        )
        return solution.reshape(active.shape), {}

    def _chosen_entries(self, support: Tensor) -> Tensor:
        """Return unit vectors of the entries whose columns are taken, as booleans of shape (n, p,
        K): of each row of a support (n, p) the first K active ones in a random order of the p
        entries, which all rows share. A row with fewer active entries has vectors of zeros.
        """
        n_entries = support.shape[1]
        random = streams.generator(self.seed, "estimator nystrom")
        order = torch.as_tensor(random.permutation(n_entries)).to(support.device)
        # Entry j is the places[i, j]-th, from 0, of the active entries of row i in that order.
        counts_in_order = support[:, order].cumsum(1)
        places = counts_in_order[:, order.argsort()] - 1
        ranks = torch.arange(min(self.rank, n_entries)).to(places)
        return support[..., None] & (places[..., None] == ranks)


def regularized_solution(
    columns: Tensor, chosen: Tensor, right: Tensor, regularization: float
) -> Tensor:
    r"""Return ``(C C_K^+ C^T + regularization I)^-1 r`` for every sample, shape (n, p).

    With the eigenvectors V and eigenvalues L of :math:`C_K`, the matrix :math:`C V L^{-1/2}` has
    :math:`C C_K^{+} C^\top` as its square. Its singular value decomposition, with left vectors U
    and values s, gives the solution

    .. math:: U \, \frac{U^\top r}{s^2 + \rho} + \frac{r - U U^\top r}{\rho} .

    `columns` C has shape (n, p, K), and `chosen` the unit vectors of the entries that they belong
    to; eigenvalues that are rounding count as zero.
    """
    chosen_rows = torch.einsum("npi,npj->nij", chosen.to(columns), columns)
    values: Tensor
    vectors: Tensor
    values, vectors = torch.linalg.eigh((chosen_rows + chosen_rows.mT) / 2)
    nonzero = values > values.shape[1] * torch.finfo(values.dtype).eps * values[:, -1:]
    inverse_roots = 1 / torch.where(nonzero, values, torch.inf).sqrt()
    basis: Tensor
    singular: Tensor
    root_of_matrix = columns @ vectors * inverse_roots[:, None, :]
    basis, singular, _ = torch.linalg.svd(root_of_matrix, full_matrices=False)
    inside = torch.einsum("npk,np->nk", basis, right)
    outside = right
    for _ in range(2):
        # The second time removes what rounding left within the span, which the division below would
        # enlarge.
        outside = outside - torch.einsum(
            "npk,nk->np", basis, torch.einsum("npk,np->nk", basis, outside)
        )
    return (
        torch.einsum("npk,nk->np", basis, inside / (singular.square() + regularization))
        + outside / regularization
    )
