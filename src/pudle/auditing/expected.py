"""Expected gradients: what a layer's own gradients are compared with, how far each may be off, and
why no more is known.
"""

from dataclasses import dataclass

import numpy as np

from .differences import BEYOND, EPS, MAX_COORDINATES, RESOLVED, Slope, directions, slopes
from .distances import EXACT, ROUNDED, distance, norm
from .equation import ImplicitGradients
from .layer import Array, AuditedPart, Layer

#: A backward solve to the usual tolerance loses it times the condition number, and at most this
#: share of a gradient.
MAX_SOLVER_LOSS = 0.05
#: Entries that are named one by one.
MAX_NAMED_ENTRIES = 5


# --- where an expected gradient comes from


@dataclass(frozen=True)
class FromDifferences:
    """Finite differences of the layer.

    Attributes
    ----------
    uncertainty : float
        How far they may be off, relative to the size.
    symmetric : bool
        Whether a matrix was changed symmetrically alone.
    n_directions, n_left_out : int
        Number of directions in which the layer was changed, 0 if these were all coordinates, and of
        derivatives that are left out, because noise or a kink hides them.
    """

    uncertainty: float
    symmetric: bool
    n_directions: int
    n_left_out: int


@dataclass(frozen=True)
class FromTheorem:
    """The implicit function theorem at the refined solution.

    Attributes
    ----------
    uncertainty : float
        How far its gradient may be off, relative to the size.
    """

    uncertainty: float


@dataclass(frozen=True)
class AtReturnedSolution:
    """The implicit function theorem at the solution that the layer returns."""


Source = FromDifferences | FromTheorem | AtReturnedSolution


# --- why no more is known


@dataclass(frozen=True)
class RoundingHides:
    """Rounding: how often the noise of the values is larger than that of the numbers, and whether
    the layer computes in float64.
    """

    condition: float
    precise: bool


@dataclass(frozen=True)
class NoSlopeSeen:
    """No derivative is larger than the noise, or than the jumps, that its differences see."""


@dataclass(frozen=True)
class KinkNearby:
    """The slopes on both sides of the inputs differ."""


Obstacle = RoundingHides | NoSlopeSeen | KinkNearby


@dataclass(frozen=True)
class Unseen:
    """Derivatives that differences could not resolve, too many to call a gradient right.

    Attributes
    ----------
    entries : tuple of list of int
        The indices of the first of them; none for a number, and for derivatives along directions.
    has_more : bool
        Whether there are more than these.
    obstacle : Obstacle
        What hides them.
    """

    entries: tuple[list[int], ...]
    has_more: bool
    obstacle: Obstacle


# --- the expected gradient


@dataclass(frozen=True, eq=False)
class ExpectedGradient:
    """A gradient in one part that the layer's own is compared with.

    Attributes
    ----------
    values : ndarray
        The gradient, or its derivatives along directions.
    allowed : ndarray
        How far from each of the values a right gradient may be.
    size : float
        What errors are relative to.
    source : Source
        Where it comes from.
    uncertainty : float
        How far it is off at most itself, relative to the size.
    obstacle : Obstacle
        Why no more is known.
    directions : ndarray or None
        One in each row, of which `values` are the derivatives; None where it is not by differences.
    unseen : Unseen or None
        The derivatives that were not resolved, if there are too many.
    change_by_refining : float
        How far it is from the gradient at the solution that the layer returned, or how far that
        solution is from the refined one, if this is more; 0 where it is by differences.
    max_solver_error : float
        The largest error of a gradient that a solver in the layer can cause by stopping early; 0
        for a layer without a loop and without an equation.
    solution_moved : float or None
        How far the layer's solution is from the refined one, relative to it; None without an
        equation.
    """

    values: Array
    allowed: Array
    size: float
    source: Source
    uncertainty: float
    obstacle: Obstacle
    directions: Array | None = None
    unseen: Unseen | None = None
    change_by_refining: float = 0.0
    max_solver_error: float = 0.0
    solution_moved: float | None = None

    def compared_entries(self, gradient: Array) -> Array:
        """Return the numbers of a gradient that `values` are compared with: its entries, or its
        derivatives along the directions.
        """
        return gradient if self.directions is None else self.directions @ gradient

    def agrees(self, gradient: Array) -> bool:
        """Return whether a gradient is as near to this one as a right gradient is."""
        deviations = np.abs(self.compared_entries(gradient) - self.values)
        return bool((deviations <= self.allowed).all())


