"""The choice: a short run on few seeds, deeper for what can still win, and the best of it on more
seeds.
"""

from collections.abc import Mapping
from dataclasses import replace
from math import ceil, inf

import numpy as np

from ..answers import NO_ROUNDS, Answer, Measured, Requirement, answer
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
#: A candidate that takes so many times as long as the most accurate one goes no deeper, from
#: `EARLY` on; with few layers, where codes are dense, it may take longer in proportion.
SLOWEST = 10.0
#: An error is stuck where the next group of depths leaves more than this share of it.
FLOOR = 0.9
#: Number of depths that are tried below one that suffices, down to this share of it.
FINER, COARSE = 16, 0.3
#: A time may take this share of what is allowed: it is measured once more at the end.
MARGIN = 0.9
#: Rounds of the times of all candidates, and of those that are refined.
FEW_ROUNDS, MORE_ROUNDS = 1, 10


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
        errors: dict[Candidate, float] = {}
        waiting, required = [*self.kinds], self.requirement
        groups = [[depth for depth in group if depth < self.most_depth] for group in DEPTHS]
        for depths in [*filter(None, groups), [self.most_depth]]:
            # With a window of all layers it is another estimator.
            calls = {each: depths for each in waiting if each.window < depths[0]}
            rows = self.draws.run(calls, self.seeds[:FEW], self.costs, FEW_ROUNDS)
            for each, row in rows.items():
                if row.seconds.measured:
                    # The rounds of another group are others.
                    able[replace(row, rounds=NO_ROUNDS)] = each
            best, deepest = answer(able, required), depths[-1]
            # More layers never take less time.
            longer = 1.0 if best.reached else SLOWEST * max(1.0, EARLY / deepest)
            most = min(required.seconds, longer * best.seconds.value)
            for each, row in rows.items():
                seconds = row.seconds.measured.get(deepest, 0.0)
                error = row.points[-1].error if seconds else inf
                stuck = deepest >= EARLY and error >= FLOOR * errors.get(each, inf)
                if stuck or seconds >= most or row.memory.inside(deepest) > required.memory:
                    waiting.remove(each)
                errors[each] = error
        return able

    def best(
        self, rows: Mapping[Measured, Candidate], most: int, members: int
    ) -> dict[Candidate, Answer]:
        """Return the best candidates that meet the requirement, so many `members` of a kind."""
        ranked: dict[Candidate, Answer] = {}
        while len(ranked) < most:
            taken = [self.kinds[each] for each in ranked]
            left = [
                row
                for row, each in rows.items()
                if each not in ranked and taken.count(self.kinds[each]) < members
            ]
            found = answer(left, self.requirement)
            if not found.source or found.reached is (self.requirement.error is None):
                break
            ranked[rows[found.source]] = found
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
        """Return the depth at which nearly all seeds have an error, measured on more seeds from a
        depth on; 0 if that is beyond the largest. Without an error it is the depth itself.
        """
        if error is None:
            return depth
        while True:
            spaced = np.geomspace(max(COARSE * depth, 1), depth, FINER).round().astype(int)
            calls = {candidate: spaced.tolist()}
            reach = self.draws.run(calls, self.seeds)[candidate].reach(error)
            depths = [reach.depths.get(seed, inf) for seed in self.seeds]
            # More than the greatest of a few is needed to hold for nearly all.
            limit = tolerance_limit(depths) if len(depths) > 1 else depths[0]
            if limit < inf or depth >= self.most_depth:
                # The logarithm of a depth is rounded.
                return ceil(round(limit, 6)) if limit <= self.most_depth else 0
            depth = min(2 * depth, self.most_depth)
