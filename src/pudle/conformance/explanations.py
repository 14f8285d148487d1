"""What wrong gradients and codes look like: the likely mistake, found by comparing with the results
of common mistakes.
"""

import itertools
from collections.abc import Iterable

import numpy as np

from .closed_forms import Array
from .specimens import Specimen
from .tolerances import ROUNDED, SETTLED

#: A mistake, and the gradient or the codes that it leads to.
Mistakes = Iterable[tuple[str, Array]]


def distance(mine: Array, expected: Array, size: float | None = None) -> float:
    """Return the distance relative to a size, by default the expected norm; absolute if that is
    zero, infinite for another shape.
    """
    if mine.shape != expected.shape:
        return float("inf")
    size = float(np.linalg.norm(expected)) if size is None else size
    return float(np.linalg.norm(mine - expected)) / (size or 1.0)


def explain(mine: Array, expected: Array, what: str, mistakes: Mistakes = ()) -> str:
    """Say how an array differs from the expected one, which `what` names."""
    if mine.shape != expected.shape:
        return f"shape {mine.shape} instead of {expected.shape}, that of {what}"
    if bad := int((~np.isfinite(mine)).sum()):
        return f"{bad} of {mine.size} entries are NaN or infinite, unlike {what}"
    if not expected.any():
        return f"norm {np.linalg.norm(mine):.2g}, but zero is {what}"
    error = distance(mine, expected)
    scale = float((mine * expected).sum() / (expected * expected).sum())
    multiples = {
        "negated": -expected,
        "a factor 1/2 too many": expected / 2,
        "a factor 1/2 is missing": 2 * expected,
    }
    scaled = [(f"{scale:.10g} times that", scale * expected)]
    for mistake, candidate in itertools.chain(multiples.items(), mistakes, scaled):
        # A mistake explains an error of which it leaves next to nothing.
        if distance(mine, candidate) < min(ROUNDED, 0.01 * error):
            return f"{mistake}, instead of {what}"
    if error < ROUNDED:
        path = "is there float32, or a difference quotient, in its path?"
        return f"off by {error:.0e} from {what}: {path}"
    cosine = scale * float(np.linalg.norm(expected)) / (float(np.linalg.norm(mine)) or 1.0)
    return f"off by {error:.2g} of the norm (cosine {cosine:.4f}) from {what}"


def mistaken_gradients(specimen: Specimen, depth: int, expected: Array) -> Mistakes:
    """Yield the gradients that common mistakes lead to, the cheap ones first."""
    if specimen.drawn:
        # Gradients are known along some directions, and those of large problems take long.
        return
    form, n = specimen.form, len(specimen.form.codes(0))
    full, direct, implicit = form.unrolled(depth), form.unrolled(depth, 0), form.implicit(depth)
    yield f"a sum over the {n} samples, not a mean", n * expected
    yield "the direct part alone, without the path through the codes", direct
    yield "the derivative through all layers", full
    yield "the path through the codes with the wrong sign", 2 * direct - full
    yield "the implicit gradient on the support of the last codes", implicit
    yield "the correction of the direct part with the wrong sign", 2 * direct - implicit
    yield "transposed", expected.T
    earlier = form.implicit(max(depth - 1, 0))
    yield "the implicit gradient at the codes of an earlier layer", earlier
    for window in range(depth - 1, 0, -1) if depth < SETTLED else ():
        last = f"the derivative through the last {window} layers alone"
        yield last, form.unrolled(depth, window)


def mistaken_codes(specimen: Specimen, depth: int) -> Mistakes:
    """Yield the codes that common mistakes lead to."""
    if specimen.drawn:
        return
    for layer in (max(depth - 1, 0), depth + 1):
        yield f"those of layer {layer}", specimen.form.codes(layer)
