"""Batched conjugate gradients for systems that are known only by their products with vectors."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class KrylovSolution:
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
    #: Step lengths, and the factors by which directions are carried over, shape (n, iterations).
    lengths: Tensor
    ratios: Tensor
    #: Number of iterations that each sample took part in.
    steps: Tensor

    @functools.cached_property
    def ritz_values(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest Ritz values, each of shape (n,); infinite and zero if the right-hand
        side is zero.

        They are the extreme eigenvalues of the tridiagonal matrices that conjugate gradients build
        (Lanczos). They lie inside the spectrum of H on the space that the right-hand side reaches:
        their ratio is at most the condition number.
        """
        from scipy.linalg import eigvalsh_tridiagonal  # slow to import, and only needed here

        extremes = np.tile([np.inf, 0.0], (len(self.steps), 1))
        lengths, ratios = self.lengths.double().cpu().numpy(), self.ratios.double().cpu().numpy()
        for sample, count in enumerate(self.steps.tolist()):
            if count:
                a, b = lengths[sample, :count], ratios[sample, : count - 1]
                diagonal = 1 / a
                diagonal[1:] += b / a[:-1]
                extremes[sample] = eigvalsh_tridiagonal(diagonal, np.sqrt(b) / a[:-1])[[0, -1]]
        smallest, largest = torch.as_tensor(extremes).to(self.solution).T
        return smallest, largest

    @property
    def condition_numbers(self) -> Tensor:
        """Ratio of the extreme Ritz values; one if the right-hand side is zero."""
        smallest, largest = self.ritz_values
        return torch.where(largest > 0, largest / smallest, 1)


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

    right = torch.where(active, right, 0).flatten(1)
    scale = right.norm(dim=1, keepdim=True)
    # Right-hand sides of unit norm, because squared norms of tiny ones would underflow.
    right = right / torch.where(scale > 0, scale, 1)
    best = solution = torch.zeros_like(right)
    residual = direction = right
    squared = best_squared = residual.square().sum(1, keepdim=True)
    running = squared > tolerance**2
    lengths, ratios, steps = [], [], torch.zeros(len(right), dtype=torch.int64)
    iteration = 0
    while running.any() and iteration < iterations:
        image = restricted(direction)
        curvature = (direction * image).sum(1, keepdim=True)
        running = running & (curvature > flat * direction.square().sum(1, keepdim=True))
        # Samples that have stopped take steps of length zero.
        length = torch.where(running, squared / torch.where(running, curvature, 1), 0)
        solution = solution + length * direction
        residual = residual - length * image
        previous, squared = squared, residual.square().sum(1, keepdim=True)
        better = squared < best_squared
        best = torch.where(better, solution, best)
        best_squared = torch.where(better, squared, best_squared)
        ratio = torch.where(running, squared / torch.where(running, previous, 1), 0)
        direction = residual + ratio * direction
        lengths.append(length)
        ratios.append(ratio)
        steps += running.squeeze(1).cpu()
        running = running & (squared > tolerance**2)
        iteration += 1
    return KrylovSolution(
        solution=(scale * best).reshape(active.shape),
        residuals=(right - restricted(best)).norm(dim=1),
        converged=(best_squared <= tolerance**2).squeeze(1),
        iterations=iteration,
        lengths=torch.cat([right[:, :0], *lengths], 1),
        ratios=torch.cat([right[:, :0], *ratios], 1),
        steps=steps,
    )
