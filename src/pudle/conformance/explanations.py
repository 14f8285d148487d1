"""How an array differs from the expected one: the likely mistake, found by comparing with the
results of common mistakes.
"""

from collections.abc import Iterable

import numpy as np

from ..auditing.distances import ROUNDED, Array, distance, nearest_multiple, norm
from ..auditing.mistakes import likely
from ..auditing.sentences import PERHAPS_SINGLE

#: A mistake, and the gradient or the codes that it leads to.
Mistakes = Iterable[tuple[str, Array]]

# --- tolerances, relative to the Euclidean norm of the expected value

#: A difference quotient in float64: rounding divided by the step, and the kinks within the step.
QUOTIENT = 1e-6
#: The same on drawn problems, where kinks lie within the step and the gradient may be a difference
#: of larger terms.
QUOTIENT_DRAWN = 1e-3


def explain(mine: Array, expected: Array, what: str, mistakes: Mistakes = ()) -> str:
    """Say how an array differs from the expected one, which `what` names."""
    if mine.shape != expected.shape:
        return f"shape {mine.shape} instead of {expected.shape}, that of {what}"
    if bad := (~np.isfinite(mine)).sum():
        return f"{bad} of {mine.size} entries are NaN or infinite, unlike {what}"
    if not expected.any():
        return f"norm {norm(mine):.2g}, but zero is {what}"
    error, scale = distance(mine, expected), nearest_multiple(mine, expected)
    for _, mistake in likely(mine, expected, mistakes):
        return f"{mistake}, instead of {what}"
    if not mine.any():
        return f"zero, instead of {what}"
    if error < ROUNDED:
        return f"off by {error:.0e} from {what}: {PERHAPS_SINGLE}"
    cosine = scale * norm(expected) / (norm(mine) or 1.0)
    return f"off by {error:.2g} of the norm (cosine {cosine:.4f}) from {what}"
