"""Fit how fast errors fall with depth, where theory predicts it: once the supports are right, and above rounding."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pudle.reports import text
from pudle.reports.load import Results, parsed

#: Errors at or below this are rounding in float64, whatever the reference's bound.
ROUNDING = 1e-13
#: Least number of depths to fit a line to.
FEWEST_DEPTHS = 3
#: Largest distance, in decades, between a fitted line and its points if the curve counts as geometric.
CROOKED = 0.5

#: Estimator that acceleration compares with, and the one whose curve ends the window.
BASE, WINDOW = "alternating", "backprop"

COLUMNS = ["case", "seed", "estimator", "theory", "slope", "rate", "predicted_slope", "acceleration", "first_depth",
           "last_depth", "depths", "reason"]  # fmt: skip


@dataclass(frozen=True)
class Law:
    """Decay of an estimator's error with depth T that theory predicts for right supports: ``T^linear rho^(power T)``."""

    #: 1 or 2; 0 if the error does not vanish.
    power: int
    linear: bool = False

    def __str__(self) -> str:
        return ("T " if self.linear else "") + ("floor", "ρᵀ", "ρ²ᵀ")[self.power]


def law(loss: str, algorithm: str, computes: str | None, consistent_for: Iterable[str] | None) -> Law | None:
    """Return the decay that theory predicts for an estimator, from what it claims; None where theory predicts nothing.

    An estimator that is consistent for every loss corrects the error of the codes to first order. On the lasso loss, whose
    derivative in the codes vanishes at the minimizer, only the square of that error remains. An estimator that drops (part
    of) the correction keeps the first order on the lasso loss and a floor on any other.
    """
    if consistent_for is not None and loss not in consistent_for:
        return Law(0)
    name, arguments = parsed(algorithm)
    # The contraction factor rho is that of plain ISTA with soft thresholding; FISTA's errors oscillate.
    ista = name == "ista" and arguments.keys() <= {"step"}
    if not ista or computes in (None, "stochastic") or loss not in ("lasso", "reconstruction"):
        return None
    complete = consistent_for is None or "reconstruction" in consistent_for
    power = 2 if loss == "lasso" and complete else 1
    # The derivative of an unrolled curve accumulates one term per layer; that of the implicit one does not.
    return Law(power, linear=complete and computes == "unrolled")


def fit(results: Results) -> pd.DataFrame:
    """Fit the decay of every estimator's error, one row per (case, seed, estimator).

    All estimators of a case and seed share a window of depths. It begins where the signs of the codes become and stay right
    in every sample, and ends at the last depth where the error of backpropagation is above rounding and above the
    reference's bound. (A single sample with a wrong sign holds up an error of second order, which then falls at once by
    orders of magnitude: a line through both parts shows a rate that is none.) An estimator that itself reaches the bound
    earlier ends there. Each is fitted on the later half of its depths in the window, because rates are limits that faster
    samples hide at first; its acceleration compares both slopes on these depths.

    The columns: ``theory`` (a `Law` or None), ``slope`` of log error per layer (of log error / T where the law has a factor
    T), ``rate`` its exponential, ``predicted_slope``, ``acceleration`` (ratio of the slope to that of `BASE`), the window
    used, and the ``reason`` where there is no fit.
    """
    rows = []
    rhos = results.references.set_index(["case", "seed", "target"])["rho"]
    claims = {(row.case, row.estimator): (row.computes, row.consistent_for) for row in results.records.itertuples()}
    for name, case in results.cases.items():
        errors, supports = results.scores(name, "relative_error"), results.scores(name, "support_error")
        supports = supports[supports["estimator"] == WINDOW]
        laws = {spec: law(case["loss"], case["algorithm"], *claims[name, spec]) for spec in results.estimators}
        base = laws.get(BASE)
        for seed in case["seeds"]:
            parts = errors[errors["seed"] == seed].groupby("estimator")
            curves = {estimator: part.set_index("depth").sort_index() for estimator, part in parts}
            wrong = supports[supports["seed"] == seed].set_index("depth")["value"].sort_index()
            window, reason = _window(curves.get(WINDOW), wrong)
            rho = rhos.get((name, seed, results.target(name)), math.nan)
            # A base that keeps a floor has no slope to compare with.
            base_curve = None if base is not None and base.power == 0 else curves.get(BASE)
            for estimator, theory in laws.items():
                row = _fit_one(curves.get(estimator), base_curve, window, reason, theory)
                if theory and theory.power and 0 < rho < 1:
                    row["predicted_slope"] = theory.power * math.log(rho)
                rows.append({"case": name, "seed": seed, "estimator": estimator, "theory": theory, **row})
    numbers = dict.fromkeys(("slope", "rate", "predicted_slope", "acceleration"), "float64")
    counts = dict.fromkeys(("first_depth", "last_depth", "depths"), "Int64")
    return pd.DataFrame(rows, columns=COLUMNS).astype(numbers | counts)


