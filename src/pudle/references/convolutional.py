"""The linear model of convolutional sparse coding: products without a matrix, and sparse active systems."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..problems.active_set import ActiveSystems
from ..problems.convolution import synthesize
from ..problems.convolutional import LIPSCHITZ_TOLERANCE, ConvolutionalSparseCoding
from ..problems.krylov import KrylovSolution, conjugate_gradients
from .linear_model import ROUNDING, LinearModel

#: Largest active system that is formed and whose eigenvalues are computed: it takes about 4 s and 100 MB.
MAX_ACTIVE = 3000
#: Relative residual and most iterations of conjugate gradients for larger systems.
RESIDUAL, ITERATIONS = 1e-14, 5000


class ConvolutionalModel(LinearModel):
    """``D * z ~ x`` with the filters as the parameter; images and code maps are flattened to one axis."""

    max_active = MAX_ACTIVE

    def __init__(self, problem: ConvolutionalSparseCoding) -> None:
        self.problem = problem
        self.observations = problem.observations.flatten(1)
        self.l2_penalty = problem.l2_penalty
        self.lipschitz_constant = problem.lipschitz_constant
        # The Lanczos estimate is never too large.
        self.spectral_norm = math.sqrt((1 + LIPSCHITZ_TOLERANCE) * (problem.lipschitz_constant - problem.l2_penalty))
        self.column_norm = float(torch.linalg.norm(problem.dictionary.flatten(1), dim=1).max())
        # With P the matrix of the image's patches, contract(r, z) = Z P(r), and a pixel is in this many patches, squared.
        self.overlap = math.sqrt(math.prod(math.ceil(kernel / problem.stride) for kernel in problem.dictionary.shape[2:]))
        samples, _, *positions = problem.code_shape
        self.summands = samples * math.prod(positions) + self.values
        self._spectra: dict[bytes, Tensor] = {}

    def _maps(self, codes: Tensor) -> Tensor:
        return codes.reshape(-1, *self.problem.code_shape[1:])

    def _images(self, values: Tensor) -> Tensor:
        return values.reshape(-1, *self.problem.observations.shape[1:])

    def synthesize(self, codes: Tensor) -> Tensor:
        return self.problem.synthesize(self._maps(codes)).flatten(1)

    def correlate(self, residual: Tensor) -> Tensor:
        return self.problem.adjoint(self._images(residual)).flatten(1)

    def contract(self, residual: Tensor, codes: Tensor) -> Tensor:
        with torch.enable_grad():
            filters = self.problem.dictionary.detach().requires_grad_()
            images = synthesize(self.problem.geometry, self._maps(codes), filters)
            return torch.autograd.grad(images, filters, self._images(residual))[0]

    def solve_definite(self, active: Tensor, right: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        solution, singular = torch.zeros_like(right), torch.zeros(len(right), dtype=torch.bool)
        oversized = active.sum(1) > self.max_active
        for sample, indices in _entries(active, wanted & ~oversized):
            solution[sample, indices], singular[sample] = _cholesky(self.active_hessian(indices), right[sample, indices])
        large = (wanted & oversized).nonzero().squeeze(1)
        if len(large):
            result = self._iterate(active[large], right[large])
            # Conjugate gradients reach a residual of this size wherever a solution exists.
            singular[large] = result.residuals > RESIDUAL**0.5
            solution[large] = torch.where(singular[large, None], 0, result.solution)
        return solution, singular

    def solve_active(self, active: Tensor, right: Tensor) -> ActiveSystems:
        solution, singular = torch.zeros_like(right), torch.zeros(len(right), dtype=torch.bool)
        smallest, condition = right.new_full((len(right),), torch.inf), right.new_ones(len(right))
        sizes = active.sum(1)
        for sample, indices in _entries(active, (sizes > 0) & (sizes <= self.max_active)):
            hessian, key = self.active_hessian(indices), indices.numpy().tobytes()
            # One reference asks several times for the eigenvalues of the same active set.
            if key not in self._spectra:
                self._spectra[key] = torch.linalg.eigvalsh(hessian)
            eigenvalues = self._spectra[key]
            values, indefinite = _cholesky(hessian, right[sample, indices])
            smallest[sample] = eigenvalues[0]
            singular[sample] = indefinite or bool(eigenvalues[0] <= len(indices) * 2 * ROUNDING * eigenvalues[-1])
            condition[sample] = torch.inf if singular[sample] else eigenvalues[-1] / eigenvalues[0]
            if not singular[sample]:
                solution[sample, indices] = values
        large = (sizes > self.max_active).nonzero().squeeze(1)
        if len(large):
            result = self._iterate(active[large], right[large])
            solution[large] = result.solution
            smallest[large], condition[large] = result.ritz_values[0], result.condition_numbers
        return ActiveSystems(solution, smallest, condition, singular)

    def active_hessian(self, indices: Tensor) -> Tensor:
        """Return the Hessian of the smooth part on some entries (s,) of one sample's flattened codes, shape (s, s)."""
        from scipy.sparse import csr_array  # slow to import, and only references need it

        filters, geometry = self.problem.dictionary.numpy(), self.problem.geometry
        _, channels, height, width = filters.shape
        atom, top, left = np.unravel_index(indices.numpy(), self.problem.code_shape[1:])
        c, u, v = np.ogrid[:channels, :height, :width]
        y = top[:, None, None, None] * geometry.stride - geometry.padding[0] + u
        x = left[:, None, None, None] * geometry.stride - geometry.padding[1] + v
        tall, wide = geometry.image
        inside = np.broadcast_to((y >= 0) & (y < tall) & (x >= 0) & (x < wide), (len(atom), channels, height, width))
        pixels = (c * tall + y) * wide + x
        entries = np.broadcast_to(np.arange(len(indices))[:, None, None, None], inside.shape)
        atoms = csr_array((filters[atom][inside], (entries[inside], pixels[inside])), shape=(len(indices), self.values))
        hessian = torch.as_tensor((atoms @ atoms.T).toarray())
        hessian.diagonal().add_(self.l2_penalty)
        return hessian

    def _iterate(self, active: Tensor, right: Tensor) -> KrylovSolution:
        flat = ROUNDING * self.lipschitz_constant
        return conjugate_gradients(self.hessian_product, right, active, tolerance=RESIDUAL, iterations=ITERATIONS, flat=flat)


def _entries(active: Tensor, chosen: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Yield each chosen sample with its active entries (s,)."""
    for sample in chosen.nonzero().squeeze(1).tolist():
        yield sample, active[sample].nonzero().squeeze(1)


def _cholesky(matrix: Tensor, right: Tensor) -> tuple[Tensor, bool]:
    """Return the solution (s,) of one system and False, or zeros and True if the matrix is not positive definite."""
    factor, info = torch.linalg.cholesky_ex(matrix)
    if info > 0:
        return torch.zeros_like(right), True
    return torch.cholesky_solve(right[:, None], factor).squeeze(1), False
