"""Tables: the numbers of a report's summary, and all its tables as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from pudle.reports import text
from pudle.reports.load import BROKEN, Results
from pudle.reports.rates import BASE

#: Relative error that depth and time are reported for.
GOAL = 1e-3
#: Time is extrapolated linearly beyond the deepest timed depth, up to this many times that depth.
REACH = 4.0
#: With fewer seeds than this a mean has no confidence interval worth the name, and the range over the seeds is shown.
FEWEST_SEEDS = 3
CONFIDENCE = 0.95
VERSIONS = ("pudle", "python", "torch", "numpy", "asv")


def summarize(results: Results, rates: pd.DataFrame) -> pd.DataFrame:
    """Return one row of numbers per (case, estimator).

    ``error``, ``depth_to_goal`` and ``rate`` are medians over the seeds; the columns with ``_low`` and ``_high`` hold the
    least and the greatest. ``acceleration`` is the mean with its confidence interval, see `confidence`. ``depth_to_goal`` is
    infinite where the median seed does not reach the goal; ``seconds_to_goal`` is the time at that depth,
    ``seconds_by_seed`` the quartiles of the timing at each seed's own depth, and ``seconds_to_goal_low`` and ``_high`` are
    the least and the greatest of these. ``torch_seconds`` (with whether it is extrapolated) and ``torch_relative_time`` are
    the time at that depth and the relative time without compiled kernels, NaN where that was not timed.
    ``errors_by_seed`` holds the errors at the deepest measured depth. ``memory_to_goal``, ``seconds_deepest`` and
    ``memory_deepest`` are pairs: the value, and whether it is extrapolated.
    """
    rows = []
    by_case = dict(iter(results.records.groupby("case", sort=False)))
    fitted = dict(iter(rates.groupby(["case", "estimator"], sort=False))) if results.cases else {}
    for name, case in results.cases.items():
        errors = results.scores(name, "relative_error")
        for record in by_case[name].to_dict("records"):
            estimator = record["estimator"]
            curves, fits = errors[errors["estimator"] == estimator], fitted[name, estimator]
            rows.append({
                "case": name, "estimator": estimator, "status": record["status"], "reason": record["reason"],
                "seeds": len(case["seeds"]), **_deepest(curves), **_rate(fits), **_costs(results, name, estimator, curves),
            })  # fmt: skip
    return pd.DataFrame(rows)


def _spread(name: str, values: Any) -> dict[str, float]:
    """Return the median, least and greatest of values, without those that are NaN."""
    known = np.asarray(values, dtype=float)
    known = known[~np.isnan(known)]
    spread = (np.median(known), known.min(), known.max()) if len(known) else (math.nan,) * 3
    return dict(zip((name, f"{name}_low", f"{name}_high"), map(float, spread), strict=True))


def confidence(name: str, values: Any) -> dict[str, float]:
    """Return the mean over seeds with its 95% confidence interval by Student's t; of fewer than 3 seeds, see `_spread`."""
    known = np.asarray(values, dtype=float)
    if len(known) < FEWEST_SEEDS:
        return _spread(name, known)
    mean, half = known.mean(), stdtrit(len(known) - 1, (1 + CONFIDENCE) / 2) * known.std(ddof=1) / math.sqrt(len(known))
    return {name: float(mean), f"{name}_low": float(mean - half), f"{name}_high": float(mean + half)}


def _deepest(curves: pd.DataFrame) -> dict[str, Any]:
    """Summarize the errors at the deepest depth that has any."""
    last = curves[curves["depth"] == curves["depth"].max()] if len(curves) else curves
    return {
        "depth": int(last["depth"].iloc[0]) if len(last) else math.nan,
        "seeds_measured": int(last["seed"].nunique()),
        "errors_by_seed": dict(zip(last["seed"].astype(int), last["value"], strict=True)),
        "seeds_at_floor": int(last["at_floor"].sum()),
        **_spread("error", last["value"]),
    }


