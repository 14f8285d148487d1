"""The race: many estimators on few seeds, then fewer on more, until one and a runner-up are left."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from . import timing
from .candidates import Family
from .statistics import tolerance_limit
from .trials import Trials, label

#: Depths that are tried at first; a level is a range of them, and the next one is tried where it can still win.
LEVELS = ((1, 2, 3, 5, 7, 10, 15, 20, 30, 50), (70, 100, 140, 200), (280, 400, 560, 800), (1100, 1600))
#: Windows and terms that are tried at first; between the best of them and its neighbors more are tried.
NUMBERS = (2, 5, 10, 20, 50, 100, 200, 500)
#: Seeds of the rounds. A third of the contenders, and not fewer than `LEFT`, go on from each.
SEEDS = (3, 6, 12)
LEFT = 2
#: One estimate of a contender may take so many times that of the median one at `FIRST_DEPTH`.
SLOWEST, FIRST_DEPTH = 30.0, 5
#: An error has a floor where doubling the depth leaves more than this share of it.
FLOOR = 0.9
ROUNDS = 3


@dataclass(frozen=True)
class Wish:
    """What an estimate may err, take and need; None where anything is allowed."""

    error: float | None = None
    seconds: float | None = None
    memory: float | None = None


@dataclass(frozen=True)
class Contender:
    """An estimator at a depth, with what is known of it: `error` is an upper limit for nearly all seeds."""

    estimator: Any
    depth: int
    family: Family | None = None
    number: int = 0
    error: float = math.inf
    seconds: float = math.nan
    memory: float = math.nan

    @property
    def name(self) -> str:
        """The spec of the estimator."""
        return label(self.estimator)


class Race:
    """The search for the cheapest contender within a wish, or the most accurate one where the wish names no error.

    Parameters
    ----------
    trials : Trials
    wish : Wish
    most_depth : int
        Largest depth that is tried.
    """

    def __init__(self, trials: Trials, wish: Wish, most_depth: int) -> None:
        self.trials, self.wish, self.most_depth = trials, wish, most_depth
        self.levels = [depths for level in LEVELS if (depths := tuple(depth for depth in level if depth <= most_depth))]
        if most_depth not in (depth for level in self.levels for depth in level):
            self.levels.append((most_depth,))
        self.left_out: dict[str, str] = {}
        seeds = SEEDS if trials.seeds is None else (1,)
        self.seeds = [trials.scorable(range(count)) for count in seeds]

    # -- the first round: every candidate, few seeds, depths as they are needed

    def start(self, single: Iterable[Any], families: Iterable[Family]) -> list[Contender]:
        """Return the candidates that can treat the problem in reasonable time, at no depth yet."""
        every = [Contender(estimator, 0) for estimator in single]
        every += [Contender(family.member(number), 0, family, number) for family in families
                  for number in NUMBERS if number < self.most_depth]  # fmt: skip
        able = [each for each in every if self._is_able(each)]
        if not able:
            return []
        problem = self.trials.problem(self.seeds[0][0])
        depth = min(FIRST_DEPTH, self.most_depth)
        seconds = timing.times([(each.estimator, depth) for each in able], problem, self.trials.algorithm, 1)[0]
        limit = SLOWEST * float(np.median(seconds))
        for each, taken in zip(able, seconds, strict=True):
            if taken > limit:
                times = taken / float(np.median(seconds))
                self.left_out[each.name] = f"slow: {times:.0f} times the median candidate's time at {depth} layers"
        return [each for each in able if each.name not in self.left_out]

    def _is_able(self, contender: Contender) -> bool:
        """Return whether the first seed's problem can be treated; a failure at a small depth alone does not count."""
        depth = min(FIRST_DEPTH, self.most_depth)
        for tried in dict.fromkeys((depth, self.levels[0][-1])):
            if np.isfinite(self.trials.errors(contender.estimator, self.seeds[0][:1], [tried])).all():
                return True
        self.left_out[contender.name] = self.trials.failures[contender.name]
        return False

    def reached(self, contenders: list[Contender]) -> tuple[list[Contender], list[Contender]]:
        """Return those that meet the wish on the first seeds, timed, fastest first, and the nearest of the others.

        Deeper levels are tried for those that do not meet it yet, have no floor, and are not slower already than the
        fastest that does.
        """
        met: list[Contender] = []
        nearest: dict[str, Contender] = {}
        waiting = contenders
        for level in self.levels:
            missed = []
            for each in waiting:
                if each.family and each.number >= level[-1]:
                    # A window of the depth or more is full backpropagation.
                    missed.append(each)
                    continue
                best = self._best_on(each, level)
                if best.error <= (self.wish.error or math.inf) and self.wish.error is not None:
                    met.append(best)
                else:
                    missed.append(each)
                    known = nearest.get(each.name, best)
                    nearest[each.name] = min(known, best, key=lambda one: one.error)
            met = self.timed(met)
            waiting = self._worth_going_on(missed, level[-1], met)
            if not waiting:
                break
        return self._affordable(met), sorted(nearest.values(), key=lambda one: one.error)

    def _best_on(self, contender: Contender, depths: tuple[int, ...]) -> Contender:
        """Return the contender at the smallest depth that meets the error on the first seeds, else at its best depth."""
        worst = self.trials.errors(contender.estimator, self.seeds[0], depths).max(0)
        within = np.flatnonzero(worst <= (self.wish.error or 0.0))
        place = int(within[0]) if len(within) else int(worst.argmin())
        return replace(contender, depth=depths[place], error=float(worst[place]))

    def _worth_going_on(self, missed: list[Contender], depth: int, met: list[Contender]) -> list[Contender]:
        """Return those that could still be the fastest: more layers never take less time."""
        falling = [each for each in missed if self._falls(each, depth)]
        if not falling or not met:
            return falling
        fastest = min(each.seconds for each in met)
        return [each for each in self.timed([replace(each, depth=depth) for each in falling]) if each.seconds < fastest]

    def _falls(self, contender: Contender, depth: int) -> bool:
        if contender.family and contender.number >= depth:
            return True
        half = self.trials.errors(contender.estimator, self.seeds[0], [max(depth // 2, 1), depth])
        return bool((~np.isfinite(half[:, 0]) | (half[:, 1] < FLOOR * half[:, 0])).any())

    # -- times and memory

    def timed(self, contenders: list[Contender], rounds: int = ROUNDS) -> list[Contender]:
        """Return the contenders with their times, all measured in turns on one problem, fastest first."""
        if not contenders:
            return []
        calls = [(each.estimator, each.depth) for each in contenders]
        seconds = timing.times(calls, self.trials.problem(self.seeds[0][0]), self.trials.algorithm, rounds)
        found = [replace(each, seconds=float(taken)) for each, taken in zip(contenders, np.median(seconds, 0), strict=True)]
        return sorted(found, key=lambda each: each.seconds)

    def weighed(self, contender: Contender) -> Contender:
        """Return the contender with its memory."""
        problem = self.trials.problem(self.seeds[0][0])
        return replace(contender, memory=timing.memory(contender.estimator, problem, self.trials.algorithm, contender.depth))

    def _affordable(self, contenders: list[Contender]) -> list[Contender]:
        """Return those within the time and the memory of the wish; memory is measured of the fastest until three are."""
        found = [each for each in contenders if each.seconds <= (self.wish.seconds or math.inf)]
        if self.wish.memory is None:
            return found
        light: list[Contender] = []
        for each in found:
            if len(light) < LEFT + 1 and (weighed := self.weighed(each)).memory <= self.wish.memory:
                light.append(weighed)
        return light

    # -- without an error in the wish: the most accurate within the time and the memory

    def within_budget(self, contenders: list[Contender]) -> tuple[list[Contender], list[Contender]]:
        """Return the contenders at their best depth within the budget, most accurate first, and the fastest others."""
        found, dear = [], []
        for each in contenders:
            at = self._deepest_within(each)
            if at is None:
                dear.append(replace(each, depth=1))
            else:
                found.append(at)
        return sorted(found, key=lambda each: each.error), self.timed(dear)

    def _deepest_within(self, contender: Contender) -> Contender | None:
        best: Contender | None = None
        for level in self.levels:
            depths = [depth for depth in level if not contender.family or contender.number < depth]
            costed = [self._costed(replace(contender, depth=depth)) for depth in depths]
            within = [each for each in costed if self._fits(each)]
            if within:
                worst = self.trials.errors(contender.estimator, self.seeds[0], [each.depth for each in within]).max(0)
                place = int(worst.argmin())
                if best is None or worst[place] < best.error:
                    best = replace(within[place], error=float(worst[place]))
            if len(within) < len(depths) or not self._falls(contender, level[-1]):
                break
        return best

    def _costed(self, contender: Contender) -> Contender:
        (timed,) = self.timed([contender], 1) if self.wish.seconds is not None else [contender]
        return self.weighed(timed) if self.wish.memory is not None else timed

    def _fits(self, contender: Contender) -> bool:
        fast = self.wish.seconds is None or contender.seconds <= self.wish.seconds
        return fast and (self.wish.memory is None or contender.memory <= self.wish.memory)

    # -- later rounds: fewer contenders, more seeds, finer numbers and depths

    def halve(self, contenders: list[Contender]) -> list[Contender]:
        """Return the best contenders after all rounds; their `error` is the tolerance limit over the last round's seeds."""
        for place, seeds in enumerate(self.seeds[1:], start=1):
            contenders = contenders[: max(LEFT, math.ceil(len(contenders) / 3))]
            last = place == len(self.seeds) - 1
            if place == 1:
                contenders = self._with_neighbors(contenders)
            contenders = [better for each in contenders if (better := self._refined(each, seeds, last))]
            if self.wish.error is not None:
                contenders = self._affordable(self.timed(contenders))
            else:
                contenders = sorted(contenders, key=lambda each: each.error)
        return contenders

    def _with_neighbors(self, contenders: list[Contender]) -> list[Contender]:
        """Add the windows or terms between those of a contender and the neighboring ones that were tried."""
        found = {each.name: each for each in contenders}
        for each in contenders:
            if not each.family:
                continue
            at = NUMBERS.index(each.number)
            for neighbor in NUMBERS[max(at - 1, 0) : at + 2]:
                between = round(math.sqrt(neighbor * each.number))
                if between < self.most_depth:
                    new = replace(each, estimator=each.family.member(between), number=between)
                    found.setdefault(new.name, new)
        return list(found.values())

    def _refined(self, contender: Contender, seeds: list[int], last: bool) -> Contender | None:
        """Return the contender at the smallest depth near its own that meets the wish on more seeds."""
        limit = self.limit_of if last else lambda errors: float(errors.max())
        if self.wish.error is None:
            return replace(contender, error=limit(self.trials.errors(contender.estimator, seeds, [contender.depth])[:, 0]))
        most = min(2 * contender.depth, self.most_depth)
        depths = sorted({*np.unique(np.geomspace(max(0.7 * contender.depth, 1), most, 13).round().astype(int)).tolist()})
        errors = self.trials.errors(contender.estimator, seeds, depths)
        for place, depth in enumerate(depths):
            if (found := limit(errors[:, place])) <= self.wish.error:
                return replace(contender, depth=depth, error=found)
        return None

    def limit_of(self, errors: np.ndarray) -> float:
        """Return an upper limit on the errors of nearly all seeds, or the error itself where there is one problem only."""
        return float(errors[0]) if self.trials.seeds == 1 else max(tolerance_limit(errors), float(errors.max()))
