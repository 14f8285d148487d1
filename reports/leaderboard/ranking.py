"""Ranks of submissions: layers to an error as they were scored again, by family of problems."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import pandas as pd

from pudle.answers import ERROR, depth_to
from pudle.reports.figures.cases import seeds
from pudle.reports.leaderboard.submission import YARDSTICK
from pudle.reports.results import Results

#: Families of problems by the start of a case's name.
FAMILIES = {
    "penalty_selection": "penalty selection",
    "ridge": "ridge regression",
    "image_patches": "photographs",
}
#: A submitted error may differ from ours by this factor: sums in another order can change the
#: support of a code. Below the floor both are rounding.
ELSEWHERE, FLOOR = 1.25, 1e-12


def family(case: str, loss: str) -> str:
    """Return the family of a case: its kind of problem and its outer loss."""
    kinds = [words for start, words in FAMILIES.items() if case.startswith(start)]
    kind = (kinds or ["dense dictionaries"])[0]
    return f"{kind}, {loss} loss" if loss in ("lasso", "reconstruction") else kind


def errors(results: Results, estimator: str) -> pd.Series:
    """Return the median relative error over the seeds by certified case and depth."""
    rows = seeds(results)
    limits = [case for case in results.cases if results.badge(case)]
    rows = rows[(rows["estimator"] == estimator) & ~rows["case"].isin(limits)]
    return rows.groupby(["case", "depth"])["relative_error"].median()


def differing(submitted: pd.Series, again: pd.Series) -> list[str]:
    """Return a line for every submitted error that differs from ours by more than machines do."""
    both = pd.DataFrame({"one": submitted, "other": again})
    ratio = np.log(both["one"].clip(lower=FLOOR) / both["other"].clip(lower=FLOOR)).abs()
    return [
        f"{case} at depth {depth}: {row.one:.3g} submitted, {row.other:.3g} here"
        for (case, depth), row in both[~(ratio <= math.log(ELSEWHERE))].iterrows()
    ]


def reached(results: Results, estimator: str) -> pd.DataFrame:
    """Return, for every certified case, from which depth on an estimator's error stays within
    `ERROR`, and its last error.

    Both are medians over the seeds: ``depth`` is infinite if it does not in most of them, and
    ``error``, at the case's greatest depth, is infinite if most have no number there.
    """
    rows = []
    for name, case in results.cases.items():
        if results.badge(name):
            continue
        curves, greatest = results.curve(name, estimator).by_seed, max(case["depths"])
        whole = [curves[seed] for seed in case["seeds"] if seed in curves]
        whole = [curve for curve in whole if curve[0][-1] == greatest]
        missing = [math.inf] * (len(case["seeds"]) - len(whole))
        rows.append(
            {
                "family": family(name, case["loss"]),
                "case": name,
                "depth": np.median([depth_to(*curve, ERROR) for curve in whole] + missing),
                "error": np.median([curve[1][-1] for curve in whole] + missing),
            }
        )
    return pd.DataFrame(rows, columns=["family", "case", "depth", "error"])


def ranked(scored: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Rank estimators in each family by the layers that they need to reach `ERROR`, see `reached`.

    In a case, those that never reach it come last, by their error. Equal ones share a rank. Of
    several cases the mean of the ranks counts, so that no case outweighs the others.

    Returns
    -------
    DataFrame
        One row per (family, estimator): ``rank``, ``mean_rank``, ``reached`` and ``cases`` (how
        many of how many), and ``depth`` and ``error``, medians over the cases that have one. An
        estimator without any number is left out.
    """
    table = pd.concat(
        [frame.assign(estimator=name) for name, frame in scored.items()], ignore_index=True
    )
    table["reached"] = np.isfinite(table["depth"])
    left = table["error"].where(~table["reached"], 0.0)
    table["order"] = table.assign(left=left).groupby(["depth", "left"]).ngroup()
    table["place"] = table.groupby("case")["order"].rank()
    rows = (
        table.replace(math.inf, math.nan)
        .groupby(["family", "estimator"])
        .agg(
            mean_rank=("place", "mean"),
            reached=("reached", "sum"),
            cases=("case", "size"),
            depth=("depth", "median"),
            error=("error", "median"),
        )
        .dropna(subset=["error"])
        .reset_index()
    )
    rows["rank"] = rows.groupby("family")["mean_rank"].rank(method="min").astype(int)
    return rows.sort_values(["family", "rank", "estimator"], ignore_index=True)


def time_ratio(results: Results, estimator: str) -> float:
    """Return the geometric mean over cells of an estimator's time relative to the yardstick's, in
    one submission.
    """
    times = results.timings.pivot_table(
        index=["case", "depth"], columns="estimator", values="seconds"
    )
    times = times.reindex(columns=[estimator, YARDSTICK])
    return float(np.exp(np.log(times[estimator] / times[YARDSTICK]).mean()))
