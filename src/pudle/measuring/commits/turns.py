"""Time the cells of two commits in turns, one process per commit."""

from __future__ import annotations

import math
import multiprocessing
import subprocess
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pandas as pd

from ...files import read_json
from .pair import Cell, rounds_frame
from .side import TIMES_SCRIPT, Side
from .times import CELL, TimeLimit, compare_rounds, rounds_needed

#: Seconds that one timed sample should last, and the least and the most calls in it; the fastest call counts.
SAMPLE_SECONDS = 0.03
MIN_CALLS, MAX_CALLS = 2, 20


def time_in_turns(
    sides: Mapping[str, Side], cells: Sequence[Cell], limit: TimeLimit, log: Callable[[str], None]
) -> pd.DataFrame:
    """Time cells on both sides, then time those that seem slower again, for twice as many rounds and in new processes.

    For the latter only the second measurement counts: a cell chosen for its large ratio is also chosen for bad luck, and
    some of that belongs to a process, such as where its memory happens to lie. The result is the table that
    `compare_rounds` takes.
    """
    rounds = rounds_needed(len(cells), limit.significance)
    log(f"times of {len(cells)} cells, {rounds} rounds")
    first = _measure(sides, cells, rounds)
    compared = compare_rounds(first)
    slower = list(compared.loc[compared["ratio"] > limit.ratio, CELL].itertuples(index=False, name=None))
    if not slower:
        return first
    log(f"times of {len(slower)} cells again")
    second = _measure(sides, slower, 2 * rounds)
    settled = pd.MultiIndex.from_frame(first[CELL]).isin(slower)
    return pd.concat([first[~settled], second], ignore_index=True)


def _measure(sides: Mapping[str, Side], cells: Sequence[Cell], rounds: int) -> pd.DataFrame:
    workers: dict[str, _Worker] = {}
    rows: list[dict[str, Any]] = []
    try:
        for cell in cells:
            row = dict(zip(CELL, cell, strict=True))
            single: dict[str, float] = {}
            try:
                for name, side in sides.items():
                    if name not in workers:
                        workers[name] = _Worker(side)
                    single[name] = workers[name].ask(cell)
                # Both sides take the same number of calls, whichever is slower.
                calls = min(max(MIN_CALLS, math.ceil(SAMPLE_SECONDS / max(single["base"], 1e-9))), MAX_CALLS)
                for turn in range(rounds):
                    # The second side finds the caches as the first left them, so the sides change places every round.
                    order = list(sides)[:: 1 if turn % 2 == 0 else -1]
                    seconds = {name: workers[name].ask(calls) for name in order}
                    rows.append(row | {"round": turn, "reason": ""} | seconds)
            except _NotTimed as error:
                # Where base has no time either, a failure of head is no regression.
                rows.append(row | {"round": -1, "reason": str(error), "base": single.get("base"), "head": None})
                _end(workers)
    finally:
        _end(workers)
    return rounds_frame(rows)


def _end(workers: dict[str, _Worker]) -> None:
    for worker in workers.values():
        worker.process.kill()
        worker.process.wait()
        worker.connection.close()
    workers.clear()


class _NotTimed(Exception):
    """An estimate failed, exceeded the timeout or ended its process; the text says which."""


class _Worker:
    """A process with one side's Python that times cells on request, see ``times_script.py``."""

    def __init__(self, side: Side) -> None:
        self.timeout = float(read_json(side.selection)["timeout"])
        self.connection, theirs = multiprocessing.Pipe()
        self.process = subprocess.Popen(
            [side.python, TIMES_SCRIPT, str(theirs.fileno())], pass_fds=[theirs.fileno()], cwd=side.folder,
            env=side.environment(), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        theirs.close()

    def ask(self, request: Cell | int) -> float:
        """Return the seconds of one call of a cell, or of the fastest of a number of calls of the last cell."""
        try:
            self.connection.send(request)
            if not self.connection.poll(self.timeout):
                raise _NotTimed(f"not finished after {self.timeout:g} s")
            answer = self.connection.recv()
        except (EOFError, OSError):
            raise _NotTimed(f"the process ended with exit code {self.process.wait()}") from None
        if isinstance(answer, str):
            raise _NotTimed(answer)
        return answer
