"""What is close enough, and what wrong gradients and codes look like: the likely mistake, found by
comparing with the results of common mistakes.
"""

import itertools
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

#: Entries are floats, complex numbers or extended floats.
Array = np.ndarray[Any, Any]
#: A mistake, and the gradient or the codes that it leads to.
Mistakes = Iterable[tuple[str, Array]]
#: How a mistake ends that is a factor of no known meaning.
MULTIPLE = " times that, perhaps of a step size, a damping, a count or another loss"
#: What a gap of few roundings of float32 asks.
SINGLE_PATH = "is there float32, a difference quotient or the tolerance of a solver in its path?"

# --- tolerances, relative to the Euclidean norm of the expected value

#: The same numbers reached by the same operations in another order: a few hundred roundings of
#: float64.
SAME = 1e-12
#: Two float64 programs for one expression with a modest condition number: an intermediate value in
#: float32 shows.
EXACT = 1e-9
#: A difference quotient in float64: rounding divided by the step, and the kinks within the step.
QUOTIENT = 1e-6
#: The same on drawn problems, where kinks lie within the step and the gradient may be a difference
#: of larger terms.
QUOTIENT_DRAWN = 1e-3
#: Below this distance, a float32 value in the computation is the likeliest cause.
ROUNDED = 1e-5


def norm(array: Array) -> float:
    """Return the Euclidean norm."""
    return float(np.linalg.norm(array))


def distance(mine: Array, expected: Array, size: float | None = None) -> float:
    """Return the distance relative to a size, by default the expected norm; absolute if that is
    zero, infinite for another shape.
    """
    if mine.shape != expected.shape:
        return np.inf
    size = norm(expected) if size is None else size
    return norm(mine - expected) / (size or 1.0)


def apart(mine: Array, other: Array) -> float:
    """Return the distance relative to the norm of the other, or to the own one if that is zero, so
    that no unit matters.
    """
    return distance(mine, other, norm(other) or norm(mine))


def likely(
    mine: Array, expected: Array, mistakes: Mistakes = (), slack: float = 0.0
) -> Iterator[tuple[float, str]]:
    """Yield the mistakes that explain an array, with the error that each leaves: next to nothing,
    or no more than what is known of the expected one to begin with, its `slack`.
    """
    error, scale = distance(mine, expected), _scale(mine, expected)
    multiples = {
        "negated": -expected,
        "a factor 1/2 too many": expected / 2,
        "a factor 1/2 is missing": 2 * expected,
    }
    enough, found = max(min(ROUNDED, 0.01 * error), min(slack, 0.1 * error)), False
    for mistake, candidate in itertools.chain(multiples.items(), mistakes):
        if (left := apart(mine, candidate)) < enough:
            found = True
            yield left, mistake
    # Every number is a multiple of another, and zero of all.
    if (
        not found
        and expected.size > 1
        and mine.any()
        and (left := apart(mine, scale * expected)) < enough
    ):
        yield left, f"{scale:.10g}{MULTIPLE}"


def _scale(mine: Array, expected: Array) -> float:
    """Return the multiple of the expected array that comes nearest."""
    return float((mine * expected).sum() / ((expected * expected).sum() or 1.0))


def explain(mine: Array, expected: Array, what: str, mistakes: Mistakes = ()) -> str:
    """Say how an array differs from the expected one, which `what` names."""
    if mine.shape != expected.shape:
        return f"shape {mine.shape} instead of {expected.shape}, that of {what}"
    if bad := (~np.isfinite(mine)).sum():
        return f"{bad} of {mine.size} entries are NaN or infinite, unlike {what}"
    if not expected.any():
        return f"norm {norm(mine):.2g}, but zero is {what}"
    error, scale = distance(mine, expected), _scale(mine, expected)
    for _, mistake in likely(mine, expected, mistakes):
        return f"{mistake}, instead of {what}"
    if not mine.any():
        return f"zero, instead of {what}"
    if error < ROUNDED:
        return f"off by {error:.0e} from {what}: {SINGLE_PATH}"
    cosine = scale * norm(expected) / (norm(mine) or 1.0)
    return f"off by {error:.2g} of the norm (cosine {cosine:.4f}) from {what}"
