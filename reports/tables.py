"""All tables of a report as text, and sentences on what they rest on; a column of the summary is
one entry of `COLUMNS`.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import pandas as pd

from pudle import text
from pudle.answers import ERROR
from pudle.measuring import contents
from pudle.reports.load import COSTS, Results
from pudle.reports.summary import BASE, FEWEST_SEEDS, deepest, spread

VERSIONS = ("pudle", "python", "torch", "numpy", "asv")
#: How tables show rates, and ratios.
RATE, RATIO = partial(text.fixed, digits=4), partial(text.fixed, digits=2)

#: A row of `summary.summarize`, with what the estimator needs to `reach` the required error.
Row = Any


def _error(row: Row) -> text.Cell:
    if math.isnan(row.error):
        return text.Cell(text.DASH)
    measured = len(row.errors_by_seed)
    some = "in part " if row.seeds_at_floor < measured else ""
    remarks = {
        f"at depth {row.depth:.0f}": row.depth != row.last_depth_measured,
        f"{measured} of {row.seeds} seeds": measured < row.seeds,
        f"{some}at the bound": row.seeds_at_floor,
    }
    details = [remark for remark, holds in remarks.items() if holds]
    return text.Cell(between(vars(row), "error"), details=details)


def _depth(row: Row) -> text.Cell:
    _, by_seed, depth, *_ = row.reach
    depths = by_seed.values()
    if math.isinf(depth):
        missed = sum(map(math.isinf, depths)) + row.seeds - len(depths)
        some = f" in {missed} of {row.seeds} seeds" if missed < row.seeds else ""
        return text.Cell(f"not reached{some}", key=math.inf)
    ends = min(depths, default=depth), max(depths, default=depth)
    return text.between(depth, *ends, "{:.0f}".format, f"≤ {depth:.0f}")


def _time(row: Row) -> text.Cell:
    """Show the time to the required error, infinite beyond all depths with a known one."""
    depth, seconds = row.reach.depth, row.reach.seconds
    if math.isnan(seconds.value) and depth < math.inf and row.measured.seconds.measured:
        return text.Cell("beyond the timed depths", key=math.inf)
    quartiles, shown = row.measured.rounds.quartiles(depth), seconds.shown(text.seconds)
    return text.between(seconds.value, *quartiles, text.seconds, shown)


#: The columns of the summary in Markdown, LaTeX, CSV and the page, by label: what makes the cell of
#: a row, whose key is its number for CSV and for sorting. In a label, ``{error}`` stands for the
#: required error. A column without a value in any row of a case is left out there.
COLUMNS: dict[str, Callable[[Row], str]] = {
    "error at the deepest depth": _error,
    "depth to {error}": _depth,
    "time to {error}": _time,
    f"time / {BASE}": lambda row: str(row.relative_seconds),
    "torch path: time to {error}": lambda row: row.torch.at(row.reach.depth).shown(text.seconds),
    f"torch path: time / {BASE}": lambda row: str(row.relative_seconds_torch),
    "memory": lambda row: text.memory(row.memory),
    "status": lambda row: row.status,
}


def _cells(part: pd.DataFrame, error: float) -> dict[str, list[str]]:
    """Return the cells of the summary's columns by label."""
    last = part["depth"].max()
    rows = [
        SimpleNamespace(**row, reach=row["measured"].reach(error), last_depth_measured=last)
        for row in part.to_dict("records")
    ]
    words = text.number(error, 1)
    return {label.format(error=words): [*map(cell, rows)] for label, cell in COLUMNS.items()}


def summary_table(part: pd.DataFrame, error: float = ERROR) -> pd.DataFrame:
    """Return the summary of one case as text, one row per estimator."""
    columns = _cells(part, error).items()
    table = {label: cells for label, cells in columns if set(cells) != {text.DASH}}
    return pd.DataFrame({"estimator": part["estimator"].to_list()} | table, dtype=object)


