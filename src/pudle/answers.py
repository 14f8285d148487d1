"""Which algorithm and estimator to use: what reaches an error at which depth, within a time and a
memory.

One engine for reports, pages, notebooks and `pudle advise`; it is fed with plain records of what
was measured, see `Measured`, and computes records: `pudle.sentences` has the words.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from functools import cached_property, lru_cache
from itertools import pairwise
from math import floor, inf, isnan, log, log10, nan
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from . import paired
from .paired import Array

Whole = NDArray[np.int64]

#: Relative error that is required unless another is asked for.
ERROR = 1e-3
#: Errors for which tables of budgets name the cheapest estimator.
ERRORS = (1e-1, 1e-3, 1e-6)
#: Memory up to so many times the least counts as the same.
SAME_MEMORY = 1.1
#: Less memory (bytes) is noise of an allocator, which takes pages of 4 KiB, whatever was measured.
LEAST_MEMORY = 2.0**16
#: Fewer rounds say nothing about the spread of a time.
LEAST_ROUNDS = 3
#: Median errors that differ by less than this share count as the same.
SAME_ERROR = 0.01
#: Time and memory are extrapolated linearly beyond the deepest measured depth, up to this many
#: times that depth.
EXTRAPOLATION = 4.0


# -- what was measured


@dataclass(frozen=True, eq=False)
class Curve:
    """Values of one estimator on one case, an array over (depths, seeds) that is NaN where there is
    none.
    """

    depths: Whole
    seeds: Whole
    values: Array
    #: Whether the value is the reference's bound, the error being smaller.
    at_floor: NDArray[np.bool_]

    @cached_property
    def by_seed(self) -> Mapping[int, dict[int, float]]:
        """The values by depth of each seed that has any."""
        columns = zip(self.seeds.tolist(), map(self.known, self.values.T), strict=True)
        return {seed: known for seed, known in columns if known}

    def known(self, column: Array) -> dict[int, float]:
        """Return the values in a column by depth."""
        pairs = zip(self.depths.tolist(), column.tolist(), strict=True)
        return {depth: value for depth, value in pairs if value == value}

    @cached_property
    def spread(self) -> Array:
        """Depth, median, least and greatest value over the seeds, a row for each depth that has a
        value.

        It has no rows where no depth has a value.
        """
        rows = ~np.isnan(self.values).all(axis=1)
        # NaN comes last. What numpy has for medians without NaN takes ten times as long.
        ordered = np.sort(self.values[rows], axis=1)
        n_known = (~np.isnan(ordered)).sum(axis=1)
        places = np.arange(len(ordered))
        lower, upper = ordered[places, (n_known - 1) // 2], ordered[places, n_known // 2]
        with np.errstate(over="ignore"):
            median = np.where(lower == upper, lower, (lower + upper) / 2)
        least, greatest = ordered[:, :1].ravel(), ordered[places, n_known - 1]
        return np.column_stack((self.depths[rows], median, least, greatest))


NO_CURVE = Curve(*np.empty((2, 0), int), *np.empty((2, 0, 0), bool))


class Cost(NamedTuple):
    """A time or a memory, NaN where it is not known, and whether it is estimated: at a depth at
    which it was not measured.
    """

    value: float
    estimated: bool = False


@dataclass(frozen=True, eq=False)
class Line:
    """A cost against depth, linear between the depths at which it was `measured`."""

    measured: Mapping[int, float]

    @cached_property
    def extended(self) -> tuple[Array, Array]:
        """Depths and costs, extended along the nearest two of them to both sides: from depth 0 to
        `EXTRAPOLATION` times the deepest one; fewer than two are not extended.

        The extension never falls with depth, and is nowhere negative.
        """
        depths, values = np.array(sorted(self.measured.items()), float).reshape(-1, 2).T
        if len(depths) < 2:
            return depths, values
        # Noise can tilt the line, but fewer layers never take more time.
        slopes = (values[[1, -1]] - values[[0, -2]]) / (depths[[1, -1]] - depths[[0, -2]])
        low, high = np.maximum(slopes, 0.0)
        # Nor do fewer layers save more than their share: there is a cost without any layer.
        first = max(values[0] - low * depths[0], 0.0)
        last = values[-1] + high * (EXTRAPOLATION - 1) * depths[-1]
        return np.array([0, *depths, EXTRAPOLATION * depths[-1]]), np.array([first, *values, last])

    @property
    def greatest_fall(self) -> float:
        """By how much the cost falls at most from a measured depth to the next one, 0 if never."""
        values = [value for _, value in sorted(self.measured.items())]
        return max((0.0, *(higher - lower for higher, lower in pairwise(values))))

    @property
    def last(self) -> tuple[float, float]:
        """The deepest measured depth and the cost there, NaN where there is none."""
        depth = max(self.measured, default=nan)
        return depth, self.inside(depth)

    def at(self, depth: float) -> Cost:
        """Return the cost at a depth, interpolated or extended; NaN beyond what is `extended`, or
        if nothing was measured.

        It counts as estimated outside the measured depths alone.
        """
        if not self.measured or isnan(depth):
            return Cost(nan)
        value = np.interp(depth, *self.extended, left=nan, right=nan)
        return Cost(float(value), not min(self.measured) <= depth <= max(self.measured))

    def inside(self, depth: float) -> float:
        """Return the cost at a depth, NaN outside the measured ones."""
        value, outside = self.at(depth)
        return nan if outside else value


NO_LINE = Line({})


def memory_noise(groups: Iterable[Collection[Line]]) -> float:
    """Return the difference up to which two memories say nothing: the greatest by which one exceeds
    another that should be at least as large; 0 where none does.

    A group holds the memories of one estimator on cases that differ in the outer loss alone. At the
    same depth they should be equal, and in none of them should a deeper run take less.
    """
    noise = 0.0
    for group in groups:
        noise = max((noise, *(line.greatest_fall for line in group)))
        for depth in {depth for line in group for depth in line.measured}:
            known = [line.measured[depth] for line in group if depth in line.measured]
            noise = max(noise, max(known) - min(known))
    return noise


@dataclass(frozen=True, eq=False)
class Rounds:
    """Times that were measured in turns with others: one for each round at each depth.

    The k-th one can be compared with the k-th of another estimator, at another depth as well, if
    `turns` is the same. Times differ where the p-value is at most `significance`, see
    `paired.critical`.
    """

    samples: Mapping[float, Sequence[float]]
    turns: str = ""
    significance: float = paired.SIGNIFICANCE

    def quartiles(self, depth: float) -> tuple[float, float]:
        """Return the quartiles of the times at a depth; NaN where it was not timed, or in too few
        rounds.
        """
        samples = self.samples.get(depth, ())
        if len(samples) < LEAST_ROUNDS:
            return nan, nan
        low, high = np.quantile(samples, (0.25, 0.75)).tolist()
        return low, high

    @lru_cache(maxsize=4096)  # noqa: B019
    def ratio(self, depth: float, denominator: Rounds, denominator_depth: float) -> paired.Ratio:
        """Return the time at a depth over that of another estimator, the denominator, at its own
        depth.

        Its value is NaN and its p-value 1 where the two were not timed in the same turns, or not at
        these depths.
        """
        pairs = zip(
            self.samples.get(depth, ()),
            denominator.samples.get(denominator_depth, ()),
            strict=False,
        )
        known = [*pairs] if self.turns == denominator.turns else []
        return paired.compare(*np.reshape(known, (-1, 2)).T)


NO_ROUNDS = Rounds({})


class Point(NamedTuple):
    """A depth of an estimator: the greatest error over the seeds there, and time and memory."""

    source: Measured
    depth: float
    error: float
    seconds: Cost
    memory: Cost
    #: Of one that is to reach an error: by seed the depth from which on the seed has it, infinite
    #: where it is not reached.
    depths: Mapping[int, float] = {}
    #: A deeper depth that the time is of, None if it is that of its own depth: the two times cannot
    #: be told apart, see `_least_time`.
    deeper: float | None = None

    @property
    def depth_of_time(self) -> float:
        """The depth that its time is of."""
        return self.depth if self.deeper is None else self.deeper

    def is_slower(self, other: Point) -> bool:
        """Tell whether a test over the rounds finds it slower than another point.

        Times that were not measured in the same rounds are taken at their word.
        """
        rounds, depth = other.source.rounds, other.depth_of_time
        if depth not in rounds.samples or self.depth_of_time not in self.source.rounds.samples:
            return _price(self.seconds) > _price(other.seconds)
        ratio = rounds.ratio(depth, self.source.rounds, self.depth_of_time)
        return ratio.value < 1 and ratio.p_value <= rounds.significance


@dataclass(frozen=True, eq=False)
class Measured:
    """What was measured of an estimator on a case: errors, time and memory against depth. Answers
    are chosen from what was measured on one problem, perhaps with several algorithms.
    """

    estimator: str
    errors: Curve
    seconds: Line = NO_LINE
    memory: Line = NO_LINE
    rounds: Rounds = NO_ROUNDS
    algorithm: str = ""
    case: str = ""
    #: Whether the algorithm's iterations can be differentiated.
    differentiable: bool = True
    #: Its memory and another one say nothing if they differ by no more than this, see the function
    #: of that name.
    memory_noise: float = 0.0

    def time(self, depth: float) -> Cost:
        """Return the time at a depth."""
        return Cost(self.seconds.at(depth).value, depth not in self.seconds.measured)

    def peak(self, depth: float) -> Cost:
        """Return the memory at a depth."""
        return Cost(self.memory.at(depth).value, depth not in self.memory.measured)

    @cached_property
    def points(self) -> list[Point]:
        """The measured depths with an error, the least first: the greatest error over the seeds
        that have one, and costs, NaN outside the depths at which they were measured.
        """
        return [
            Point(
                self,
                int(depth),
                error,
                self.time(depth)._replace(value=self.seconds.inside(depth)),
                self.peak(depth)._replace(value=self.memory.inside(depth)),
            )
            for depth, *_, error in self.errors.spread.tolist()
        ]

    @lru_cache(maxsize=4096)  # noqa: B019  # a page asks for each error within many limits
    def reach(self, error: float) -> Point:
        """Return the measured depth from which on every seed has an error; it is infinite where the
        error is not reached, and NaN where nothing was measured.

        Time and memory there may be estimated. The point's error is NaN where a seed has none at
        that depth; its `depths` hold the depth of each seed. It is computed once for each error.
        """
        curve = self.errors
        depths = {seed: depth_to(errors, error) for seed, errors in curve.by_seed.items()}
        # Nothing is said about every seed at a depth where one has no error.
        errors = curve.known(curve.values.max(axis=1, initial=-inf))
        depth = depth_to(errors, error) if depths else nan
        costs = self.time(depth), self.peak(depth)
        worst = errors[int(depth)] if depth in errors else nan
        return Point(self, depth, worst, *costs, depths)

    def missed_before(self, error: float) -> Point | None:
        """Return the depth before the deepest one, where an error is reached at the deepest alone
        and larger there; None elsewhere, and where one depth alone was measured.
        """
        if len(self.points) < 2 or self.reach(error).depth != self.points[-1].depth:
            return None
        before = self.points[-2]
        return before if before.error > error else None

    def meeting(self, error: float) -> list[Point]:
        """Return the depths at which every seed has an error: the first one, and deeper ones that
        were timed; none if the error is not reached.
        """
        first = self.reach(error)
        if not first.depth < inf:
            return []
        deeper = [
            point._replace(seconds=self.time(point.depth), memory=self.peak(point.depth))
            for point in self.points
            if point.depth > first.depth and point.depth in self.seconds.measured
        ]
        return [first, *deeper]

    @lru_cache(maxsize=4096)  # noqa: B019
    def fastest_reach(self, error: float) -> Point:
        """Return the least time of the depths at which every seed has an error, with an answer's
        depth: the least whose time cannot be told from it. Where the error is not reached it is
        that of `reach`.
        """
        return _least_time(self.meeting(error) or [self.reach(error)])


def depth_to(errors: dict[int, float], error: float) -> float:
    """Return the first of ascending depths from which errors stay at or below a required one;
    infinite if they do not.

    Errors can fall in steps, so nothing is taken from between the measured depths.
    """
    first = inf
    for depth in reversed(errors):
        if errors[depth] > error:
            break
        first = depth
    return first


# -- questions and answers


@dataclass(frozen=True)
class Requirement:
    """The relative error that a gradient may have, None for the least possible, and the most time
    (s) and memory (bytes) that it may take.
    """

    error: float | None = ERROR
    seconds: float = inf
    memory: float = inf

    @property
    def limited(self) -> bool:
        """Tell whether time or memory is limited."""
        return min(self.seconds, self.memory) < inf

    def allowed(self, points: Iterable[Point]) -> list[Point]:
        """Return the points whose time and memory are within the limits; an unknown cost is only
        within an infinite one.
        """

        def within(cost: Cost, limit: float) -> bool:
            return limit == inf or cost.value <= limit

        return [
            point
            for point in points
            if within(point.seconds, self.seconds) and within(point.memory, self.memory)
        ]


class Reason(Enum):
    """Why an answer names its estimator, or none."""

    #: None: nothing has an error.
    NOTHING_SCORED = auto()
    #: None: no measured gradient is within the limits.
    NOTHING_WITHIN_LIMITS = auto()
    #: No error was required.
    MOST_ACCURATE = auto()
    #: Nothing reaches the required error.
    CLOSEST = auto()
    #: It reaches the error at the least depth, and its time there is not known.
    LEAST_DEPTH = auto()
    FASTEST = auto()
    #: The fastest one in the middle, but not distinguishable in time from its ties.
    AMONG_FASTEST = auto()
    #: Not distinguishable in time from its ties, of which a faster one takes more memory.
    LEAST_MEMORY_OF_FASTEST = auto()


@dataclass(frozen=True)
class Answer:
    """The estimator to use for a requirement, and with which algorithm, or what comes closest."""

    requirement: Requirement
    reason: Reason
    #: What the estimator is chosen for; None if there is none.
    source: Measured | None = None
    #: Whether the required error is reached within the limits.
    reached: bool = False
    depth: float = nan
    #: The error there, the greatest over the seeds; where the required one is reached, it is that
    #: one, and `measured_error` is the measured one.
    error: float = nan
    measured_error: float = nan
    #: Where the deepest measured depth alone reaches the required error: the depth before it.
    missed_before: Point | None = None
    seconds: Cost = Cost(nan)
    memory: Cost = Cost(nan)
    #: Quartiles of the time over the rounds.
    interval: tuple[float, float] = (nan, nan)
    #: What ties with it: what cannot be told from it in time or, where nothing is timed, has the
    #: same depth; where it is chosen by the error, only what has nearly the same error.
    tied: tuple[Measured, ...] = ()
    #: Those of them that memory does not tell from it either: nothing speaks against them.
    as_good: tuple[Measured, ...] = ()
    #: How many estimators, itself included, have nearly the least error; 0 if it is not chosen by
    #: its error.
    n_near: int = 0
    #: The fastest of the others that reach the error, where the answer is faster than all of them.
    next_fastest: Point | None = None
    #: How many pairs of an estimator and an algorithm it was chosen from, and how many of them do
    #: not reach the error, or not within the limits.
    n_pairs: int = 0
    n_failing: int = 0
    #: Whether these pairs have several algorithms.
    several_algorithms: bool = False
    #: The deepest depth that took part in a choice by the error; None where limits end it.
    deepest: int | None = None

    @property
    def estimator(self) -> str:
        """The estimator, empty if there is none."""
        return self.source.estimator if self.source else ""

    @property
    def is_timed(self) -> bool:
        """Tell whether its time is known, perhaps as an estimate."""
        return not isnan(self.seconds.value)

    @property
    def n_deeper(self) -> int:
        """How many others reach the error, or have nearly the least, and do not tie with it."""
        n_candidates = self.n_pairs - self.n_failing if self.reached else self.n_near
        return n_candidates - 1 - len(self.tied)

    @property
    def larger(self) -> tuple[Measured, ...]:
        """Those that tie with it and take more memory."""
        return tuple(tie for tie in self.tied if tie not in self.as_good)

    @property
    def unit(self) -> str:
        """What its depth counts."""
        return "layer" if self.source is None or self.source.differentiable else "step"

    @property
    def values(self) -> dict[str, str | float]:
        """What is chosen, reached and spent, as plain values: algorithm, estimator, reached, depth,
        error, seconds and memory_bytes.

        Names are empty and numbers NaN where there is no answer, and `reached` is False.
        """
        return {
            "algorithm": self.source.algorithm if self.source else "",
            "estimator": self.estimator,
            "reached": self.reached,
            "depth": self.depth,
            "error": self.error,
            "seconds": self.seconds.value,
            "memory_bytes": self.memory.value,
        }


def answer(measured: Collection[Measured], requirement: Requirement) -> Answer:
    """Return the cheapest estimator that reaches an error within limits on every seed, else the
    closest.

    Where no time is known, less depth is cheaper. The closest is the one with the least error at
    the deepest depth of each, or at any depth within the limits if there are some; so is the answer
    if no error is required. Without any error, or any gradient within the limits, the answer has no
    `source`.
    """
    chosen = _chosen(measured, requirement)
    several = len({row.algorithm for row in measured}) > 1
    return replace(chosen, n_pairs=len(measured), several_algorithms=several)


def _chosen(measured: Collection[Measured], requirement: Requirement) -> Answer:
    """Choose the cheapest estimator that reaches an error within limits, else the closest; see
    `answer`, which counts the pairs.
    """
    goal = requirement.error
    possible = [] if goal is None else [point for row in measured for point in row.meeting(goal)]
    if allowed := requirement.allowed(possible):
        reaches = _least_times(allowed)
        chosen = _cheapest(reaches, requirement)
        return replace(chosen, n_failing=len(measured) - len(reaches))
    first = 0 if requirement.limited else -1
    points = [point for row in measured for point in row.points[first:]]
    near = _near_least_error(requirement.allowed(points))
    if not near:
        nothing = Reason.NOTHING_WITHIN_LIMITS if points else Reason.NOTHING_SCORED
        return Answer(requirement, nothing)
    deepest: int | None = int(max(point.depth for point in points))
    if requirement.limited and (possible or goal is None):
        deepest = None
    closest_points = closest(_least_times(near))
    best = closest_points[0]
    tied = _others(closest_points, best)
    return Answer(
        requirement,
        Reason.MOST_ACCURATE if goal is None else Reason.CLOSEST,
        best.source,
        depth=best.depth,
        error=best.error,
        measured_error=best.error,
        seconds=best.source.time(best.depth_of_time),
        memory=best.source.peak(best.depth),
        tied=tied,
        as_good=tied,
        n_near=len({point.source for point in near}),
        deepest=deepest,
    )


def _least_times(points: Iterable[Point]) -> list[Point]:
    """Return the least time of each estimator, with the depth to name, see `_least_time`."""
    by_source: dict[Measured, list[Point]] = {}
    for point in points:
        by_source.setdefault(point.source, []).append(point)
    return [_least_time(of_source) for of_source in by_source.values()]


def _least_time(points: Sequence[Point]) -> Point:
    """Return, of the points of one estimator, the least depth whose time a test over the rounds
    does not tell from the least time, with that time; an unknown time is the longest.

    The least time counts as it is, so that what meets a larger error never seems to take longer
    than what meets a smaller one. The depth does not hang on the noise of times.
    """
    fastest = min(points, key=lambda point: (_price(point.seconds), point.depth))
    least = min(
        (point for point in points if not point.is_slower(fastest)), key=lambda point: point.depth
    )
    if least.depth >= fastest.depth:
        return fastest
    return least._replace(seconds=fastest.seconds, deeper=fastest.depth)


def _cheapest(reaches: Sequence[Point], requirement: Requirement) -> Answer:
    """Choose the fastest of the points that reach the error and, of those that take the same time,
    the fastest of those that take the least memory.

    There is at least one point, and one for each estimator. `n_failing` is not counted here.
    """
    goal = requirement.error or 0.0
    fastest = _fastest(reaches)
    smallest = _smallest(fastest)
    best = smallest[0]
    slower = [
        point
        for point in reaches
        if point.source is not best.source and not isnan(point.seconds.value)
    ]
    tied = _others(fastest, best)
    if isnan(best.seconds.value):
        reason = Reason.LEAST_DEPTH
    elif not tied:
        reason = Reason.FASTEST
    elif best is fastest[0]:
        reason = Reason.AMONG_FASTEST
    else:
        reason = Reason.LEAST_MEMORY_OF_FASTEST
    return Answer(
        requirement,
        reason,
        best.source,
        reached=True,
        depth=best.depth,
        error=goal,
        measured_error=best.error,
        missed_before=best.source.missed_before(goal),
        seconds=best.seconds,
        memory=best.memory,
        interval=best.source.rounds.quartiles(best.depth_of_time),
        tied=tied,
        as_good=_others(smallest, best),
        next_fastest=min(slower, key=lambda point: point.seconds.value, default=None)
        if reason is Reason.FASTEST
        else None,
    )


def _others(points: Iterable[Point], chosen: Point) -> tuple[Measured, ...]:
    """Return the estimators that some points belong to, each once and in the order of the points,
    without that of the chosen point.
    """
    sources = dict.fromkeys(point.source for point in points)
    sources.pop(chosen.source, None)
    return tuple(sources)


def _smallest(points: Sequence[Point]) -> list[Point]:
    """Return the points that nothing tells from the one with the least memory, in their order.

    Memories count as the same that differ by a tenth, or by no more than they vary by themselves
    (`memory_noise`). A memory that is not known, or is estimated, speaks for and against nobody.
    """
    measured = [point.memory.value for point in points if not point.memory.estimated]
    least = min((value for value in measured if not isnan(value)), default=nan)
    noise = max(point.source.memory_noise for point in points)
    most = max(SAME_MEMORY * least, least + noise)
    return [point for point in points if point.memory.estimated or not point.memory.value > most]


def closest(points: Sequence[Point]) -> list[Point]:
    """Return, of the points with nearly the least error, the fastest and those that are not
    distinguishable from it in time, the one with the least error first; none without points.
    """
    near = _near_least_error(points)
    return sorted(_fastest(near), key=lambda point: point.error) if near else []


def _near_least_error(points: Sequence[Point]) -> list[Point]:
    """Return the points whose errors are nearly the least, see `SAME_ERROR`."""
    least = min((point.error for point in points), default=nan)
    return [point for point in points if point.error - least <= SAME_ERROR * abs(least)]


def _fastest(points: Sequence[Point]) -> list[Point]:
    """Return the fastest of some points, then those that a test over the rounds does not tell from
    it, the faster ones first.

    There is at least one point. A time that is estimated, or was not measured in rounds, is taken
    at its word. Where no time is known, the least depth is the fastest.
    """
    first, *slower = sorted(
        points, key=lambda point: (_price(point.seconds), point.depth, point.error)
    )
    if isnan(first.seconds.value):
        # Where nothing is timed, depth alone tells them apart.
        return [first, *(point for point in slower if point.depth == first.depth)]
    return [first, *(point for point in slower if not point.is_slower(first))]


def _price(cost: Cost) -> float:
    return inf if isnan(cost.value) else cost.value


def budgets(measured: Collection[Measured]) -> list[Requirement]:
    """Return the requirements of a table of budgets: the `ERRORS`, and at most two times and two
    memories, which divide what was measured and require no error. Memories within their noise are
    none.
    """
    points = [point for row in measured for point in row.points]
    noise = max((LEAST_MEMORY, *(row.memory_noise for row in measured)))
    seconds = _round_limits([point.seconds.value for point in points])
    mebibytes = _round_limits([point.memory.value / 2**20 for point in points], noise / 2**20)
    return [
        *map(Requirement, ERRORS),
        *(Requirement(None, seconds=limit) for limit in seconds),
        *(Requirement(None, memory=limit * 2**20) for limit in mebibytes),
    ]


def _round_limits(measured: Sequence[float], noise: float = 0.0) -> list[float]:
    """Return at most two limits above the noise, ascending, that divide what was measured above it:
    1, 2 or 5 times a power of ten; none if nothing is above it.
    """
    known = [value for value in measured if value > noise]
    rounded = set()
    for value in np.quantile(known, (1 / 3, 2 / 3)).tolist() if known else ():
        power = 10.0 ** floor(log10(value))
        rounded.add(power * min((1, 2, 5, 10), key=lambda n: abs(log(value / power / n))))
    return sorted(limit for limit in rounded if limit > noise)
