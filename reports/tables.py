"""All tables of a report as text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import pandas as pd

from pudle import text
from pudle.reports.load import Results
from pudle.reports.rates import BASE
from pudle.reports.summary import GOAL, deepest, spread

VERSIONS = ("pudle", "python", "torch", "numpy", "asv")


def summary_table(part: pd.DataFrame, deepest: int) -> pd.DataFrame:
    """Return the summary of one case as text, one row per estimator."""
    goal = text.number(GOAL, 1)
    torch = part["torch_seconds"].map(lambda pair: not math.isnan(pair[0])).any()
    rows = [
        {
            "estimator": row["estimator"],
            f"error at depth {deepest}": _error(row, deepest),
            f"depth to {goal}": _depth(row),
            f"time to {goal}": _time(row),
            f"time / {BASE}": text.fixed(row["relative_time"], 2),
            **(
                {
                    f"torch path: time to {goal}": text.starred(
                        text.seconds(row["torch_seconds"][0]), row["torch_seconds"][1]
                    ),
                    f"torch path: time / {BASE}": text.fixed(row["torch_relative_time"], 2),
                }
                if torch
                else {}
            ),
            "memory": text.memory(row["memory"]),
            "status": row["status"],
        }
        for row in part.to_dict("records")
    ]
    return pd.DataFrame(rows, dtype=object)


def rates_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Return fitted and predicted rates as text, one row per (case, estimator) that was scored."""
    rows = []
    for row in summary[summary["error"].notna()].to_dict("records"):
        depths, remark = text.DASH, row["rate_reason"]
        if not math.isnan(row["rate"]):
            depths = text.Cell(
                f"{row['first_depth']:.0f} to {row['last_depth']:.0f}", key=row["first_depth"]
            )
            some = (
                f"{row['seeds_fitted']} of {row['seeds']} seeds"
                if row["seeds_fitted"] < row["seeds"]
                else ""
            )
            remark = ", ".join(filter(None, [some, "not straight" if row["crooked"] else ""]))
        rows.append(
            (
                row["case"],
                row["estimator"],
                row["predicted"] or text.DASH,
                between(row, "predicted_rate", text.fixed, 4),
                between(row, "rate", text.fixed, 4),
                depths,
                between(row, "acceleration", text.fixed, 2),
                remark,
            )
        )
    columns = [
        "case",
        "estimator",
        "theory",
        "predicted rate",
        "fitted rate",
        "depths",
        "acceleration",
        "remark",
    ]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def between(
    row: Mapping[str, Any], name: str, show: Callable[..., str] = text.number, *options: Any
) -> text.Cell:
    """Return the middle value `name` of a summary's row with its range or interval over the seeds."""
    return text.between(
        row[name], row[f"{name}_low"], row[f"{name}_high"], lambda value: show(value, *options)
    )


def _error(row: dict[str, Any], deepest: int) -> text.Cell:
    if math.isnan(row["error"]):
        return text.Cell(text.DASH)
    remarks = []
    if row["depth"] != deepest:
        remarks.append(f"at depth {row['depth']:.0f}")
    if row["seeds_measured"] < row["seeds"]:
        remarks.append(f"{row['seeds_measured']} of {row['seeds']} seeds")
    if row["seeds_at_floor"]:
        remarks.append(
            "at the bound"
            if row["seeds_at_floor"] == row["seeds_measured"]
            else "in part at the bound"
        )
    return text.Cell(between(row, "error"), details=remarks)


def _depth(row: dict[str, Any]) -> text.Cell:
    if not math.isinf(row["depth_to_goal"]):
        return between(
            row,
            "depth_to_goal",
            lambda depth: f"{depth:.0f}" if math.isfinite(depth) else "not reached",
        )
    some = (
        f" in {row['seeds'] - row['seeds_reached']} of {row['seeds']} seeds"
        if row["seeds_reached"]
        else ""
    )
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
    """Return the errors at the deepest depth against each target of a case; empty if it has only
    one.
    """
    targets = results.cases[case]["targets"]
    rows = [
        {"estimator": name}
        | {
            f"against {target}": between(deepest(results.curve(case, name, target=target)), "error")
            for target in targets
        }
        for name in results.estimators
    ]
    return pd.DataFrame(rows if len(targets) > 1 else [], dtype=object)