def summary_values(summary: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers of the summary, one row per (case, estimator)."""
    index = pd.MultiIndex.from_frame(summary[["case", "estimator"]])
    cells = pd.DataFrame(_cells(summary, ERROR), index, dtype=object).drop(columns="status")
    return cells.map(lambda cell: cell.key).astype(float)


def between(
    row: Mapping[str, Any], name: str, show: Callable[[float], text.Cell] = text.number
) -> text.Cell:
    """Return the middle value `name` of a summary's row with its range or interval over seeds."""
    return text.between(row[name], row[f"{name}_low"], row[f"{name}_high"], show)


def rates_table(results: Results, summary: pd.DataFrame) -> pd.DataFrame:
    """Return fitted and predicted rates as text, one row per (case, estimator) that has a rate."""
    rows = []
    for row in summary[summary["seeds_fitted"] > 0].to_dict("records"):
        some = f"{row['seeds_fitted']} of {row['seeds']} seeds"
        remarks = [some] * (row["seeds_fitted"] < row["seeds"]) + ["not straight"] * row["crooked"]
        first, last = row["first_depth_low"], row["last_depth_high"]
        rows.append(
            {
                "case": results.labels[row["case"]],
                "estimator": row["estimator"],
                "theory": row["predicted"] or text.DASH,
                "predicted rate": between(row, "predicted_rate", RATE),
                "fitted rate": between(row, "rate", RATE),
                "depths": text.Cell(f"{first:.0f} to {last:.0f}", key=first),
                "acceleration": between(row, "acceleration", RATIO),
                "remark": ", ".join(remarks),
            }
        )
    return pd.DataFrame(rows, columns=None if rows else ["case"], dtype=object)


def without_rate(summary: pd.DataFrame) -> str:
    """Say how many rows of the summary have errors and no rate, and why."""
    rows = summary[summary["error"].notna() & (summary["seeds_fitted"] == 0)]
    whys = rows["rate_reason"].str.replace(r":.*", "", regex=True).value_counts()
    shown = ", ".join(f"{why} ({number})" for why, number in whys.items())
    return f"{text.count(len(rows), 'row')} without a rate left out: {shown}." if shown else ""


def other_targets_table(results: Results, case: str) -> pd.DataFrame:
    """Return the errors at the deepest depth against each target of a case; empty if it has only
    one.
    """
    names, targets = results.estimators, results.cases[case]["targets"]
    table = {"estimator": names} | {
        f"against {target}": [
            between(deepest(results.curve(case, name, target=target)), "error") for name in names
        ]
        for target in targets
    }
    return pd.DataFrame(table if len(targets) > 1 else {}, dtype=object)


def problems_table(results: Results) -> pd.DataFrame:
    """Return what was skipped, refused or failed, with its reason; one row per kind of failure, and
    per experiment.
    """
    # All scores of an estimate fail together: one metric represents them. What is not measured yet
    # is no problem.
    what = {"relative_error": "accuracy", "seconds": "time", "memory_bytes": "memory"}
    frame = results.frame[results.frame["metric"].isin(what)]
    unscored = {(row["case"], row["estimator"]) for row in results.records if row["status"] != "ok"}
    keys = ["case", "estimator", "metric", "status", "reason"]
    rows = []
    for key, part in frame[~frame["status"].isin(("ok", "missing"))].groupby(keys, sort=False):
        case, estimator, metric, status, reason = key
        # If an estimator was not scored, its record gives a better reason for skipped timings.
        if status != "skipped" or metric == "relative_error" or (case, estimator) not in unscored:
            depths, seeds = (
                text.numbers(part[name].dropna().tolist()) or "all" for name in ("depth", "seed")
            )
            rows.append(
                (results.labels[case], estimator, what[metric], status, depths, seeds, reason)
            )
    rows += [
        (
            each.name,
            each.estimator or each.options.get("baseline") or text.DASH,
            each.study,
            each.status,
            str(each.options.get("depth", text.DASH)),
            str(each.options.get("seed", text.DASH)),
            each.reason,
        )
        for each in results.experiments
        if each.status != "ok"
    ]
    columns = ["case", "estimator", "what", "status", "depths", "seeds", "reason"]
    return pd.DataFrame(rows, columns=columns, dtype=object)


#: Columns of the certificates: the field of a reference, which of the seeds is worst, the format.
CERTIFICATES = {
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
        row = {"case": results.labels[case], "target": target}
        row["status"] = ", ".join(statuses) if len(counts) > 1 else counts.index[0]
        for label, (name, which, show) in CERTIFICATES.items():
            row[label] = show(part[name].agg(which))
        failing, samples = part["uncertified"].sum(min_count=1), part["samples"].sum()
        shown = text.Cell(f"{failing:.0f} of {samples:.0f}", key=failing)
        row["uncertified samples"] = text.DASH if math.isnan(failing) else shown
        # It is the factor of a layer.
        rho = part["rho"] if results.cases[case]["differentiable"] else []
        row["rho"] = between(spread("rho", rho), "rho", RATE)
        rows.append(row)
    return pd.DataFrame(rows, dtype=object)


def provenance_table(results: Results) -> dict[str, str]:
    """Return the origin of the numbers by what it says; several origins are listed."""
    seeds = sorted({tuple(case["seeds"]) for case in results.cases.values()})
    rows = []
    for origin in results.provenances:
        # A plug-in's record may lack any but the date.
        versions = [(name, getattr(origin, name)) for name in VERSIONS]
        changed = " with uncommitted changes" if origin.dirty else ""
        sources = f"pudle {origin.pudle} {origin.sources}" if origin.sources else ""
        rows.append(
            {
                "Profile": results.profile,
                "Commit": (origin.commit or "none")[:12] + changed,
                "Sources": sources,
                "Newest record": results.provenances[0].date,
                "Machine": origin.machine or "",
                "System": origin.system or "",
                "Processor": f"{origin.cpu}, {origin.cores} cores, {origin.memory_gib} GiB",
                "Device": f"{origin.device} {origin.accelerator}".strip(),
                "Threads": str(origin.threads),
                "Versions": ", ".join(f"{name} {version}" for name, version in versions if version),
                "BLAS": origin.blas or "",
                "Seeds": "; ".join(map(text.numbers, seeds)),
                "Estimators": ", ".join(results.estimators),
            }
        )
    return {
        name: shown
        for name, values in pd.DataFrame(rows, dtype=object).items()
        if (shown := text.listing([*filter(None, values.unique())]))
    }


def findings(rows: pd.DataFrame) -> str:
    """Say, for the summary of a case, what holds whatever error is wanted."""
    said, deepest = [], rows["depth"].max()
    last = rows[rows["depth"] == deepest]
    if len(last):
        bound = last[last["seeds_at_floor"] == last["errors_by_seed"].map(len)]
        best = last.loc[last["error"].idxmin()]
        seeds = pd.DataFrame([*last["errors_by_seed"]], index=last["estimator"])
        own = seeds.loc[best["estimator"]].dropna()
        won = (own <= seeds[own.index].min()).sum()
        some = f" (best in {won} of {len(own)} seeds)" if len(last) > 1 and len(own) > 1 else ""
        which = f"`{best['estimator']}`, {text.number(best['error'])}{some}"
        if len(bound) > 1:
            names = text.listing([f"`{name}`" for name in bound["estimator"]])
            which = f"{names}, all at the certified bound ({text.number(bound['error'].max())})"
        said.append(f"Most accurate at depth {deepest:.0f}: {which}.")
    floors = rows[rows["predicted"].eq("floor") & rows["error"].notna()]
    if names := [f"`{row.estimator}` ({text.number(row.error)})" for row in floors.itertuples()]:
        verb = "keeps" if len(names) == 1 else "keep"
        said.append(f"{text.listing(names)} {verb} an error on this loss that no depth removes.")
    squared = rows["predicted"].str.contains("ρ²ᵀ") & ~rows["crooked"]
    faster = rows[rows["acceleration"].notna() & squared]
    if ratios := [
        f"`{row['estimator']}` {between(row, 'acceleration', RATIO)}"
        for row in faster.to_dict("records")
    ]:
        fewest = faster["seeds_accelerated"].min()
        what = "mean and its 95% interval" if fewest >= FEWEST_SEEDS else "median and range"
        basis = f"theory: 2; {what} over {text.count(fewest, 'seed')}"
        said.append(f"Rate of decay over that of `{BASE}` ({basis}): {text.listing(ratios)}.")
    return " ".join(said)


# -- what a report rests on: how much was measured, what is still to be measured, and what broke

#: What is measured, by metric, as one and as several.
MEASURED = {
    "relative_error": ("score", "scores"),
    "seconds": ("time", "times"),
    "memory_bytes": ("memory", "memories"),
}
#: Most names in a sentence.
MOST_NAMES = 4


def some(names: Sequence[str]) -> str:
    """Return the first names as code, and how many more there are."""
    shown, more = [f"`{name}`" for name in names[:MOST_NAMES]], len(names) - MOST_NAMES
    return text.listing([*shown, f"{more} more"] if more > 0 else shown)


def broken(results: Results) -> list[str]:
    """Return the estimators with a measurement that broke (an error, not a finding), in order, and
    the experiments that did.
    """
    names = set(results.frame.loc[results.frame["status"].isin(contents.BROKEN), "estimator"])
    return [name for name in results.estimators if name in names] + [
        each.name for each in results.experiments if each.status in contents.BROKEN
    ]


def pending_sentence(results: Results) -> str:
    """Say what is still to be measured, or return an empty text."""
    missing = results.frame["status"] == "missing"
    counts = results.frame[missing]["metric"].value_counts()
    parts = [text.count(counts[name], *MEASURED[name]) for name in MEASURED if name in counts]
    if not parts:
        return ""
    scored = set(results.frame[~missing].query("metric == 'relative_error'")["estimator"])
    nowhere = [name for name in results.estimators if name not in scored]
    none = f" Nothing is scored yet with {some(nowhere)}." if nowhere else ""
    return (
        f"This run is unfinished: still to be measured are {text.listing(parts)}.{none}"
        " The command that started it goes on where it stopped."
    )


def scope(results: Results) -> str:
    """Say how many estimators, cases and seeds a report rests on, and which were not measured."""
    experiments = text.count(len(results.experiments), "experiment")
    if not results.cases:
        return f"Rests on {experiments}."
    scored = [row for row in results.records if row["status"] == "ok"]
    estimators, cases = ({row[key] for row in scored} for key in ("estimator", "case"))
    rests = f"{text.count(len(estimators), 'estimator')} and {text.count(len(cases), 'case')}"
    if seeds := sorted({len(results.cases[name]["seeds"]) for name in cases}):
        least = f"{seeds[0]} to " if len(seeds) > 1 else ""
        rests += f" of {least}{text.count(seeds[-1], 'seed')}"
    if results.experiments:
        known = "", *results.estimators
        trained = dict.fromkeys(item.estimator for item in results.experiments)
        others = [name for name in trained if name not in known]
        rests += f", and {experiments}"
        rests += f", some of them with {some(others)}" if others else ""
    unscored = {
        "with": [name for name in results.estimators if name not in estimators],
        "on": [label for name, label in results.labels.items() if name not in cases],
    }
    left = text.listing([f"{word} {some(names)}" for word, names in unscored.items() if names])
    return f"Rests on {rests}." + (f" No score {left}." if left else "")


def repeated_draws(results: Results) -> list[str]:
    """Say on which cases every seed draws the same problem: those whose certificates agree over the
    seeds.
    """
    rows = results.references.dropna(subset=["gradient_norm"]).drop(columns="seed")
    problems = rows.groupby(["case", "target"], sort=False)
    names = [
        results.labels[case]
        for (case, _), part in problems
        if 1 == len(part.drop_duplicates()) < len(part)
    ]
    where = f"Every seed draws the same problem on {some(list(dict.fromkeys(names)))}"
    what = "the range over the seeds says nothing about other problems there."
    return [f"{where}: {what}"] if names else []


def where_timed(results: Results) -> str:
    """Say on which machine times and memory were measured, or return an empty text where there are
    none.
    """
    costs = results.numbers[results.numbers["metric"].isin(COSTS)]
    machines = [f"`{name}`" for name in sorted(costs["machine"].unique())]
    each = "it alone" if len(machines) == 1 else "each alone"
    sentence = (
        f"Times and memory are those of {text.listing(machines)} and hold for {each}; errors carry"
        " over to other machines."
    )
    return sentence if machines else ""
