"""Fit how fast errors fall with depth, where theory predicts it: once the supports are right, and
above rounding.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pudle import text
from pudle.answers import Curve
from pudle.reports.load import Results, parsed

#: Errors at or below this are rounding in float64, whatever the reference's bound.
ROUNDING = 1e-13
#: Least number of depths to fit a line to.
FEWEST_DEPTHS = 3
#: Largest distance, in decades, between a fitted line and its points if the curve counts as
#: geometric.
CROOKED = 0.5

#: Estimator that acceleration compares with, and the one whose curve ends the window.
BASE, WINDOW = "alternating", "backprop"

COLUMNS = [
    "case",
    "seed",
    "estimator",
    "theory",
    "slope",
    "rate",
    "predicted_slope",
    "acceleration",
    "first_depth",
    "last_depth",
    "depths",
    "reason",
]


@dataclass(frozen=True)
class Law:
    """Decay of an estimator's error with depth T that theory predicts for right supports:
    ``T^linear rho^(power T)``.
    """

    #: 1 or 2; 0 if the error does not vanish.
    power: int
    linear: bool = False

    def __str__(self) -> str:
        return ("T " if self.linear else "") + ("floor", "ρᵀ", "ρ²ᵀ")[self.power]


def law(
    loss: str, algorithm: str, computes: str | None, consistent_for: Iterable[str] | None
) -> Law | None:
    """Return the decay that theory predicts for an estimator, from what it claims; None where
    theory predicts nothing.

    An estimator that is consistent for every loss corrects the error of the codes to first order.
    On the lasso loss, whose derivative in the codes vanishes at the minimizer, only the square of
    that error remains. An estimator that drops (part of) the correction keeps the first order on
    the lasso loss and a floor on any other.
    """
    if consistent_for is not None and loss not in consistent_for:
        return Law(0)
    name, arguments = parsed(algorithm)
    # The contraction factor rho is that of plain ISTA with soft thresholding, as FISTA's errors
    # oscillate, or the spectral radius of a problem's own step.
    ista = name == "ista" and arguments.keys() <= {"step"} and loss in ("lasso", "reconstruction")
    if not (ista or name == "iteration") or computes in (None, "stochastic"):
        return None
    complete = consistent_for is None or loss != "lasso" or "reconstruction" in consistent_for
    power = 2 if loss == "lasso" and complete else 1
    # The derivative of an unrolled curve accumulates one term per layer; that of the implicit one
    # does not.
    return Law(power, linear=complete and computes == "unrolled")


def fit(results: Results) -> pd.DataFrame:
    """Fit the decay of every estimator's error, one row per (case, seed, estimator).

    All estimators of a case and seed share a window of depths. It begins where the signs of the
    codes become and stay right in every sample, and ends at the last depth where the error of
    backpropagation is above rounding and above the reference's bound. (A single sample with a wrong
    sign holds up an error of second order, which then falls at once by orders of magnitude: a line
    through both parts shows a rate that is none.) An estimator that itself reaches the bound
    earlier ends there. Each is fitted on the later half of its depths in the window, because rates
    are limits that faster samples hide at first; its acceleration compares both slopes on these
    depths.

    The columns: ``theory`` (a `Law` or None), ``slope`` of log error per layer (of log error / T
    where the law has a factor T), ``rate`` its exponential, ``predicted_slope``, ``acceleration``
    (ratio of the slope to that of `BASE`), the window used, and the ``reason`` where there is no
    fit.
    """
    rows = []
    keys = results.references[["case", "seed", "target"]].itertuples(index=False, name=None)
    rhos = dict(zip(keys, results.references["rho"], strict=True))
    claims = {
        (row.case, row.estimator): (row.computes, row.consistent_for)
        for row in results.records.itertuples()
    }
    for name, case in results.cases.items():
        laws = {
            spec: law(case["loss"], case["algorithm"], *claims[name, spec])
            for spec in results.estimators
            if (name, spec) in claims
        }
        curves = {spec: results.curve(name, spec) for spec in laws}
        # A base that keeps a floor has no slope to compare with.
        base = (
            None
            if (of_base := laws.get(BASE)) is not None and of_base.power == 0
            else curves.get(BASE)
        )
        supports = results.curve(name, WINDOW, "support_error")
        for seed in case["seeds"]:
            window, reason = _window(_seed(curves.get(WINDOW), seed), _seed(supports, seed))
            rho = rhos.get((name, seed, results.target(name)), math.nan)
            of_seed = _seed(base, seed)
            for estimator, theory in laws.items():
                row = _fit_one(_seed(curves[estimator], seed), of_seed, window, reason, theory)
                if theory and theory.power and 0 < rho < 1:
                    row["predicted_slope"] = theory.power * math.log(rho)
                rows.append(
                    {"case": name, "seed": seed, "estimator": estimator, "theory": theory, **row}
                )
    numbers = dict.fromkeys(("slope", "rate", "predicted_slope", "acceleration"), "float64")
    counts = dict.fromkeys(("first_depth", "last_depth", "depths"), "Int64")
    return pd.DataFrame(rows, columns=COLUMNS).astype(numbers | counts)


class Errors(NamedTuple):
    """The measured errors of one seed, at ascending depths, and which of them a line may be fitted
    to.
    """

    depths: np.ndarray
    values: np.ndarray
    usable: np.ndarray


def _seed(curve: Curve | None, seed: int) -> Errors | None:
    if curve is None or seed not in curve.by_seed:
        return None
    depths, values = curve.by_seed[seed]
    floors = curve.at_floor[np.isin(curve.depths, depths), np.flatnonzero(curve.seeds == seed)[0]]
    return Errors(depths, values, (values > ROUNDING) & ~floors)


def _window(curve: Errors | None, wrong: Errors | None) -> tuple[np.ndarray, str]:
    """Return the depths to fit on; if there are none, also the reason."""
    nothing = np.empty(0, int)
    if curve is None:
        return nothing, f"no curve of {WINDOW} to find the window from"
    if wrong is None:
        return nothing, "no signs to find the window from"
    late = np.flatnonzero(wrong.values > 0)
    if len(late) and late[-1] == len(wrong.depths) - 1:
        share = text.percent(wrong.values[-1])
        return (
            nothing,
            f"window not reached: signs wrong in {share} of samples at depth {wrong.depths[-1]}",
        )
    first = wrong.depths[late[-1] + 1] if len(late) else wrong.depths[0]
    above = curve.depths[curve.usable]
    last = above[-1] if len(above) else -1
    # Depth 0 has no logarithm, and no layer.
    depths = curve.depths[(curve.depths >= max(first, 1)) & (curve.depths <= last)]
    if len(depths) >= FEWEST_DEPTHS:
        return depths, ""
    few = text.count(len(depths), "measured depth")
    return nothing, f"window too short: {few} where a fit needs {FEWEST_DEPTHS}"


def _fit_one(
    curve: Errors | None, base: Errors | None, window: np.ndarray, reason: str, theory: Law | None
) -> dict[str, Any]:
    """Fit one curve in a window, or return why there is no fit; `reason` is that of an empty
    window.
    """
    if curve is None:
        return {"reason": "no errors measured"}
    if theory is None:
        return {"reason": "theory predicts no rate for this algorithm, loss or estimator"}
    if theory.power == 0:
        return {"reason": "keeps a floor on this loss"}
    if not len(window):
        return {"reason": reason}
    depths = np.intersect1d(window, curve.depths[curve.usable])
    if len(depths) < FEWEST_DEPTHS:
        return {
            "reason": (
                "above rounding and the bound at only"
                f" {text.count(len(depths), 'depth')} of the window"
            )
        }
    depths = depths[-max(FEWEST_DEPTHS, math.ceil(len(depths) / 2)) :]
    slope, crooked = _slope(curve, depths, theory.linear)
    row: dict[str, Any] = {
        "slope": slope,
        "rate": math.exp(slope),
        "first_depth": depths[0],
        "last_depth": depths[-1],
        "depths": len(depths),
        "reason": "",
    }
    if crooked > CROOKED:
        return row | {
            "reason": f"not geometric: off the fitted line by up to {crooked:.1f} decades"
        }
    if base is not None and np.isin(depths, base.depths[base.values > ROUNDING]).all():
        base_slope, base_crooked = _slope(base, depths, False)
        if base_slope < 0 and base_crooked <= CROOKED:
            row["acceleration"] = slope / base_slope
    return row


def _slope(curve: Errors, depths: np.ndarray, linear: bool) -> tuple[float, float]:
    """Return the slope of log error (log error / T where `linear`) and the largest distance from
    the line, in decades.
    """
    height = np.log(curve.values[np.searchsorted(curve.depths, depths)]) - (
        np.log(depths) if linear else 0.0
    )
    # In closed form around the means: a call of polyfit takes ten times as long.
    depth, middle = depths - depths.mean(), height.mean()
    slope = float(depth @ (height - middle) / (depth @ depth))
    return slope, float(np.abs(height - middle - slope * depth).max() / math.log(10))


def predicted_slopes(results: Results, rates: pd.DataFrame, name: str) -> list[dict[str, Any]]:
    """Return the slopes that theory predicts through the middle of the window: their laws, depths
    and heights.
    """
    found = []
    for estimator in (BASE, WINDOW):
        fits = rates[
            (rates["estimator"] == estimator)
            & rates["rate"].notna()
            & rates["predicted_slope"].notna()
        ]
        if fits.empty:
            continue
        first, last = int(fits["first_depth"].min()), int(fits["last_depth"].max())
        spread = results.curve(name, estimator).spread
        inside = spread[(spread[:, 0] >= first) & (spread[:, 0] <= last)]
        if len(inside) < 2:
            continue
        theory, anchor = fits["theory"].iloc[0], inside[0, 0]
        depths = np.linspace(anchor, last, 12)
        # The median seed's slope, as the curve is the median; a little above the curve, so that
        # both are seen.
        heights = 3 * inside[0, 1] * np.exp(fits["predicted_slope"].median() * (depths - anchor))
        heights *= depths / anchor if theory.linear else 1
        found.append(
            {"law": str(theory), "estimator": estimator, "depths": depths, "errors": heights}
        )
    return found
