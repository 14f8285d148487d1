"""The figures that files show, drawn by seaborn when they are asked for; the page draws its own
from its data.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import pandas as pd

from pudle import text
from pudle.reports.costs import Point, front, points
from pudle.reports.figures.drawing import Picture, file_name
from pudle.reports.figures.plots import (
    draw_cost,
    draw_error,
    draw_lines,
    draw_overview,
    draw_rates,
    draw_windows,
)
from pudle.reports.load import parsed
from pudle.reports.looks import Look, looks_of
from pudle.reports.rates import predicted_slopes
from pudle.reports.results import TITLES, Results

#: A heat map of fewer windows than this shows nothing that the curves do not show.
FEWEST_WINDOWS = 3
MIB = 2**20

#: Kinds of figures, in the order in which a report shows them, each with a sentence on how to read
#: it.
KINDS = {
    "Error against depth": (
        "Dashed gray lines are the slopes that theory predicts; the gray floor is the reference's"
        " own bound, below which no error is reported."
    ),
    "Error against time": (
        "Down and to the left is better. The gray line is the front: no other point is both faster"
        " and more accurate. Between the timed depths time is taken as linear."
    ),
    "Error against memory": (
        "As for time, with the peak of memory above that of a process that only holds the problem."
    ),
    "Error over depth and window": (
        "Truncated backpropagation: darker is more accurate. A window of at least as many layers "
        "as the depth is full backpropagation."
    ),
    "Burn-in": (
        "Error of the unrolled Jacobian itself: above one it is worse than no Jacobian at all."
    ),
    "Fitted against predicted rates": (
        "On the diagonal a rate is as theory predicts. Bars reach from the least to the "
        "greatest seed; hollow markers belong to curves that are not straight."
    ),
    "Direction against depth": (
        "1 - cosine of the angle to the reference: the error of the direction alone."
    ),
    "Memory against depth": "Peak above that of a process that only holds the problem.",
}


def pictures(results: Results, rates: pd.DataFrame, summary: pd.DataFrame) -> list[Picture]:
    """Return every figure that there are data for, in the order of `KINDS`; none is drawn yet."""
    style = looks_of(results)
    fitted = dict(iter(rates.groupby("case", sort=False))) if len(rates) else {}
    makers = (
        _error,
        _direction,
        partial(_cost, cost="seconds"),
        partial(_cost, cost="memory"),
        _memory,
        _windows,
        _burn_in,
    )
    found = [
        maker(results, case, style, fitted.get(case, rates.iloc[:0]))
        for case in results.cases
        for maker in makers
    ]
    found.append(_rates(summary, style))
    order = list(KINDS)
    return sorted(filter(None, found), key=lambda picture: order.index(picture.kind))


def overview(results: Results, rates: pd.DataFrame) -> Picture | None:
    """Return error against depth for the first dataset and algorithm, with a panel per loss, as the
    README shows it.
    """
    first, *_ = results.cases.values()
    names = [
        name
        for name, case in results.cases.items()
        if (case["dataset"], case["algorithm"]) == (first["dataset"], first["algorithm"])
    ]
    data = {name: rows for name in names if len(rows := _rows(results, name))}
    if not data:
        return None
    shown = " ".join(f"{name}: {_ends(rows)}." for name, rows in data.items())
    table = pd.concat([_spread(rows).assign(case=name) for name, rows in data.items()])
    draw = partial(draw_overview, results, data, looks_of(results), rates)
    return Picture(
        "overview",
        "Error against depth",
        "",
        f"Error against depth on {first['dataset']}: {shown}",
        table,
        draw,
    )


# -- data


def _rows(results: Results, case: str, metric: str = "relative_error") -> pd.DataFrame:
    """Return the values of a metric of a case, one row per estimator, depth and seed."""
    parts = []
    for name in results.estimators:
        curve = results.curve(case, name, metric)
        rows, columns = np.nonzero(~np.isnan(curve.values))
        parts.append(
            pd.DataFrame(
                {
                    "estimator": name,
                    "depth": curve.depths[rows],
                    "seed": curve.seeds[columns],
                    "value": curve.values[rows, columns],
                }
            )
        )
    return (
        pd.concat(parts, ignore_index=True)
        if parts
        else pd.DataFrame(columns=["estimator", "depth", "seed", "value"])
    )


def _spread(rows: pd.DataFrame) -> pd.DataFrame:
    found = (
        rows.groupby(["estimator", "depth"], sort=False)["value"]
        .agg(["median", "min", "max"])
        .reset_index()
    )
    return found.rename(columns={"min": "least", "max": "greatest"})


def _ends(rows: pd.DataFrame) -> str:
    """Return the last value of every curve in words."""
    last = _spread(rows).sort_values("depth", kind="stable").groupby("estimator", sort=False).last()
    return "; ".join(
        f"{row.Index} {text.number(row.median)} at depth {row.depth}" for row in last.itertuples()
    )


def _seeds(rows: pd.DataFrame) -> str:
    count = rows["seed"].nunique()
    return f" Median over {count} seeds, band from least to greatest." if count > 1 else ""


def _error(
    results: Results, case: str, style: Mapping[str, Look], rates: pd.DataFrame
) -> Picture | None:
    rows = _rows(results, case)
    if rows.empty:
        return None
    laws = predicted_slopes(results, rates, case)
    remark = (
        f" Dashed gray lines: theory, {text.listing([law['law'] for law in laws])}." if laws else ""
    )
    about = (
        f"{case}: relative error against depth on a log scale.{remark}{_seeds(rows)} Last values:"
        f" {_ends(rows)}."
    )
    draw = partial(draw_error, results, case, rows, style, rates)
    return Picture(
        file_name("error", case), "Error against depth", case, about, _spread(rows), draw
    )


def _direction(
    results: Results, case: str, style: Mapping[str, Look], rates: pd.DataFrame
) -> Picture | None:
    rows = _rows(results, case, "cosine_error")
    rows = rows[rows["value"] > 0]
    if rows.empty:
        return None
    about = (
        f"{case}: 1 minus the cosine to the reference against depth on a log scale.{_seeds(rows)}"
        f" Last: {_ends(rows)}."
    )
    draw = partial(draw_lines, rows, style, TITLES["cosine_error"])
    return Picture(
        file_name("cosine", case), "Direction against depth", case, about, _spread(rows), draw
    )


def _memory(
    results: Results, case: str, style: Mapping[str, Look], rates: pd.DataFrame
) -> Picture | None:
    found = {name: results.line(case, name, "memory_bytes").measured for name in results.estimators}
    rows = pd.DataFrame(
        [
            (name, depth, 0, value / MIB)
            for name, known in found.items()
            for depth, value in known.items()
        ],
        columns=["estimator", "depth", "seed", "value"],
    )
    if rows.empty:
        return None
    about = (
        f"{case}: peak memory above that of a process that only holds the problem, in MiB, against"
        f" depth. {_ends(rows)}."
    )
    draw = partial(draw_lines, rows, style, "peak memory above the problem's (MiB)", log=False)
    data = rows.drop(columns="seed").rename(columns={"value": "memory_mib"})
    return Picture(file_name("memory-depth", case), "Memory against depth", case, about, data, draw)


def _cost(
    results: Results, case: str, style: Mapping[str, Look], rates: pd.DataFrame, cost: str
) -> Picture | None:
    """Return the error against a cost, with the points that nothing beats in both."""
    data = pd.DataFrame(points(results, case), columns=list(Point._fields)).rename(
        columns={"error": "median"}
    )
    # A logarithm has no place for a time below what the clock resolves.
    data = data[data[cost].notna() & ((data[cost] > 0) | (cost == "memory"))]
    if data.empty:
        return None
    data = data.assign(
        cost=data[cost] / (MIB if cost == "memory" else 1), front=front(data[cost], data["median"])
    )
    best = data[data["front"]].sort_values(["cost", "median"], ascending=[True, False])
    word = "time" if cost == "seconds" else "memory"
    winners = text.listing(list(dict.fromkeys(best["estimator"])))
    about = (
        f"{case}: relative error against {word}. On the front, from the cheapest to the most"
        f" accurate: {winners}."
    )
    columns = ["estimator", "depth", "median", "least", "greatest", "cost", "front"]
    table = data[columns].rename(columns={"cost": "seconds" if cost == "seconds" else "memory_mib"})
    draw = partial(draw_cost, data, best, style, cost)
    return Picture(file_name(word, case), f"Error against {word}", case, about, table, draw)


def _windows(
    results: Results, case: str, style: Mapping[str, Look], rates: pd.DataFrame
) -> Picture | None:
    """Return truncated backpropagation's errors: those of the scores, or a stored surface where
    that has more windows.
    """
    windows = {
        spec: options["window"]
        for spec in results.estimators
        for name, options in [parsed(spec)]
        if name == "truncated"
        and options.keys() == {"window"}
        and isinstance(options["window"], int)
    }
    scores = _rows(results, case)
    scores = scores[scores["estimator"].isin(windows)].assign(
        window=lambda rows: rows["estimator"].map(windows)
    )
    stored = results.artifact_rows("window_surface", case)
    stored = stored[stored["status"] == "ok"].rename(columns={"relative_error": "value"})
    best = stored if stored["window"].nunique() > scores["window"].nunique() else scores
    data = best.groupby(["depth", "window"], as_index=False)["value"].median()
    data = data[data["value"] > 0]
    if data["window"].nunique() < FEWEST_WINDOWS:
        return None
    deepest = data[data["depth"] == data["depth"].max()].sort_values("window")
    last = "; ".join(
        f"window {row.window:.0f} {text.number(row.value)}" for row in deepest.itertuples()
    )
    about = (
        f"{case}: relative error of truncated backpropagation over depth and window. At the deepest"
        f" depth: {last}."
    )
    table = data.rename(columns={"value": "relative_error"})
    return Picture(
        file_name("windows", case),
        "Error over depth and window",
        case,
        about,
        table,
        partial(draw_windows, data),
    )


def _burn_in(
    results: Results, case: str, style: Mapping[str, Look], rates: pd.DataFrame
) -> Picture | None:
    rows = results.artifact_rows("jacobian_error", case)
    if rows.empty:
        return None
    rows = rows.rename(columns={"relative_error": "value"}).assign(estimator="Jacobian")
    data = _spread(rows)
    peak, above = data.loc[data["median"].idxmax()], data.loc[data["median"] >= 1, "depth"].max()
    later = data["depth"] if pd.isna(above) else data.loc[data["depth"] > above, "depth"]
    settled = (
        f"below one from depth {later.min()} on"
        if len(later)
        else "not below one at the deepest depth"
    )
    words = f"peak {text.number(peak['median'])} at depth {peak['depth']}, {settled}"
    about = f"{case}: error of the unrolled Jacobian against depth, {words}.{_seeds(rows)}"
    plain = {"Jacobian": Look("#333333", "o", ())}
    draw = partial(
        draw_lines, rows, plain, "relative error of the Jacobian", title=words, level=1.0
    )
    return Picture(file_name("burn-in", case), "Burn-in", case, about, data, draw)


def _rates(summary: pd.DataFrame, style: Mapping[str, Look]) -> Picture | None:
    """Return the percentage of the error that each layer removes, fitted against predicted."""
    if summary.empty:
        return None
    data = summary[summary["rate"].notna() & summary["predicted_rate"].notna()]
    if data.empty:
        return None
    names = (
        "rate",
        "rate_low",
        "rate_high",
        "predicted_rate",
        "predicted_rate_low",
        "predicted_rate_high",
    )
    data = data.assign(**{name: 100 * (1 - data[name]) for name in names})[
        ["case", "estimator", *names, "crooked"]
    ]
    pairs = [
        f"{row.estimator} on {row.case} fitted {row.rate:.2f}, predicted {row.predicted_rate:.2f}"
        for row in data.itertuples()
    ]
    about = (
        f"All cases: error lost per layer in percent, fitted against predicted. {'; '.join(pairs)}."
    )
    table = data.rename(
        columns={name: name.replace("rate", "lost_per_layer_percent") for name in names}
    )
    return Picture(
        "rates",
        "Fitted against predicted rates",
        "",
        about,
        table,
        partial(draw_rates, data, style),
    )
