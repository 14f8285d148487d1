"""The race: many estimators on few seeds, then fewer on more, until a few are left."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np

from . import timing
from .candidates import Family
from .records import Contender, Wish
from .statistics import tolerance_limit
from .trials import Trials

#: Depths that are tried at first, in levels: deeper ones are tried only for what can still win
#: there.
LEVELS = ((2, 5, 10, 20, 50), (100, 200), (400, 800), (1600,))
#: Windows and terms that are tried at first, from the level that is deeper; between the best ones
#: more are tried later.
NUMBERS = (2, 5, 10, 20, 50, 100, 200, 500)
#: Seeds of the rounds. Of the contenders one of `HALVING` goes on to the next, and not fewer than
#: `LEFT`.
SEEDS = (3, 6, 12)
HALVING, LEFT = 3, 2
#: One estimate may take so many times that of the median candidate at `FIRST_DEPTH`.
SLOWEST, FIRST_DEPTH = 30.0, 5
#: An error has a floor where doubling the depth leaves more than this share of it.
FLOOR = 0.9
#: Depths that are tried around one that met the wish.
FINER = 6
#: The first of them, as a share of it: the depth below it that was tried may have missed the wish
#: by little.
NEAR = 0.5
#: A time may take this share of what is allowed: it is measured once more at the end.
MARGIN = 0.9
ROUNDS = 3
#: An error that is promised is at most so many times the largest one seen.
WIDEST = 3.0


class Race:
    """The search for the fastest contender within a wish, or the most accurate one where the wish
    names no error.

    Parameters
    ----------
    trials : Trials
    wish : Wish
    most_depth : int
        Largest depth that is tried.
    """

    def __init__(self, trials: Trials, wish: Wish, most_depth: int) -> None:
        self.trials, self.wish, self.most_depth = trials, wish, most_depth
        self.levels = [
            depths
            for level in LEVELS
            if (depths := tuple(depth for depth in level if depth <= most_depth))
        ]
        if most_depth > self.levels[-1][-1]:
            self.levels.append((most_depth,))
        self.left_out: dict[str, str] = {}
        #: What came nearest of those that met the wish on the first seeds and not on more.
        self.missed: Contender | None = None
        self.seeds = [
            trials.scorable(range(count)) for count in (SEEDS if trials.seeds is None else (1,))
        ]

    # -- the first round: every candidate on few seeds, at depths as they are needed

    def start(self, single: Iterable[Any], families: Iterable[Family]) -> list[Contender]:
        """Return the candidates that can treat the problem in reasonable time, at no depth yet."""
        families = list(families)
        first = [Contender(family.member(NUMBERS[0]), 0, family, NUMBERS[0]) for family in families]
        able = [
            each
            for each in [*(Contender(estimator, 0) for estimator in single), *first]
            if self._is_able(each)
        ]
        if not able:
            return []
        depth = min(FIRST_DEPTH, self.most_depth)
        calls = [(each.estimator, depth) for each in able]
        seconds = timing.times(
            calls, self.trials.problem(self.seeds[0][0]), self.trials.algorithm, 1
        )[0]
        for each, ratio in zip(able, seconds / np.median(seconds), strict=True):
            if ratio > SLOWEST:
                self.left_out[each.name] = (
                    f"slow: {ratio:.0f} times the median candidate's time at {depth} layers"
                )
        able = [each for each in able if each.name not in self.left_out]
        more = [
            replace(each, estimator=each.family.member(number), number=number)
            for each in able
            if each.family
            for number in NUMBERS[1:]
            if number < self.most_depth
        ]
        return able + more

    def _is_able(self, contender: Contender) -> bool:
        """Return whether the first seed's problem can be treated; a failure at a small depth alone
        does not count.
        """
        for depth in dict.fromkeys((min(FIRST_DEPTH, self.most_depth), self.levels[0][-1])):
            if np.isfinite(
                self.trials.errors(contender.estimator, self.seeds[0][:1], [depth])
            ).all():
                return True
        self.left_out[contender.name] = self.trials.failures[contender.name]
        return False

    def reached(self, contenders: list[Contender]) -> tuple[list[Contender], list[Contender]]:
        """Return those that meet the wish on the first seeds, timed, fastest first, and the nearest
        of the others.

        Deeper levels are tried for those that do not meet it yet, have no floor, and are not slower
        already than the fastest that does.
        """
        wanted, met, nearest = (
            self.wish.error or math.inf,
            list[Contender](),
            dict[str, Contender](),
        )
        waiting = contenders
        for level in self.levels:
            missed = []
            for each in waiting:
                best = self.best_on(each, level, wanted)
                if best.error <= wanted:
                    met.append(best)
                    continue
                missed.append(each)
                if best.error < nearest.get(each.name, each).error:
                    nearest[each.name] = best
            met = self.timed(met)
            waiting = self._worth_going_on(missed, level[-1], met)
            if not waiting:
                break
        return self._affordable(met), sorted(nearest.values(), key=lambda one: one.error)

    def best_on(self, contender: Contender, depths: tuple[int, ...], error: float) -> Contender:
        """Return the contender at the smallest depth that meets an error on the first seeds, else
        at its best depth.
        """
        depths = self.different(contender, depths) if contender.number < depths[-1] else ()
        if not depths:
            return contender
        worst = self.trials.errors(contender.estimator, self.seeds[0], depths).max(0)
        within = np.flatnonzero(worst <= error)
        place = int(within[0]) if len(within) else int(worst.argmin())
        return replace(contender, depth=depths[place], error=float(worst[place]))

    def different(self, contender: Contender, depths: tuple[int, ...]) -> tuple[int, ...]:
        """Return the depths at which a contender is not full backpropagation: a window of the depth
        or more is.
        """
        windows = contender.family is not None and contender.family.windows
        return tuple(depth for depth in depths if depth > contender.number) if windows else depths

    def _worth_going_on(
        self, missed: list[Contender], depth: int, met: list[Contender]
    ) -> list[Contender]:
        """Return those that could still be the fastest: more layers never take less time."""
        falling = [each for each in missed if self.falls(each, depth)]
        if not met:
            return falling
        fastest = min(each.seconds for each in met)
        return [
            each
            for each in self.timed([replace(each, depth=depth) for each in falling])
            if each.seconds < fastest
        ]

    def falls(self, contender: Contender, depth: int) -> bool:
        """Return whether more layers still help."""
        if contender.number >= depth:
            return True
        half, whole = self.trials.errors(
            contender.estimator, self.seeds[0], [max(depth // 2, 1), depth]
        ).T
        return bool((~np.isfinite(half) | (whole < FLOOR * half)).any())

    # -- times and memory

    def timed(self, contenders: list[Contender], rounds: int = ROUNDS) -> list[Contender]:
        """Return the contenders with their times, all measured in turns on one problem, fastest
        first.
        """
        if not contenders:
            return []
        calls = [(each.estimator, each.depth) for each in contenders]
        seconds = timing.times(
            calls, self.trials.problem(self.seeds[0][0]), self.trials.algorithm, rounds
        )
        found = [
            replace(each, seconds=float(taken))
            for each, taken in zip(contenders, np.median(seconds, 0), strict=True)
        ]
        return sorted(found, key=lambda each: each.seconds)

    def weighed(self, contender: Contender) -> Contender:
        """Return the contender with its memory."""
        problem = self.trials.problem(self.seeds[0][0])
        return replace(
            contender,
            memory=timing.memory(
                contender.estimator, problem, self.trials.algorithm, contender.depth
            ),
        )

    def _affordable(self, contenders: list[Contender]) -> list[Contender]:
        """Return those within the time and the memory of the wish; memory is measured of the
        fastest until a few fit.
        """
        found = [
            each for each in contenders if each.seconds <= MARGIN * (self.wish.seconds or math.inf)
        ]
        weighed = []
        if self.wish.memory is not None:
            for each in found:
                weighed.append(self.weighed(each))
                if sum(one.memory <= self.wish.memory for one in weighed) == HALVING * LEFT:
                    break
            found = [each for each in weighed if each.memory <= self.wish.memory]
        if contenders and not found:
            self.missed = min(weighed, key=lambda each: each.memory) if weighed else contenders[0]
        return found

    # -- later rounds: fewer contenders, more seeds, finer numbers and depths

    def halve(self, contenders: list[Contender]) -> list[Contender]:
        """Return the best contenders of the last round; their `error` is the tolerance limit over
        its seeds.

        After the first round the windows and terms between those that lead and their neighbors join
        in.
        """
        for place, seeds in enumerate(self.seeds[1:], start=1):
            contenders = _leading(contenders)
            if place == 1:
                contenders = self._with_neighbors(contenders)
            last, error = place == len(self.seeds) - 1, self.wish.error
            if error is not None:
                met = [
                    better
                    for each in contenders
                    if (better := self.refined(each, seeds, error, last))
                ]
                contenders = self._affordable(self.timed(met))
            else:
                errors = [self.errors(each, seeds, [each.depth])[:, 0] for each in contenders]
                limits = [
                    replace(each, error=self.limit_of(found))
                    for each, found in zip(contenders, errors, strict=True)
                ]
                contenders = sorted(limits, key=lambda each: each.error)
        return contenders

    def _with_neighbors(self, contenders: list[Contender]) -> list[Contender]:
        found = {each.name: each for each in contenders}
        for each in contenders:
            at = NUMBERS.index(each.number) if each.family else 0
            for neighbor in NUMBERS[max(at - 1, 0) : at + 2] if each.family else ():
                between = round(math.sqrt(neighbor * each.number))
                if each.family and between < self.most_depth:
                    new = replace(each, estimator=each.family.member(between), number=between)
                    found.setdefault(new.name, new)
        return list(found.values())

    def refined(
        self, contender: Contender, seeds: list[int], error: float, last: bool
    ) -> Contender | None:
        """Return the contender at a depth, from near its own on, that meets an error on more seeds;
        None if there is none.

        The depth is the largest that a seed needs, and in the last round the tolerance limit of
        these depths: the depths that seeds need vary less, and more evenly, than their errors at
        one depth.
        """
        depths: list[int] = []
        low = NEAR * contender.depth
        while low < self.most_depth:
            high = min(2 * max(low, 1.0), self.most_depth)
            depths += [depth for depth in _between(low, high) if depth not in depths]
            errors = self.errors(contender, seeds, depths)
            needed = [_needed(depths, row, error) for row in errors]
            most = tolerance_limit(needed) if last and len(seeds) > 1 else max(needed)
            if most <= self.most_depth:
                found = replace(contender, depth=math.ceil(most - 1e-9))
                found = replace(found, error=float(self.errors(found, seeds, [found.depth]).max()))
                if found.error <= error:
                    return found
            low = high
        worst = errors.max(0)
        nearest = replace(contender, depth=depths[int(worst.argmin())], error=float(worst.min()))
        if self.missed is None or nearest.error < self.missed.error:
            self.missed = nearest
        return None

    def errors(self, contender: Contender, seeds: list[int], depths: list[int]) -> np.ndarray:
        """Return the errors of a contender's estimator, shape (seeds, depths)."""
        return self.trials.errors(contender.estimator, seeds, depths)

    def limit_of(self, errors: np.ndarray) -> float:
        """Return what nearly all seeds' errors at one depth are below.

        It is the tolerance limit, but at most a few times the largest error: errors that spread
        over many decades would make it useless. New seeds test it.
        """
        return float(min(max(tolerance_limit(errors), errors.max()), WIDEST * errors.max()))


def _needed(depths: list[int], errors: np.ndarray, wanted: float) -> float:
    """Return the first of ascending depths from which errors stay at or below the wanted one, or
    infinity.
    """
    above = np.flatnonzero(errors > wanted)
    place = int(above[-1]) + 1 if len(above) else 0
    return float(depths[place]) if place < len(depths) else math.inf


def _between(low: float, high: float) -> list[int]:
    """Return depths from a low to a high one, in equal ratios."""
    depths = np.geomspace(max(low, 1.0), high, FINER).round().astype(int)
    return np.unique(depths).tolist()


def _leading(contenders: list[Contender]) -> list[Contender]:
    """Return the first of the contenders, and the first of another kind if they are all of one."""
    leading = contenders[: max(LEFT, math.ceil(len(contenders) / HALVING))]
    others = [each for each in contenders if each.kind != leading[0].kind] if leading else []
    alike = all(each.kind == leading[0].kind for each in leading)
    return leading + others[:1] if alike else leading


def of_each_kind(contenders: list[Contender]) -> list[Contender]:
    """Return the first contender of each kind."""
    return list({each.kind: each for each in reversed(contenders)}.values())[::-1]
