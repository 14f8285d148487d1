"""Whether the steps close to a fixed point lead to it: powers of the derivative of a step."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .. import streams
from ..problems.linearized import MAX_DENSE, Linearized, norm

#: Most squarings of a matrix, and most products of a larger one with a vector.
SQUARINGS, PRODUCTS = 40, 20_000
#: Powers that have grown to this are given up: steps would lose all digits on the way.
HOPELESS = 1e16
#: How rarely a random vector may hide a power that has not decayed.
CHANCE = 1e-4
#: Factor by which one random vector rarely shows less than the largest norm of the powers.
UNLUCKY = 10
#: Eigenvalues that are as near to one belong to fixed points that are not isolated.
NEUTRAL = 1e-9


@dataclass(frozen=True)
class Stability:
    r"""The stability of a fixed point, by powers of the derivative J of the step.

    Attributes
    ----------
    stable : bool
        Whether the spectral radius of J is shown to be below one, apart from an eigenvalue of one
        where fixed points are not isolated.
    radius : float
        The spectral radius; of a large matrix an estimate.
    growth : float
        Bound on the norms of all powers of J; of a large matrix an estimate.
    """

    stable: bool
    radius: float
    growth: float

    def __str__(self) -> str:
        if self.radius > 1:
            return f"the spectral radius of the step's derivative is {self.radius:.5g}"
        return (
            f"the spectral radius of the step's derivative is about {self.radius:.8g}, too near one"
            " to be shown to be below it"
        )


def stability(system: Linearized) -> Stability:
    r"""Bound the spectral radius :math:`\rho` of ``J = I - A``, for the Jacobian A of
    ``z - step(z)``.

    It rests on :math:`\rho^k \le \lVert J^k \rVert` for every k, whether J is normal or not: as
    soon as one power has a norm below one, :math:`\rho` is below one. A small matrix is squared
    again and again. Of a large one the transposed powers act on one random vector w with standard
    normal entries; :math:`\lVert J^k \rVert` exceeds :math:`\lVert w^\top J^k \rVert / c` with a
    probability of at most c. Where some eigenvalues are one, because fixed points are not isolated,
    what must vanish is :math:`J^k (I - J)`.
    """
    small = system.like.numel() <= MAX_DENSE
    return _by_squaring(system) if small else _by_products(system)


def _by_squaring(system: Linearized) -> Stability:
    """Return the stability of a fixed point by squarings of the matrix of J, 40 at most, with its
    spectral radius.
    """
    jacobian = torch.eye(system.like.numel()).to(system.like) - system.matrix
    power, growth, stable = jacobian, 1.0, False
    for _ in range(SQUARINGS):
        size = norm(power)
        growth = max(growth, size)
        if not size < HOPELESS:
            break
        # Half, because the squares are rounded.
        stable = size < 1 / 2 or norm(power - power @ jacobian) < NEUTRAL
        if stable:
            break
        power = power @ power
    radius = system.spectral_radius()
    assert radius is not None  # of a small matrix it is known
    return Stability(stable, radius, growth)


def _by_products(system: Linearized) -> Stability:
    """Return the stability of a fixed point by powers of the transposed J on one random vector, the
    same in every run, 20,000 at most; radius and growth are estimates.
    """
    random = streams.generator(0, "powers of a Jacobian").standard_normal(system.shape)
    vector: Tensor = torch.as_tensor(random).to(system.like)
    sizes, stable = [norm(vector)], False
    for _ in range(PRODUCTS):
        # The transposed Jacobian of the step, by that of what it leaves.
        change = system.transposed(vector)
        vector = vector - change
        sizes.append(norm(vector))
        stable = sizes[-1] < CHANCE or norm(change) < CHANCE * NEUTRAL
        if stable or not sizes[-1] < HOPELESS * sizes[0]:
            break
    growth = 1.0 if system.symmetric else UNLUCKY * max(sizes)
    return Stability(stable, _rate(sizes), growth)


def _rate(sizes: list[float]) -> float:
    """Return one factor, the geometric mean of those by which a vector's sizes after each product
    grew in the later half of the products, of one at least. If the last size is zero or not finite,
    it is returned itself.

    There must be two sizes or more.
    """
    if not (sizes[-1] and math.isfinite(sizes[-1])):
        return sizes[-1]
    n_steps = len(sizes) - 1
    first = n_steps // 2
    return float((sizes[-1] / sizes[first]) ** (1 / (n_steps - first)))
