"""The rules for single rows of a comparison: what an error, a time and a memory may do before the
verdict changes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy import stats

from pudle.measuring.commits.turns import TimeLimit
from pudle.reports.compare.limits import MemoryLimit

MEBIBYTE = 2.0**20
Row = dict[str, Any]

#: Relative change of an error that rounding can cause: sums in another order, in code that is
#: otherwise the same.
ROUNDING = 1e-6
#: The verdict on time and memory in unequal environments.
ELSEWHERE = {"verdict": "undecided", "reason": "measured in different environments"}


def judge_error(row: Row, allowed: float, floor: float, elsewhere: bool) -> None:
    """Judge an error by the factor that it grew by; errors below `floor` count as equal to it."""
    ratio = max(row["head"], floor) / max(row["base"], floor)
    row |= {"change": ratio, "limit": allowed}
    times = f"seed {row['seed']}: {ratio:.4g} times the error"
    if ratio > allowed:
        row |= {"verdict": "regression", "rule": "accuracy", "reason": times}
    elif ratio < 1 / allowed:
        row |= {"verdict": "improved", "rule": "accuracy"}
    elif abs(ratio - 1) > ROUNDING and not elsewhere:
        row |= {"verdict": "changed", "rule": "accuracy", "reason": times}


def judge_repeats(
    row: Row, old: Sequence[float], new: Sequence[float], limit: TimeLimit, unequal: Sequence[str]
) -> None:
    """Compare the times of two separate runs: give the row the p-values of slower and faster, or
    its verdict.
    """
    ratio = row["head"] / row["base"] if row["base"] else math.nan
    row |= {"change": ratio, "limit": limit.ratio}
    if unequal:
        row |= ELSEWHERE
    elif min(len(old), len(new)) >= 2:
        for name, alternative in (("p_slower", "greater"), ("p_faster", "less")):
            row[name] = float(stats.mannwhitneyu(new, old, alternative=alternative).pvalue)
    elif ratio > limit.ratio or ratio < 1 / limit.ratio:
        # One number per side cannot tell a slower estimator from a busy machine.
        row |= {"verdict": "undecided", "reason": "no repeats to test"}


def judge_times(rows: Sequence[Row], limit: TimeLimit) -> None:
    """Judge times by their ratio and their p-values.

    The p-values are corrected for the number of cells by the false discovery rate, so that a longer
    list of cases brings no more false alarms.
    """
    p_values = np.array([(row["p_slower"], row["p_faster"]) for row in rows]).reshape(-1, 2)
    for row, (slower, faster) in zip(
        rows, stats.false_discovery_control(p_values, axis=0), strict=True
    ):
        ratio, row["p_value"] = row["change"], float(slower)
        beyond = ratio > limit.ratio or ratio < 1 / limit.ratio
        p_value = slower if ratio > limit.ratio else faster
        if beyond and p_value > limit.significance:
            row |= {
                "verdict": "undecided",
                "reason": f"a ratio within the noise (p = {p_value:.2g})",
            }
        elif ratio > limit.ratio:
            row |= {
                "verdict": "regression",
                "rule": "time",
                "reason": f"{ratio:.2f} times the time",
            }
        elif beyond:
            row |= {"verdict": "improved", "rule": "time"}


def judge_memory(row: Row, limit: MemoryLimit, unequal: Sequence[str]) -> None:
    """Judge a memory by its ratio and its difference, both of which must be beyond the limit."""
    old, new = row["base"], row["head"]
    # The peak of a process that estimates nothing is subtracted, so zero is possible.
    row |= {"change": new / old if old else math.inf if new else 1.0, "limit": limit.ratio}
    beyond = abs(new - old) > limit.mebibytes * MEBIBYTE
    if unequal:
        row |= ELSEWHERE
    elif beyond and new > limit.ratio * old:
        row |= {
            "verdict": "regression",
            "rule": "memory",
            "reason": f"{(new - old) / MEBIBYTE:.3g} MiB more",
        }
    elif beyond and old > limit.ratio * new:
        row |= {"verdict": "improved", "rule": "memory"}
