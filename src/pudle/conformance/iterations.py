"""The check of problems that are given by their step alone, and whose Jacobian is not symmetric."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..algorithms import Iteration
from ..estimator import Estimate, GradientEstimator
from ..problems import FixedPoint
from ..streams import generator
from .checks import (
    Measurement,
    claim_of,
    codes_of,
    distance,
    gradient_of,
    is_quotient,
    register,
    require_finite,
)
from .claims import window_of
from .oracles import Array, derivative
from .specimens import CLASS_ALONE, Specimen
from .tolerances import EXACT, QUOTIENT, SETTLED, SOLVED

_RANDOM = generator(0, "conformance iterations")
#: A matrix of norm 0.7 with complex eigenvalues, an offset for each of three samples, and where the
#: gradient is taken.
MATRIX = 0.7 * np.linalg.qr(_RANDOM.standard_normal((4, 4)))[0]
OFFSETS, THETA = _RANDOM.standard_normal((3, 4)), _RANDOM.uniform(0.7, 1.0, 4)


def step(codes: Any, theta: Any, library: Any = np) -> Any:
    """Return ``tanh(A (theta z) + b)`` for every sample, with arrays of numpy or torch."""
    matrix, offsets = (
        (MATRIX, OFFSETS)
        if library is np
        else (torch.tensor(each).to(theta) for each in (MATRIX, OFFSETS))
    )
    return library.tanh((theta * codes) @ matrix.T + offsets)


def loss(codes: Any, theta: Any) -> Any:
    """Return the mean over samples of the sum of cubes, and a direct part."""
    return (codes**3).sum() / len(OFFSETS) + 0.1 * (theta**2).sum()


def make() -> FixedPoint:
    """Return the problem with new tensors."""

    def torch_step(codes: Tensor, theta: Tensor) -> Tensor:
        return step(codes, theta, torch)

    return FixedPoint(
        torch.tensor(THETA), torch_step, loss, torch.zeros(OFFSETS.shape, dtype=torch.float64)
    )


def codes_after(depth: int, theta: Array = THETA, constant: int = 0) -> Array:
    """Return the codes after `depth` steps, of which the first few are at the problem's own theta."""
    codes: Array = np.zeros_like(OFFSETS)
    for layer in range(depth):
        codes = step(codes, THETA if layer < constant else theta)
    return codes


def implicit(codes: Array) -> Array:
    """Return the gradient by the implicit function theorem, from the Jacobian as a matrix."""
    size = codes.size
    directions = 1e-30j * np.eye(size).reshape(size, *codes.shape)
    jacobian = np.stack([step(codes + each, THETA).imag.ravel() / 1e-30 for each in directions], 1)
    slope = derivative(lambda at: loss(at, THETA), codes)
    adjoint = np.linalg.solve(np.eye(size) - jacobian.T, slope.ravel()).reshape(codes.shape)
    return derivative(
        lambda theta: loss(codes, theta) + (adjoint * step(codes, theta)).sum(), THETA
    )


@register(CLASS_ALONE)
def check_iteration(estimator: GradientEstimator, specimen: Specimen) -> Iterator[Measurement]:
    """An iteration whose Jacobian is not symmetric is differentiated as claimed, or refused."""
    for depth in (3, SETTLED):
        result = estimator.estimate(make(), Iteration(), depth)
        require_finite(result, depth)
        codes = codes_after(depth)
        yield (
            distance(codes_of(result), codes),
            EXACT,
            f"the codes after {depth} steps of a FixedPoint are off",
        )
        expected = _expected(estimator, result, depth)
        if expected is not None:
            claim = claim_of(estimator)
            limit = QUOTIENT if is_quotient(result) else SOLVED if claim == "implicit" else EXACT
            error = distance(gradient_of(result), expected)
            yield (
                error,
                limit,
                f"off from the {claim} gradient by {error:.1e} after {depth} steps of a FixedPoint",
            )


def _expected(estimator: GradientEstimator, result: Estimate, depth: int) -> Array | None:
    """Return the gradient that is claimed; None where it is no single vector, or only nearly so."""
    claim = claim_of(estimator)
    if claim == "direct":
        return derivative(lambda theta: loss(codes_after(depth), theta), THETA)
    if claim in ("unrolled", "truncated"):
        constant = depth - window_of(result, depth) if claim == "truncated" else 0
        return derivative(lambda theta: loss(codes_after(depth, theta, constant), theta), THETA)
    if claim == "implicit" and type(estimator).consistent_for is None:
        return implicit(codes_after(depth))
    return None