def _rate(fits: pd.DataFrame) -> dict[str, Any]:
    good, theory = fits[fits["rate"].notna()], fits["theory"].iloc[0]
    return {
        "predicted": str(theory or ""),
        "claims_floor": theory is not None and theory.power == 0,
        **_spread("rate", good["rate"]),
        **_spread("predicted_rate", np.exp(fits["predicted_slope"].to_numpy())),
        **confidence("acceleration", good["acceleration"].dropna()),
        "seeds_accelerated": int(good["acceleration"].notna().sum()),
        "seeds_fitted": len(good),
        "first_depth": good["first_depth"].min() if len(good) else pd.NA,
        "last_depth": good["last_depth"].max() if len(good) else pd.NA,
        "rate_reason": next(filter(None, fits["reason"]), ""),
        "crooked": bool((good["reason"] != "").any()),
    }


def depths_to(curves: pd.DataFrame, goal: float = GOAL) -> dict[int, float]:
    """Return the depth that each seed's errors, the rows of `curves`, reach a goal at, see `depth_to`."""
    seeds, depths, errors = (curves[name].to_numpy(dtype=float) for name in ("seed", "depth", "value"))
    order = np.argsort(depths, kind="stable")
    seeds, depths, errors = seeds[order], depths[order], errors[order]
    return {int(seed): depth_to(depths[seeds == seed], errors[seeds == seed], goal) for seed in np.unique(seeds)}


def depth_to(depths: np.ndarray, errors: np.ndarray, goal: float = GOAL) -> float:
    """Return the depth from which errors, at ascending depths, stay at or below a goal; infinite if they do not.

    Between the measured depths log error is taken as linear in depth, and the answer is rounded up to a whole layer.
    """
    above = np.flatnonzero(errors > goal)
    if not len(errors) or (len(above) and above[-1] == len(errors) - 1):
        return math.inf
    if not len(above):
        return float(depths[0])
    last = above[-1]
    low, high = depths[last], depths[last + 1]
    before, after = math.log(errors[last]), math.log(max(errors[last + 1], 1e-300))
    reached = low + (high - low) * (before - math.log(goal)) / (before - after)
    # Rounding errors must not add a layer.
    return float(min(high, math.ceil(reached - 1e-9)))


def seconds_at(timed: pd.DataFrame, depth: float, column: str = "seconds") -> tuple[float, bool]:
    """Return the time at a depth, and whether it is extrapolated.

    Time is linear in depth between timed depths, and beyond them along the nearest two, up to `REACH` times the deepest. It
    is NaN farther out, and where fewer than two depths are timed.
    """
    depths, values = timed["depth"].to_numpy(dtype=float), timed[column].to_numpy(dtype=float)
    order = np.argsort(depths)
    depths, values = depths[order], values[order]
    if not len(depths) or not math.isfinite(depth):
        return math.nan, False
    if depths[0] <= depth <= depths[-1]:
        return float(np.interp(depth, depths, values)), False
    if len(depths) < 2 or depth > REACH * depths[-1]:
        return math.nan, True
    before = depth < depths[0]
    near, far = (0, 1) if before else (-1, -2)
    # Noise can tilt the line, but fewer layers never take more time.
    slope = max((values[near] - values[far]) / (depths[near] - depths[far]), 0.0)
    # Nor do fewer layers save more than their share: there is a cost without any layer.
    least = values[0] * depth / depths[0] if before else 0.0
    return float(max(values[near] + slope * (depth - depths[near]), least)), True


