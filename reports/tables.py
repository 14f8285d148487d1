"""All tables of a report as text; a column of the summary is one record of `COLUMNS`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, NamedTuple

import pandas as pd

from pudle import text
from pudle.answers import ERROR
from pudle.reports.rates import BASE
from pudle.reports.results import Results
from pudle.reports.summary import deepest, spread

VERSIONS = ("pudle", "python", "torch", "numpy", "asv")

#: A row of `summary.summarize`, with what the estimator needs to `reach` the required error.
Row = Any


class Column(NamedTuple):
    """A column of the summary, in Markdown, LaTeX, CSV and the page.

    The value is a number or a text, for CSV and for sorting; the format makes a cell of the value
    and its row. In the label, ``{error}`` stands for the required error.
    """

    label: str
    value: Callable[[Row], Any]
    format: Callable[[Any, Row], str]


def _error(value: float, row: Row) -> text.Cell:
    remarks = []
    if row.depth != row.last_depth_measured:
        remarks.append(f"at depth {row.depth:.0f}")
    if (measured := len(row.errors_by_seed)) < row.seeds:
        remarks.append(f"{measured} of {row.seeds} seeds")
    if row.seeds_at_floor:
        remarks.append("at the bound" if row.seeds_at_floor == measured else "in part at the bound")
    return text.Cell(between(vars(row), "error"), details=remarks)


def _depth(value: float, row: Row) -> text.Cell:
    depths = row.reach.depths.values()
    if math.isinf(value):
        missed = sum(map(math.isinf, depths)) + row.seeds - len(depths)
        some = f" in {missed} of {row.seeds} seeds" if missed < row.seeds else ""
        return text.Cell(f"not reached{some}", key=math.inf)
    return text.between(value, min(depths), max(depths), _layers)


def _layers(depth: float) -> str:
    return f"{depth:.0f}" if math.isfinite(depth) else "not reached"


def _time(value: float, row: Row) -> text.Cell:
    if math.isinf(value):
        return text.Cell("beyond the timed depths", key=math.inf)
    shown = text.starred(text.seconds(value), row.reach.seconds.extrapolated)
    return text.between(value, *row.reach.interval, text.seconds, shown)


def _seconds(row: Row) -> float:
    """Return the time to the required error, infinite beyond all depths with a known one."""
    beyond = math.isfinite(row.reach.depth) and row.measured.seconds.measured
    seconds = row.reach.seconds.value
    return math.inf if math.isnan(seconds) and beyond else seconds


def _torch_time(value: float, row: Row) -> text.Cell:
    return text.starred(text.seconds(value), row.torch.at(row.reach.depth).extrapolated)


def _ratio(value: float, row: Row) -> text.Cell:
    return text.fixed(value, 2)


#: The summary. A column without a value in any row of a case is left out there.
COLUMNS = (
    Column("error at the deepest depth", lambda row: row.error, _error),
    Column("depth to {error}", lambda row: row.reach.depth, _depth),
    Column("time to {error}", _seconds, _time),
    Column(f"time / {BASE}", lambda row: row.relative_time, _ratio),
    Column(
        "torch path: time to {error}", lambda row: row.torch.at(row.reach.depth).value, _torch_time
    ),
    Column(f"torch path: time / {BASE}", lambda row: row.torch_relative_time, _ratio),
    Column("memory", lambda row: row.memory, lambda value, row: text.memory(value)),
    Column("status", lambda row: row.status, lambda value, row: value),
)


def _rows(part: pd.DataFrame, error: float) -> list[Row]:
    last = part["depth"].max()
    return [
        SimpleNamespace(**row, reach=row["measured"].reach(error), last_depth_measured=last)
        for row in part.to_dict("records")
    ]


def summary_table(part: pd.DataFrame, error: float = ERROR) -> pd.DataFrame:
    """Return the summary of one case as text, one row per estimator."""
    rows, goal = _rows(part, error), text.number(error, 1)
    table: dict[str, Any] = {"estimator": [row.estimator for row in rows]}
    for label, value, show in COLUMNS:
        values = [value(row) for row in rows]
        if any(each == each for each in values):
            table[label.format(error=goal)] = [
                show(each, row) if each == each else text.Cell(text.DASH)
                for each, row in zip(values, rows, strict=True)
            ]
    return pd.DataFrame(table, dtype=object)


def summary_values(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers of the summary, one row per (case, estimator)."""
    rows, goal = _rows(summary, ERROR), text.number(ERROR, 1)
    values = {label.format(error=goal): [value(row) for row in rows] for label, value, _ in COLUMNS}
    return pd.DataFrame(values, index=pd.MultiIndex.from_frame(summary[["case", "estimator"]]))


def between(
    row: Mapping[str, Any], name: str, show: Callable[..., str] = text.number, *options: Any
) -> text.Cell:
    """Return the middle value `name` of a summary's row with its range or interval over seeds."""
    three = row[name], row[f"{name}_low"], row[f"{name}_high"]
    return text.between(*three, lambda value: show(value, *options))


