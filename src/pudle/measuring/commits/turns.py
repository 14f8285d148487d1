"""Time the cells of two commits in turns, one process per commit, and compare the times."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
from scipy import stats

from ...workers import Process

#: Case, estimator and depth.
Cell = tuple[str, str, int]

#: Columns that identify a timed cell.
CELL = ["case", "estimator", "depth"]

#: Seconds that one timed sample should last, and the least and the most calls in it; the fastest
#: call counts.
SAMPLE_SECONDS = 0.03
MIN_CALLS, MAX_CALLS = 2, 20


@dataclass(frozen=True)
class TimeLimit:
    """How much slower an estimate may become: by the median `ratio`, at the false discovery rate
    `significance`.
    """

    ratio: float = 1.3
    significance: float = 0.01


def time_in_turns(
    sides: Mapping[str, Side],
    cells: Sequence[Cell],
    limit: TimeLimit,
    log: Callable[[str], None],
    until: float = math.inf,
) -> list[dict[str, Any]]:
    """Time cells on both sides, then time those that seem slower again, for twice as many rounds
    and in new processes.

    For the latter only the second measurement counts: a cell chosen for its large ratio is also
    chosen for bad luck, and some of that belongs to a process, such as where its memory happens to
    lie. No cell is begun after `until`, of the monotonic clock. The result is the rows of the table
    that `compare_rounds` takes.
    """
    rounds = rounds_needed(len(cells), limit.significance)
    log(f"times of {len(cells)} cells, {rounds} rounds")
    first = _measure(sides, cells, rounds, until)
    compared = compare_rounds(rounds_frame(first))
    slower = list(
        compared.loc[compared["ratio"] > limit.ratio, CELL].itertuples(index=False, name=None)
    )
    if not slower:
        return first
    log(f"times of {len(slower)} cells again")
    again = _measure(sides, slower, 2 * rounds, until)
    replaced = {place(row) for row in again}
    return [row for row in first if place(row) not in replaced] + again


def place(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return the cell that a row belongs to."""
    return tuple(row[name] for name in CELL)


def rounds_needed(cells: int, significance: float) -> int:
    """Return the number of rounds that make a single slower cell among many significant.

    The smallest p-value of the signed-rank test on ``n`` pairs is ``2**-n``, and the correction for
    the number of cells multiplies it by that number. Three more rounds make up for a round or two
    that the machine disturbs.
    """
    return math.ceil(math.log2(max(cells, 1) / significance)) + 3


def rounds_frame(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """Return times measured in turns as a table."""
    frame = pd.DataFrame(rows, columns=[*CELL, "round", "base", "head", "reason"])
    return frame.astype({"base": "float64", "head": "float64"})


def compare_rounds(rounds: pd.DataFrame) -> pd.DataFrame:
    """Compare the times of every cell over its rounds.

    Parameters
    ----------
    rounds : DataFrame
        Seconds of both sides: one row per (case, estimator, depth, round) with the columns
        ``base``, ``head`` and ``reason``, which says why a time is missing.

    Returns
    -------
    DataFrame
        One row per cell: `CELL`, the medians ``base`` and ``head``, the median ``ratio`` of head to
        base, the p-values ``p_slower`` and ``p_faster`` of Wilcoxon's signed-rank test, not
        corrected for the number of cells, and ``reason``. Where a time is missing, ratio and
        p-values are NaN and ``reason`` is the first reason for it.
    """
    rows = []
    for place, cell in rounds.groupby(CELL, sort=False):
        pairs = cell[["base", "head"]].dropna()
        reason = next(filter(None, cell["reason"]), "not measured" if pairs.empty else "")
        medians = (cell if reason else pairs)[["base", "head"]].median()
        tests = [math.nan] * 3
        if not reason:
            logs = np.log(pairs["head"].to_numpy() / pairs["base"].to_numpy())
            tests = [np.exp(np.median(logs)), 1.0, 1.0]
            # The signed-rank test drops zeros, and has no p-value where nothing else is left.
            if np.any(logs):
                tests[1:] = [
                    stats.wilcoxon(logs, alternative=side).pvalue for side in ("greater", "less")
                ]
        rows.append((*place, *medians, *tests, reason))
    return pd.DataFrame(
        rows, columns=[*CELL, "base", "head", "ratio", "p_slower", "p_faster", "reason"]
    )


def _measure(
    sides: Mapping[str, Side], cells: Sequence[Cell], rounds: int, until: float
) -> list[dict[str, Any]]:
    timers: dict[str, Timer] = {}
    rows: list[dict[str, Any]] = []
    try:
        for cell in cells:
            if time.monotonic() > until:
                break
            row = dict(zip(CELL, cell, strict=True)) | {"reason": ""}
            single: dict[str, float] = {}
            try:
                for name, side in sides.items():
                    timers[name] = timers.get(name) or side.timer()
                    single[name] = timers[name].ask(cell)
                # Both sides take the same number of calls, whichever is slower.
                needed = math.ceil(SAMPLE_SECONDS / max(single["base"], 1e-9))
                calls = min(max(MIN_CALLS, needed), MAX_CALLS)
                for turn in range(rounds):
                    # The second side finds the caches as the first left them, so the sides change
                    # places every round.
                    order = list(sides)[:: 1 if turn % 2 == 0 else -1]
                    times = {name: timers[name].ask(calls) for name in order}
                    rows.append(row | {"round": turn} | times)
            except _NotTimed as error:
                # Where base has no time either, a failure of head is no regression.
                missing = {"base": single.get("base"), "head": None}
                rows.append(row | {"round": -1, "reason": str(error)} | missing)
                while timers:
                    timers.popitem()[1].process.end()
    finally:
        for timer in timers.values():
            timer.process.end()
    return rows


class _NotTimed(Exception):
    """An estimate failed, exceeded the timeout or ended its process; the text says which."""


class Timer(NamedTuple):
    """A process that times cells on request, see ``script.py``, and the seconds it may take."""

    process: Process
    timeout: float

    def ask(self, request: Cell | int) -> float:
        """Return the seconds of one call of a cell, or of the fastest of a number of calls of the
        last cell.
        """
        try:
            self.process.talk.send(request)
            if not self.process.talk.poll(self.timeout):
                raise _NotTimed(f"not finished after {self.timeout:g} s")
            answer = self.process.talk.recv()
        except (EOFError, OSError):
            raise _NotTimed(f"the process ended with exit code {self.process.wait()}") from None
        if isinstance(answer, str):
            raise _NotTimed(answer)
        return answer


class Side(Protocol):
    """What can be timed."""

    def timer(self) -> Timer:
        """Return a process that times its cells."""
        ...