def _costs(results: Results, case: str, estimator: str, curves: pd.DataFrame) -> dict[str, Any]:
    """Summarize depth, time and memory at the goal and at the deepest depth, and the time relative to `BASE`."""
    depths = depths_to(curves)
    spread = _spread("depth_to_goal", list(depths.values()))
    goal, deepest = spread["depth_to_goal"], curves["depth"].max() if len(curves) else math.inf
    timed, memory = results.times(case, estimator), results.measured(case, "memory_bytes")
    memory = memory[memory["estimator"] == estimator]
    middle, outside = seconds_at(timed, goal)
    quartiles = seconds_by_seed(timed, depths)
    bounds = [bound for pair in quartiles.values() for bound in pair if not math.isnan(bound)]
    torch = {name: part for name, part in results.measured(case, "seconds_torch").groupby("estimator")}
    costs = {
        "seeds_reached": sum(map(math.isfinite, depths.values())), "timed": len(timed),
        "seconds_to_goal": middle, "seconds_by_seed": quartiles, "extrapolated": outside,
        "seconds_to_goal_low": min(bounds, default=math.nan), "seconds_to_goal_high": max(bounds, default=math.nan),
        "relative_time": _relative(results.times(case, BASE), timed, "seconds"),
        "torch_seconds": (math.nan, False), "torch_relative_time": math.nan,
        # Memory is linear in depth as time is.
        "memory_to_goal": seconds_at(memory, goal, "value"),
        "seconds_deepest": seconds_at(timed, deepest), "memory_deepest": seconds_at(memory, deepest, "value"),
    }  # fmt: skip
    if estimator in torch:
        costs["torch_seconds"] = seconds_at(torch[estimator], goal, "value")
        costs["torch_relative_time"] = _relative(torch.get(BASE, torch[estimator].iloc[:0]), torch[estimator], "value")
    for name, frame, column in (("memory", memory, "value"), ("seconds", timed, "seconds")):
        last = frame.loc[frame["depth"].astype(int).idxmax()] if len(frame) else {column: math.nan, "depth": pd.NA}
        costs |= {name: float(last[column]), f"{name}_depth": last["depth"]}
    return spread | costs


def seconds_by_seed(timed: pd.DataFrame, depths: Mapping[int, float]) -> dict[int, tuple[float, float]]:
    """Return the quartiles of the time at each seed's own depth, NaN where no time is known."""
    return {seed: (seconds_at(timed, depth, "low")[0], seconds_at(timed, depth, "high")[0])
            for seed, depth in depths.items()}  # fmt: skip


def beats(mine: Mapping[int, tuple[float, float]], theirs: Mapping[int, tuple[float, float]]) -> bool:
    """Return whether one estimator is faster on every seed, by more than the quartiles of both timings.

    Seeds are compared one by one, because they differ more from each other than estimators do on any of them.
    """
    # A time is not known where a seed does not reach the goal, or only beyond all timed depths.
    pairs = [(mine[seed][1], low) for seed, (low, _) in theirs.items() if seed in mine]
    known = [(high, low) for high, low in pairs if not (math.isnan(high) and math.isnan(low))]
    return bool(known) and all(high < (math.inf if math.isnan(low) else low) for high, low in known)


def _relative(base: pd.DataFrame, timed: pd.DataFrame, column: str) -> float:
    """Return the time over that of `BASE`, at the deepest depth at which both are timed."""
    both = base.merge(timed, on="depth", suffixes=("_base", "")).sort_values("depth")
    known = len(both) > 0 and both[f"{column}_base"].iloc[-1] > 0
    return float(both[column].iloc[-1] / both[f"{column}_base"].iloc[-1]) if known else math.nan


def over_seeds(data: pd.DataFrame, *further: str) -> pd.DataFrame:
    """Return median, least and greatest value over the seeds, per estimator, depth and the `further` columns."""
    grouped = data.groupby(["estimator", "depth", *further], sort=False, dropna=False)["value"]
    found = grouped.agg(["median", "min", "max"]).rename(columns={"min": "least", "max": "greatest"}).reset_index()
    return found.astype({"depth": "int64"}).sort_values(["estimator", "depth"], kind="stable")


# -- tables as text


def summary_table(summary: pd.DataFrame, case: str, deepest: int) -> pd.DataFrame:
    """Return the summary of a case as text, one row per estimator."""
    goal, part = text.number(GOAL, 1), summary[summary["case"] == case]
    torch = part["torch_seconds"].map(lambda pair: not math.isnan(pair[0])).any()
    rows = [{
        "estimator": row["estimator"],
        f"error at depth {deepest}": _error(row, deepest),
        f"depth to {goal}": _depth(row),
        f"time to {goal}": _time(row),
        f"time / {BASE}": text.fixed(row["relative_time"], 2),
        **({f"torch path: time to {goal}": text.starred(text.seconds(row["torch_seconds"][0]), row["torch_seconds"][1]),
            f"torch path: time / {BASE}": text.fixed(row["torch_relative_time"], 2)} if torch else {}),
        "memory": text.memory(row["memory"]),
        "status": row["status"],
    } for row in part.to_dict("records")]  # fmt: skip
    return pd.DataFrame(rows, dtype=object)


