"""Differences of functions that users wrote, by which the derivatives that torch makes of them are
compared.

Along a line, a smooth function changes by the integral of its derivative, however long the line is.
So the two are compared over lines that are long enough for rounding to be small beside the change,
and for a value that is rounded, held constant or wrongly differentiated to be seen.
"""

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum
from typing import NamedTuple

import torch
from torch import Tensor

from .. import streams
from ..algorithms.unrolling import differentiable, gradients
from ..problems import FixedPoint, Problem, StronglyConvex
from ..problems.linearized import norm

#: Halves of the lengths of lines, relative to the size of what moves, in the order in which they
#: are tried: what a function does further away need not be smooth.
LENGTHS = (1 / 8, 1 / 16, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
#: Largest distance between a change and its integral, relative to the size of the latter's terms.
AGREEMENT = 1e-8
#: They differ where they are apart by this many times what the integral may be off, if that is not
#: above this share of them.
APART, RESOLVED = 100, 1e-3
#: Distance of the places whose values show the rounding of a function, relative to what moves: a
#: few roundings of single precision, so that a function that computes in it is known by them.
NEAR = 2.5e-7
#: Distance in theta, relative to its size, over which values tell where a solution goes.
NEARBY = 1e-4
#: Rounding of a function is at most this many times the largest fourth difference that was seen,
#: and it hides the derivative where it is above this share of the values.
SPREAD, HIDDEN = 10, 1e-3
#: A function is computed in less than double precision, or loses as much to cancellation, where its
#: rounding is above this share of its changes over the longest line.
ROUNDED = 1e-9


class LineValue(NamedTuple):
    """A function at a place of a line: its value, and the terms of its derivative along the
    line.
    """

    value: float
    terms: tuple[float, ...]

    @property
    def slope(self) -> float:
        """The derivative along the line."""
        return sum(self.terms)

    @property
    def size(self) -> float:
        """The size of the derivative before its terms cancel."""
        return sum(map(abs, self.terms))


class Move(NamedTuple):
    """A direction of a line; a part that stays where it is may be None."""

    codes: Tensor | None = None
    theta: Tensor | None = None


#: A function of codes and theta, with the terms of its derivative along a move.
Along = Callable[[Tensor, Tensor, Move], LineValue]


@dataclass(frozen=True, eq=False)
class FunctionOnLine:
    """A function along a line through a solution; places on it are distances from there, in units
    of the move. `nearby` is a move of the size of the codes and of theta.
    """

    function: Along
    codes: Tensor
    theta: Tensor
    move: Move
    nearby: Move

    @functools.cached_property
    def values(self) -> dict[float, LineValue]:
        """The values that were computed, by distance."""
        return {}

    def at(self, distance: float) -> LineValue:
        """Return the function at a distance, computed once; NaN where it raises an error, because
        away from the solution it need not be defined. At the solution itself the error is raised.
        """
        if distance not in self.values:
            self.values[distance] = self._value_at(self.move, distance)
        return self.values[distance]

    def close_values(self) -> list[LineValue]:
        """Return the function at places so close that it is a polynomial but for rounding."""
        return [self._value_at(self.nearby, number * NEAR) for number in range(-3, 4)]

    def _value_at(self, move: Move, distance: float) -> LineValue:
        """Call the function at a distance along a move, with its derivative along the line's own
        move; NaN where it raises an error, unless the distance is zero.
        """
        codes, theta = (
            start if direction is None else start + distance * direction
            for start, direction in zip((self.codes, self.theta), move, strict=True)
        )
        try:
            return self.function(codes, theta, self.move)
        except Exception:
            if distance:
                return LineValue(math.nan, (math.nan,))
            raise


class Agreement(Enum):
    """The result of a comparison of a function with its derivative."""

    AGREES = "agrees"
    ROUNDED = "agrees as far as its rounding tells"
    DIFFERS = "its derivative differs from its differences"
    ROUGH = "it has a kink or a jump close by"
    HIDDEN = "rounding or random numbers hide its derivative"


#: Names of the derivatives of a loss and of a step.
LOSS_IN_STATE, LOSS_IN_THETA = "the loss in the state", "the loss in theta"
STEP_IN_STATE, STEP_IN_THETA = "the step in the state", "the step in theta"
#: What refutes nothing.
AGREED = (Agreement.AGREES, Agreement.ROUNDED)


def compare(line: FunctionOnLine) -> Agreement:
    """Tell whether a function changes along a line by the integral of its derivative, with the
    reason where it does not.

    Lengths from an eighth to a millionth of the move are tried until one decides. Simpson's rule is
    tried first, and Boole's where it is not exact enough; their distance bounds the error of the
    latter. A difference that rounding does not explain counts if half of the line confirms it.
    Rounding is measured where it matters alone: that takes longer than the rest.
    """
    differs = False
    for length in LENGTHS:
        change, size = line.at(length).value - line.at(-length).value, _size(line, length)
        tolerance = AGREEMENT * size
        by_simpson = _simpson(line, length)
        if abs(change - by_simpson) <= tolerance:
            return Agreement.AGREES
        by_boole = _boole(line, length)
        distance, quadrature_error = abs(change - by_boole), abs(by_boole - by_simpson)
        if distance <= tolerance:
            return Agreement.AGREES
        differed_before = differs
        is_resolved = quadrature_error <= RESOLVED * max(abs(change), size)
        differs = is_resolved and distance > APART * quadrature_error + tolerance
        if differs or length == LENGTHS[-1]:
            rounding = _rounding(line, length)
            if distance <= rounding + tolerance:
                largest = max(abs(line.at(place).value) for place in (-length, 0.0, length))
                is_hidden = rounding > HIDDEN * max(largest, size)
                return Agreement.HIDDEN if is_hidden else Agreement.ROUNDED
            differs = differs and distance > APART * quadrature_error + tolerance + rounding
        if differs and differed_before:
            return Agreement.DIFFERS
    return Agreement.DIFFERS if differs else Agreement.ROUGH


def is_rounded(line: FunctionOnLine) -> bool:
    """Tell whether rounding of a function is above 1e-9 of its changes over the longest line, as
    where it computes in single precision.
    """
    longest = LENGTHS[0]
    return _rounding(line, longest) > ROUNDED * _size(line, longest)


def _simpson(line: FunctionOnLine, length: float) -> float:
    """Return the integral of the derivative over a line, from -length to length, by Simpson's
    rule.
    """
    before, middle, after = (line.at(place * length).slope for place in (-1, 0, 1))
    return length / 3 * (before + 4 * middle + after)


def _boole(line: FunctionOnLine, length: float) -> float:
    """Return the same integral by Boole's rule."""
    slopes = (line.at(place * length).slope for place in (-1, -0.5, 0, 0.5, 1))
    weighted = zip((7, 32, 12, 32, 7), slopes, strict=True)
    return length / 45 * math.fsum(weight * slope for weight, slope in weighted)


def _size(line: FunctionOnLine, length: float) -> float:
    """Return the size of Simpson's rule before its terms cancel."""
    before, middle, after = (line.at(place * length).size for place in (-1, 0, 1))
    return length / 3 * (before + 4 * middle + after)


def _rounding(line: FunctionOnLine, length: float) -> float:
    """Return how far rounding of the values and of the slopes may move a change and its integral
    apart; the function is called at seven close places.
    """
    values = line.close_values()
    slopes = _noise([value.slope for value in values])
    return _noise([value.value for value in values]) + 2 * length * slopes


def _noise(values: list[float]) -> float:
    """Return the rounding of the values of a function at equidistant close places, ten times what
    was seen: their fourth differences hold nothing else.

    A fourth difference of values with independent roundings of the size u has the size ``sqrt(70)
    u``, because its weights have 70 as the sum of their squares.
    """
    fourth_differences = []
    for start in range(len(values) - 4):
        a, b, c, d, e = values[start : start + 5]
        fourth_differences.append(abs(a - 4 * b + 6 * c - 4 * d + e))
    unit: float = torch.finfo(torch.float64).eps * max(map(abs, values))
    noise: float = SPREAD * (max(fourth_differences) / math.sqrt(70) + unit)
    return noise


def loss_along(problem: Problem) -> Along:
    """Return the outer loss of a problem."""
    return _with_derivatives(problem, lambda at, codes: at.outer_loss(codes))


def stationarity_along(problem: Problem, weights: Tensor) -> Along:
    """Return the function ``weights . F`` of codes and theta, with the derivative that torch makes
    of it; F is the derivative of the inner objective, or ``z - step(z)`` of a fixed point.
    """
    return _with_derivatives(problem, lambda at, codes: (weights * at.stationarity(codes)).sum())


def objective_along(problem: StronglyConvex) -> Along:
    """Return the inner objective at the problem's theta as a function of the codes, with the
    derivative that is used of it; the theta that it gets is ignored.
    """

    @torch.no_grad()
    def along(codes: Tensor, _: Tensor, move: Move) -> LineValue:
        assert move.codes is not None  # the objective is compared along states
        slope = (problem.smooth_gradient(codes) * move.codes).sum()
        return LineValue(float(problem.objective_at(codes)), (float(slope),))

    return along


def fault_of_user_functions(problem: Problem, codes: Tensor) -> str:
    """Return why a function that the user wrote, the loss or the step of a `FixedPoint`, differs
    from its derivative in a random direction from some codes; an empty text if none does, or there
    is none.

    Entries of the codes that are held at zero stay there. The direction comes from named streams,
    and is the same in every run.
    """
    nearby = random_move(problem, codes)
    assert nearby.codes is not None
    states = nearby.codes * problem.active(codes)
    nearby = Move(states, nearby.theta)
    reason = ""
    if callable(getattr(problem, "loss", None)):
        loss = FunctionOnLine(loss_along(problem), codes, problem.theta, nearby, nearby)
        reason = part_at_fault(loss, LOSS_IN_STATE, LOSS_IN_THETA)
    if not reason and isinstance(problem, FixedPoint):
        step = stationarity_along(problem, states)
        line = FunctionOnLine(step, codes, problem.theta, nearby, nearby)
        reason = part_at_fault(line, STEP_IN_STATE, STEP_IN_THETA)
    return reason


def _with_derivatives(problem: Problem, function: Callable[[Problem, Tensor], Tensor]) -> Along:
    """Return a function of codes and theta, made of one of a problem and its codes, with the
    derivatives that torch makes of it along a move.
    """

    @torch.enable_grad()
    def along(codes: Tensor, theta: Tensor, move: Move) -> LineValue:
        """Return the value at codes and theta, and one term of the slope for each part of the move
        that is not None.
        """
        live, theta = differentiable(problem.with_theta(theta))
        leaf = codes.detach().requires_grad_()
        value = function(live, leaf)
        terms = [
            float((slope * direction).sum())
            for slope, direction in zip(gradients(value, (leaf, theta)), move, strict=True)
            if direction is not None
        ]
        return LineValue(float(value.detach()), tuple(terms))

    return along


def random_move(problem: Problem, codes: Tensor, residue: float = 0.0) -> Move:
    """Return a random direction whose parts have the size of codes and theta, entry by entry, or
    one where they are zero; that of the codes is no smaller than `residue`, what rounding leaves of
    them.

    It comes from named streams, and is the same in every run.
    """
    sizes = max(_root_mean_square(codes), residue) or 1.0, _root_mean_square(problem.theta) or 1.0
    streams_of = ("states for differences", "theta for differences")
    return Move(
        *(
            size * torch.as_tensor(streams.generator(0, name).standard_normal(like.shape)).to(like)
            for size, name, like in zip(sizes, streams_of, (codes, problem.theta), strict=True)
        )
    )


def _root_mean_square(tensor: Tensor) -> float:
    return norm(tensor) / math.sqrt(tensor.numel())


def derivative_fault(name: str, line: FunctionOnLine, *, exact: bool = False) -> str:
    """Return why a function of some name differs from its derivative along a line; an empty text if
    it agrees, or is too rounded to tell. If it is to be `exact`, a function known to few digits is
    a fault as well.
    """
    outcome = compare(line)
    if exact and outcome is Agreement.ROUNDED and is_rounded(line):
        outcome = Agreement.HIDDEN
    return "" if outcome in AGREED else fault_reason(name, outcome)


def part_at_fault(line: FunctionOnLine, in_state: str, in_theta: str) -> str:
    """Return why a function along a line of state and theta differs from its derivative, by the
    name of the part, in state, in theta or both, that does so alone; an empty text if it agrees, or
    is too rounded to tell.
    """
    outcome = compare(line)
    if outcome in AGREED:
        return ""
    parts = {in_state: Move(codes=line.move.codes), in_theta: Move(theta=line.move.theta)}
    at_fault = [
        name for name, move in parts.items() if compare(replace(line, move=move)) is outcome
    ]
    return fault_reason(" and of ".join(at_fault or parts), outcome)


def fault_reason(name: str, outcome: Agreement) -> str:
    """Return a reason from what the comparison of a function of some name shows."""
    return REASONS[outcome].format(name)


REASONS = {
    Agreement.DIFFERS: (
        "the derivative of {} differs from its central differences: a part is held constant"
        " (detach, no_grad), rounded, or has a wrong backward; pudle.audit(problem) tells more"
    ),
    Agreement.ROUGH: (
        "{} has a kink or a jump close by, or a derivative that is no function of state and theta"
        " alone: leave out abs and the like, and random numbers"
    ),
    Agreement.HIDDEN: (
        "rounding hides the derivative of {}: compute in float64, center and scale the data, and"
        " draw no random numbers"
    ),
}