def rates_table(summary: pd.DataFrame) -> pd.DataFrame:
    """Return fitted and predicted rates as text, one row per (case, estimator) that was scored."""
    rows = []
    for row in summary[summary["error"].notna()].to_dict("records"):
        depths, remark = text.Cell(text.DASH), row["rate_reason"]
        if not math.isnan(row["rate"]):
            first, last = row["first_depth"], row["last_depth"]
            depths = text.Cell(f"{first:.0f} to {last:.0f}", key=first)
            fitted = row["seeds_fitted"]
            some = f"{fitted} of {row['seeds']} seeds" if fitted < row["seeds"] else ""
            remark = ", ".join(filter(None, [some, "not straight" if row["crooked"] else ""]))
        rows.append(
            {
                "case": row["case"],
                "estimator": row["estimator"],
                "theory": row["predicted"] or text.DASH,
                "predicted rate": between(row, "predicted_rate", text.fixed, 4),
                "fitted rate": between(row, "rate", text.fixed, 4),
                "depths": depths,
                "acceleration": between(row, "acceleration", text.fixed, 2),
                "remark": remark,
            }
        )
    return pd.DataFrame(rows, columns=None if rows else ["case", "fitted rate"], dtype=object)


def other_targets_table(results: Results, case: str) -> pd.DataFrame:
    """Return the errors at the deepest depth against each target of a case; empty if it has only
    one.
    """
    targets = results.cases[case]["targets"]
    if len(targets) == 1:
        return pd.DataFrame(dtype=object)
    table: dict[str, Any] = {"estimator": results.estimators}
    for target in targets:
        curves = [results.curve(case, name, target=target) for name in results.estimators]
        table[f"against {target}"] = [between(deepest(curve), "error") for curve in curves]
    return pd.DataFrame(table, dtype=object)


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


#: Columns of the certificates: the field of a reference, which of the seeds is worst, the format.
CERTIFICATES: dict[str, tuple[str, str, Callable[[float], str]]] = {
    "bound": ("bound", "max", text.number),
    "KKT residual": ("kkt_residual", "max", text.number),
    "condition": ("condition_number", "max", text.number),
    "dual margin": ("dual_margin", "min", text.number),
    "smallest amplitude": ("smallest_amplitude", "min", text.number),
    "all-zero codes": ("zero_codes", "max", text.percent),
}


def references_table(results: Results) -> pd.DataFrame:
    """Return the certificates, one row per (case, target), with the worst over the seeds."""
    rows = []
    for (case, target), part in results.references.groupby(["case", "target"], sort=False):
        counts = part["status"].value_counts(sort=False)
        statuses = [f"{status} ({count} of {len(part)})" for status, count in counts.items()]
        failing = part["uncertified"].sum()
        uncertified = text.Cell(f"{failing:.0f} of {part['samples'].sum():.0f}", key=failing)
        worst = {
            label: show(getattr(part[name], which)())
            for label, (name, which, show) in CERTIFICATES.items()
        }
        rows.append(
            {
                "case": case,
                "target": target,
                "status": ", ".join(statuses) if len(counts) > 1 else counts.index[0],
                **worst,
                "uncertified samples": (
                    text.DASH if part["uncertified"].isna().all() else uncertified
                ),
                "rho": between(spread("rho", part["rho"]), "rho", text.fixed, 4),
            }
        )
    return pd.DataFrame(rows, dtype=object)


def provenance_table(results: Results) -> list[tuple[str, str]]:
    """Return the origin of the numbers as (name, value) pairs; several origins are listed."""
    seeds = sorted({tuple(case["seeds"]) for case in results.cases.values()})
    newest = max(str(item["date"]) for item in results.provenances)
    facts: dict[str, dict[str, None]] = {}
    for item in results.provenances:
        changed = " with uncommitted changes" if item.get("dirty") else ""
        machine = (item.get("cpu", "unknown"), item.get("cores", "?"), item.get("memory_gib", "?"))
        sources = f"pudle {item.get('pudle')} {item.get('sources')}"
        origin = {
            "Profile": results.profile,
            "Commit": (item.get("commit") or "none")[:12] + changed,
            "Sources": sources if item.get("sources") else "",
            "Newest record": newest,
            "Machine": item.get("machine"),
            "System": item.get("system"),
            "Processor": "{}, {} cores, {} GiB".format(*machine),
            "Device": " ".join(
                str(item[key]) for key in ("device", "accelerator") if item.get(key)
            ),
            "Threads": item.get("threads"),
            "Versions": ", ".join(f"{name} {item[name]}" for name in VERSIONS if item.get(name)),
            "BLAS": item.get("blas"),
            "Seeds": "; ".join(text.numbers(values) for values in seeds),
            "Estimators": ", ".join(results.estimators),
        }
        for name, value in origin.items():
            facts.setdefault(name, {}).update({str(value): None} if value else {})
    return [(name, text.listing(list(values))) for name, values in facts.items() if values]
