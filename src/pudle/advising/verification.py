"""What the search chose is tested on seeds that had no part in it, and timed beside `backprop`."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from decimal import ROUND_CEILING, Context
from typing import Any

import numpy as np

from .. import names
from ..answers import Answer
from .advice import Choice
from .candidates import Candidate
from .search import Search
from .statistics import CONFIDENCE, are_equal, least_share, tolerance_limit

#: The estimator whose time others are compared with.
BASE = "backprop"
#: Share of the new seeds that may exceed an error; otherwise a more careful choice is tested, so
#: many times at most.
MISSES, ATTEMPTS = 0.05, 3
#: A more careful choice has so many times the layers or, where none is required, so many times the
#: error.
DEEPER, WEAKER = 1.2, 1.5
#: An error is stated as at most so many times the largest one seen: errors that spread over many
#: decades would make a tolerance limit useless, and new seeds test it.
WIDEST = 3.0
#: Rounds of the times on each of the first few seeds.
ROUNDS, TIMED = 7, 3


def verified(
    search: Search, candidate: Candidate, chosen: Answer, tests: Iterator[tuple[int, range]]
) -> Choice:
    """Test a candidate at the depth of an answer; where too many seeds exceed the error, a more
    careful choice is tested anew.

    Each of the numbered `tests` has seeds of its own, and half of the risk that is left, so that
    all statements hold together with the confidence.
    """
    draws, depth, required = search.draws, int(chosen.depth), search.requirement.error
    errors = draws.errors(candidate, search.more, [depth]).loc[depth]
    limit = np.clip(tolerance_limit(errors), errors.max(), WIDEST * errors.max())
    stated = required or rounded_up(limit)
    for _ in range(ATTEMPTS):
        number, drawn = next(tests)
        seeds = draws.scorable(drawn)
        errors = draws.errors(candidate, seeds, [depth]).loc[depth]
        # An error that is NaN keeps nothing.
        kept, median = int((errors <= stated).sum()), float(errors.fillna(math.inf).median())
        share = least_share(kept, len(seeds), 1 - (1 - CONFIDENCE) / 2**number)
        share = math.nan if draws.single else share
        tested = Choice(candidate.estimator, depth, stated, median=median)
        tested = replace(tested, kept=kept, seeds=len(seeds), share=share)
        if is_kept(tested):
            break
        if required is None:
            stated = rounded_up(WEAKER * stated)
        else:
            depth = min(math.ceil(DEEPER * depth), search.most_depth)
    return tested


def compared(search: Search, tested: Sequence[Choice]) -> dict[str, Any]:
    """Return the fields of an advice about one or two choices and `BASE`, with times measured in
    turns.

    The first is chosen; but where both reach the required error, the faster one.
    """
    base = next((each for each in tested if each.name == BASE), None)
    if base is None:
        backprop, error = names.make_estimator(BASE), tested[0].error
        depth = search.needed(Candidate(backprop), error, 2)
        base = Choice(backprop, int(depth), error) if depth < math.inf else None
    rows = [*tested, *([base] if base else [])]
    calls = [(Candidate(each.estimator), each.depth) for each in rows]
    seconds = np.concatenate([search.in_turns(calls, ROUNDS, seed) for seed in search.more[:TIMED]])
    medians = np.median(seconds, 0).tolist()
    rows = [replace(each, seconds=taken) for each, taken in zip(rows, medians, strict=True)]
    first, tied = 0, len(tested) > 1 and are_equal(seconds[:, 0], seconds[:, 1])
    # The search timed them on one problem and in fewer rounds.
    if search.requirement.error is not None and not tied:
        first = int(np.argmin(medians[: len(tested)]))
    chosen = rows[first]
    if math.isfinite(search.requirement.memory):
        chosen = replace(chosen, memory=search.memory_of(*calls[first]))
    ratio = float(np.median(seconds[:, first] / seconds[:, -1])) if base else math.nan
    return {
        "chosen": chosen,
        "runner_up": rows[1 - first] if len(tested) > 1 else None,
        "tied": tied,
        "base": rows[-1] if base else None,
        "relative_time": ratio,
    }


def is_kept(tested: Choice) -> bool:
    """Return whether nearly all new seeds have at most the stated error."""
    return tested.seeds - tested.kept <= MISSES * tested.seeds


def rounded_up(value: float) -> float:
    """Return a number rounded up to two digits."""
    return float(Context(prec=2, rounding=ROUND_CEILING).create_decimal(f"{value:.12g}"))
