"""A quadratic bilevel problem: its gradient is known in closed form."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pudle.data import ArraysDataset, FloatArray, ToTensor, check_options
from pudle.errors import InvalidArgument
from pudle.problems import Constants, StronglyConvex


@dataclass(frozen=True)
class Quadratic(ArraysDataset):
    r"""`pudle.StronglyConvex` with quadratic objectives, as in benchmark_bilevel's simulated data.

    .. math:: g(z, \theta) = \tfrac12 z^\top A z + \theta^\top C z + a^\top z, \qquad
              f(z, \theta) = \tfrac12 z^\top B z + \theta^\top D z + \tfrac12 \theta^\top E \theta
              + b^\top z .

    A, B and E are sample covariances of `n_samples` Gaussian vectors whose own covariance has
    eigenvalues from 1 down to 1/kappa, spaced geometrically; C and D have entries of variance
    :math:`0.1 / n_{inner}`, a and b standard normal ones. The minimizer is
    :math:`z^* = -A^{-1} (C^\top \theta + a)`, and the gradient, at standard normal theta,

    .. math:: G = D z^* + E \theta - C A^{-1} (B z^* + D^\top \theta + b) .

    Parameters
    ----------
    n_samples : int
        Vectors in each covariance, more than the dimensions.
    n_inner, n_outer : int
        Dimensions of z and of theta.
    kappa : float
        Condition number of the covariance that is sampled, >= 1.
    seed : int
    """

    n_samples: int = 1000
    n_inner: int = 100
    n_outer: int = 10
    kappa: float = 100.0
    seed: int = 0

    name = "quadratic"
    references = (
        "Dagreou, Ablin, Vaiter and Moreau, A framework for bilevel optimization that enables"
        " stochastic and global variance reduction algorithms, NeurIPS 2022",
    )
    losses = ("quadratic",)

    def __post_init__(self) -> None:
        check_options(self)
        if self.kappa < 1 or self.n_samples <= max(self.n_inner, self.n_outer):
            raise InvalidArgument(
                f"kappa={self.kappa} and n_samples={self.n_samples}: give kappa >= 1 and more"
                " samples than dimensions"
            )

    def make(self, loss: str, tensor: ToTensor) -> StronglyConvex:
        """Draw all matrices and vectors from one stream of the seed, and return the problem, from z
        = 0; its one outer loss is ``quadratic``.
        """
        random, inner, outer = self.generator(), self.n_inner, self.n_outer

        def covariance(size: int) -> FloatArray:
            """Draw vectors of a size, and return their covariance."""
            scales = np.sqrt(np.geomspace(1.0, 1 / self.kappa, size))
            basis = np.linalg.qr(random.standard_normal((size, size)))[0]
            vectors = random.standard_normal((self.n_samples, size)) * scales @ basis.T
            product: FloatArray = vectors.T @ vectors / self.n_samples
            return product

        arrays = covariance(inner), covariance(inner), covariance(outer)
        coupling = 0.1**0.5 * random.standard_normal((2, outer, inner)) / inner**0.5
        linear = random.standard_normal((2, inner))
        A, B, E, C, D, a, b = map(tensor, (*arrays, *coupling, *linear))
        norms = [float(torch.linalg.matrix_norm(matrix.double(), 2)) for matrix in (A, B, E, C, D)]
        # Below what rounding makes of the eigenvalue.
        modulus = float(torch.linalg.eigvalsh(A.double())[0]) * (1 - 1e-6)

        def value(square: Tensor, coupling: Tensor, linear: Tensor, z: Tensor, t: Tensor) -> Tensor:
            return z @ square.to(z) @ z / 2 + (t @ coupling.to(z) + linear.to(z)) @ z

        def constants(z: Tensor, theta: Tensor, v: Tensor, radius: float) -> Constants:
            """Return bounds on the derivatives, which hold everywhere, and on the terms that
            gradients are made of at z and theta.
            """
            size, length = float(z.norm()), float(theta.norm())
            return Constants(
                gradient=norms[0],
                hessian=0.0,
                outer=norms[1],
                cross=0.0,
                cross_norm=norms[3],
                direct=norms[4],
                terms=norms[0] * size + norms[3] * length + float(a.norm()),
                outer_terms=norms[1] * size + norms[4] * length + float(b.norm()),
                direct_terms=norms[4] * size + norms[2] * length,
            )

        theta = tensor(random.standard_normal(outer))
        return StronglyConvex(
            theta,
            lambda z, theta: value(A, C, a, z, theta),
            lambda z, theta: theta @ E.to(z) @ theta / 2 + value(B, D, b, z, theta),
            tensor(np.zeros(inner)),
            lambda _: modulus,
            constants,
        )
