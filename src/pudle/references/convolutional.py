"""What the exact solution of convolutional sparse coding needs: products without a matrix, and sparse active systems."""

from __future__ import annotations

import functools
import math

import numpy as np
import torch
from torch import Tensor

from ..problems.active_set import ActiveSystems
from ..problems.convolutional import LIPSCHITZ_TOLERANCE, ConvolutionalSparseCoding
from ..problems.krylov import KrylovSolution, conjugate_gradients
from .lasso import ROUNDING, LinearModel

#: Active systems up to this size are formed and get all their eigenvalues: about 4 s and 100 MB each.
MAX_ACTIVE = 3000
#: For those above it: relative residual asked of conjugate gradients, and most iterations.
RESIDUAL, ITERATIONS = 1e-14, 5000


class ConvolutionalModel(LinearModel):
    """``D * z ~ x`` with the filters as the parameter; images and code maps are flattened to one axis.

    Parameters
    ----------
    problem : ConvolutionalSparseCoding
        In float64 on the CPU.
    """

    max_active = MAX_ACTIVE

    def __init__(self, problem: ConvolutionalSparseCoding) -> None:
        self.problem = problem
        self.observations = problem.observations.flatten(1)
        self.l2_penalty = problem.l2_penalty

    @functools.cached_property
    def spectral_norm(self) -> float:
        # The Lanczos estimate is from below.
        return math.sqrt((1 + LIPSCHITZ_TOLERANCE) * (self.problem.lipschitz_constant - self.l2_penalty))

    @functools.cached_property
    def column_norm(self) -> float:
        return float(torch.linalg.norm(self.problem.dictionary.flatten(1), dim=1).max())

    @property
    def overlap(self) -> float:
        """With P the matrix of the image's patches, ``contract(r, z) = Z P(r)``, and a pixel is in so many patches."""
        patches = [math.ceil(kernel / self.problem.stride) for kernel in self.problem.dictionary.shape[2:]]
        return math.sqrt(math.prod(patches))

    @property
    def summands(self) -> int:
        samples, _, *positions = self.problem.code_shape
        return samples * math.prod(positions) + self.values

    @property
    def lipschitz_constant(self) -> float:
        return self.problem.lipschitz_constant

    def _maps(self, codes: Tensor) -> Tensor:
        return codes.reshape(-1, *self.problem.code_shape[1:])

    def _images(self, values: Tensor) -> Tensor:
        return values.reshape(-1, *self.problem.observations.shape[1:])

    def synthesize(self, codes: Tensor) -> Tensor:
        return self.problem.synthesize(self._maps(codes)).flatten(1)

    def correlate(self, residual: Tensor) -> Tensor:
        return self.problem.adjoint(self._images(residual)).flatten(1)

    def hessian_product(self, vectors: Tensor) -> Tensor:
        return self.problem.hessian_product(self._maps(vectors)).flatten(1)

    def contract(self, residual: Tensor, codes: Tensor) -> Tensor:
        filters = self.problem.dictionary.detach().requires_grad_()
        with torch.enable_grad():
            images = self.problem.with_theta(filters).synthesize(self._maps(codes))  # type: ignore[attr-defined]
            return torch.autograd.grad(images, filters, self._images(residual))[0]

    def solve_definite(self, active: Tensor, right: Tensor, wanted: Tensor) -> tuple[Tensor, Tensor]:
        solution, singular = torch.zeros_like(right), torch.zeros(len(right), dtype=torch.bool)
        oversized = active.sum(1) > self.max_active
        for sample in (wanted & ~oversized).nonzero().squeeze(1).tolist():
            indices = active[sample].nonzero().squeeze(1)
            factor, info = torch.linalg.cholesky_ex(self.active_hessian(indices))
            singular[sample] = bool(info > 0)
            if not singular[sample]:
                solution[sample, indices] = torch.cholesky_solve(right[sample, indices, None], factor).squeeze(1)
        large = (wanted & oversized).nonzero().squeeze(1)
        if len(large):
            found = self._iterate(active[large], right[large])
            # Conjugate gradients reach a residual of this size wherever a solution exists.
            failed = found.residuals > RESIDUAL**0.5
            singular[large] = failed
            solution[large] = torch.where(failed[:, None], 0, found.solution)
        return solution, singular

    def solve_active(self, active: Tensor, right: Tensor) -> ActiveSystems:
        solution = torch.zeros_like(right)
        smallest = right.new_full((len(right),), torch.inf)
        condition = right.new_ones(len(right))
        singular = torch.zeros(len(right), dtype=torch.bool)
        sizes = active.sum(1)
        for sample in ((sizes > 0) & (sizes <= self.max_active)).nonzero().squeeze(1).tolist():
            indices = active[sample].nonzero().squeeze(1)
            hessian = self.active_hessian(indices)
            eigenvalues = self._eigenvalues(indices, hessian)
            factor, info = torch.linalg.cholesky_ex(hessian)
            smallest[sample] = eigenvalues[0]
            singular[sample] = bool((info > 0) | (eigenvalues[0] <= len(indices) * 2 * ROUNDING * eigenvalues[-1]))
            condition[sample] = torch.inf if singular[sample] else eigenvalues[-1] / eigenvalues[0]
            if not singular[sample]:
                solution[sample, indices] = torch.cholesky_solve(right[sample, indices, None], factor).squeeze(1)
        large = (sizes > self.max_active).nonzero().squeeze(1)
        if len(large):
            found = self._iterate(active[large], right[large])
            solution[large] = found.solution
            smallest[large], condition[large] = found.smallest_eigenvalues, found.condition_numbers
        return ActiveSystems(solution, smallest, condition, singular)

    def active_hessian(self, indices: Tensor) -> Tensor:
        """Hessian of the smooth part on some entries of one sample's codes, as a dense matrix.

        Parameters
        ----------
        indices : Tensor of int, shape (s,)
            Entries of the flattened codes.

        Returns
        -------
        Tensor, shape (s, s)
        """
        from scipy.sparse import csr_array  # slow to import, and only references need it

        filters = self.problem.dictionary.numpy()
        _, channels, height, width = filters.shape
        rows, columns = self.problem.axes
        atom, top, left = np.unravel_index(indices.numpy(), self.problem.code_shape[1:])
        c, u, v = np.ogrid[:channels, :height, :width]
        y = top[:, None, None, None] * self.problem.stride - rows.padding + u
        x = left[:, None, None, None] * self.problem.stride - columns.padding + v
        _, _, tall, wide = self.problem.observations.shape
        inside = np.broadcast_to((y >= 0) & (y < tall) & (x >= 0) & (x < wide), (len(atom), channels, height, width))
        pixels = (c * tall + y) * wide + x
        entries = np.broadcast_to(np.arange(len(indices))[:, None, None, None], inside.shape)
        atoms = csr_array((filters[atom][inside], (entries[inside], pixels[inside])), shape=(len(indices), self.values))
        hessian = torch.as_tensor((atoms @ atoms.T).toarray())
        hessian.diagonal().add_(self.l2_penalty)
        return hessian

    def _eigenvalues(self, indices: Tensor, hessian: Tensor) -> Tensor:
        """Eigenvalues of one active set, kept: a reference asks several times for the same."""
        key = indices.numpy().tobytes()
        if key not in self._spectra:
            self._spectra[key] = torch.linalg.eigvalsh(hessian)
        return self._spectra[key]

    @functools.cached_property
    def _spectra(self) -> dict[bytes, Tensor]:
        return {}

    def _iterate(self, active: Tensor, right: Tensor) -> KrylovSolution:
        def product(vectors: Tensor) -> Tensor:
            return self.hessian_product(vectors) * active

        flat = ROUNDING * self.lipschitz_constant
        return conjugate_gradients(product, right * active, tolerance=RESIDUAL, iterations=ITERATIONS, flat=flat)
