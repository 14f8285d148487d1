"""Promises: what the race leaves is tested on seeds that had no part in it, and timed beside
backpropagation.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from typing import Any

import numpy as np

from . import timing
from .race import SEEDS, Race
from .records import Contender, Promise
from .statistics import CONFIDENCE, are_equal, least_share

#: The estimator whose time others are compared with.
BASE = "backprop"
#: Share of the new seeds that may miss a promise; otherwise a more careful one is tested, so many
#: times at most.
MISSES, ATTEMPTS = 0.05, 3
#: A more careful promise has so many times the layers or, where a budget gives the depth, so many
#: times the error.
DEEPER, WEAKER = 1.2, 1.5
#: Errors that a reader may need next, as shares of the one that was asked for.
STRICTER = (1e-2, 1e-4)
#: Rounds of the times on each of the first few seeds.
ROUNDS, TIMED = 7, 3


class Promises:
    """Promises about contenders, each tested on new seeds of its own.

    Parameters
    ----------
    race : Race
    seeds : int
        Number of new seeds of a test.
    """

    def __init__(self, race: Race, seeds: int) -> None:
        self.race, self.trials = race, race.trials
        self.alone = race.trials.seeds is not None
        starts = itertools.count(SEEDS[-1], seeds)
        self._new = (
            itertools.repeat(range(1))
            if self.alone
            else (range(start, start + seeds) for start in starts)
        )
        self._tests = itertools.count(1)
        #: New seeds without a reference to score against.
        self.unscorable = 0

    def test(self, contender: Contender) -> Promise:
        """Return a contender with its promise tested; one that is broken too often is made more
        careful and tested anew.

        So that all statements hold together with the confidence, each test has half of the risk
        that is left.
        """
        for _ in range(ATTEMPTS):
            drawn = next(self._new)
            seeds = self.trials.scorable(drawn)
            self.unscorable += len(drawn) - len(seeds)
            promise = self.race.wish.error or rounded_up(contender.error)
            errors = self.trials.errors(contender.estimator, seeds, [contender.depth])[:, 0]
            kept, risk = int((errors <= promise).sum()), (1 - CONFIDENCE) / 2 ** next(self._tests)
            share = math.nan if self.alone else least_share(kept, len(seeds), 1 - risk)
            tested = Promise(contender, promise, kept, len(seeds), share, float(np.median(errors)))
            if self.is_kept(tested):
                break
            contender = self._careful(contender)
        return tested

    @staticmethod
    def is_kept(tested: Promise) -> bool:
        """Return whether nearly all new seeds keep the promise."""
        return tested.seeds - tested.kept <= MISSES * tested.seeds

    def _careful(self, contender: Contender) -> Contender:
        if self.race.wish.error is None:
            return replace(contender, error=WEAKER * contender.error)
        return replace(
            contender, depth=min(math.ceil(DEEPER * contender.depth), self.race.most_depth)
        )

    def base(self, tested: list[Promise]) -> Contender | None:
        """Return `BASE` at the depth at which it makes the first promise by the same rule; None if
        it does not.
        """
        for each in tested:
            if each.contender.name == BASE:
                return each.contender
        seeds, error = self.race.seeds[-1], tested[0].error
        for level in self.race.levels:
            worst = self.trials.errors(BASE, seeds, level).max(0)
            if (within := np.flatnonzero(worst <= error)).size:
                return self.race.refined(
                    Contender(BASE, level[int(within[0])]), seeds, error, last=True
                )
        return None

    def compared(self, kept: list[Promise]) -> dict[str, Any]:
        """Return the fields of an advice about two promises and `BASE`, with times measured in
        turns.

        The first promise is the choice. But where both keep the error that was wished for, the
        faster one is.
        """
        base = self.base(kept)
        rows = [each.contender for each in kept[:2]] + ([base] if base else [])
        calls = [(each.estimator, each.depth) for each in rows]
        seeds = self.race.seeds[-1][:TIMED]
        seconds = np.concatenate(
            [
                timing.times(calls, self.trials.problem(seed), self.trials.algorithm, ROUNDS)
                for seed in seeds
            ]
        )
        timed = [
            replace(each, seconds=float(taken))
            for each, taken in zip(rows, np.median(seconds, 0), strict=True)
        ]
        tied = len(kept) > 1 and are_equal(seconds[:, 0], seconds[:, 1])
        made = [
            (replace(each, contender=at), taken)
            for each, at, taken in zip(kept[:2], timed, seconds.T, strict=False)
        ]
        # The race timed them on one problem and in fewer rounds.
        if self.race.wish.error is not None and not tied:
            made.sort(key=lambda pair: pair[0].contender.seconds)
        (chosen, taken), *others = made
        fields: dict[str, Any] = {
            "chosen": chosen,
            "runner_up": others[0][0] if others else None,
            "tied": tied,
        }
        if base:
            fields |= {"base": timed[-1], "relative_time": float(np.median(taken / seconds[:, -1]))}
        return fields

    def stricter(self, able: list[Contender], error: float) -> dict[float, Contender]:
        """Return the fastest candidate without a family for smaller errors, as far as some reach
        them on the first seeds.
        """
        single, found = [each for each in able if not each.family], dict[float, Contender]()
        for goal in (error * share for share in STRICTER):
            for level in self.race.levels:
                best = [self.race.best_on(each, level, goal) for each in single]
                if met := [each for each in best if each.error <= goal]:
                    found[goal] = self.race.timed(met)[0]
                    break
        return found


def rounded_up(value: float) -> float:
    """Return a number rounded up to two digits."""
    unit = 10.0 ** (math.floor(math.log10(value)) - 1)
    return float(f"{math.ceil(value / unit - 1e-9) * unit:.2g}")
