"""The choice: a short run on few seeds, deeper for what can still win, and the best of it on more
seeds.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from math import ceil, inf

import numpy as np

from ..answers import NO_ROUNDS, Answer, Measured, Point, Requirement, answer
from ..measuring.results.cost import MEMORY, TIME
from .candidates import Candidate
from .draws import Draws
from .statistics import tolerance_limit

#: Depths that are measured, the next group only for what can still win there.
DEPTHS = ((1,), (2, 5, 10), (25, 50), (100,), (200,), (400,), (800,), (1600,))
#: Before this depth an error need not fall yet, and a refusal may be one of small depths.
EARLY = 50
#: Number of seeds of the short run, and on which the best candidates are refined.
FEW, MORE = 3, 12
#: Estimators that are refined, up to two of a kind, and those advised: the choice and a runner-up.
REFINED, MEMBERS, ADVISED = 6, 2, 2
#: A candidate that takes so many times as long as the median one goes no deeper, from `EARLY` on;
#: with few layers, where codes are dense, it may take longer in proportion.
SLOWEST = 10.0
#: An error has a floor where the next group of depths leaves more than this share of it.
FLOOR = 0.9
#: Number of depths that are tried below one that suffices, down to this share of it: neighbors in
#: `DEPTHS` are no further apart.
FINER, COARSE = 12, 0.4
#: A time may take this share of what is allowed: it is measured once more at the end.
MARGIN = 0.9
#: Rounds of the times of all candidates, and of those that are refined.
FEW_ROUNDS, MORE_ROUNDS = 2, 10


class Search:
    """The answers that follow from what is measured of the candidates.

    Parameters
    ----------
    draws : Draws
    kinds : mapping
        The kind of each candidate.
    requirement : Requirement
    most_depth : int
        Largest depth that is tried.
    """

    def __init__(
        self,
        draws: Draws,
        kinds: Mapping[Candidate, str],
        requirement: Requirement,
        most_depth: int,
    ) -> None:
        self.draws, self.kinds, self.most_depth = draws, kinds, most_depth
        self.requirement = replace(requirement, seconds=MARGIN * requirement.seconds)
        self.seeds = draws.scorable(range(MORE))
        self.costs = (TIME, *[MEMORY] * (requirement.memory < inf))

    def run(self) -> dict[Measured, Candidate]:
        """Measure all candidates on few seeds, at depths as they are needed; return what was
        measured of those that can treat the problem, for each group of depths.
        """
        able: dict[Measured, Candidate] = {}
        before: dict[Candidate, Point] = {}
        waiting = [*self.kinds]
        groups = [tuple(depth for depth in group if depth < self.most_depth) for group in DEPTHS]
        for depths in [*filter(None, groups), (self.most_depth,)]:
            # With a window of all layers it is another estimator.
            calls = {each: depths for each in waiting if each.window < depths[0]}
            rows = self.draws.run(calls, self.seeds[:FEW], self.costs, FEW_ROUNDS)
            timed = {row: each for each, row in rows.items() if row.seconds.measured}
            # The rounds of another group are others.
            able |= {replace(row, rounds=NO_ROUNDS): each for row, each in timed.items()}
            ends = {each: row.points[-1] for row, each in timed.items()}
            most = self._most_seconds(able, ends.values(), depths[-1])
            waiting = [
                each
                for each in waiting
                if each not in calls
                or self._may_win_deeper(depths[-1], most, ends.get(each), before.get(each))
            ]
            before |= ends
        return able

    def _most_seconds(
        self, able: Collection[Measured], ends: Collection[Point], depth: int
    ) -> float:
        """Return the time from which on a candidate can win nothing by more layers."""
        slowest = SLOWEST * max(1, EARLY / depth)
        most = slowest * float(np.median([end.seconds.value for end in ends] or [inf]))
        best = answer(able, self.requirement)
        return min(most, best.seconds.value) if best.reached else most

    def _may_win_deeper(
        self, depth: int, most: float, end: Point | None, before: Point | None
    ) -> bool:
        """Return whether more layers than `depth` could help a candidate: they never take less
        time. There is no `end` where it failed at that depth.
        """
        if end is None or end.depth < depth:
            return depth < EARLY
        costs = end.seconds.value, end.memory.value
        if costs[0] >= most or not self.requirement.allows(*costs):
            return False
        return depth < EARLY or before is None or end.error < FLOOR * before.error

    def best(
        self, rows: Mapping[Measured, Candidate], most: int, members: int
    ) -> dict[Candidate, Answer]:
        """Return the best candidates that meet the requirement, so many `members` of a kind."""
        ranked: dict[Candidate, Answer] = {}
        left = rows
        while len(ranked) < most:
            found = answer(left, self.requirement)
            if not found.source or found.reached is (self.requirement.error is None):
                break
            ranked[rows[found.source]] = found
            kinds = Counter(self.kinds[each] for each in ranked)
            left = {
                row: each
                for row, each in left.items()
                if each not in ranked and kinds[self.kinds[each]] < members
            }
        return ranked

    def refined(self, able: Mapping[Measured, Candidate]) -> dict[Candidate, Answer]:
        """Return the best candidates on more seeds, each at the depth that nearly all of these
        need.
        """
        depths = {
            each: self.needed(each, self.requirement.error, int(found.depth))
            for each, found in self.best(able, REFINED, MEMBERS).items()
        }
        calls = {each: [depth] for each, depth in depths.items() if depth}
        # Of those that take the same time, memory decides.
        rows = self.draws.run(calls, self.seeds, (MEMORY, TIME), MORE_ROUNDS)
        return self.best({row: each for each, row in rows.items()}, ADVISED, 1)

    def needed(self, candidate: Candidate, error: float | None, depth: int) -> int:
        """Measure errors on more seeds, from a depth on, until all reach a required one; return the
        depth at which nearly all seeds do, 0 if it is beyond the largest.
        """
        if error is None:
            return depth
        while (limit := self._limit(candidate, error, [depth])) == inf and depth < self.most_depth:
            depth = min(2 * depth, self.most_depth)
        if limit < inf:
            spaced = np.geomspace(max(COARSE * depth, 1), depth, FINER)
            limit = self._limit(candidate, error, spaced.round().astype(int).tolist())
        # The logarithm of a depth is rounded.
        return ceil(round(limit, 6)) if limit <= self.most_depth else 0

    def _limit(self, candidate: Candidate, error: float, depths: Sequence[int]) -> float:
        reach = self.draws.run({candidate: depths}, self.seeds)[candidate].reach(error)
        needed = [reach.depths.get(seed, inf) for seed in self.seeds]
        # More than the greatest of a few is needed to hold for nearly all.
        return tolerance_limit(needed) if len(needed) > 1 else needed[0]