def expected_by_differences(
    layer: Layer, part: AuditedPart, precision: float, rounding: float
) -> ExpectedGradient:
    """Differentiate the layer's loss in a part by finite differences.

    Only derivatives that are resolved are in the result. It has `unseen` where one coordinate, or
    more than half of the random directions, tells nothing.

    Parameters
    ----------
    layer : Layer
    part : AuditedPart
    precision : float
        Rounding of the layer's numbers, relative to them.
    rounding : float
        Share of a gradient that this precision may lose.
    """
    rows = directions(layer, part)
    lines, noise = slopes(layer, part, rows, precision)
    loss = abs(layer.value(layer.theta))
    values = np.array([line.value for line in lines])
    doubt = np.array([line.uncertainty for line in lines])
    # An input that hardly counts is known as well as the loss.
    counts = doubt < np.abs(values)
    size = max(norm(values[counts]), EXACT * loss)
    is_resolved = np.array([line.resolved for line in lines], bool)
    is_resolved &= doubt <= RESOLVED * size
    along_coordinates = part.tensor.numel() <= MAX_COORDINATES
    known = norm(doubt[is_resolved]) / (size or 1.0)
    condition = noise / (precision * (loss or 1.0))
    obstacle = obstacle_to(lines, is_resolved, counts, RoundingHides(condition, precision == EPS))
    n_left_out = int((~is_resolved).sum())
    n_allowed = 0 if along_coordinates else len(rows) / 2
    return ExpectedGradient(
        values=values[is_resolved],
        # What a backward pass loses, it loses of the largest entries.
        allowed=BEYOND * doubt[is_resolved] + rounding * norm(np.fmax(np.abs(values), doubt)),
        size=size,
        source=FromDifferences(
            known, part.symmetric, 0 if along_coordinates else len(rows), n_left_out
        ),
        uncertainty=known,
        obstacle=obstacle,
        directions=rows[is_resolved],
        unseen=unseen_entries(part, is_resolved, obstacle) if n_left_out > n_allowed else None,
        max_solver_error=np.inf if layer.has_loop else 0.0,
    )


def obstacle_to(
    lines: list[Slope], is_resolved: np.ndarray, counts: np.ndarray, rounding: RoundingHides
) -> Obstacle:
    """Return why no more is known than some slopes tell: a kink in what is not resolved before all
    else, then rounding, or that no slope was seen where none `counts`.
    """
    if any(line.kink for line, known in zip(lines, is_resolved, strict=True) if not known):
        return KinkNearby()
    return rounding if counts.any() else NoSlopeSeen()


def unseen_entries(part: AuditedPart, is_resolved: np.ndarray, obstacle: Obstacle) -> Unseen:
    """Return which entries of a part have derivatives that tell nothing, the first
    `MAX_NAMED_ENTRIES` by index, whether there are more, and the obstacle as it is given.

    No entry is named for a number, and where derivatives are along directions.
    """
    if not part.tensor.ndim or len(is_resolved) != part.tensor.numel():
        return Unseen((), False, obstacle)
    entries = np.argwhere(~is_resolved.reshape(part.tensor.shape)).tolist()
    return Unseen(tuple(entries[:MAX_NAMED_ENTRIES]), len(entries) > MAX_NAMED_ENTRIES, obstacle)


def expected_by_theorem(
    implicit: ImplicitGradients, part: AuditedPart, precise: bool, rounding: float
) -> ExpectedGradient:
    """Return the implicit gradient in a part as the expected one.

    Parameters
    ----------
    implicit : ImplicitGradients
    part : AuditedPart
    precise : bool
        Whether the layer computes in float64.
    rounding : float
        Share of a gradient that its precision may lose.
    """
    expected, at_codes = implicit.exact[part.span], implicit.at_codes[part.span]
    # An input that hardly counts is known as well as all of the gradient.
    size = max(norm(expected), ROUNDED * norm(implicit.exact)) or 1.0
    moved, condition = implicit.moved, implicit.condition
    known = max(2 * BEYOND * EPS, norm(implicit.bound[part.span]) / size)
    change_by_refining = max(moved, distance(at_codes, expected, size))
    max_solver_error = BEYOND * max(change_by_refining, condition * moved)
    if implicit.layer_has_solved:
        max_solver_error = min(MAX_SOLVER_LOSS, RESOLVED * condition)
    return ExpectedGradient(
        values=expected,
        allowed=np.full(len(expected), (BEYOND * known + rounding) * size),
        size=size,
        source=FromTheorem(known),
        uncertainty=known,
        obstacle=RoundingHides(condition, precise),
        change_by_refining=change_by_refining,
        max_solver_error=max_solver_error,
        solution_moved=moved,
    )
