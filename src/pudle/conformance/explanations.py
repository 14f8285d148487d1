"""What wrong gradients and codes look like: the likely mistake, found by comparing with the results
of common mistakes.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator

import numpy as np

from ..algorithms import Ista
from ..estimator import GradientEstimator
from .checks import distance, options_of
from .closed_forms import Array, ClosedForm, LeastSquares
from .specimens import Specimen
from .tolerances import ROUNDED, SETTLED


def explain_gradient(
    mine: Array, expected: Array, specimen: Specimen, depth: int, what: str
) -> str:
    """Say how a gradient differs from the expected one, which `what` names."""
    where = f"at depth {depth}"
    if specimen.drawn:
        error = distance(specimen.directions @ mine.ravel(), expected)
        return f"off from {what} by {error:.2g} {where}, along random directions, on {specimen}"
    expected = expected.reshape(mine.shape)
    if not np.isfinite(mine).all():
        return (
            f"{int((~np.isfinite(mine)).sum())} of {mine.size} entries are NaN or infinite {where}"
        )
    if not expected.any():
        return f"norm {np.linalg.norm(mine):.2g} {where}, but {what} is zero"
    error = distance(mine, expected)
    scale = float((mine * expected).sum() / (expected * expected).sum())
    if scale and _explains(distance(mine / scale, expected), error):
        return f"{scale:.6g} times {what} {where}{_factor(scale, len(specimen.form.codes(0)))}"
    for mistake, candidate in _mistaken_gradients(specimen, depth):
        if _explains(distance(mine, candidate), error):
            return f"{mistake} {where}, instead of {what}"
    if error < ROUNDED:
        return (
            f"accurate only to {error:.0e} {where}: is there float32, or a difference quotient, in"
            " its path?"
        )
    cosine = scale * float(np.linalg.norm(expected)) / (float(np.linalg.norm(mine)) or 1.0)
    return f"off from {what} by {error:.2g} of its norm {where} (cosine {cosine:.4f})"


def explain_codes(mine: Array, expected: Array, specimen: Specimen, depth: int) -> str:
    """Say how codes differ from the expected ones."""
    if mine.shape != expected.shape:
        return f"codes have shape {mine.shape} instead of {expected.shape}"
    error = distance(mine, expected)
    if specimen.drawn:
        return f"codes at depth {depth} are off by {error:.1e} of their norm on {specimen}"
    for mistake, candidate in _mistaken_codes(specimen, depth):
        if _explains(distance(mine, candidate), error):
            return f"codes at depth {depth} are {mistake}"
    if error < ROUNDED:
        return (
            f"codes at depth {depth} are accurate only to {error:.0e}: is there float32 in their"
            " path?"
        )
    return f"codes at depth {depth} are off by {error:.1e} of their norm"


def explain_ratio(ratio: float, estimator: GradientEstimator) -> str:
    """Name the option whose power is close to a ratio, such as a smoothing scale that was not
    divided out.
    """
    for name in sorted(options_of(estimator)):
        value = getattr(estimator, name)
        if isinstance(value, (int, float)) and value > 0 and value != 1:
            for power in (2, 1, -1, -2):
                if abs(ratio / value**power - 1) < 0.3:
                    return f", near {name}^{power} = {value**power:.3g}"
    return ""


def _explains(remaining: float, error: float) -> bool:
    """Return whether a mistake leaves next to nothing of the error."""
    return remaining < min(ROUNDED, 0.01 * error)


def _factor(scale: float, n: int) -> str:
    """Name a common wrong factor."""
    factors = {
        -1.0: "negated",
        float(n): f"n = {n}: a sum over samples, not a mean",
        1 / n: f"1/n, n = {n}",
    }
    factors |= {0.5: "a factor 1/2 too many", 2.0: "a factor 1/2 is missing"}
    return next(
        (f" ({text})" for value, text in factors.items() if abs(scale / value - 1) < ROUNDED), ""
    )


def _mistaken_gradients(specimen: Specimen, depth: int) -> Iterator[tuple[str, Array]]:
    """Yield the gradients that common mistakes lead to, the cheap ones first."""
    full, direct = specimen.unrolled(depth), specimen.unrolled(depth, 0)
    implicit = specimen.implicit(depth)
    yield "the direct part alone, without the path through the codes", direct
    yield "the derivative through all layers", full
    yield "the path through the codes with the wrong sign", 2 * direct - full
    yield "the implicit gradient on the support of the last codes", implicit
    yield "the correction of the direct part with the wrong sign", 2 * direct - implicit
    if full.ndim == 2 and full.shape[0] == full.shape[1]:
        yield "transposed", full.T
    for mistake, form in _mistaken_algorithms(specimen):
        yield f"the derivative at {mistake}", form.unrolled(depth)
    if depth:
        yield "the implicit gradient at the codes of an earlier layer", specimen.implicit(depth - 1)
    if depth < SETTLED:
        for window in range(depth - 1, 0, -1):
            yield (
                f"the derivative through the last {window} layers alone",
                specimen.unrolled(depth, window),
            )


def _mistaken_codes(specimen: Specimen, depth: int) -> Iterator[tuple[str, Array]]:
    """Yield the codes that common mistakes lead to."""
    for layer in (depth - 1, depth + 1):
        yield f"those of layer {layer}", specimen.form.codes(layer)
    for mistake, form in _mistaken_algorithms(specimen):
        yield f"those of {mistake}", form.codes(depth)


def _mistaken_algorithms(specimen: Specimen) -> Iterator[tuple[str, ClosedForm]]:
    """Yield the closed forms of algorithms that common mistakes lead to."""
    form, algorithm = specimen.form, specimen.make_algorithm()
    if not isinstance(form, LeastSquares):
        return
    plain = Ista(algorithm.step, algorithm.thresholding, initial=algorithm.initial)
    for mistake, mistaken in (
        (
            "a step from the Frobenius norm, not the largest eigenvalue",
            dataclasses.replace(algorithm, step=1 / form.frobenius),
        ),
        ("plain layers, although the algorithm is accelerated", plain),
        (
            "a zero start, with the warm start ignored",
            dataclasses.replace(algorithm, initial=None),
        ),
    ):
        yield mistake, dataclasses.replace(form, algorithm=mistaken)
