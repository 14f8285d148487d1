"""A short run on few seeds: errors, times and memory of all candidates, for the answers."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ..answers import Answer, Line, Measured, Requirement, Statistic, answer, median
from ..measuring import meter
from ..workers import return_freed_memory, run_in_copy
from .candidates import Candidate, Family
from .draws import Draws
from .statistics import tolerance_limit

#: Depths that are measured at first, in levels: deeper ones only for what can still win there.
LEVELS = ((2, 5, 10, 20, 50), (100, 200), (400, 800), (1600,))
#: Windows and terms that are tried at first; between the best ones more are tried later.
NUMBERS = (2, 5, 10, 20, 50, 100, 200, 500)
#: Number of seeds of the short run, and on which the best candidates are refined.
FEW, MORE = 3, 12
#: Kinds of estimators that are refined, and of those advised: the choice and a runner-up.
REFINED, ADVISED = 4, 2
#: One estimate may take so many times that of the median candidate at `FIRST_DEPTH`.
SLOWEST, FIRST_DEPTH = 30.0, 5
#: An error has a floor where doubling the depth leaves more than this share of it.
FLOOR = 0.9
#: Number of depths that are tried around one, and the first of them, as a share of it.
FINER, NEAR = 6, 0.5
#: A time may take this share of what is allowed: it is measured once more at the end.
MARGIN = 0.9
ROUNDS = 3
#: A time is the mean of as many estimates as take about so many seconds.
LEAST_SECONDS = 0.004


class Search:
    """What was measured of the candidates, and the answers that follow from it.

    Parameters
    ----------
    draws : Draws
    requirement : Requirement
    most_depth : int
        Largest depth that is tried.
    """

    def __init__(self, draws: Draws, requirement: Requirement, most_depth: int) -> None:
        self.draws, self.most_depth = draws, most_depth
        self.requirement = replace(requirement, seconds=MARGIN * requirement.seconds)
        levels = [[depth for depth in level if depth <= most_depth] for level in LEVELS]
        self.levels = [level for level in levels if level]
        if most_depth > max(map(max, self.levels), default=0):
            self.levels.append([most_depth])
        self.few, self.more = draws.scorable(range(FEW)), draws.scorable(range(MORE))
        #: The one depth for several seeds: more than the median is needed to hold for nearly all.
        self.statistic: Statistic = tolerance_limit if len(self.more) > 1 else median
        self.left_out: dict[str, str] = {}
        self._seconds: dict[str, dict[int, float]] = {}
        self._memory: dict[str, dict[int, float]] = {}

    # -- the short run

    def run(self, single: Iterable[Any], families: Iterable[Family]) -> list[Candidate]:
        """Measure all candidates on few seeds, at depths as they are needed; return those that can
        treat the problem in reasonable time.
        """
        first = [Candidate(family.member(NUMBERS[0]), family, NUMBERS[0]) for family in families]
        able = self._able([*map(Candidate, single), *first])
        able += [
            Candidate(each.family.member(number), each.family, number)
            for each in able
            if each.family
            for number in NUMBERS[1:]
            if number < self.most_depth
        ]
        waiting = able
        for level in self.levels:
            begun = [each for each in waiting if each.distinct(level)]
            for each in begun:
                self.draws.errors(each.estimator, self.few, each.distinct(level))
            self._measure_costs(self._ends(begun, level))
            best = answer(self.measured(able, self.few), self.requirement)
            waiting = [each for each in waiting if self._may_win_deeper(each, level[-1], best)]
            if not waiting:
                break
        return able

    def _able(self, candidates: list[Candidate]) -> list[Candidate]:
        """Return the candidates that treat the first problem at some depth, and not too slowly."""
        depths, able = [min(FIRST_DEPTH, self.most_depth), self.levels[0][-1]], []
        for each in candidates:
            if np.isnan(self.draws.errors(each.estimator, self.few[:1], depths)).all():
                self.left_out[each.name] = self.draws.failures[each.name]
            else:
                able.append(each)
        if not able:
            return []
        seconds = self.in_turns([(each, depths[0]) for each in able], 1)[0]
        for each, ratio in zip(able, seconds / np.median(seconds), strict=True):
            if ratio > SLOWEST:
                share = f"{ratio:.0f} times the median candidate's time at {depths[0]} layers"
                self.left_out[each.name] = f"slow: {share}"
        return [each for each in able if each.name not in self.left_out]

    def _may_win_deeper(self, candidate: Candidate, depth: int, best: Answer) -> bool:
        """Return whether more layers could help a candidate: they never take less time."""
        if not candidate.distinct([depth]):
            return True
        seconds = self._seconds[candidate.name][depth]
        memory = self._memory.get(candidate.name, {}).get(depth, 0.0)
        slower = best.reached and seconds >= best.seconds.value
        if slower or not self.requirement.allows(seconds, memory):
            return False
        depths = [max(depth // 2, 1), depth]
        half, whole = self.draws.errors(candidate.estimator, self.few, depths)
        return bool((np.isnan(half) | (whole < FLOOR * half)).any())

    # -- times and memory, on the first problem

    def in_turns(
        self, calls: Sequence[tuple[Candidate, int]], rounds: int, seed: int | None = None
    ) -> np.ndarray:
        """Return the seconds of one estimate, shape (rounds, calls), each at a depth.

        All take turns in every round, each round beginning with another one, so that a machine
        whose speed drifts treats them alike. On the CPU they are seconds of the processor, which do
        not change when the machine is busy with other work.
        """
        problem = self.draws.problem(self.few[0] if seed is None else seed)
        algorithm = self.draws.algorithm
        device = problem.theta.device.type
        clock = time.process_time if device == "cpu" else meter.clock(device)
        bound = [
            lambda made=each.made, depth=depth: made.estimate(problem, algorithm, depth)
            for each, depth in calls
        ]
        # The first call of each warms up, the second says how often to repeat.
        first = [[meter.seconds(call, clock=clock) for _ in range(2)] for call in bound]
        repeats = [max(1, int(LEAST_SECONDS / max(second, 1e-5))) for _, second in first]
        taken = np.empty((rounds, len(bound)))
        for turn in range(rounds):
            for place in np.roll(np.arange(len(bound)), -turn):
                taken[turn, place] = meter.seconds(bound[place], repeats[place], clock)
        return taken

    def memory_of(self, candidate: Candidate, depth: int) -> float:
        """Return the peak memory of an estimate in bytes; NaN if it fails."""
        problem, algorithm = self.draws.problem(self.few[0]), self.draws.algorithm
        algorithm.step_size(problem)
        device, estimator = problem.theta.device.type, candidate.made

        def peak() -> int:
            return meter.peak_memory(lambda: estimator.estimate(problem, algorithm, depth), device)[
                0
            ]

        if device != "cpu":
            return float(peak())
        return_freed_memory()
        code, taken = run_in_copy(peak)
        return float(taken) if code == 0 else math.nan

    def _ends(
        self, candidates: Iterable[Candidate], level: Sequence[int]
    ) -> list[tuple[Candidate, int]]:
        """Return the candidates at the ends of a level, between which costs are linear."""
        calls = []
        for each in candidates:
            depths = each.distinct(level)
            first = [] if each.name in self._seconds else depths[:1]
            calls += [(each, depth) for depth in dict.fromkeys([*first, depths[-1]])]
        return calls

    def _measure_costs(self, calls: Sequence[tuple[Candidate, int]]) -> None:
        """Measure times, and memories if they are limited."""
        taken = np.median(self.in_turns(calls, ROUNDS), 0).tolist()
        for (each, depth), seconds in zip(calls, taken, strict=True):
            self._seconds.setdefault(each.name, {})[depth] = seconds
            if math.isfinite(self.requirement.memory):
                self._memory.setdefault(each.name, {})[depth] = self.memory_of(each, depth)

    # -- answers

    def measured(self, candidates: Iterable[Candidate], seeds: Sequence[int]) -> list[Measured]:
        """Return what was measured of some candidates on some seeds."""
        costs = self._seconds, self._memory
        return [
            Measured(
                each.name,
                self.draws.curve(each.estimator, seeds),
                Line(costs[0].get(each.name, {})),
                Line(costs[1].get(each.name, {})),
            )
            for each in candidates
        ]

    def best(
        self,
        candidates: Iterable[Candidate],
        seeds: Sequence[int],
        most: int,
        statistic: Statistic = median,
    ) -> list[tuple[Candidate, Answer]]:
        """Return the best candidates that meet the requirement, the first of each kind."""
        left, ranked = list(candidates), list[tuple[Candidate, Answer]]()
        while left and len(ranked) < most:
            chosen = answer(self.measured(left, seeds), self.requirement, statistic)
            if not chosen.estimator or chosen.reached is (self.requirement.error is None):
                break
            (first,) = (each for each in left if each.name == chosen.estimator)
            ranked.append((first, chosen))
            left = [each for each in left if each.kind != first.kind]
        return ranked

    def refined(self, able: list[Candidate]) -> list[Candidate]:
        """Return the best candidates, and those between them and their neighbors, measured on more
        seeds around the depths that they need.
        """
        ranked = self.best(able, self.few, REFINED)
        depths = {each: int(chosen.depth) for each, chosen in ranked}
        for each, depth in list(depths.items()):
            depths |= dict.fromkeys(self._neighbors(each), depth)
        calls = [(each, self._measure_around(each, depth)) for each, depth in depths.items()]
        self._measure_costs(
            [(each, int(depth)) for each, depth in calls if depth <= self.most_depth]
        )
        return list(depths)

    def _neighbors(self, candidate: Candidate) -> list[Candidate]:
        family = candidate.family
        if family is None:
            return []
        at = NUMBERS.index(candidate.number)
        near = NUMBERS[max(at - 1, 0) : at + 2]
        between = sorted({round(math.sqrt(number * candidate.number)) for number in near})
        new = [number for number in between if candidate.number != number < self.most_depth]
        return [Candidate(family.member(number), family, number) for number in new]

    def _measure_around(self, candidate: Candidate, depth: int) -> float:
        """Measure errors on more seeds around a depth, until nearly all reach the required one;
        return the depth where they do.
        """
        error, estimator = self.requirement.error, candidate.estimator
        if error is None:
            self.draws.errors(estimator, self.more, [depth])
            return depth
        low, depths = NEAR * depth, list[int]()
        needed = math.inf
        while needed not in depths and low < self.most_depth:
            new = [int(needed)] if needed <= self.most_depth else []
            if not new:
                high = min(2 * max(low, 1.0), self.most_depth)
                new = np.unique(
                    np.geomspace(max(low, 1.0), high, FINER).round().astype(int)
                ).tolist()
                low = high
            depths = sorted({*depths, *new})
            self.draws.errors(estimator, self.more, depths)
            (measured,) = self.measured([candidate], self.more)
            needed = measured.reach(error, self.statistic).depth
        return needed
