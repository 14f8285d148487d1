"""What the search chose is tested on seeds that had no part in it, and timed beside `backprop`."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np

from ..answers import Answer
from .candidates import Candidate
from .records import Choice
from .search import MORE, Search
from .statistics import CONFIDENCE, are_equal, least_share, tolerance_limit

#: The estimator whose time others are compared with.
BASE = "backprop"
#: Share of the new seeds that may exceed an error; otherwise a more careful choice is tested, so
#: many times at most.
MISSES, ATTEMPTS = 0.05, 3
#: A more careful choice has so many times the layers or, where none is required, so many times the
#: error.
DEEPER, WEAKER = 1.2, 1.5
#: An error is stated as at most so many times the largest one seen.
WIDEST = 3.0
#: Rounds of the times on each of the first few seeds.
ROUNDS, TIMED = 7, 3


class Verification:
    """Tests of candidates, each on new seeds of its own.

    Parameters
    ----------
    search : Search
    seeds : int
        Number of new seeds of a test.
    """

    def __init__(self, search: Search, seeds: int) -> None:
        self.search, self.draws = search, search.draws
        starts = itertools.count(MORE, seeds)
        self._new = (range(start, start + seeds) for start in starts)
        self._tests = itertools.count(1)
        #: New seeds without a reference to score against.
        self.unscorable = 0

    def test(self, candidate: Candidate, chosen: Answer) -> Choice:
        """Test a candidate at the depth of an answer; where too many seeds exceed the error, a more
        careful choice is tested anew.

        So that all statements hold together with the confidence, each test has half of the risk
        that is left.
        """
        depth, error = int(chosen.depth), self.search.requirement.error
        stated = error or rounded_up(self._limit(candidate, depth))
        for _ in range(ATTEMPTS):
            # Of one problem there are no new seeds.
            drawn = range(1) if self.draws.single else next(self._new)
            seeds = self.draws.scorable(drawn)
            self.unscorable += len(drawn) - len(seeds)
            errors = np.nan_to_num(
                self.draws.errors(candidate.estimator, seeds, [depth])[0], nan=math.inf
            )
            kept, risk = int((errors <= stated).sum()), (1 - CONFIDENCE) / 2 ** next(self._tests)
            share = math.nan if self.draws.single else least_share(kept, len(seeds), 1 - risk)
            tested = Choice(
                candidate.estimator,
                depth,
                stated,
                kept=kept,
                seeds=len(seeds),
                share=share,
                median=float(np.median(errors)),
            )
            if is_kept(tested):
                break
            if error is None:
                stated = rounded_up(WEAKER * stated)
            else:
                depth = min(math.ceil(DEEPER * depth), self.search.most_depth)
        return tested

    def _limit(self, candidate: Candidate, depth: int) -> float:
        """Return what nearly all seeds' errors at one depth are below.

        It is the tolerance limit, but at most a few times the largest error: errors that spread
        over many decades would make it useless. New seeds test it.
        """
        errors = self.draws.errors(candidate.estimator, self.search.more, [depth])[0]
        return float(min(max(tolerance_limit(errors), errors.max()), WIDEST * errors.max()))

    def base(self, tested: list[Choice]) -> Choice | None:
        """Return `BASE` at the depth at which it reaches the first error by the same rule; None if
        it does not.
        """
        for each in tested:
            if each.name == BASE:
                return each
        error, candidate = tested[0].error, Candidate(BASE)
        for level in self.search.levels:
            self.draws.errors(BASE, self.search.more, level)
            (measured,) = self.search.measured([candidate], self.search.more)
            depth = measured.reach(error, self.search.statistic).depth
            if depth <= self.search.most_depth:
                return Choice(BASE, int(depth), error)
        return None

    def compared(self, tested: list[Choice]) -> dict[str, Any]:
        """Return the fields of an advice about two choices and `BASE`, with times measured in
        turns.

        The first is chosen; but where both reach the required error, the faster one.
        """
        base = self.base(tested)
        rows = [*tested, *([base] if base else [])]
        calls = [(Candidate(each.estimator), each.depth) for each in rows]
        seconds = np.concatenate(
            [self.search.in_turns(calls, ROUNDS, seed) for seed in self.search.more[:TIMED]]
        )
        rows = [
            replace(each, seconds=float(taken))
            for each, taken in zip(rows, np.median(seconds, 0), strict=True)
        ]
        tied = len(tested) > 1 and are_equal(seconds[:, 0], seconds[:, 1])
        order = list(range(len(tested)))
        # The search timed them on one problem and in fewer rounds.
        if self.search.requirement.error is not None and not tied:
            order.sort(key=lambda place: rows[place].seconds)
        fields: dict[str, Any] = {"chosen": rows[order[0]], "tied": tied}
        fields["runner_up"] = rows[order[1]] if len(order) > 1 else None
        if base:
            ratios = seconds[:, order[0]] / seconds[:, -1]
            fields |= {"base": rows[-1], "relative_time": float(np.median(ratios))}
        if math.isfinite(self.search.requirement.memory):
            memory = self.search.memory_of(calls[order[0]][0], rows[order[0]].depth)
            fields["chosen"] = replace(rows[order[0]], memory=memory)
        return fields


def is_kept(tested: Choice) -> bool:
    """Return whether nearly all new seeds have at most the stated error."""
    return tested.seeds - tested.kept <= MISSES * tested.seeds


def rounded_up(value: float) -> float:
    """Return a number rounded up to two digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.2g}")
