"""What the gradient in a part should be: by differences of the layer, or by the implicit function
theorem where an equation is given.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from .audited_layer import AuditedLayer
from .differences import ALL, BEYOND, EPS, RESOLVED, directions, slope, slopes
from .distances import EXACT, ROUNDED, distance, norm
from .layer import Array, Piece
from .records import Coverage, ExpectedGradient, Limitation, Obstacle, Source, Unseen

#: A backward solve to the usual tolerance loses it times the condition number, and at most this
#: share of a gradient.
AT_MOST = 0.05
#: Share of the usual steps at which differences are taken once more before they are believed.
SMALL_STEPS = 2.0**-24
#: Step of a difference quotient that mostly settles whether a second derivative is right.
CLOSE = 2.0**-10


def expected_gradient(audited: AuditedLayer, part: Piece) -> ExpectedGradient:
    """Return what the gradient in a part should be.

    Raises
    ------
    UnsupportedProblem
        If an equation is given that has no such gradient.
    """
    if audited.given_equation:
        return by_theorem(audited, part)
    return by_differences(audited, part)


def by_differences(audited: AuditedLayer, part: Piece) -> ExpectedGradient:
    """Return the derivatives in a part by differences of the layer's loss."""
    layer = audited.layer
    rows = directions(layer, part)
    lines, noise = slopes(layer, part, rows, audited.precision)
    loss = abs(layer.value(layer.theta))
    values = np.array([line.value for line in lines])
    uncertainties = np.array([line.uncertainty for line in lines])
    # An input that hardly counts is known as well as the loss.
    counts = uncertainties < np.abs(values)
    size = max(norm(values[counts]), EXACT * loss)
    resolved = np.array([line.resolved for line in lines], dtype=bool)
    seen = resolved & (uncertainties <= RESOLVED * size)
    left_out = np.flatnonzero(~seen)
    all_entries = part.tensor.numel() <= ALL

    obstacle = Obstacle.ROUNDING
    if any(lines[place].kink for place in left_out):
        obstacle = Obstacle.KINK
    elif not counts.any():
        obstacle = Obstacle.NO_SLOPE
    condition = noise / (audited.precision * (loss or 1.0))
    limitation = Limitation(obstacle, condition, audited.in_double)

    unseen = None
    if len(left_out) > (0 if all_entries else len(rows) / 2):
        places: tuple[tuple[int, ...], ...] = ()
        if part.tensor.ndim and all_entries:
            found = np.argwhere(~seen.reshape(part.tensor.shape))
            places = tuple(tuple(place) for place in found.tolist())
        unseen = Unseen(places, limitation)

    coverage = Coverage(part.symmetric)
    if not all_entries:
        coverage = Coverage(part.symmetric, len(rows), len(left_out))
    largest = norm(np.fmax(np.abs(values), uncertainties))
    return ExpectedGradient(
        source=Source.DIFFERENCES,
        values=values[seen],
        # What a backward pass loses, it loses of the largest entries.
        allowed=BEYOND * uncertainties[seen] + audited.rounding * largest,
        size=size,
        uncertainty=norm(uncertainties[seen]) / (size or 1.0),
        limitation=limitation,
        directions=rows[seen],
        unseen=unseen,
        coverage=coverage,
        early_stop_error=np.inf if layer.has_loop else 0.0,
    )


def by_theorem(audited: AuditedLayer, part: Piece) -> ExpectedGradient:
    """Return the gradient in a part by the implicit function theorem, at the refined solution.

    Raises
    ------
    UnsupportedProblem
        If the equation has no such gradient.
    """
    implicit = audited.implicit
    assert implicit is not None  # asked where an equation is given
    values, at_output = implicit.exact[part.span], implicit.at_output[part.span]
    # An input that hardly counts is known as well as all of the gradient.
    size = max(norm(values), ROUNDED * norm(implicit.exact)) or 1.0
    uncertainty = max(2 * BEYOND * EPS, norm(implicit.bound[part.span]) / size)
    solution_share = max(implicit.moved, distance(at_output, values, size))
    early_stop_error = BEYOND * max(solution_share, implicit.condition * implicit.moved)
    if implicit.solved:
        early_stop_error = min(AT_MOST, RESOLVED * implicit.condition)
    return ExpectedGradient(
        source=Source.IMPLICIT,
        values=values,
        allowed=np.full(len(values), (BEYOND * uncertainty + audited.rounding) * size),
        size=size,
        uncertainty=uncertainty,
        limitation=Limitation(Obstacle.ROUNDING, implicit.condition, audited.in_double),
        solution_share=solution_share,
        early_stop_error=early_stop_error,
        solution_error=implicit.moved,
    )


def right_instead(
    audited: AuditedLayer, part: Piece, expected: ExpectedGradient
) -> Iterator[ExpectedGradient]:
    """Yield the gradients that are right for what the layer computes, if that is not its solution:
    that by the theorem at the layer's output, and that by differences of the layer.
    """
    implicit = audited.implicit if audited.given_equation else None
    if implicit is None:
        return
    at_output = implicit.at_output[part.span]
    yield replace(expected, values=at_output, source=Source.IMPLICIT_AT_OUTPUT)
    if not implicit.solved:
        differences = by_differences(audited, part)
        if not (differences.unseen or differences.agrees(expected.values)):
            yield differences


def is_contradicted(
    audited: AuditedLayer, part: Piece, expected: ExpectedGradient, gradient: Array
) -> bool:
    """Tell whether differences over far smaller steps contradict those that were taken, where a
    gradient does so most: the layer may compute in single precision inside.
    """
    if expected.directions is None:
        return False
    worst = int(np.abs(expected.seen(gradient) - expected.values).argmax())
    row = expected.directions[[worst]]
    (line,), _ = slopes(audited.layer, part, row, audited.precision, SMALL_STEPS)
    apart = abs(line.value - float(expected.values[worst]))
    return apart > float(expected.allowed[worst]) + BEYOND * line.uncertainty


def second_derivative_is_wrong(audited: AuditedLayer) -> bool:
    """Tell whether the gradient can be differentiated again, but not to what it changes by along a
    direction; False where that fails or cannot be told.
    """
    layer, along = audited.layer, audited.random_direction("second derivative")

    def first(length: float) -> float:
        return float(layer.gradient(layer.theta + length * along) @ along.numpy(force=True))

    try:
        second = layer.second_derivative(along)
        quotient = (first(CLOSE) - first(-CLOSE)) / (2 * CLOSE)
        if not abs(second - quotient) > RESOLVED * abs(second):
            return False
        line = slope(first, 1.0, EPS * abs(first(0.0)), EPS)
    except Exception:  # noqa: BLE001  # it says itself that there is none
        return False
    doubt = BEYOND * line.uncertainty + RESOLVED * abs(second)
    return line.resolved and abs(second - line.value) > doubt
