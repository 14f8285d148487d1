"""Ranks of submissions: accuracies as they were scored again, by family of problems; times by machine."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from pudle.reports.leaderboard.submission import YARDSTICK
from pudle.reports.load import Results

#: Families of problems by the start of a case's name.
FAMILIES = {"penalty_selection": "penalty selection", "ridge": "ridge regression", "image_patches": "photographs"}
#: A submitted error may differ from ours by this factor: sums in another order can change the support of a code.
ELSEWHERE = 1.25


def family(case: Mapping[str, str]) -> str:
    """Return the family of a case: its kind of problem and its outer loss."""
    kind = next((words for start, words in FAMILIES.items() if case["name"].startswith(start)), "dense dictionaries")
    return f"{kind}, {case['loss']} loss" if case["loss"] in ("lasso", "reconstruction") else kind


def errors(results: Results, estimator: str) -> pd.DataFrame:
    """Return the median relative error over the seeds for every certified (case, depth); NaN where there is none."""
    limits = set(results.references.loc[results.references["status"] == "limit", "case"])
    frame = results.frame
    rows = frame[(frame["metric"] == "relative_error") & (frame["estimator"] == estimator) & ~frame["case"].isin(limits)]
    rows = rows.assign(value=rows["value"].where(rows["status"] == "ok"), family=[
        family({"name": name, "loss": results.cases[name]["loss"]}) for name in rows["case"]])  # fmt: skip
    return rows.groupby(["family", "case", "depth"])["value"].median().reset_index()


def accuracy_ranks(scored: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Rank estimators in each family by their mean rank over its (case, depth) cells.

    Ranks do not depend on the sizes of errors, so that one easy case cannot outweigh the others; equal errors, as at the
    floor of a reference, share a rank. In a cell without a number an estimator has the last rank.

    Returns
    -------
    DataFrame
        One row per (family, estimator): ``rank``, ``mean_rank``, ``measured`` and ``cells``, and ``error``, the median over
        the family's cases at the greatest depth.
    """
    table = pd.concat([frame.assign(estimator=name) for name, frame in scored.items()], ignore_index=True)
    place = ["family", "case", "depth"]
    table["cell_rank"] = table.fillna({"value": math.inf}).groupby(place)["value"].rank(method="average")
    deepest = table[table["depth"] == table.groupby("case")["depth"].transform("max")]
    found = table.groupby(["family", "estimator"]).agg(
        mean_rank=("cell_rank", "mean"), measured=("value", "count"), cells=("value", "size")
    )
    found["error"] = deepest.groupby(["family", "estimator"])["value"].median()
    found = found[found["measured"] > 0].reset_index()
    found["rank"] = found.groupby("family")["mean_rank"].rank(method="min").astype(int)
    return found.sort_values(["family", "rank", "estimator"], ignore_index=True)


def time_ratio(results: Results, estimator: str) -> float:
    """Return the geometric mean over cells of an estimator's time relative to the yardstick's, in one submission."""
    times = results.timings.pivot_table(index=["case", "depth"], columns="estimator", values="seconds")
    if not {estimator, YARDSTICK} <= set(times.columns):
        return math.nan
    return float(np.exp(np.log(times[estimator] / times[YARDSTICK]).mean()))


def differing(submitted: pd.DataFrame, again: pd.DataFrame, floor: float = 1e-12) -> list[str]:
    """Return a line for every submitted error that differs from ours by more than machines do."""
    both = submitted.merge(again, on=["family", "case", "depth"], suffixes=("_submitted", "_again"))
    one, other = (both[name].clip(lower=floor) for name in ("value_submitted", "value_again"))
    unequal = both[(np.log(one / other).abs() > math.log(ELSEWHERE)) | (one.isna() != other.isna())]
    return [
        f"{row.case} at depth {row.depth}: {row.value_submitted:.3g} submitted, {row.value_again:.3g} here"
        for row in unequal.itertuples()
    ]


def machine_of(machine: Mapping[str, object]) -> str:
    """Return what a machine is called in the table of times."""
    return f"{machine.get('cpu', 'unknown')}, torch {machine.get('torch', 'unknown')}"


def families(ranks: pd.DataFrame) -> Iterable[tuple[str, pd.DataFrame]]:
    """Yield each family with its rows, in order of rank."""
    yield from ranks.groupby("family", sort=True)
