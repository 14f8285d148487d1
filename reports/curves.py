"""Errors and costs of each estimator on each case as arrays: what summaries, answers and the page
look numbers up in.

A page computes with these arrays too: `page/templates/lookups.js` holds `depth_to`, `Line.at` and
`beats` a second time, and a test in the browser compares the answers.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

#: Time and memory are extrapolated linearly beyond the deepest measured depth, up to this many
#: times that depth.
REACH = 4.0


@dataclass(frozen=True, eq=False)
class Curve:
    """Values of one estimator on one case, an array over (depths, seeds) that is NaN where there is
    none.
    """

    depths: np.ndarray
    seeds: np.ndarray
    values: np.ndarray
    #: Whether the value is the reference's bound, the error being smaller.
    at_floor: np.ndarray

    @cached_property
    def by_seed(self) -> Mapping[int, tuple[np.ndarray, np.ndarray]]:
        """The measured depths and values of each seed."""
        known = ~np.isnan(self.values)
        columns = ((int(seed), known[:, place], place) for place, seed in enumerate(self.seeds))
        return {
            seed: (self.depths[rows], self.values[rows, place])
            for seed, rows, place in columns
            if rows.any()
        }

    def depths_to(self, goal: float) -> dict[int, float]:
        """Return the depth at which each seed reaches a goal, see `depth_to`."""
        return {
            seed: depth_to(depths, values, goal) for seed, (depths, values) in self.by_seed.items()
        }

    @cached_property
    def spread(self) -> np.ndarray:
        """Depth, median, least and greatest value over the seeds, one row for each depth that has a
        value.
        """
        rows = (
            np.flatnonzero(~np.isnan(self.values).all(axis=1))
            if self.values.size
            else np.empty(0, int)
        )
        found = self.values[rows].reshape(len(rows), len(self.seeds))
        if not len(rows):
            return np.empty((0, 4))
        return np.column_stack(
            (self.depths[rows], np.nanmedian(found, 1), np.nanmin(found, 1), np.nanmax(found, 1))
        )


NO_CURVE = Curve(np.empty(0, int), np.empty(0, int), np.empty((0, 0)), np.empty((0, 0), bool))


def split(frame: pd.DataFrame, *keys: str) -> Iterator[tuple[tuple[Any, ...], Curve]]:
    """Yield the curve of each group of rows of a tidy table, in time linear in their number.

    The rows need the columns ``depth``, ``seed``, ``value`` and ``at_floor``; of two rows with one
    depth and seed the later counts.
    """
    if frame.empty:
        return
    group = frame.groupby(list(keys), sort=False, dropna=False).ngroup().to_numpy()
    order = np.argsort(group, kind="stable")
    depths, seeds = (
        frame[name].fillna(-1).to_numpy(dtype=np.int64)[order] for name in ("depth", "seed")
    )
    values, floors = (
        frame["value"].to_numpy(dtype=float)[order],
        frame["at_floor"].to_numpy(dtype=bool)[order],
    )
    starts = np.flatnonzero(np.diff(group[order], prepend=-1))
    names = frame[list(keys)].iloc[order[starts]].itertuples(index=False, name=None)
    for name, start, stop in zip(names, starts, [*starts[1:], len(order)], strict=True):
        part = slice(start, stop)
        rows, columns = np.unique(depths[part]), np.unique(seeds[part])
        place = np.searchsorted(rows, depths[part]), np.searchsorted(columns, seeds[part])
        matrix, floor = (
            np.full((len(rows), len(columns)), math.nan),
            np.zeros((len(rows), len(columns)), bool),
        )
        matrix[place], floor[place] = values[part], floors[part]
        yield name, Curve(rows, columns, matrix, floor)


def depth_to(depths: np.ndarray, errors: np.ndarray, goal: float) -> float:
    """Return the depth from which errors, at ascending depths, stay at or below a goal; infinite if
    they do not.

    Between the measured depths log error is taken as linear in depth, and the answer is rounded up
    to a whole layer.
    """
    above = np.flatnonzero(errors > goal)
    if not len(errors) or (len(above) and above[-1] == len(errors) - 1):
        return math.inf
    if not len(above):
        return float(depths[0])
    last = above[-1]
    low, high = depths[last], depths[last + 1]
    before, after = math.log(errors[last]), math.log(max(errors[last + 1], 1e-300))
    reached = low + (high - low) * (before - math.log(goal)) / (before - after)
    # Rounding errors must not add a layer.
    return float(min(high, math.ceil(reached - 1e-9)))


@dataclass(frozen=True, eq=False)
class Line:
    """A cost against depth, linear between `depths`; the cost at the `measured` depths was
    measured.
    """

    depths: np.ndarray
    values: np.ndarray
    measured: Mapping[int, float]

    @cached_property
    def known(self) -> tuple[float, float]:
        """The first and the last measured depth, NaN if there is none."""
        return min(self.measured, default=math.nan), max(self.measured, default=math.nan)

    @classmethod
    def of(cls, depths: np.ndarray, values: np.ndarray) -> Line:
        """Make a line through measured costs, extended along the nearest two to both sides.

        It reaches from depth 0 to `REACH` times the deepest measured depth; with fewer than two
        depths it is not extended.
        """
        order = np.argsort(depths)
        depths, values = depths[order].astype(float), values[order].astype(float)
        measured = dict(zip(depths.astype(int).tolist(), values.tolist(), strict=True))
        if len(depths) < 2:
            return cls(depths, values, measured)
        first, last = depths[0], depths[-1]
        # Noise can tilt the line, but fewer layers never take more time.
        slopes = np.maximum(
            (values[[1, -1]] - values[[0, -2]]) / (depths[[1, -1]] - depths[[0, -2]]), 0.0
        )
        # Nor do fewer layers save more than their share: there is a cost without any layer.
        ends = max(values[0] - slopes[0] * first, 0.0), values[-1] + slopes[1] * (REACH - 1) * last
        inner = slice(1 if first == 0 else 0, None)
        knots = [0.0, *depths[inner], REACH * last]
        return cls(
            np.array(knots),
            np.array([values[0] if first == 0 else ends[0], *values[inner], ends[1]]),
            measured,
        )

    def at(self, depth: float) -> tuple[float, bool]:
        """Return the cost at a depth, NaN where it is not known, and whether it is extrapolated."""
        if not len(self.depths) or not math.isfinite(depth):
            return math.nan, False
        outside = not self.known[0] <= depth <= self.known[1]
        if not self.depths[0] <= depth <= self.depths[-1]:
            return math.nan, True
        return float(np.interp(depth, self.depths, self.values)), outside

    def inside(self, depths: np.ndarray) -> np.ndarray:
        """Return the cost at some depths, NaN outside the measured ones."""
        if not self.measured:
            return np.full(len(depths), math.nan)
        outside = (depths < self.known[0]) | (depths > self.known[1])
        return np.where(outside, math.nan, np.interp(depths, self.depths, self.values))


NO_LINE = Line.of(np.empty(0), np.empty(0))


def beats(
    mine: Mapping[int, tuple[float, float]], theirs: Mapping[int, tuple[float, float]]
) -> bool:
    """Return whether one estimator is faster on every seed, by more than the quartiles of both
    timings.

    Seeds are compared one by one, because they differ more from each other than estimators do on
    any of them.
    """
    # A time is not known where a seed does not reach the goal, or only beyond all timed depths.
    pairs = [(mine[seed][1], low) for seed, (low, _) in theirs.items() if seed in mine]
    known = [(high, low) for high, low in pairs if not (math.isnan(high) and math.isnan(low))]
    return bool(known) and all(high < (math.inf if math.isnan(low) else low) for high, low in known)
