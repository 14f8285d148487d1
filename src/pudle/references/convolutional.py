"""The linear model of convolutional sparse coding: products without a matrix, and sparse active
systems.
"""

import functools
import math

import numpy as np
import torch
from torch import Tensor

from ..problems.active_set import ActiveSystems, Groups
from ..problems.convolutional import LIPSCHITZ_TOLERANCE, ConvolutionalSparseCoding
from .lasso import ROUNDING, LinearModel, row_norms


class ConvolutionalModel(LinearModel):
    """``D * z ~ x`` with the filters as the parameter; images and code maps are flattened to one
    axis.
    """

    #: Such a system takes about 4 s and 100 MB, with its eigenvalues.
    max_active = 3000

    def __init__(self, problem: ConvolutionalSparseCoding) -> None:
        self.problem, self.map_shape = problem, problem.code_shape[1:]
        self.observations = problem.observations.flatten(1)
        self.l2_penalty = problem.l2_penalty
        self.lipschitz_constant = problem.lipschitz_constant
        # The Lanczos estimate is never too large.
        self.spectral_norm = math.sqrt(
            (1 + LIPSCHITZ_TOLERANCE) * (problem.lipschitz_constant - problem.l2_penalty)
        )
        positions = math.prod(problem.code_shape[2:])
        self.column_norms = row_norms(problem.dictionary.flatten(1)).repeat_interleave(positions)
        # With P the matrix of the image's patches, contract(r, z) = Z P(r), and a pixel is in this
        # many patches, squared.
        self.overlap = math.sqrt(
            math.prod(math.ceil(kernel / problem.stride) for kernel in problem.dictionary.shape[2:])
        )
        self.summands = len(self.observations) * positions + self.values
        # One reference asks several times for the eigenvalues of the same active set.
        self.spectrum = functools.cache(self._spectrum)

    def _spectrum(self, *indices: int) -> Tensor:
        """Return the eigenvalues, ascending, of the Hessian on some entries of one sample's
        flattened codes; `spectrum` keeps those that were asked for.
        """
        values: Tensor = torch.linalg.eigvalsh(self.active_hessian(torch.tensor(indices)))
        return values

    def synthesize(self, codes: Tensor) -> Tensor:
        return self.problem.synthesize(torch.unflatten(codes, 1, self.map_shape)).flatten(1)

    def correlate(self, residual: Tensor) -> Tensor:
        images = torch.unflatten(residual, 1, self.problem.observations.shape[1:])
        return self.problem.adjoint(images).flatten(1)

    @torch.enable_grad()
    def contract(self, residual: Tensor, codes: Tensor) -> Tensor:
        """Return the gradient of ``sum_i <r_i, D * z_i>`` in the filters, shape (p, c, k, k), by
        automatic differentiation.
        """
        filters = self.problem.dictionary.detach().requires_grad_()
        maps = torch.unflatten(codes, 1, self.map_shape)
        images = self.problem.with_theta(filters).synthesize(maps).flatten(1)
        return torch.autograd.grad(images, filters, residual)[0]

    def active_hessians(self, active: Tensor) -> Groups:
        for row in active.any(1).nonzero().unbind():
            indices = active[row].nonzero()[:, 1]
            yield row, indices[None], self.active_hessian(indices)[None]

    def solve_active(self, active: Tensor, right: Tensor) -> ActiveSystems:
        """Solve all active systems by Cholesky factors, one sample after the other, and compute
        their extreme eigenvalues.

        Samples whose system is singular, or has more than `max_active` entries, have the solution
        zero and an infinite condition number.
        """
        small = active.sum(1) <= self.max_active
        solution, singular = self.solve_definite(active, right)
        smallest, condition = right.new_full((len(right),), torch.inf), right.new_ones(len(right))
        for row in (small & active.any(1)).nonzero().unbind():
            indices = active[row].nonzero()[:, 1]
            values = self.spectrum(*indices.tolist())
            smallest[row], condition[row] = values[0], values[-1] / values[0]
            singular[row] |= values[0] <= len(indices) * 2 * ROUNDING * values[-1]
        condition[singular], solution[singular] = torch.inf, 0
        return ActiveSystems(solution, smallest, condition)

    def active_hessian(self, indices: Tensor) -> Tensor:
        """Return the Hessian of the smooth part on some entries (s,) of one sample's flattened
        codes, shape (s, s): ``A_S^T A_S + l2_penalty I``, with the columns of A_S a sparse matrix.

        The entry of filter j at position (a, b) puts the tap (u, v) of its filter at pixel ``(a
        stride - padding + u, b stride - padding + v)``, if the image has it.
        """
        from scipy.sparse import csr_array  # slow to import, and only references need it

        filters, geometry = self.problem.dictionary.numpy(), self.problem.geometry
        _, n_channels, kernel_height, kernel_width = filters.shape
        image_height, image_width = geometry.image
        filter_index, top, left = np.unravel_index(indices.numpy(), self.problem.code_shape[1:])
        # Arrays of taps have the shape (s, channels, kernel height, kernel width).
        channel, tap_row, tap_column = np.ogrid[:n_channels, :kernel_height, :kernel_width]
        row = top[:, None, None, None] * geometry.stride - geometry.padding[0] + tap_row
        column = left[:, None, None, None] * geometry.stride - geometry.padding[1] + tap_column
        pixels = (channel * image_height + row) * image_width + column
        inside = np.broadcast_to(
            (row >= 0) & (row < image_height) & (column >= 0) & (column < image_width), pixels.shape
        )
        entries = inside.nonzero()[0]
        # The rows of this matrix are the columns of A_S.
        atoms = csr_array(
            (filters[filter_index][inside], (entries, pixels[inside])),
            shape=(len(indices), self.values),
        )
        hessian = torch.as_tensor((atoms @ atoms.T).toarray())
        hessian.diagonal().add_(self.l2_penalty)
        return hessian
