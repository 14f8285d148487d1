"""How an array differs from the expected one: the likely mistake, found by comparing with the
results of common mistakes.
"""

from collections.abc import Iterable

import numpy as np

from ..auditing.distances import ROUNDED, Array, distance, nearest_multiple, norm
from ..auditing.mistakes import Mistake, explaining
from ..auditing.sentences import SINGLE_PATH, mistake_in_words

#: A mistake, and the gradient or the codes that it leads to.
Mistakes = Iterable[tuple[str, Array]]

# --- tolerances, relative to the Euclidean norm of the expected value

#: A difference quotient in float64: rounding divided by the step, and the kinks within the step.
QUOTIENT = 1e-6
#: The same on drawn problems, where kinks lie within the step and the gradient may be a difference
#: of larger terms.
QUOTIENT_DRAWN = 1e-3


def explain(array: Array, expected: Array, expected_name: str, mistakes: Mistakes = ()) -> str:
    """Say how an array differs from the expected one, which has a name: by its shape, by entries
    that are not finite, by the first mistake that explains it, or by how much it is off.

    `mistakes` are tried after a wrong sign and factors of two.
    """
    if array.shape != expected.shape:
        return f"shape {array.shape} instead of {expected.shape}, that of {expected_name}"
    if n_invalid := (~np.isfinite(array)).sum():
        return f"{n_invalid} of {array.size} entries are NaN or infinite, unlike {expected_name}"
    if not expected.any():
        return f"norm {norm(array):.2g}, but zero is {expected_name}"
    error, scale = distance(array, expected), nearest_multiple(array, expected)
    for _, mistake in explaining(array, expected, mistakes):
        name = mistake_in_words(mistake) if isinstance(mistake, Mistake) else mistake
        return f"{name}, instead of {expected_name}"
    if not array.any():
        return f"zero, instead of {expected_name}"
    if error < ROUNDED:
        return f"off by {error:.0e} from {expected_name}: {SINGLE_PATH}"
    cosine = scale * norm(expected) / (norm(array) or 1.0)
    return f"off by {error:.2g} of the norm (cosine {cosine:.4f}) from {expected_name}"
