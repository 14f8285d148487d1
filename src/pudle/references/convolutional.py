"""The linear model of convolutional sparse coding: products without a matrix, and sparse active
systems.
"""

import math
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from ..problems.active_set import ActiveSystems
from ..problems.convolution import synthesize
from ..problems.convolutional import LIPSCHITZ_TOLERANCE, ConvolutionalSparseCoding
from .linear_model import ROUNDING, LinearModel, row_norms

#: Largest active system that is formed and whose eigenvalues are computed: it takes about 4 s and
#: 100 MB.
MAX_ACTIVE = 3000


class ConvolutionalModel(LinearModel):
    """``D * z ~ x`` with the filters as the parameter; images and code maps are flattened to one
    axis.
    """

    max_active = MAX_ACTIVE

    def __init__(self, problem: ConvolutionalSparseCoding) -> None:
        self.problem = problem
        self.observations = problem.observations.flatten(1)
        self.l2_penalty = problem.l2_penalty
        self.lipschitz_constant = problem.lipschitz_constant
        # The Lanczos estimate is never too large.
        self.spectral_norm = math.sqrt(
            (1 + LIPSCHITZ_TOLERANCE) * (problem.lipschitz_constant - problem.l2_penalty)
        )
        filter_norms = row_norms(problem.dictionary.flatten(1))
        self.column_norms = filter_norms.repeat_interleave(math.prod(problem.code_shape[2:]))
        # With P the matrix of the image's patches, contract(r, z) = Z P(r), and a pixel is in this
        # many patches, squared.
        self.overlap = math.sqrt(
            math.prod(math.ceil(kernel / problem.stride) for kernel in problem.dictionary.shape[2:])
        )
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

    def active_hessians(
        self, active: Tensor, wanted: Tensor
    ) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        for row in (wanted & active.any(1)).nonzero():
            indices = active[row].nonzero()[:, 1]
            yield row, indices[None], self.active_hessian(indices)[None]

    def solve_active(self, active: Tensor, right: Tensor) -> ActiveSystems:
        small = active.sum(1) <= self.max_active
        solution, singular = self.solve_definite(active, right, torch.ones_like(small))
        smallest, condition = right.new_full((len(right),), torch.inf), right.new_ones(len(right))
        for row in (small & active.any(1)).nonzero():
            indices = active[row].nonzero()[:, 1]
            # One reference asks several times for the eigenvalues of the same active set.
            key = indices.numpy().tobytes()
            if key not in self._spectra:
                self._spectra[key] = torch.linalg.eigvalsh(self.active_hessian(indices))
            values = self._spectra[key]
            smallest[row], condition[row] = values[0], values[-1] / values[0]
            singular[row] |= values[0] <= len(indices) * 2 * ROUNDING * values[-1]
        condition[singular], solution[singular] = torch.inf, 0
        return ActiveSystems(solution, smallest, condition, singular)

    def active_hessian(self, indices: Tensor) -> Tensor:
        """Return the Hessian of the smooth part on some entries (s,) of one sample's flattened
        codes, shape (s, s).
        """
        from scipy.sparse import csr_array  # slow to import, and only references need it

        filters, geometry = self.problem.dictionary.numpy(), self.problem.geometry
        _, channels, height, width = filters.shape
        atom, top, left = np.unravel_index(indices.numpy(), self.problem.code_shape[1:])
        c, u, v = np.ogrid[:channels, :height, :width]
        y = top[:, None, None, None] * geometry.stride - geometry.padding[0] + u
        x = left[:, None, None, None] * geometry.stride - geometry.padding[1] + v
        tall, wide = geometry.image
        inside = np.broadcast_to(
            (y >= 0) & (y < tall) & (x >= 0) & (x < wide), (len(atom), channels, height, width)
        )
        pixels = (c * tall + y) * wide + x
        entries = np.broadcast_to(np.arange(len(indices))[:, None, None, None], inside.shape)
        atoms = csr_array(
            (filters[atom][inside], (entries[inside], pixels[inside])),
            shape=(len(indices), self.values),
        )
        hessian = torch.as_tensor((atoms @ atoms.T).toarray())
        hessian.diagonal().add_(self.l2_penalty)
        return hessian
