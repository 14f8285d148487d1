"""Time the cells of two commits in turns, one process per commit, and compare the times."""

import math
import time
from collections.abc import Callable, Mapping, Sequence

import pandas as pd
from msgspec import structs

from ... import paired
from ...errors import PudleError
from ..contents import Round

#: Case, estimator and depth.
Cell = tuple[str, str, int]
#: Gives the seconds of a cell at a commit, or raises PudleError.
Timer = Callable[[Cell], float]

#: Columns that identify a timed cell.
CELL = ["case", "estimator", "depth"]
#: Rounds of each cell.
ROUNDS = 14


def time_in_turns(
    timers: Mapping[str, Timer], cells: Sequence[Cell], until: float = math.inf
) -> list[Round]:
    """Time cells on both sides, ``base`` and ``head``; no cell is begun after `until`, of the
    monotonic clock.
    """
    rounds = []
    for case, estimator, depth in cells:
        if time.monotonic() > until:
            break
        place = {"case": case, "estimator": estimator, "depth": depth}
        times: dict[str, float] = {}
        try:
            # These times do not count: base comes first.
            for name in timers:
                times[name] = timers[name]((case, estimator, depth))
            for turn in range(ROUNDS):
                for number in paired.order(turn, len(timers)):
                    name = [*timers][number]
                    times[name] = timers[name]((case, estimator, depth))
                rounds.append(Round(**place, round=turn, **times))
        except PudleError as error:
            # Where base has no time either, a failure of head is no regression.
            base = times.get("base")
            rounds.append(Round(**place, round=-1, reason=str(error), base=base))
    return rounds


def compare_rounds(rounds: Sequence[Round]) -> pd.DataFrame:
    """Compare the times of every cell over its rounds.

    Returns
    -------
    DataFrame
        One row per cell: `CELL`, the metric, which is seconds, the medians ``base`` and ``head``,
        their statuses, the ratio ``change`` of head to base, the p-values ``p_slower`` and
        ``p_faster`` of one side each, see `paired.compare`, not corrected for the number of cells,
        and ``reason_head``. Where a time is missing, change and p-values are NaN, and that is the
        first reason for it.
    """
    rows = pd.DataFrame(map(structs.asdict, rounds), columns=[*CELL, "base", "head", "reason"])
    rows = rows.astype({"base": "float64", "head": "float64"})
    compared = []
    for cell, times in rows.groupby(CELL, sort=False):
        base, head = times[["base", "head"]].median()
        reason = next(filter(None, times["reason"]), "")
        missing = paired.Ratio(math.nan, p_value=math.nan)
        ratio = missing if reason else paired.compare(times["head"], times["base"])
        slower = ratio.p_value / 2 if ratio.value > 1 else 1 - ratio.p_value / 2
        statuses = ["error" if failed else "ok" for failed in (math.isnan(base), reason)]
        numbers = (base, head, ratio.value, slower, 1 - slower)
        compared.append([*cell, "seconds", *numbers, *statuses, reason])
    names = ["base", "head", "change", "p_slower", "p_faster"]
    columns = [*CELL, "metric", *names, "status_base", "status_head", "reason_head"]
    types = dict.fromkeys(names, "float64") | {"depth": "Int64"}
    return pd.DataFrame(compared, columns=columns).astype(types)
