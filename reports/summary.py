"""The numbers of a report: one row per case and estimator, in time linear in their number."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from pudle.answers import Curve, Line
from pudle.reports.rates import BASE
from pudle.reports.results import Results

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
    fits = rates.groupby(["case", "estimator"], sort=False).indices if len(rates) else {}
    fitted = {name: rates[name].to_numpy() for name in rates}
    measured = {
        (case, each.estimator): each for case, all_of in results.measured.items() for each in all_of
    }
    rows = []
    for record in results.records.to_dict("records"):
        pair = case, estimator = record["case"], record["estimator"]
        rows.append(
            {
                **{name: record[name] for name in ("case", "estimator", "status", "reason")},
                "seeds": len(results.cases[case]["seeds"]),
                "measured": measured[pair],
                **deepest(measured[pair].errors),
                **_rate({name: column[fits[pair]] for name, column in fitted.items()}),
                **_costs(results, case, estimator),
            }
        )
    return pd.DataFrame(rows)


def spread(name: str, values: Any) -> dict[str, float]:
    """Return the median, least and greatest of values, without those that are NaN."""
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    three = (np.median(known), known.min(), known.max()) if len(known) else (math.nan,) * 3
    return dict(zip((name, f"{name}_low", f"{name}_high"), map(float, three), strict=True))


def confidence(name: str, values: Any) -> dict[str, float]:
    """Return the mean over seeds with its 95% confidence interval by Student's t; of fewer than 3
    seeds, see `spread`.
    """
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    if (n := len(known)) < FEWEST_SEEDS:
        return spread(name, known)
    half = stdtrit(n - 1, (1 + CONFIDENCE) / 2) * known.std(ddof=1) / math.sqrt(n)
    three = known.mean(), known.mean() - half, known.mean() + half
    return dict(zip((name, f"{name}_low", f"{name}_high"), map(float, three), strict=True))


def deepest(curve: Curve) -> dict[str, Any]:
    """Summarize the errors at the deepest depth that has any."""
    rows = np.flatnonzero(~np.isnan(curve.values).all(axis=1)) if curve.values.size else []
    if not len(rows):
        blank = {"depth": math.nan, "errors_by_seed": {}, "seeds_at_floor": 0}
        return blank | spread("error", [])
    errors = dict(zip(curve.seeds.tolist(), curve.values[rows[-1]].tolist(), strict=True))
    return {
        "depth": float(curve.depths[rows[-1]]),
        "errors_by_seed": {seed: error for seed, error in errors.items() if error == error},
        "seeds_at_floor": int(curve.at_floor[rows[-1]].sum()),
        **spread("error", list(errors.values())),
    }


def _rate(fits: Mapping[str, np.ndarray]) -> dict[str, Any]:
    theory, reasons = fits["theory"][0], fits["reason"]
    good = ~np.isnan(fits["rate"])
    accelerations = fits["acceleration"][good]
    return {
        "predicted": str(theory or ""),
        "claims_floor": theory is not None and theory.power == 0,
        **spread("rate", fits["rate"]),
        **spread("predicted_rate", np.exp(fits["predicted_slope"])),
        **confidence("acceleration", accelerations),
        "seeds_accelerated": int((~np.isnan(accelerations)).sum()),
        "seeds_fitted": int(good.sum()),
        "first_depth": min(fits["first_depth"][good], default=pd.NA),
        "last_depth": max(fits["last_depth"][good], default=pd.NA),
        "rate_reason": next(filter(None, reasons), ""),
        "crooked": any(reasons[good]),
    }


def _costs(results: Results, case: str, estimator: str) -> dict[str, Any]:
    """Return the costs at the deepest depth at which each was measured, and the times relative to
    `BASE`.
    """
    costs: dict[str, Any] = {}
    for name, metric in (("seconds", "seconds"), ("memory", "memory_bytes")):
        measured = results.line(case, estimator, metric).measured
        depth = max(measured, default=pd.NA)
        costs |= {name: measured.get(depth, math.nan), f"{name}_depth": depth}
    torch = results.line(case, estimator, "seconds_torch")
    return costs | {
        "torch": torch,
        "relative_time": _relative(
            results.line(case, BASE, "seconds"), results.line(case, estimator, "seconds")
        ),
        "torch_relative_time": _relative(results.line(case, BASE, "seconds_torch"), torch),
    }


def _relative(base: Line, timed: Line) -> float:
    """Return the time over that of `BASE`, at the deepest depth at which both are timed."""
    depth = max(base.measured.keys() & timed.measured.keys(), default=0)
    known = base.measured.get(depth, 0.0)
    return timed.measured[depth] / known if known > 0 else math.nan