def _window(curve: pd.DataFrame | None, wrong: pd.Series) -> tuple[list[int], str]:
    """Return the depths to fit on; if there are none, also the reason."""
    if curve is None:
        return [], f"no curve of {WINDOW} to find the window from"
    if wrong.empty:
        return [], "no supports to find the window from"
    late = wrong[wrong > 0]
    deepest = wrong.index[-1]
    if len(late) and late.index[-1] == deepest:
        return [], f"window not reached: support wrong in {text.percent(wrong.iloc[-1])} of samples at depth {deepest}"
    first = wrong.index[wrong.index > late.index[-1]][0] if len(late) else wrong.index[0]
    above = curve.index[(curve["value"] > ROUNDING) & ~curve["at_floor"]]
    # Depth 0 has no logarithm, and no layer.
    depths = [int(depth) for depth in curve.index if max(first, 1) <= depth <= (above[-1] if len(above) else -1)]
    if len(depths) >= FEWEST_DEPTHS:
        return depths, ""
    last = f"depth {above[-1]}" if len(above) else "none"
    between = f"supports right from depth {first}, {WINDOW} at rounding after {last}, {len(depths)} measured depths between"
    return [], f"window too short: {between}"


def _fit_one(
    curve: pd.DataFrame | None, base: pd.DataFrame | None, window: list[int], reason: str, theory: Law | None
) -> dict[str, Any]:
    """Fit one curve in a window, or return why there is no fit; `reason` is that of an empty window."""
    if curve is None:
        return {"reason": "no errors measured"}
    if theory is None:
        return {"reason": "theory predicts no rate for this algorithm, loss or estimator"}
    if theory.power == 0:
        return {"reason": "keeps a floor on this loss"}
    if not window:
        return {"reason": reason}
    usable = curve.index[(curve["value"] > ROUNDING) & ~curve["at_floor"]]
    depths = [depth for depth in window if depth in usable]
    if len(depths) < FEWEST_DEPTHS:
        return {"reason": f"above rounding at only {len(depths)} depths of the window"}
    depths = depths[-max(FEWEST_DEPTHS, math.ceil(len(depths) / 2)) :]
    slope, crooked = _slope(curve, depths, theory.linear)
    row: dict[str, Any] = {"slope": slope, "rate": math.exp(slope), "first_depth": depths[0], "last_depth": depths[-1],
                           "depths": len(depths), "reason": ""}  # fmt: skip
    if crooked > CROOKED:
        return row | {"reason": f"not geometric: off the fitted line by up to {crooked:.1f} decades"}
    if base is not None and all(depth in base.index and base.loc[depth, "value"] > ROUNDING for depth in depths):
        base_slope, base_crooked = _slope(base, depths, False)
        if base_slope < 0 and base_crooked <= CROOKED:
            row["acceleration"] = slope / base_slope
    return row


def _slope(curve: pd.DataFrame, depths: list[int], linear: bool) -> tuple[float, float]:
    """Return the slope of log error (log error / T where `linear`) and the largest distance from the line, in decades."""
    depth = np.asarray(depths, dtype=float)
    height = np.log(curve.loc[depths, "value"].to_numpy()) - (np.log(depth) if linear else 0.0)
    slope, intercept = np.polyfit(depth, height, 1)
    return float(slope), float(np.abs(height - slope * depth - intercept).max() / math.log(10))
