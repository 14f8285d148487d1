"""What is close enough, relative to the Euclidean norm of the expected value."""

from typing import Any

import numpy as np

#: Entries are floats, complex numbers or extended floats.
Array = np.ndarray[Any, Any]

#: The same numbers reached by the same operations in another order: a few hundred roundings of
#: float64.
SAME = 1e-12
#: Two float64 programs for one expression with a modest condition number: an intermediate value in
#: float32 shows.
EXACT = 1e-9
#: Below this distance, a float32 value in the computation is the likeliest cause.
ROUNDED = 1e-5


def norm(array: Array) -> float:
    """Return the Euclidean norm."""
    return float(np.linalg.norm(array))


def distance(array: Array, expected: Array, size: float | None = None) -> float:
    """Return the distance relative to a size, by default the expected norm; absolute if that is
    zero, infinite if the arrays have other shapes.
    """
    if array.shape != expected.shape:
        return np.inf
    size = norm(expected) if size is None else size
    return norm(array - expected) / (size or 1.0)


def distance_in_any_unit(array: Array, expected: Array) -> float:
    """Return the distance relative to the norm of the expected array, or to that of the array if
    the expected one is zero, so that no unit matters.
    """
    return distance(array, expected, norm(expected) or norm(array))


def nearest_multiple(array: Array, expected: Array) -> float:
    """Return the factor of the expected array that comes nearest to an array."""
    return float((array * expected).sum() / ((expected * expected).sum() or 1.0))
