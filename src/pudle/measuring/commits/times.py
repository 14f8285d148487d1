"""The statistics of times measured in turns: how many rounds are needed, and whether head is slower than base."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

#: Columns that identify a timed cell.
CELL = ["case", "estimator", "depth"]


@dataclass(frozen=True)
class TimeLimit:
    """How much slower an estimate may become: by the median `ratio`, at the false discovery rate `significance`."""

    ratio: float = 1.3
    significance: float = 0.01


def rounds_needed(cells: int, significance: float) -> int:
    """Return the number of rounds that make a single slower cell among many significant.

    The smallest p-value of the signed-rank test on ``n`` pairs is ``2**-n``, and the correction for the number of cells
    multiplies it by that number. Three more rounds make up for a round or two that the machine disturbs.
    """
    return math.ceil(math.log2(max(cells, 1) / significance)) + 3


def compare_rounds(rounds: pd.DataFrame) -> pd.DataFrame:
    """Compare the times of every cell over its rounds.

    Parameters
    ----------
    rounds : DataFrame
        Seconds of both sides: one row per (case, estimator, depth, round) with the columns ``base``, ``head`` and
        ``reason``, which says why a time is missing.

    Returns
    -------
    DataFrame
        One row per cell: `CELL`, the medians ``base`` and ``head``, the median ``ratio`` of head to base, the p-values
        ``p_slower`` and ``p_faster`` of Wilcoxon's signed-rank test, not corrected for the number of cells, and ``reason``.
        Where a time is missing, ratio and p-values are NaN and ``reason`` is the first reason for it.
    """
    rows = []
    for place, cell in rounds.groupby(CELL, sort=False):
        pairs = cell[["base", "head"]].dropna()
        reason = next(filter(None, cell["reason"]), "not measured" if pairs.empty else "")
        medians = (cell if reason else pairs)[["base", "head"]].median()
        tests = [math.nan] * 3
        if not reason:
            logs = np.log(pairs["head"].to_numpy() / pairs["base"].to_numpy())
            tests = [np.exp(np.median(logs)), _signed_rank(logs, "greater"), _signed_rank(logs, "less")]
        rows.append((*place, *medians, *tests, reason))
    return pd.DataFrame(rows, columns=[*CELL, "base", "head", "ratio", "p_slower", "p_faster", "reason"])


def _signed_rank(logs: np.ndarray, alternative: str) -> float:
    # The test drops zeros, and has no p-value where nothing else is left.
    return float(stats.wilcoxon(logs, alternative=alternative).pvalue) if np.any(logs) else 1.0
