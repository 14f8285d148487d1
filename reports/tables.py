"""Tables: what to read off the tidy frame, as numbers first and as text last."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from pudle.reports import text
from pudle.reports.load import BROKEN, Results
from pudle.reports.rates import law

#: Relative error that depth and time are reported for.
GOAL = 1e-3
#: Time is linear in depth, so it is extended past the deepest timed depth, but not further than this many times.
REACH = 4.0


def summarize(results: Results, rates: pd.DataFrame) -> pd.DataFrame:
    """Return one row of numbers per (case, estimator).

    Returns
    -------
    DataFrame
        ``error``, ``depth_to_goal``, ``rate``, ``acceleration`` are medians over the seeds; the columns with ``_low`` and
        ``_high`` hold the least and the greatest. ``depth_to_goal`` is infinite where the median seed does not get there;
        ``seconds_to_goal`` is the time at it, ``seconds_by_seed`` the quartiles of the timing at each seed's own depth.
        ``errors_by_seed`` are those at the deepest measured depth. ``memory_to_goal``, ``seconds_deepest`` and
        ``memory_deepest`` are pairs: the value, and whether it lies outside the depths that were measured.
    """
    rows = []
    for name, case in results.cases.items():
        errors = results.scores(name, "relative_error")
        for estimator in results.estimators:
            record = results.records[(results.records["case"] == name) & (results.records["estimator"] == estimator)].iloc[0]
            curves = errors[errors["estimator"] == estimator]
            fits = rates[(rates["case"] == name) & (rates["estimator"] == estimator)]
            theory = law(case["loss"], case["algorithm"], record["computes"], record["consistent_for"])
            rows.append({
                "case": name, "estimator": estimator, "status": record["status"], "reason": record["reason"],
                "seeds": len(case["seeds"]), "claims_floor": theory is not None and theory.power == 0,
                "predicted": str(theory) if theory else "",
                **_deepest(curves), **_rate(fits),
                **_goal(results, name, estimator, curves), **_cost(results, name, estimator),
            })  # fmt: skip
    return pd.DataFrame(rows)


def _spread(name: str, values: pd.Series | np.ndarray) -> dict[str, float]:
    values = np.asarray(values, dtype=float)
    values = values[~np.isnan(values)]
    if not len(values):
        return dict.fromkeys((name, f"{name}_low", f"{name}_high"), math.nan)
    return {name: float(np.median(values)), f"{name}_low": float(values.min()), f"{name}_high": float(values.max())}


def _deepest(curves: pd.DataFrame) -> dict[str, Any]:
    """Errors at the deepest depth that has any."""
    depth = curves["depth"].max() if len(curves) else pd.NA
    last = curves[curves["depth"] == depth] if len(curves) else curves
    return {
        "depth": math.nan if pd.isna(depth) else int(depth),
        "seeds_measured": int(last["seed"].nunique()),
        "errors_by_seed": dict(zip(last["seed"].astype(int), last["value"], strict=True)),
        "seeds_at_floor": int(last["at_floor"].sum()),
        **_spread("error", last["value"]),
    }


def _rate(fits: pd.DataFrame) -> dict[str, Any]:
    good = fits[fits["rate"].notna()]
    predicted = np.exp(fits["predicted_slope"].to_numpy())
    reasons = fits.loc[fits["reason"] != "", "reason"].tolist()
    return {
        **_spread("rate", good["rate"]),
        **_spread("predicted_rate", predicted),
        **_spread("acceleration", good["acceleration"]),
        "seeds_fitted": len(good),
        "first_depth": good["first_depth"].min() if len(good) else pd.NA,
        "last_depth": good["last_depth"].max() if len(good) else pd.NA,
        "rate_reason": reasons[0] if reasons else "",
        "crooked": bool((good["reason"] != "").any()),
    }


def depth_to(curve: pd.Series, goal: float = GOAL) -> float:
    """Return the depth from which a curve (errors by depth) stays at or below a goal; infinite where it does not.

    Between the measured depths log error is taken as linear in depth, and the answer rounded up to a whole layer.
    """
    curve = curve.sort_index()
    above = np.flatnonzero(curve.to_numpy() > goal)
    if not len(curve) or (len(above) and above[-1] == len(curve) - 1):
        return math.inf
    if not len(above):
        return float(curve.index[0])
    low, high = int(curve.index[above[-1]]), int(curve.index[above[-1] + 1])
    before, after = math.log(curve.iloc[above[-1]]), math.log(max(curve.iloc[above[-1] + 1], 1e-300))
    reached = low + (high - low) * (before - math.log(goal)) / (before - after)
    # Rounding must not turn a whole layer into the next.
    return float(min(high, math.ceil(reached - 1e-9)))


def seconds_at(timed: pd.DataFrame, depth: float, column: str = "seconds") -> tuple[float, bool]:
    """Return the time at a depth and whether it lies outside the timed depths.

    Time is linear in depth between timed depths, and along the nearest two beyond them, up to `REACH` times the deepest;
    NaN farther out, and where two depths are not there to draw a line through.
    """
    timed = timed.sort_values("depth")
    depths, values = timed["depth"].to_numpy(dtype=float), timed[column].to_numpy(dtype=float)
    if not len(depths) or not math.isfinite(depth):
        return math.nan, False
    if depths[0] <= depth <= depths[-1]:
        return float(np.interp(depth, depths, values)), False
    if len(depths) < 2 or depth > REACH * depths[-1]:
        return math.nan, True
    first = 0 if depth < depths[0] else len(depths) - 2
    slope = (values[first + 1] - values[first]) / (depths[first + 1] - depths[first])
    # Noise can tilt the line: fewer layers never take more time, and more never less.
    slope = max(slope, 0.0)
    anchor = first if depth < depths[0] else first + 1
    # Nor do fewer layers save more than their share, which noise would have them do: there is a cost without any layer.
    least = values[0] * depth / depths[0] if depth < depths[0] else 0.0
    return max(float(values[anchor] + slope * (depth - depths[anchor])), float(least)), True


def _goal(results: Results, case: str, estimator: str, curves: pd.DataFrame) -> dict[str, Any]:
    depths = {int(seed): depth_to(curve.set_index("depth")["value"]) for seed, curve in curves.groupby("seed")}
    spread = _spread("depth_to_goal", np.array(list(depths.values())))
    timings = results.timings
    timed = timings[(timings["case"] == case) & (timings["estimator"] == estimator)]
    middle, outside = seconds_at(timed, spread["depth_to_goal"])
    quartiles = {seed: tuple(seconds_at(timed, depth, end)[0] for end in ("low", "high")) for seed, depth in depths.items()}
    memory = results.measured(case, "memory_bytes")
    memory = memory[memory["estimator"] == estimator]
    deepest = curves["depth"].max() if len(curves) else math.inf
    return spread | {
        "seeds_reached": sum(map(math.isfinite, depths.values())),
        "seconds_to_goal": middle, "seconds_by_seed": quartiles, "extrapolated": outside, "timed": len(timed),
        # Memory is linear in depth as time is.
        "memory_to_goal": seconds_at(memory, spread["depth_to_goal"], "value"),
        "seconds_deepest": seconds_at(timed, deepest), "memory_deepest": seconds_at(memory, deepest, "value"),
    }  # fmt: skip


def _cost(results: Results, case: str, estimator: str) -> dict[str, Any]:
    """Memory and time at the deepest depth that was timed, time also relative to `alternating` in the same run."""

    def rows(metric: str, who: str) -> pd.Series:
        frame = results.measured(case, metric)
        return frame[frame["estimator"] == who].set_index("depth")["value"].sort_index()

    memory, time, base = rows("memory_bytes", estimator), rows("seconds", estimator), rows("seconds", "alternating")
    common = time.index.intersection(base.index)
    return {
        "memory": float(memory.iloc[-1]) if len(memory) else math.nan,
        "memory_depth": int(memory.index[-1]) if len(memory) else pd.NA,
        "seconds": float(time.iloc[-1]) if len(time) else math.nan,
        "seconds_depth": int(time.index[-1]) if len(time) else pd.NA,
        "relative_time": float(time[common[-1]] / base[common[-1]]) if len(common) and base[common[-1]] > 0 else math.nan,
        "relative_time_depth": int(common[-1]) if len(common) else pd.NA,
    }


def summary_table(summary: pd.DataFrame, case: str, deepest: int) -> pd.DataFrame:
    """Return the summary of a case as text, one row per estimator."""
    rows = []
    for row in summary[summary["case"] == case].to_dict("records"):
        rows.append({
            "estimator": row["estimator"],
            f"error at depth {deepest}": _error(row, deepest),
            f"depth to {text.number(GOAL, 1)}": _depth(row),
            f"time to {text.number(GOAL, 1)}": _time(row),
            "time / alternating": text.DASH if math.isnan(row["relative_time"]) else f"{row['relative_time']:.2f}",
            "memory": text.memory(row["memory"]),
            "status": row["status"],
        })  # fmt: skip
    return pd.DataFrame(rows)


def rates_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Return fitted and predicted rates of all that was scored as text, one row per (case, estimator)."""
    rows = []
    for row in summary[summary["error"].notna()].to_dict("records"):
        fitted = not math.isnan(row["rate"])
        rows.append({
            "case": row["case"], "estimator": row["estimator"], "theory": row["predicted"] or text.DASH,
            "predicted rate": _interval(row, "predicted_rate", 4), "fitted rate": _interval(row, "rate", 4),
            "depths": f"{row['first_depth']} to {row['last_depth']}" if fitted else text.DASH,
            "acceleration": _interval(row, "acceleration", 2), "remark": _remark(row),
        })  # fmt: skip
    return pd.DataFrame(rows, columns=["case", "estimator", "theory", "predicted rate", "fitted rate", "depths",
                                       "acceleration", "remark"])  # fmt: skip


