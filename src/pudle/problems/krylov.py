"""Batched conjugate gradients for systems that are known only by their products with vectors."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor


class KrylovSolution(NamedTuple):
    """Result of `conjugate_gradients`, one entry per sample."""

    #: The iterate of smallest residual; the minimum-norm solution of a singular system that has
    #: solutions.
    solution: Tensor
    #: ``|r - H v| / |r|``, evaluated at the solution and not by the recursion; zero if r is zero.
    residuals: Tensor
    #: Whether the recursion's residual reached the tolerance; rounding can keep the evaluated
    #: residual above it.
    converged: Tensor
    iterations: int
    #: Step lengths, and the factors by which directions are carried over, zero where a sample has
    #: stopped; shape (n, iterations).
    lengths: Tensor
    ratios: Tensor

    @property
    def condition_numbers(self) -> Tensor:
        """Ratio of the extreme Ritz values; one if the right-hand side is zero.

        Ritz values are the eigenvalues of the tridiagonal matrices that conjugate gradients build
        (Lanczos). They lie inside the spectrum of H on the space that the right-hand side reaches:
        their ratio is at most the condition number.
        """
        from scipy.linalg import eigvalsh_tridiagonal  # slow to import, and only needed here

        conditions = torch.ones(len(self.lengths), dtype=torch.float64)
        arrays = (each.double().cpu().numpy() for each in (self.lengths, self.ratios))
        for sample, (a, b) in enumerate(zip(*arrays, strict=True)):
            a, b = a[a > 0], b[: max(np.count_nonzero(a) - 1, 0)]
            if len(a):
                diagonal = 1 / a
                diagonal[1:] += b / a[:-1]
                values = eigvalsh_tridiagonal(diagonal, np.sqrt(b) / a[:-1])
                conditions[sample] = values[-1] / values[0]
        return conditions.to(self.solution)


def conjugate_gradients(
    product: Callable[[Tensor], Tensor],
    right: Tensor,
    active: Tensor,
    *,
    tolerance: float,
    iterations: int,
    flat: float,
) -> KrylovSolution:
    """Solve ``H_SS v_S = r_S`` for all samples at once, each with its own step lengths; v is zero
    outside the active set S.

    `product` multiplies each sample by its symmetric positive semi-definite H. All tensors have the
    codes' shape. A sample stops when its residual is at most `tolerance` times r, at a direction in
    which the curvature of H is at most `flat`, where H is singular, or after `iterations`.
    """

    def restricted(vectors: Tensor) -> Tensor:
        return torch.where(active, product(vectors.reshape(active.shape)), 0).flatten(1)

    def squared_norm(vectors: Tensor) -> Tensor:
        return vectors.square().sum(1, keepdim=True)

    right = torch.where(active, right, 0).flatten(1)
    scale = right.norm(dim=1, keepdim=True)
    # Right-hand sides of unit norm, because squared norms of tiny ones would underflow.
    right = right / torch.where(scale > 0, scale, 1)
    best = solution = torch.zeros_like(right)
    residual = direction = right
    squared = best_squared = squared_norm(residual)
    running = squared > tolerance**2
    lengths, ratios = [right[:, :0]], [right[:, :0]]
    while running.any() and len(lengths) <= iterations:
        image = restricted(direction)
        curvature = (direction * image).sum(1, keepdim=True)
        running = running & (curvature > flat * squared_norm(direction))
        # Samples that have stopped take steps of length zero.
        length = torch.where(running, squared / torch.where(running, curvature, 1), 0)
        solution = solution + length * direction
        residual = residual - length * image
        previous, squared = squared, squared_norm(residual)
        better = squared < best_squared
        best = torch.where(better, solution, best)
        best_squared = torch.where(better, squared, best_squared)
        ratio = torch.where(running, squared / torch.where(running, previous, 1), 0)
        direction = residual + ratio * direction
        lengths.append(length)
        ratios.append(ratio)
        running = running & (squared > tolerance**2)
    return KrylovSolution(
        solution=(scale * best).reshape(active.shape),
        residuals=(right - restricted(best)).norm(dim=1),
        converged=(best_squared <= tolerance**2).squeeze(1),
        iterations=len(lengths) - 1,
        lengths=torch.cat(lengths, 1),
        ratios=torch.cat(ratios, 1),
    )
