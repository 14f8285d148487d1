"""Time the cells of two commits in turns, one process per commit."""

import functools
import math
import time
from collections.abc import Callable, Mapping, Sequence

from ... import paired
from ...errors import PudleError
from ..stored_files import Round

#: Case, estimator and depth.
Cell = tuple[str, str, int]
#: Gives the seconds of a cell at a commit, or raises PudleError.
Timer = Callable[[Cell], float]

#: Rounds of each cell.
ROUNDS = 14


def time_in_turns(
    timers: Mapping[str, Timer], cells: Sequence[Cell], until: float = math.inf
) -> list[Round]:
    """Time cells on both sides, ``base`` and ``head``, and return the rounds, `ROUNDS` of each
    cell; no cell is begun after `until`, of the monotonic clock.

    The first times of a cell on both sides warm up and do not count. A failure ends the rounds of
    its cell, with one more round that has the reason and, where base had one, base's last time.
    """
    rounds = []
    for case, estimator, depth in cells:
        if time.monotonic() > until:
            break
        make = functools.partial(Round, case=case, estimator=estimator, depth=depth)
        times: dict[str, float] = {}
        try:
            # These times do not count: base comes first.
            for name in timers:
                times[name] = timers[name]((case, estimator, depth))
            for turn in range(ROUNDS):
                for number in paired.order(turn, len(timers)):
                    name = [*timers][number]
                    times[name] = timers[name]((case, estimator, depth))
                rounds.append(make(base=times.get("base"), head=times.get("head")))
        except PudleError as error:
            # Where base has no time either, a failure of head is no regression.
            base = times.get("base")
            rounds.append(make(reason=str(error), base=base))
    return rounds