def _interval(row: dict[str, Any], name: str, digits: int) -> str:
    return text.between(row[name], row[f"{name}_low"], row[f"{name}_high"], lambda value: f"{value:.{digits}f}")


def _remark(row: dict[str, Any]) -> str:
    """Say why there is no rate, or what is wrong with the one there is."""
    if math.isnan(row["rate"]):
        return row["rate_reason"]
    remarks = [] if row["seeds_fitted"] == row["seeds"] else [f"{row['seeds_fitted']} of {row['seeds']} seeds"]
    return ", ".join([*remarks, *(["not straight"] if row["crooked"] else [])])


def _error(row: dict[str, Any], deepest: int) -> str:
    shown = text.between(row["error"], row["error_low"], row["error_high"])
    if shown == text.DASH:
        return shown
    remarks = []
    if row["depth"] != deepest:
        remarks.append(f"at depth {row['depth']:.0f}")
    if row["seeds_measured"] < row["seeds"]:
        remarks.append(f"{row['seeds_measured']} of {row['seeds']} seeds")
    if row["seeds_at_floor"]:
        remarks.append("at the bound" if row["seeds_at_floor"] == row["seeds_measured"] else "in part at the bound")
    return ", ".join([shown, *remarks])


def _depth(row: dict[str, Any]) -> str:
    if math.isnan(row["depth_to_goal"]):
        return text.DASH
    if math.isfinite(row["depth_to_goal"]):
        return text.between(*(row[f"depth_to_goal{end}"] for end in ("", "_low", "_high")),
                            lambda value: f"{value:.0f}" if math.isfinite(value) else "not reached")  # fmt: skip
    some = f" in {row['seeds'] - row['seeds_reached']} of {row['seeds']} seeds" if row["seeds_reached"] else ""
    return f"not reached{some}"


