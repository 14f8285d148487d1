"""Batched conjugate gradients for systems that are known by their products with vectors only."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class KrylovSolution:
    """What `conjugate_gradients` found, one entry per sample.

    Attributes
    ----------
    solution : Tensor, shape (n, p)
        The iterate of smallest residual. Where the matrix is singular but the system has a solution, it is the
        minimum-norm one.
    residuals : Tensor, shape (n,)
        ``|r - H v| / |r|``, evaluated at the solution and not by the recursion; zero where r is.
    converged : Tensor of bool, shape (n,)
        Whether the residual of the recursion reached the tolerance; the evaluated one stays above it where that is below
        what rounding allows.
    iterations : int
    lengths, ratios : tuple of Tensors, shape (n,)
        Step lengths and the factors of the directions, iteration by iteration.
    steps : Tensor of int, shape (n,)
        Iterations that each sample took part in.
    """

    solution: Tensor
    residuals: Tensor
    converged: Tensor
    iterations: int
    lengths: tuple[Tensor, ...]
    ratios: tuple[Tensor, ...]
    steps: Tensor

    @functools.cached_property
    def ritz_values(self) -> tuple[Tensor, Tensor]:
        """Smallest and largest Ritz values, each of shape (n,).

        These are estimates from inside the spectrum of H on the space that the right-hand side reaches, so that their ratio
        is at most the condition number. Infinite and zero where the right-hand side is zero.
        """
        smallest, largest = _extreme_ritz_values(self.lengths, self.ratios, self.steps)
        return smallest.to(self.solution), largest.to(self.solution)

    @property
    def smallest_eigenvalues(self) -> Tensor:
        """Smallest Ritz values."""
        return self.ritz_values[0]

    @property
    def condition_numbers(self) -> Tensor:
        """Ratio of the extreme Ritz values; one where the right-hand side is zero."""
        smallest, largest = self.ritz_values
        return torch.where(largest > 0, largest / smallest, 1)


def conjugate_gradients(
    product: Callable[[Tensor], Tensor], right_hand_side: Tensor, *, tolerance: float, iterations: int, flat: float
) -> KrylovSolution:
    """Solve ``H_i v_i = r_i`` for every sample, all advancing together, each with step lengths of its own.

    Parameters
    ----------
    product : callable
        Maps (n, p) to (n, p): row by row a symmetric positive semi-definite H_i times the row.
    right_hand_side : Tensor, shape (n, p)
    tolerance : float
        A sample is done when its residual is at most this many times its right-hand side.
    iterations : int
        Most iterations.
    flat : float
        A sample stops at a direction whose curvature is at most this: H_i is singular there.
    """
    scale = right_hand_side.norm(dim=1, keepdim=True)
    # Unit right-hand sides: squared norms would underflow where the right-hand side is nearly zero.
    right = right_hand_side / torch.where(scale > 0, scale, 1)
    best = solution = torch.zeros_like(right)
    residual = direction = right
    squared = best_squared = residual.square().sum(1, keepdim=True)
    running = squared > tolerance**2
    lengths, ratios, steps = [], [], torch.zeros(len(right), dtype=torch.int64)
    iteration = 0
    while running.any() and iteration < iterations:
        image = product(direction)
        curvature = (direction * image).sum(1, keepdim=True)
        running = running & (curvature > flat * direction.square().sum(1, keepdim=True))
        # Samples that are done take steps of length zero.
        length = torch.where(running, squared / torch.where(running, curvature, 1), 0)
        solution = solution + length * direction
        residual = residual - length * image
        previous, squared = squared, residual.square().sum(1, keepdim=True)
        better = squared < best_squared
        best, best_squared = torch.where(better, solution, best), torch.where(better, squared, best_squared)
        ratio = torch.where(running, squared / torch.where(running, previous, 1), 0)
        direction = residual + ratio * direction
        lengths.append(length.squeeze(1))
        ratios.append(ratio.squeeze(1))
        steps += running.squeeze(1).cpu()
        running = running & (squared > tolerance**2)
        iteration += 1
    return KrylovSolution(
        solution=scale * best,
        residuals=(right - product(best)).norm(dim=1),
        converged=(best_squared <= tolerance**2).squeeze(1),
        iterations=iteration,
        lengths=tuple(lengths),
        ratios=tuple(ratios),
        steps=steps,
    )


def _extreme_ritz_values(lengths: tuple[Tensor, ...], ratios: tuple[Tensor, ...], steps: Tensor) -> tuple[Tensor, Tensor]:
    """Extreme eigenvalues of the tridiagonal matrices that conjugate gradients build as a by-product (Lanczos)."""
    from scipy.linalg import eigvalsh_tridiagonal  # slow to import, and only this function needs it

    smallest = torch.full((len(steps),), torch.inf, dtype=torch.float64)
    largest = torch.zeros(len(steps), dtype=torch.float64)
    if lengths:
        alpha = torch.stack(lengths, 1).double().cpu().numpy()
        beta = torch.stack(ratios, 1).double().cpu().numpy()
    for sample, count in enumerate(steps.tolist()):
        if not count:
            continue
        a, b = alpha[sample, :count], beta[sample, : count - 1]
        diagonal = 1 / a
        diagonal[1:] += b / a[:-1]
        off_diagonal = np.sqrt(b) / a[:-1]
        for values, index in ((smallest, 0), (largest, count - 1)):
            ritz = eigvalsh_tridiagonal(diagonal, off_diagonal, select="i", select_range=(index, index))
            values[sample] = float(ritz[0])
    return smallest, largest