def rates_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Return fitted and predicted rates as text, one row per (case, estimator) that was scored."""
    rows = []
    for row in summary[summary["error"].notna()].to_dict("records"):
        depths = text.Cell(f"{row['first_depth']} to {row['last_depth']}", key=row["first_depth"])
        some = f"{row['seeds_fitted']} of {row['seeds']} seeds" if row["seeds_fitted"] < row["seeds"] else ""
        remark = ", ".join(filter(None, [some, "not straight" if row["crooked"] else ""]))
        if math.isnan(row["rate"]):
            depths, remark = text.DASH, row["rate_reason"]
        rows.append((
            row["case"], row["estimator"], row["predicted"] or text.DASH, between(row, "predicted_rate", text.fixed, 4),
            between(row, "rate", text.fixed, 4), depths, between(row, "acceleration", text.fixed, 2), remark,
        ))  # fmt: skip
    columns = ["case", "estimator", "theory", "predicted rate", "fitted rate", "depths", "acceleration", "remark"]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def between(row: Mapping[str, Any], name: str, show: Callable[..., str] = text.number, *options: Any) -> text.Cell:
    """Return the middle value `name` of a summary's row with its range or interval over the seeds."""
    return text.between(row[name], row[f"{name}_low"], row[f"{name}_high"], lambda value: show(value, *options))


def _error(row: dict[str, Any], deepest: int) -> text.Cell:
    if math.isnan(row["error"]):
        return text.Cell(text.DASH)
    remarks = []
    if row["depth"] != deepest:
        remarks.append(f"at depth {row['depth']:.0f}")
    if row["seeds_measured"] < row["seeds"]:
        remarks.append(f"{row['seeds_measured']} of {row['seeds']} seeds")
    if row["seeds_at_floor"]:
        remarks.append("at the bound" if row["seeds_at_floor"] == row["seeds_measured"] else "in part at the bound")
    return text.Cell(between(row, "error"), details=remarks)


def _depth(row: dict[str, Any]) -> text.Cell:
    if not math.isinf(row["depth_to_goal"]):
        return between(row, "depth_to_goal", lambda depth: f"{depth:.0f}" if math.isfinite(depth) else "not reached")
    some = f" in {row['seeds'] - row['seeds_reached']} of {row['seeds']} seeds" if row["seeds_reached"] else ""
    return text.Cell(f"not reached{some}", key=math.inf)


def time_to_goal(row: Mapping[str, Any]) -> text.Cell:
    """Return the time to the goal with its range over the seeds and the quartiles of the timings."""
    shown = text.starred(text.seconds(row["seconds_to_goal"]), row["extrapolated"])
    ends = (row["seconds_to_goal_low"], row["seconds_to_goal_high"])
    return text.between(row["seconds_to_goal"], *ends, text.seconds, shown)


def _time(row: dict[str, Any]) -> text.Cell:
    if not math.isnan(row["seconds_to_goal"]):
        return time_to_goal(row)
    beyond = math.isfinite(row["depth_to_goal"]) and row["timed"]
    return text.Cell("beyond the timed depths", key=math.inf) if beyond else text.Cell(text.DASH)


def other_targets_table(results: Results, case: str) -> pd.DataFrame:
    """Return the errors at the deepest depth against each target of a case; empty if it has only one."""
    scores = {target: results.scores(case, "relative_error", target) for target in results.cases[case]["targets"]}
    rows = [{"estimator": name} | {f"against {target}": between(_deepest(errors[errors["estimator"] == name]), "error")
                                   for target, errors in scores.items()} for name in results.estimators]  # fmt: skip
    return pd.DataFrame(rows if len(scores) > 1 else [], dtype=object)