def _time(row: dict[str, Any]) -> str:
    if not math.isfinite(row["depth_to_goal"]):
        return text.DASH
    if math.isnan(row["seconds_to_goal"]):
        return "beyond the timed depths" if row["timed"] else text.DASH
    return text.seconds(row["seconds_to_goal"]) + ("*" if row["extrapolated"] else "")


def other_targets_table(results: Results, case: str) -> pd.DataFrame:
    """Return the errors at the deepest depth against each further target of a case; empty where there is but one."""
    targets = list(results.cases[case]["targets"])
    if len(targets) < 2:
        return pd.DataFrame()
    rows = []
    for estimator in results.estimators:
        row = {"estimator": estimator}
        for target in targets:
            scores = results.scores(case, "relative_error", target)
            deepest = _deepest(scores[scores["estimator"] == estimator])
            shown = text.between(deepest["error"], deepest["error_low"], deepest["error_high"])
            row[f"against {target}"] = shown
        rows.append(row)
    return pd.DataFrame(rows)


def problems_table(results: Results) -> pd.DataFrame:
    """Return everything that was skipped, refused, or failed, with its reason; one row per kind of failure."""
    frame = results.frame
    # The scores of one estimate fail together: one metric stands for them.
    bad = frame[(frame["status"] != "ok") & frame["metric"].isin(["relative_error", "seconds", "memory_bytes"])]
    unscored = {(row.case, row.estimator) for row in results.records.itertuples() if row.status != "ok"}
    measured = {"relative_error": "accuracy", "seconds": "time", "memory_bytes": "memory"}
    rows = []
    for (case, estimator, metric, status, reason), part in bad.groupby(
        ["case", "estimator", "metric", "status", "reason"], sort=False
    ):
        if status == "skipped" and metric != "relative_error" and (case, estimator) in unscored:
            # Its record tells the same with the estimator's own words.
            continue
        rows.append({
            "case": case, "estimator": estimator, "what": measured[metric], "status": status,
            "depths": text.numbers(part["depth"].dropna().tolist()) or "all",
            "seeds": text.numbers(part["seed"].dropna().tolist()) or "all", "reason": reason,
        })  # fmt: skip
    return pd.DataFrame(rows, columns=["case", "estimator", "what", "status", "depths", "seeds", "reason"])


