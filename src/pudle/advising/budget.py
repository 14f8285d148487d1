"""The first round where the wish names no error: the most accurate contenders within a time and a
memory.
"""

from __future__ import annotations

import math
from dataclasses import replace

from .race import MARGIN, Race
from .records import Contender


def within_budget(
    race: Race, contenders: list[Contender]
) -> tuple[list[Contender], list[Contender]]:
    """Return the contenders at their best depth within the budget, most accurate first, and those
    beyond it at one layer.

    Every level is timed at its end; between two ends time is linear in depth.
    """
    best: dict[str, Contender] = {}
    known: dict[str, Contender] = {}
    waiting = race.timed([replace(each, depth=1) for each in contenders])
    dear = [each for each in waiting if not _fits(race, each)]
    for level in race.levels:
        timed = race.timed(
            [replace(each, depth=level[-1]) for each in waiting if each.number < level[-1]]
        )
        going_on = [each for each in waiting if each.number >= level[-1]]
        for end in timed:
            start = known.get(end.name, replace(end, depth=0, seconds=0.0))
            depths = _affordable(race, start, end, race.different(end, level))
            known[end.name] = end
            if depths:
                worst = race.errors(end, race.seeds[0], depths).max(0)
                found = replace(end, depth=depths[int(worst.argmin())], error=float(worst.min()))
                best[end.name] = min(best.get(end.name, found), found, key=lambda each: each.error)
            if level[-1] in depths and race.falls(end, level[-1]):
                going_on.append(end)
        waiting = going_on
    return sorted(best.values(), key=lambda each: each.error), dear


def _affordable(race: Race, start: Contender, end: Contender, level: tuple[int, ...]) -> list[int]:
    """Return the depths of a level within the budget, from the times at its two ends."""
    slope = (end.seconds - start.seconds) / (end.depth - start.depth)
    at = {
        depth: replace(end, depth=depth, seconds=start.seconds + slope * (depth - start.depth))
        for depth in level
    }
    depths = [
        depth
        for depth, contender in at.items()
        if contender.seconds <= MARGIN * (race.wish.seconds or math.inf)
    ]
    # More layers never need less memory: the first that fits, from the deepest on, is the last that
    # fits.
    while depths and not _fits(race, at[depths[-1]]):
        depths = depths[:-1]
    return depths


def _fits(race: Race, contender: Contender) -> bool:
    """Return whether a contender is within the time and the memory of the wish."""
    fast = contender.seconds <= MARGIN * (race.wish.seconds or math.inf)
    return fast and (race.wish.memory is None or race.weighed(contender).memory <= race.wish.memory)
