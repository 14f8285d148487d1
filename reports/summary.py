"""The numbers of a report: one row per case and estimator, in time linear in their number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from pudle.reports.curves import Curve
from pudle.reports.load import Results
from pudle.reports.rates import BASE

#: Relative error that depth, time and memory are reported for, unless another is asked for.
GOAL = 1e-3
#: With fewer seeds than this a mean has no confidence interval worth the name, and the range over
#: the seeds is shown.
FEWEST_SEEDS = 3
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Reach:
    """What an estimator needs to bring its error to a goal, in the median over the seeds; see
    `reach`.
    """

    estimator: str
    #: Depth by seed, infinite where the goal is not reached, and their median, rounded up.
    depths: Mapping[int, float]
    depth: float
    #: Time and memory at the median depth, and whether they are extrapolated.
    seconds: tuple[float, bool]
    memory: tuple[float, bool]
    #: Quartiles of the timing at each seed's own depth; without bounds where a time has too few
    #: samples for them.
    quartiles: Mapping[int, tuple[float, float]]


def reach(results: Results, case: str, estimator: str, goal: float = GOAL) -> Reach:
    """Return what an estimator needs on a case to reach an error; its depth is infinite where the
    median seed does not.
    """
    depths = results.curve(case, estimator).depths_to(goal)
    # Between two seeds the median is no whole layer.
    middle = float(np.ceil(np.median(list(depths.values())))) if depths else math.nan
    low, high, seconds, memory = (
        results.line(case, estimator, cost) for cost in ("low", "high", "seconds", "memory_bytes")
    )
    quartiles = {seed: (low.at(depth)[0], high.at(depth)[0]) for seed, depth in depths.items()}
    unknown = [
        seed
        for seed, (end, _) in quartiles.items()
        if math.isnan(end) and not math.isnan(seconds.at(depths[seed])[0])
    ]
    quartiles |= dict.fromkeys(unknown, (-math.inf, math.inf))
    return Reach(estimator, depths, middle, seconds.at(middle), memory.at(middle), quartiles)


def summarize(results: Results, rates: pd.DataFrame) -> pd.DataFrame:
    """Return one row of numbers per (case, estimator).

    ``error``, ``depth_to_goal`` and ``rate`` are medians over the seeds; the columns with ``_low``
    and ``_high`` hold the least and the greatest. ``acceleration`` is the mean with its confidence
    interval, see `confidence`. ``depth_to_goal`` is infinite where the median seed does not reach
    the goal; ``seconds_to_goal`` is the time at that depth, ``seconds_by_seed`` the quartiles of
    the timing at each seed's own depth, and ``seconds_to_goal_low`` and ``_high`` are the least and
    the greatest of these. ``torch_seconds`` (with whether it is extrapolated) and
    ``torch_relative_time`` are the time at that depth and the relative time without compiled
    kernels, NaN where that was not timed. ``errors_by_seed`` holds the errors at the deepest
    measured depth. ``memory_to_goal``, ``seconds_deepest`` and ``memory_deepest`` are pairs: the
    value, and whether it is extrapolated.
    """
    fits = rates.groupby(["case", "estimator"], sort=False).indices if len(rates) else {}
    columns = {name: rates[name].to_numpy() for name in rates} if len(rates) else {}
    rows = []
    for record in results.records.to_dict("records"):
        case, estimator = record["case"], record["estimator"]
        rows.append(
            {
                "case": case,
                "estimator": estimator,
                "status": record["status"],
                "reason": record["reason"],
                "seeds": len(results.cases[case]["seeds"]),
                **_deepest(results.curve(case, estimator)),
                **_rate({name: column[fits[case, estimator]] for name, column in columns.items()}),
                **_costs(results, case, estimator),
            }
        )
    return pd.DataFrame(rows)


def spread(name: str, values: Any) -> dict[str, float]:
    """Return the median, least and greatest of values, without those that are NaN."""
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    found = (np.median(known), known.min(), known.max()) if len(known) else (math.nan,) * 3
    return dict(zip((name, f"{name}_low", f"{name}_high"), map(float, found), strict=True))


def confidence(name: str, values: Any) -> dict[str, float]:
    """Return the mean over seeds with its 95% confidence interval by Student's t; of fewer than 3
    seeds, see `spread`.
    """
    known = np.asarray(values, dtype=float)
    if len(known) < FEWEST_SEEDS:
        return spread(name, known)
    mean, half = (
        known.mean(),
        stdtrit(len(known) - 1, (1 + CONFIDENCE) / 2) * known.std(ddof=1) / math.sqrt(len(known)),
    )
    return {
        name: float(mean),
        f"{name}_low": float(mean - half),
        f"{name}_high": float(mean + half),
    }


def deepest(curve: Curve) -> dict[str, float]:
    """Return the spread of the errors at the deepest depth that has any."""
    _, errors, _ = _last(curve)
    return spread("error", errors)


def _last(curve: Curve) -> tuple[float, np.ndarray, np.ndarray]:
    rows = (
        np.flatnonzero(~np.isnan(curve.values).all(axis=1))
        if curve.values.size
        else np.empty(0, int)
    )
    if not len(rows):
        return math.nan, np.empty(0), np.empty(0, bool)
    return float(curve.depths[rows[-1]]), curve.values[rows[-1]], curve.at_floor[rows[-1]]


def _deepest(curve: Curve) -> dict[str, Any]:
    """Summarize the errors at the deepest depth that has any."""
    depth, errors, floors = _last(curve)
    by_seed = {
        int(seed): float(error)
        for seed, error in zip(curve.seeds, errors, strict=False)
        if not math.isnan(error)
    }
    return {
        "depth": depth,
        "seeds_measured": len(by_seed),
        "errors_by_seed": by_seed,
        "seeds_at_floor": int(floors.sum()),
        **spread("error", errors),
    }


def _rate(columns: Mapping[str, np.ndarray]) -> dict[str, Any]:
    theory, reasons = columns["theory"][0], columns["reason"].tolist()
    good = ~np.isnan(columns["rate"])
    accelerations = columns["acceleration"][good]
    accelerations = accelerations[~np.isnan(accelerations)]
    return {
        "predicted": str(theory or ""),
        "claims_floor": theory is not None and theory.power == 0,
        **spread("rate", columns["rate"]),
        **spread("predicted_rate", np.exp(columns["predicted_slope"])),
        **confidence("acceleration", accelerations),
        "seeds_accelerated": len(accelerations),
        "seeds_fitted": int(good.sum()),
        "first_depth": min(columns["first_depth"][good]) if good.any() else pd.NA,
        "last_depth": max(columns["last_depth"][good]) if good.any() else pd.NA,
        "rate_reason": next(filter(None, reasons), ""),
        "crooked": any(reason for reason, fit in zip(reasons, good, strict=True) if fit),
    }


def _costs(results: Results, case: str, estimator: str) -> dict[str, Any]:
    """Summarize depth, time and memory at the goal and at the deepest depth, and the time relative
    to `BASE`.
    """
    reached, last = reach(results, case, estimator), _last(results.curve(case, estimator))[0]
    timed, memory, torch = (
        results.line(case, estimator, cost) for cost in ("seconds", "memory_bytes", "seconds_torch")
    )
    bounds = [
        bound for pair in reached.quartiles.values() for bound in pair if math.isfinite(bound)
    ]
    costs = {
        **spread("depth_to_goal", list(reached.depths.values())),
        "depth_to_goal": reached.depth,
        "seeds_reached": sum(map(math.isfinite, reached.depths.values())),
        "timed": len(timed.measured),
        "seconds_to_goal": reached.seconds[0],
        "extrapolated": reached.seconds[1],
        "seconds_by_seed": reached.quartiles,
        "seconds_to_goal_low": min(bounds, default=math.nan),
        "seconds_to_goal_high": max(bounds, default=math.nan),
        "relative_time": _relative(results.line(case, BASE, "seconds").measured, timed.measured),
        "torch_seconds": torch.at(reached.depth),
        "torch_relative_time": _relative(
            results.line(case, BASE, "seconds_torch").measured, torch.measured
        ),
        # Memory is linear in depth as time is.
        "memory_to_goal": reached.memory,
        "seconds_deepest": timed.at(last),
        "memory_deepest": memory.at(last),
    }
    for name, line in (("memory", memory), ("seconds", timed)):
        depth = max(line.measured, default=None)
        costs |= {
            name: math.nan if depth is None else line.measured[depth],
            f"{name}_depth": pd.NA if depth is None else depth,
        }
    return costs


def _relative(base: Mapping[int, float], timed: Mapping[int, float]) -> float:
    """Return the time over that of `BASE`, at the deepest depth at which both are timed."""
    both = base.keys() & timed.keys()
    return timed[max(both)] / base[max(both)] if both and base[max(both)] > 0 else math.nan