def problems_table(results: Results) -> pd.DataFrame:
    """Return what was skipped, refused or failed, with its reason; one row per kind of failure."""
    frame = results.frame
    measured = {"relative_error": "accuracy", "seconds": "time", "memory_bytes": "memory"}
    # All scores of an estimate fail together: one metric represents them.
    # What is not measured yet is no problem: `scope.pending` lists it.
    bad = frame[~frame["status"].isin(("ok", "missing")) & frame["metric"].isin(list(measured))]
    unscored = {
        (row.case, row.estimator) for row in results.records.itertuples() if row.status != "ok"
    }
    keys = ["case", "estimator", "metric", "status", "reason"]
    rows = []
    for (case, estimator, metric, status, reason), part in bad.groupby(keys, sort=False):
        # If an estimator was not scored, its record gives a better reason for skipped timings.
        if status != "skipped" or metric == "relative_error" or (case, estimator) not in unscored:
            depths, seeds = (
                text.numbers(part[name].dropna().tolist()) or "all" for name in ("depth", "seed")
            )
            rows.append((case, estimator, measured[metric], status, depths, seeds, reason))
    columns = ["case", "estimator", "what", "status", "depths", "seeds", "reason"]
    return pd.DataFrame(rows, columns=columns, dtype=object)


def references_table(results: Results) -> pd.DataFrame:
    """Return the certificates, one row per (case, target), with the worst numbers over the seeds."""
    rows = []
    for (case, target), part in results.references.groupby(["case", "target"], sort=False):
        counts = part["status"].value_counts(sort=False)
        statuses = ", ".join(
            f"{status} ({count} of {len(part)})" for status, count in counts.items()
        )
        uncertified = f"{part['uncertified'].sum():.0f} of {part['samples'].sum():.0f}"
        rows.append(
            {
                "case": case,
                "target": target,
                "status": statuses if len(counts) > 1 else counts.index[0],
                "bound": text.number(part["bound"].max()),
                "KKT residual": text.number(part["kkt_residual"].max()),
                "condition": text.number(part["condition_number"].max()),
                "dual margin": text.number(part["dual_margin"].min()),
                "smallest amplitude": text.number(part["smallest_amplitude"].min()),
                "uncertified samples": (
                    text.DASH
                    if part["uncertified"].isna().all()
                    else text.Cell(uncertified, key=part["uncertified"].sum())
                ),
                "all-zero codes": text.percent(part["zero_codes"].max()),
                "rho": between(spread("rho", part["rho"]), "rho", text.fixed, 4),
            }
        )
    return pd.DataFrame(rows, dtype=object)


def provenance_table(results: Results) -> list[tuple[str, str]]:
    """Return the origin of the numbers as (name, value) pairs; several origins are listed."""
    seeds = sorted({tuple(case["seeds"]) for case in results.cases.values()})
    facts = [
        {
            "Profile": results.profile,
            "Commit": (
                (item.get("commit") or "none")[:12]
                + (" with uncommitted changes" if item.get("dirty") else "")
            ),
            "Sources": (
                " ".join(["pudle", str(item.get("pudle")), str(item["sources"])])
                if item.get("sources")
                else ""
            ),
            "Newest record": max(str(other["date"]) for other in results.provenances),
            "Machine": item.get("machine"),
            "System": item.get("system"),
            "Processor": (
                f"{item.get('cpu', 'unknown')}, {item.get('cores', '?')} cores,"
                f" {item.get('memory_gib', '?')} GiB"
            ),
            "Device": " ".join(
                str(item[key]) for key in ("device", "accelerator") if item.get(key)
            ),
            "Threads": item.get("threads"),
            "Versions": ", ".join(f"{name} {item[name]}" for name in VERSIONS if item.get(name)),
            "BLAS": item.get("blas"),
            "Seeds": "; ".join(text.numbers(values) for values in seeds),
            "Estimators": ", ".join(results.estimators),
        }
        for item in results.provenances
    ]
    distinct = {
        name: dict.fromkeys(str(fact[name]) for fact in facts if fact[name] not in (None, ""))
        for name in facts[0]
    }
    return [(name, text.listing(list(values))) for name, values in distinct.items() if values]