def problems_table(results: Results) -> pd.DataFrame:
    """Return what was skipped, refused or failed, with its reason; one row per kind of failure."""
    frame = results.frame
    measured = {"relative_error": "accuracy", "seconds": "time", "memory_bytes": "memory"}
    # All scores of an estimate fail together: one metric represents them.
    bad = frame[(frame["status"] != "ok") & frame["metric"].isin(list(measured))]
    unscored = {(row.case, row.estimator) for row in results.records.itertuples() if row.status != "ok"}
    keys = ["case", "estimator", "metric", "status", "reason"]
    rows = []
    for (case, estimator, metric, status, reason), part in bad.groupby(keys, sort=False):
        # If an estimator was not scored, its record gives a better reason for skipped timings.
        if status != "skipped" or metric == "relative_error" or (case, estimator) not in unscored:
            depths, seeds = (text.numbers(part[name].dropna().tolist()) or "all" for name in ("depth", "seed"))
            rows.append((case, estimator, measured[metric], status, depths, seeds, reason))
    columns = ["case", "estimator", "what", "status", "depths", "seeds", "reason"]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def broken(results: Results) -> list[str]:
    """Return the estimators with a measurement that broke (an error, not a finding), in order."""
    both = pd.concat([frame[["estimator", "status"]] for frame in (results.frame, results.records)])
    names = set(both.loc[both["status"].isin(BROKEN), "estimator"])
    return [name for name in results.estimators if name in names]


def references_table(results: Results) -> pd.DataFrame:
    """Return the certificates, one row per (case, target), with the worst numbers over the seeds."""
    rows = []
    for (case, target), part in results.references.groupby(["case", "target"], sort=False):
        counts = part["status"].value_counts(sort=False)
        statuses = ", ".join(f"{status} ({count} of {len(part)})" for status, count in counts.items())
        uncertified = f"{part['uncertified'].sum():.0f} of {part['samples'].sum():.0f}"
        rows.append({
            "case": case, "target": target,
            "status": statuses if len(counts) > 1 else counts.index[0],
            "bound": text.number(part["bound"].max()),
            "KKT residual": text.number(part["kkt_residual"].max()),
            "condition": text.number(part["condition_number"].max()),
            "dual margin": text.number(part["dual_margin"].min()),
            "smallest amplitude": text.number(part["smallest_amplitude"].min()),
            "uncertified samples": text.DASH if part["uncertified"].isna().all() else
                                   text.Cell(uncertified, key=part["uncertified"].sum()),
            "all-zero codes": text.percent(part["zero_codes"].max()),
            "rho": between(_spread("rho", part["rho"]), "rho", text.fixed, 4),
        })  # fmt: skip
    return pd.DataFrame(rows, dtype=object)


def provenance_table(results: Results) -> list[tuple[str, str]]:
    """Return the origin of the numbers as (name, value) pairs; several origins are listed."""
    seeds = sorted({tuple(case["seeds"]) for case in results.cases.values()})
    facts = [{
        "Profile": results.profile,
        "Commit": (item.get("commit") or "none")[:12] + (" with uncommitted changes" if item.get("dirty") else ""),
        "Sources": " ".join(["pudle", str(item.get("pudle")), str(item["sources"])]) if item.get("sources") else "",
        "Newest record": max(str(other["date"]) for other in results.provenances),
        "Machine": item.get("machine"),
        "System": item.get("system"),
        "Processor": f"{item.get('cpu', 'unknown')}, {item.get('cores', '?')} cores, {item.get('memory_gib', '?')} GiB",
        "Device": " ".join(str(item[key]) for key in ("device", "accelerator") if item.get(key)),
        "Threads": item.get("threads"),
        "Versions": ", ".join(f"{name} {item[name]}" for name in VERSIONS if item.get(name)),
        "BLAS": item.get("blas"),
        "Seeds": "; ".join(text.numbers(values) for values in seeds),
        "Estimators": ", ".join(results.estimators),
    } for item in results.provenances]  # fmt: skip
    distinct = {name: dict.fromkeys(str(fact[name]) for fact in facts if fact[name] not in (None, "")) for name in facts[0]}
    return [(name, text.listing(list(values))) for name, values in distinct.items() if values]
