"""How an array differs from the expected one: the likely mistake, found by comparing with the
results of common mistakes.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from ..auditing.distances import ROUNDED, Array, distance, nearest_multiple, norm
from ..auditing.mistakes import Mistake, explaining
from ..auditing.sentences import SINGLE_PATH, mistake_in_words


class KnownMistake(NamedTuple):
    """A mistake that is often made, by name, and the gradient or the codes that it leads to.

    The `kind` is what it is called among those that were compared, where its name has a number that
    others of the kind have not.
    """

    name: str
    result: Array
    kind: str = ""


Mistakes = Iterable[KnownMistake]


class Explanation(NamedTuple):
    """How an array differs from the expected one, in words.

    Attributes
    ----------
    text : str
    compared : tuple of str
        The known mistakes that it was compared with, if it was, and none of them fits.
    """

    text: str
    compared: tuple[str, ...] = ()


#: What is compared before all others.
MULTIPLES = "negated", "a factor 1/2 too many or missing", "another multiple"

# --- tolerances, relative to the Euclidean norm of the expected value

#: A difference quotient in float64: rounding divided by the step, and the kinks within the step.
QUOTIENT = 1e-6
#: The same on drawn problems, where kinks lie within the step and the gradient may be a difference
#: of larger terms.
QUOTIENT_DRAWN = 1e-3


def explain(
    array: Array, expected: Array, expected_name: str, mistakes: Mistakes = ()
) -> Explanation:
    """Say how an array differs from the expected one, which has a name: by its shape, by entries
    that are not finite, by the first mistake that explains it, or by how much it is off, and with
    what it was compared.

    `mistakes` are compared after a wrong sign and factors of two. Where one of these and one of the
    `mistakes` come to the same, both are named: elsewhere they may not.
    """
    if array.shape != expected.shape:
        shapes = f"shape {array.shape} instead of {expected.shape}, that of {expected_name}"
        return Explanation(shapes)
    if n_invalid := (~np.isfinite(array)).sum():
        invalid = f"{n_invalid} of {array.size} entries are NaN or infinite, unlike {expected_name}"
        return Explanation(invalid)
    if not expected.any():
        return Explanation(f"norm {norm(array):.2g}, but zero is {expected_name}")
    compared: dict[str, None] = dict.fromkeys(MULTIPLES)
    if name := _fitting_mistake(array, expected, _noted(mistakes, compared)):
        return Explanation(f"{name}, instead of {expected_name}")
    if not array.any():
        return Explanation(f"zero, instead of {expected_name}")
    error = distance(array, expected)
    if error < ROUNDED:
        return Explanation(f"off by {error:.0e} from {expected_name}: {SINGLE_PATH}")
    cosine = f" ({_cosine(array, expected)})" if array.size > 1 else ""
    off = f"off by {error:.2g} of the norm{cosine} from {expected_name}"
    if len(compared) == len(MULTIPLES):
        return Explanation(off)
    return Explanation(f"{off}: no known mistake fits", tuple(compared))


def _noted(mistakes: Mistakes, compared: dict[str, None]) -> Iterator[tuple[str, Array]]:
    """Yield names and results of mistakes, and add each kind to those that were compared."""
    for mistake in mistakes:
        compared[mistake.kind or mistake.name] = None
        yield mistake.name, mistake.result


def _fitting_mistake(array: Array, expected: Array, mistakes: Iterable[tuple[str, Array]]) -> str:
    """Name the first mistake that explains an array, empty if none does; a multiple with the first
    other mistake that comes to the same.
    """
    multiple = ""
    for _, mistake in explaining(array, expected, mistakes):
        if not isinstance(mistake, Mistake):
            return f"{multiple}, here the same as {mistake}" if multiple else mistake
        multiple = multiple or mistake_in_words(mistake)
    return multiple


def _cosine(array: Array, expected: Array) -> str:
    """Say the cosine between two arrays, with digits that show how far it is from one."""
    cosine = nearest_multiple(array, expected) * norm(expected) / norm(array)
    shown = f"{cosine:.4f}"
    return f"cosine {shown}" if shown != "1.0000" else f"cosine 1 - {max(1 - cosine, 0.0):.2g}"
