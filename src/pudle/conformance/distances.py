"""How far an approximation is from the gradients that it may stand for: reported, and held to no
limit but its direction.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator

import numpy as np

from ..estimator import GradientEstimator
from ..references import certified
from .checks import Distance, Measurement, NotMet, distance, gradient_of
from .oracles import Array
from .specimens import Specimen
from .tolerances import DEEP, SETTLED, SHALLOW

DEPTHS = (*SHALLOW, SETTLED, DEEP)


@functools.cache
def certified_of(specimen: Specimen) -> certified.Reference:
    """Return the certified reference of a specimen that has one."""
    reference = certified.reference(specimen.make())
    assert reference.status == "certified", f"{specimen}: {reference.reason}"
    return reference


def targets_at(specimen: Specimen, depth: int) -> dict[str, Array]:
    """Return the gradients that an approximation may stand for: at the minimizer, and at a depth."""
    exact = certified_of(specimen).gradient.numpy()
    return {
        "exact": exact,
        "unrolled": specimen.unrolled(depth),
        "implicit": specimen.implicit(depth),
    }


def check_approximation(
    estimator: GradientEstimator, specimen: Specimen
) -> Iterator[Measurement | Distance]:
    """Measure the distances, and check that the gradient is within 90 degrees of one of the targets
    at every depth.

    A vector that fails this approximates none of them. Whatever the distance, nothing more is
    required of an approximation.
    """
    for depth, result in zip(DEPTHS, specimen.sweep(estimator, DEPTHS), strict=True):
        mine, targets = gradient_of(result), targets_at(specimen, depth)
        if mine.shape != targets["exact"].shape:
            raise NotMet(f"shape {mine.shape} instead of {targets['exact'].shape}")
        for name, target in targets.items():
            yield Distance(name, depth, distance(mine, target))
        if not mine.any() and not specimen.direct(depth).any():
            # An approximation of the direct part alone: it says that codes do not depend on theta.
            continue
        cosine = max(_cosine(mine, target) for target in targets.values())
        reason = (
            f"cosine {cosine:.3g} to the nearest of the {', '.join(targets)} gradients at depth"
            f" {depth}"
        )
        yield 1 - cosine, 1.0, f"{reason}: it approximates none of them"


def _cosine(mine: Array, target: Array) -> float:
    return float((mine * target).sum() / ((np.linalg.norm(mine) * np.linalg.norm(target)) or 1.0))