def broken(results: Results) -> list[str]:
    """Return the estimators of which a measurement broke (an error, not a finding), in order."""
    frame = results.frame
    names = set(frame.loc[frame["status"].isin(BROKEN), "estimator"])
    names |= set(results.records.loc[results.records["status"].isin(BROKEN), "estimator"])
    return [name for name in results.estimators if name in names]


def references_table(results: Results) -> pd.DataFrame:
    """Return the certificates, one row per (case, target), the worst over the seeds."""
    rows = []
    for (case, target), part in results.references.groupby(["case", "target"], sort=False):
        statuses = part["status"].value_counts(sort=False)
        share = part["zero_codes"].max()
        rows.append({
            "case": case, "target": target,
            "status": ", ".join(f"{status} ({count} of {len(part)})" if len(statuses) > 1 else str(status)
                                for status, count in statuses.items()),
            "bound": text.number(part["bound"].max()),
            "KKT residual": text.number(part["kkt_residual"].max()),
            "condition": text.number(part["condition_number"].max()),
            "dual margin": text.number(part["dual_margin"].min()),
            "smallest amplitude": text.number(part["smallest_amplitude"].min()),
            "uncertified samples": text.DASH if part["uncertified"].isna().all() else
                                   f"{part['uncertified'].sum():.0f} of {part['samples'].sum():.0f}",
            "all-zero codes": text.DASH if math.isnan(share) else f"{100 * share:.2g}%",
            "rho": text.between(part["rho"].median(), part["rho"].min(), part["rho"].max(), lambda value: f"{value:.4f}"),
        })  # fmt: skip
    return pd.DataFrame(rows)


def provenance_table(results: Results) -> list[tuple[str, str]]:
    """Return what the numbers come from, as (name, value) pairs."""

    def each(show) -> str:
        return text.listing(list(dict.fromkeys(filter(None, (show(item) for item in results.provenances)))))

    def one(key: str) -> str:
        return each(lambda item: "" if item.get(key) in (None, "") else str(item[key]))

    def commit(item: dict[str, Any]) -> str:
        return (item.get("commit") or "none")[:12] + (" with uncommitted changes" if item.get("dirty") else "")

    def device(item: dict[str, Any]) -> str:
        return " ".join(str(item[key]) for key in ("device", "accelerator") if item.get(key))

    def processor(item: dict[str, Any]) -> str:
        return f"{item.get('cpu', 'unknown')}, {item.get('cores', '?')} cores, {item.get('memory_gib', '?')} GiB"

    seeds = {tuple(case["seeds"]) for case in results.cases.values()}
    dates = sorted(str(item["date"]) for item in results.provenances)
    versions = [f"{name} {one(name)}" for name in ("pudle", "python", "torch", "numpy", "asv") if one(name)]
    rows = [
        ("Profile", results.profile),
        ("Commit", each(commit)),
        ("Newest record", dates[-1]),
        ("Machine", one("machine")),
        ("System", one("system")),
        ("Processor", each(processor)),
        ("Device", each(device)),
        ("Threads", one("threads")),
        ("Versions", ", ".join(versions)),
        ("BLAS", one("blas")),
        ("Seeds", "; ".join(text.numbers(list(values)) for values in sorted(seeds))),
        ("Estimators", ", ".join(results.estimators)),
    ]
    return [(name, value) for name, value in rows if value]
