"""Ranks of submissions: layers to an error as they were scored again, by family of problems; times
by machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from pudle.answers import ERROR, depth_to
from pudle.reports.leaderboard.submission import YARDSTICK
from pudle.reports.results import Results

#: Families of problems by the start of a case's name.
FAMILIES = {
    "penalty_selection": "penalty selection",
    "ridge": "ridge regression",
    "image_patches": "photographs",
}
#: A submitted error may differ from ours by this factor: sums in another order can change the
#: support of a code.
ELSEWHERE = 1.25


def family(case: Mapping[str, str]) -> str:
    """Return the family of a case: its kind of problem and its outer loss."""
    kind = next(
        (words for start, words in FAMILIES.items() if case["name"].startswith(start)),
        "dense dictionaries",
    )
    return f"{kind}, {case['loss']} loss" if case["loss"] in ("lasso", "reconstruction") else kind


def errors(results: Results, estimator: str) -> pd.DataFrame:
    """Return the median relative error over the seeds for every certified (case, depth); NaN where
    there is none.
    """
    limits = set(results.references.loc[results.references["status"] == "limit", "case"])
    frame = results.frame
    rows = frame[
        (frame["metric"] == "relative_error")
        & (frame["estimator"] == estimator)
        & ~frame["case"].isin(limits)
    ]
    rows = rows.assign(
        value=rows["value"].where(rows["status"] == "ok"),
        family=[
            family({"name": name, "loss": results.cases[name]["loss"]}) for name in rows["case"]
        ],
    )
    return rows.groupby(["family", "case", "depth"])["value"].median().reset_index()


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
        whole = {seed: curve for seed, curve in curves.items() if curve[0][-1] == greatest}
        depths = [
            depth_to(*whole[seed], ERROR) if seed in whole else math.inf for seed in case["seeds"]
        ]
        errors = [whole[seed][1][-1] if seed in whole else math.inf for seed in case["seeds"]]
        described = {"family": family({"name": name, "loss": case["loss"]}), "case": name}
        rows.append(
            described | {"depth": float(np.median(depths)), "error": float(np.median(errors))}
        )
    return pd.DataFrame(rows, columns=["family", "case", "depth", "error"])


def ranked(found: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
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
        [frame.assign(estimator=name) for name, frame in found.items()], ignore_index=True
    )
    table["reached"] = np.isfinite(table["depth"])
    table["order"] = (
        table.assign(left=table["error"].where(~table["reached"], 0.0))
        .groupby(["depth", "left"])
        .ngroup()
    )
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
    )
    rows = rows[rows["error"].notna()].reset_index()
    rows["rank"] = rows.groupby("family")["mean_rank"].rank(method="min").astype(int)
    return rows.sort_values(["family", "rank", "estimator"], ignore_index=True)


def time_ratio(results: Results, estimator: str) -> float:
    """Return the geometric mean over cells of an estimator's time relative to the yardstick's, in
    one submission.
    """
    times = results.timings.pivot_table(
        index=["case", "depth"], columns="estimator", values="seconds"
    )
    if not {estimator, YARDSTICK} <= set(times.columns):
        return math.nan
    return float(np.exp(np.log(times[estimator] / times[YARDSTICK]).mean()))


def differing(submitted: pd.DataFrame, again: pd.DataFrame, floor: float = 1e-12) -> list[str]:
    """Return a line for every submitted error that differs from ours by more than machines do."""
    both = submitted.merge(again, on=["family", "case", "depth"], suffixes=("_submitted", "_again"))
    one, other = (both[name].clip(lower=floor) for name in ("value_submitted", "value_again"))
    unequal = both[(np.log(one / other).abs() > math.log(ELSEWHERE)) | (one.isna() != other.isna())]
    return [
        f"{row.case} at depth {row.depth}: {row.value_submitted:.3g} submitted,"
        f" {row.value_again:.3g} here"
        for row in unequal.itertuples()
    ]


def machine_of(machine: Mapping[str, object]) -> str:
    """Return what a machine is called in the table of times."""
    return f"{machine.get('cpu', 'unknown')}, torch {machine.get('torch', 'unknown')}"


def families(ranks: pd.DataFrame) -> Iterable[tuple[str, pd.DataFrame]]:
    """Yield each family with its rows, in order of rank."""
    yield from ranks.groupby("family", sort=True)
