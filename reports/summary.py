"""The numbers of a report: one row per case and estimator, in time linear in their number."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from pudle.answers import Curve, Line
from pudle.reports.rates import BASE
from pudle.reports.results import Results, Row

#: With fewer seeds than this a mean has no confidence interval worth the name, and the range over
#: the seeds is shown.
FEWEST_SEEDS = 3
CONFIDENCE = 0.95


def summarize(results: Results, rates: pd.DataFrame) -> pd.DataFrame:
    """Return one row of numbers per (case, estimator).

    ``error`` (at the deepest measured ``depth``) and ``rate`` are medians over the seeds; columns
    with ``_low`` and ``_high`` hold the least and the greatest. ``acceleration`` is the mean with
    its confidence interval, see `confidence`. ``errors_by_seed`` holds the errors at that depth.
    ``seconds`` and ``memory`` are those at the deepest depths at which they were measured. What
    answers rest on is ``measured``; ``torch`` is the time without compiled kernels against depth.
    """
    fits: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rates.to_dict("records"):
        fits[row["case"], row["estimator"]].append(row)
    rows = []
    for record in results.records:
        pair = case, estimator = record["case"], record["estimator"]
        measured = results.measured[case][results.estimators.index(estimator)]
        torch = results.line(case, estimator, "seconds_torch")
        costs: Row = {"torch": torch}
        for name, line in (("seconds", measured.seconds), ("seconds_torch", torch)):
            costs[f"relative_{name}"] = _relative(line, results.line(case, BASE, name))
        for name, line in (("seconds", measured.seconds), ("memory", measured.memory)):
            depth = max(line.measured, default=math.nan)
            costs |= {name: line.measured.get(depth, math.nan), f"{name}_depth": depth}
        known = {"seeds": len(results.cases[case]["seeds"]), "measured": measured}
        rows.append(record | known | deepest(measured.errors) | _rate(fits[pair]) | costs)
    return pd.DataFrame(rows)


def spread(name: str, values: Sequence[float]) -> Row:
    """Return the median, least and greatest of values, without those that are NaN."""
    known = [value for value in values if value == value] or [math.nan]
    return {name: float(np.median(known)), f"{name}_low": min(known), f"{name}_high": max(known)}


def confidence(name: str, values: Sequence[float]) -> Row:
    """Return the mean over seeds with its 95% confidence interval by Student's t; of fewer than 3
    seeds, see `spread`.
    """
    known = np.array([value for value in values if value == value])
    if (n := len(known)) < FEWEST_SEEDS:
        return spread(name, values)
    mean = float(known.mean())
    half = stdtrit(n - 1, (1 + CONFIDENCE) / 2) * known.std(ddof=1) / math.sqrt(n)
    return {name: mean, f"{name}_low": float(mean - half), f"{name}_high": float(mean + half)}


def deepest(curve: Curve) -> Row:
    """Summarize the errors at the deepest depth that has any."""
    depth = max((depths[-1] for depths, _ in curve.by_seed.values()), default=math.nan)
    errors = {
        seed: float(values[-1])
        for seed, (depths, values) in curve.by_seed.items()
        if depths[-1] == depth
    }
    at_floor = int(curve.at_floor[curve.depths == depth].sum())
    counts = {"depth": float(depth), "errors_by_seed": errors, "seeds_at_floor": at_floor}
    return counts | spread("error", list(errors.values()))


def _rate(fits: Sequence[Row]) -> Row:
    """Summarize the fits of the seeds."""
    good = [row for row in fits if row["rate"] == row["rate"]]
    accelerations = [row["acceleration"] for row in good]
    return {
        "predicted": str(fits[0]["theory"] or ""),
        **spread("rate", [row["rate"] for row in good]),
        **spread("predicted_rate", [math.exp(row["predicted_slope"]) for row in fits]),
        **confidence("acceleration", accelerations),
        "seeds_accelerated": sum(value == value for value in accelerations),
        "seeds_fitted": len(good),
        "first_depth": min((row["first_depth"] for row in good), default=math.nan),
        "last_depth": max((row["last_depth"] for row in good), default=math.nan),
        "rate_reason": next((row["reason"] for row in fits if row["reason"]), ""),
        "crooked": any(row["reason"] for row in good),
    }


def _relative(timed: Line, base: Line) -> float:
    """Return the time over that of `BASE`, at the deepest depth at which both are timed."""
    depth = max(base.measured.keys() & timed.measured.keys(), default=0)
    whole = base.measured.get(depth, 0.0)
    return timed.measured[depth] / whole if whole > 0 else math.nan
