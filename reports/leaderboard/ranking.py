"""Ranks of submissions: the time to an error as they were scored again, by family of problems."""

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from pudle.answers import ERROR, depth_to
from pudle.reports.load import Results

#: Families of problems by the start of a case's name.
FAMILIES = {
    "penalty_selection": "penalty selection",
    "ridge": "ridge regression",
    "image_patches": "photographs",
    "": "dense dictionaries",
}
#: A submitted error may differ from ours by this factor: sums in another order can change the
#: support of a code. Below the floor both are rounding. Times that differ by less are as long.
ELSEWHERE, FLOOR = 1.25, 1e-12


def family(case: str, loss: str) -> str:
    """Return the family of a case: its kind of problem and its outer loss."""
    kind = next(words for start, words in FAMILIES.items() if case.startswith(start))
    return f"{kind}, {loss} loss" if loss in ("lasso", "reconstruction") else kind


def errors(results: Results, estimator: str) -> pd.Series:
    """Return the median relative error over the seeds by certified case and depth."""
    medians = {
        (case, int(depth)): median
        for case in results.cases
        if not results.badge(case)
        for depth, median, *_ in results.curve(case, estimator).spread
    }
    return pd.Series(medians, dtype=float)


def differing(submitted: pd.Series, again: pd.Series) -> list[str]:
    """Return a line for every submitted error that differs from ours by more than machines do."""
    both = pd.DataFrame({"one": submitted, "other": again})
    logs = np.log(both.clip(lower=FLOOR))
    apart = (logs["one"] - logs["other"]).abs()
    return [
        f"{case} at depth {depth}: {row.one:.3g} submitted, {row.other:.3g} here"
        for (case, depth), row in both[~(apart <= math.log(ELSEWHERE))].iterrows()
    ]


def reached(results: Results, estimator: str, yardstick: str) -> pd.DataFrame:
    """Return, for every certified case, from which depth on an estimator's error stays within
    `ERROR`, the time of a gradient there, and the last error.

    Depth and error are medians over the seeds: ``depth`` is infinite if most do not reach it, and
    ``error``, at the case's greatest depth, is infinite if most have no number there. The ``time``
    is relative to the yardstick's at that depth.
    """
    rows = []
    for name, case in results.cases.items():
        if results.badge(name):
            continue
        needs, last = [], max(case["depths"])
        for seed in case["seeds"]:
            depths, values = results.curve(name, estimator).by_seed.get(seed, ([0], [0]))
            whole = depths[-1] == last
            needs.append((depth_to(depths, values, ERROR), values[-1]) if whole else [math.inf] * 2)
        depth, error = np.median(needs, axis=0)
        times = [results.line(name, each, "seconds").measured for each in (estimator, yardstick)]
        time = times[0].get(depth, math.inf) / times[1].get(last, math.nan)
        rows.append([family(name, case["loss"]), name, depth, time, error])
    return pd.DataFrame(rows, columns=["family", "case", "depth", "time", "error"])


def ranked(scored: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Rank estimators in each family by the time that they need to reach `ERROR`, see `reached`.

    Times count in steps of a factor `ELSEWHERE`. In a case, those that never reach it come last, by
    their error. Equal ones share a rank. Of several cases the mean of the ranks counts, so that no
    case outweighs the others.

    Returns
    -------
    DataFrame
        One row per (family, estimator): ``rank``, ``mean_rank``, ``reached`` and ``cases`` (how
        many of how many), and ``depth``, ``time`` and ``error``, medians over the cases that have
        one. An estimator without any number is left out.
    """
    table = pd.concat(scored, names=["estimator"]).reset_index("estimator")
    table["reached"] = np.isfinite(table["time"])
    left = table["error"].where(~table["reached"], 0.0)
    steps = (np.log(table["time"]) / math.log(ELSEWHERE)).round()
    order = table.assign(left=left, steps=steps).groupby(["steps", "left"]).ngroup()
    table["mean_rank"] = order.groupby(table["case"]).rank()
    groups = table.replace(math.inf, math.nan).groupby(["family", "estimator"])
    rows = groups[["depth", "time", "error"]].median()
    rows["mean_rank"], rows["reached"] = groups["mean_rank"].mean(), groups["reached"].sum()
    rows["cases"] = groups.size()
    rows = rows.dropna(subset=["error"]).reset_index()
    rows["rank"] = rows.groupby("family")["mean_rank"].rank(method="min").astype(int)
    return rows.sort_values(["family", "rank", "estimator"], ignore_index=True)
