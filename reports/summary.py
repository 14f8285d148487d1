"""The numbers of a report: one row per case and estimator, in time linear in their number.

Among them is how fast errors fall with depth, fitted where theory predicts it: once the supports
are right, and above rounding.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from pudle import text
from pudle.answers import Curve
from pudle.reports.load import TIMES, Results, Row, parsed

#: Errors at or below this are rounding in float64, whatever the reference's bound.
ROUNDING = 1e-13
#: Least number of depths to fit a line to.
FEWEST_DEPTHS = 3
#: Largest distance, in decades, between a fitted line and its points if the curve counts as
#: geometric.
CROOKED = 0.5
#: With fewer seeds than this a mean has no confidence interval worth the name, and the range over
#: the seeds is shown.
FEWEST_SEEDS = 3
CONFIDENCE = 0.95
#: Estimator that acceleration compares with, and the one whose curve ends the window.
BASE, WINDOW = "alternating", "backprop"

COLUMNS = (
    "case estimator seed theory slope rate predicted_rate acceleration first_depth last_depth"
    " reason"
).split()


def summarize(results: Results) -> pd.DataFrame:
    """Return one row of numbers per (case, estimator).

    ``error`` (at the deepest measured ``depth``) and ``rate`` are medians over the seeds; columns
    with ``_low`` and ``_high`` hold the least and the greatest. ``acceleration`` is the mean with
    its confidence interval, see `confidence`. ``errors_by_seed`` holds the errors at that depth.
    ``seconds`` and ``memory`` are those at the deepest depths at which they were measured. What
    answers rest on is ``measured``; ``torch`` is the time without compiled kernels against depth.
    """
    fits = fit(results).groupby(["case", "estimator"])
    rows = []
    for record in results.records:
        pair = case, estimator = record["case"], record["estimator"]
        measured = results.measured[case][results.estimators.index(estimator)]
        of_pair = fits.get_group(pair).to_dict("list")
        theory, ratios = of_pair["theory"][0], of_pair["acceleration"]
        reasons = zip(of_pair["reason"], of_pair["rate"], strict=True)
        fitted = [reason for reason, rate in reasons if rate == rate]
        row = record | {
            "seeds": len(results.cases[case]["seeds"]),
            "measured": measured,
            "torch": results.line(case, estimator, "seconds_torch"),
            "predicted": str(theory or ""),
            "linear": bool(theory and theory.linear),
            "seeds_fitted": len(fitted),
            "seeds_accelerated": sum(ratio == ratio for ratio in ratios),
            "rate_reason": next(filter(None, of_pair["reason"]), ""),
            "crooked": any(fitted),
        }
        row |= deepest(measured.errors) | confidence("acceleration", ratios)
        for name in ("rate", "predicted_rate", "first_depth", "last_depth"):
            row |= spread(name, of_pair[name])
        for name in TIMES:
            one, base = (results.rounds(case, each, name) for each in (estimator, BASE))
            # At the deepest depth at which both are timed.
            depth = max(one.samples.keys() & base.samples.keys(), default=math.nan)
            row[f"relative_{name}"] = one.ratio(depth, base, depth)
        for name, line in (("seconds", measured.seconds), ("memory", measured.memory)):
            depth = max(line.measured, default=math.nan)
            row |= {name: line.measured.get(depth, math.nan), f"{name}_depth": depth}
        rows.append(row)
    return pd.DataFrame(rows)


def spread(name: str, values: Iterable[float]) -> Row:
    """Return the median, least and greatest of values, without those that are NaN."""
    numbers = [value for value in values if value == value] or [math.nan]
    median = float(np.median(numbers))
    return {name: median, f"{name}_low": min(numbers), f"{name}_high": max(numbers)}


def confidence(name: str, values: Sequence[float]) -> Row:
    """Return the mean over seeds with its 95% confidence interval by Student's t; of fewer than 3
    seeds, see `spread`.
    """
    numbers = np.array([value for value in values if value == value])
    if (n := len(numbers)) < FEWEST_SEEDS:
        return spread(name, values)
    mean = float(numbers.mean())
    half = stdtrit(n - 1, (1 + CONFIDENCE) / 2) * numbers.std(ddof=1) / math.sqrt(n)
    return {name: mean, f"{name}_low": float(mean - half), f"{name}_high": float(mean + half)}


def deepest(curve: Curve) -> Row:
    """Summarize the errors at the deepest depth that has any."""
    depth = max(curve.spread[:, 0], default=math.nan)
    errors = {
        seed: float(values[-1])
        for seed, (depths, values) in curve.by_seed.items()
        if depths[-1] == depth
    }
    at_floor = int(curve.at_floor[curve.depths == depth].sum())
    counts = {"depth": depth, "errors_by_seed": errors, "seeds_at_floor": at_floor}
    return counts | spread("error", errors.values())


class NoFit(Exception):
    """Says why there is no fit."""


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


def law(case: Row, claims: Row) -> Law | None:
    """Return the decay that theory predicts for an estimator on a case, from what it ``computes``
    and is ``consistent_for``; None where theory predicts nothing.

    An estimator that is consistent for every loss corrects the error of the codes to first order.
    On the lasso loss, whose derivative in the codes vanishes at the minimizer, only the square of
    that error remains. An estimator that drops (part of) the correction keeps the first order on
    the lasso loss and a floor on any other.
    """
    loss, consistent_for = case["loss"], claims["consistent_for"]
    if consistent_for is not None and loss not in consistent_for:
        return Law(0)
    name, arguments = parsed(case["algorithm"])
    # The contraction factor rho is that of plain ISTA with soft thresholding, as FISTA's errors
    # oscillate, or the spectral radius of a problem's own step.
    ista = name == "ista" and arguments.keys() <= {"step"} and loss in ("lasso", "reconstruction")
    if not (ista or name == "iteration") or claims["computes"] in (None, "stochastic"):
        return None
    complete = consistent_for is None or loss != "lasso" or "reconstruction" in consistent_for
    power = 2 if loss == "lasso" and complete else 1
    # The derivative of an unrolled curve accumulates one term per layer; that of the implicit one
    # does not.
    return Law(power, linear=complete and claims["computes"] == "unrolled")


def fit(results: Results) -> pd.DataFrame:
    """Fit the decay of every estimator's error, one row per (case, estimator, seed).

    All estimators of a case and seed share a window of depths. It begins where the signs of the
    codes become and stay right in every sample, and ends at the last depth where the error of
    backpropagation is above rounding and above the reference's bound. (A single sample with a wrong
    sign holds up an error of second order, which then falls at once by orders of magnitude: a line
    through both parts shows a rate that is none.) An estimator that itself reaches the bound
    earlier ends there. Each is fitted on the later half of its depths in the window, because rates
    are limits that faster samples hide at first; its acceleration compares both slopes on these
    depths.

    The columns: ``theory`` (a `Law` or None), ``slope`` of log error per layer (of log error / T
    where the law has a factor T), ``rate`` its exponential, ``predicted_rate``, ``acceleration``
    (ratio of the slope to that of `BASE`), the window used, and the ``reason`` where there is no
    fit.
    """
    laws = {
        (row["case"], row["estimator"]): law(results.cases[row["case"]], row)
        for row in results.records
    }
    rhos = results.references.set_index(["case", "seed", "target"])["rho"].to_dict()
    rows = []
    for (case, estimator), theory in laws.items():
        # A base that keeps a floor has no slope to compare with.
        base = results.curve(case, BASE if laws.get((case, BASE)) != Law(0) else "")
        for seed in results.cases[case]["seeds"]:
            row = {"case": case, "estimator": estimator, "seed": seed, "theory": theory}
            rho = rhos.get((case, seed, results.target(case)), math.nan)
            if theory and theory.power and 0 < rho < 1:
                row["predicted_rate"] = rho**theory.power
            try:
                errors, usable = _errors(results.curve(case, estimator), seed)
                depths = _depths(results, case, seed, usable, theory)
                slope, distance = _slope(errors, depths, theory.linear)
                row |= {"slope": slope, "rate": math.exp(slope), "reason": ""}
                row |= {"first_depth": depths[0], "last_depth": depths[-1]}
                if distance > CROOKED:
                    raise NoFit(
                        f"not geometric: off the fitted line by up to {distance:.1f} decades"
                    )
                errors, _ = _errors(base, seed)
                if all(errors.get(depth, 0) > ROUNDING for depth in depths):
                    base_slope, distance = _slope(errors, depths)
                    if base_slope < 0 and distance <= CROOKED:
                        row["acceleration"] = slope / base_slope
            except NoFit as why:
                row["reason"] = str(why)
            rows.append(row)
    return pd.DataFrame(rows, columns=COLUMNS)


def _errors(curve: Curve, seed: int) -> tuple[dict[int, float], list[int]]:
    """Return the errors of a seed by depth, and the depths where they are above rounding and the
    bound.
    """
    errors = dict(zip(*curve.by_seed.get(seed, ((), ())), strict=True))
    floors = curve.depths[curve.at_floor[:, curve.seeds == seed].any(axis=1)]
    usable = [depth for depth in errors if errors[depth] > ROUNDING and depth not in floors]
    return errors, usable


def _depths(
    results: Results, case: str, seed: int, usable: Sequence[int], theory: Law | None
) -> list[int]:
    """Return the depths to fit a curve on, of those that are usable, or say why there are none."""
    if theory is None:
        raise NoFit("theory predicts no rate for this algorithm, loss or estimator")
    if not theory.power:
        raise NoFit("keeps a floor on this loss")
    leading, above = _errors(results.curve(case, WINDOW), seed)
    signs, _ = _errors(results.curve(case, WINDOW, "support_error"), seed)
    if not leading or not signs:
        raise NoFit(f"no errors and signs of {WINDOW} to find the window from")
    wrong = [0, *(depth for depth, share in signs.items() if share > 0)]
    if wrong[-1] == max(signs):
        share = text.percent(signs[wrong[-1]])
        raise NoFit(f"window not reached: signs wrong in {share} of samples at depth {wrong[-1]}")
    # Depth 0 has no logarithm, and no layer.
    first, last = min(depth for depth in signs if depth > wrong[-1]), max(above, default=0)
    window = [depth for depth in leading if first <= depth <= last]
    if len(window) < FEWEST_DEPTHS:
        few = text.count(len(window), "measured depth")
        raise NoFit(f"window too short: {few} where a fit needs {FEWEST_DEPTHS}")
    depths = [depth for depth in usable if depth in window]
    if len(depths) < FEWEST_DEPTHS:
        few = text.count(len(depths), "depth")
        raise NoFit(f"above rounding and the bound at only {few} of the window")
    return depths[-max(FEWEST_DEPTHS, math.ceil(len(depths) / 2)) :]


def _slope(
    errors: Mapping[int, float], depths: Sequence[int], linear: bool = False
) -> tuple[float, float]:
    """Return the slope of log error (log error / T where `linear`) and the largest distance from
    the line, in decades.
    """
    height = np.log([errors[depth] for depth in depths]) - (np.log(depths) if linear else 0.0)
    # In closed form around the means: a call of polyfit takes ten times as long.
    depth, middle = np.array(depths) - np.mean(depths), height.mean()
    slope = float(depth @ (height - middle) / (depth @ depth))
    return slope, float(np.abs(height - middle - slope * depth).max() / math.log(10))


def predicted_slopes(rows: pd.DataFrame) -> Iterator[Row]:
    """Yield the slopes that theory predicts through the middle of the window, from the summary of a
    case: their laws as labels, depths and heights.
    """
    fitted = rows.dropna(subset=["rate", "predicted_rate"])
    for row in fitted[fitted["estimator"].isin([BASE, WINDOW])].to_dict("records"):
        spread, last = row["measured"].errors.spread, row["last_depth_high"]
        inside = spread[(spread[:, 0] >= row["first_depth_low"]) & (spread[:, 0] <= last)]
        if len(inside) > 1:
            anchor, error = inside[0, :2]
            depths = np.linspace(anchor, last, 12)
            # A little above the curve, so that both are seen.
            heights = 3 * error * row["predicted_rate"] ** (depths - anchor)
            heights *= depths / anchor if row["linear"] else 1
            yield {
                "label": row["predicted"],
                "estimator": row["estimator"],
                "x": depths,
                "y": heights,
            }
