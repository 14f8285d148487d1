"""Figures: what is drawn for each case, one picture each with its data."""

from __future__ import annotations

import itertools
import multiprocessing
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm

from pudle.reports import text
from pudle.reports.costs import with_costs
from pudle.reports.drawing import INK, TOGETHER, Picture, axes, curve, drawing, ends, file_name, legend, marks, table, ticks
from pudle.reports.load import Results, parsed
from pudle.reports.looks import Look, looks_of
from pudle.reports.rates import BASE, WINDOW
from pudle.reports.tables import over_seeds

#: A heat map of fewer windows than this shows nothing that the curves do not show.
FEWEST_WINDOWS = 3
#: Fewer cases than this are drawn in less time than it takes to start a process.
CASES_PER_PROCESS = 5
MIB = 2**20
DASHED = {"color": INK, "alpha": 0.55, "linewidth": 1.3, "linestyle": (0, (4, 3))}

#: Kinds of figures, in the order in which a page shows them, each with a sentence on how to read it.
KINDS = {
    "Error against depth": "Dashed gray lines are the slopes that theory predicts; the gray floor is the reference's own "
    "bound, below which no error is reported.",
    "Error against time": "Down and to the left is better. Ringed points are on the front: no other is both faster and more "
    "accurate. Between the timed depths, which have the larger markers, time is taken as linear.",
    "Error against memory": "As for time, with the peak of memory above that of a process that only holds the problem.",
    "Error over depth and window": "Truncated backpropagation: darker is more accurate. A window of at least as many layers "
    "as the depth is full backpropagation.",
    "Burn-in": "Error of the unrolled Jacobian itself: above one it is worse than no Jacobian at all.",
    "Fitted against predicted rates": "On the diagonal a rate is as theory predicts. Bars reach from the least to the "
    "greatest seed; hollow markers belong to curves that are not straight.",
    "Direction against depth": "1 - cosine of the angle to the reference: the error of the direction alone, whatever the "
    "length. Medians only.",
    "Memory against depth": "Peak above that of a process that only holds the problem.",
}


def draw(
    results: Results, rates: pd.DataFrame, summary: pd.DataFrame | None = None, endings: Sequence[str] = (),
    processes: int = 1,
) -> list[Picture]:  # fmt: skip
    """Draw every figure that there are data for, in the order of `KINDS`; the one of rates needs a `summary`.

    Those of many cases are drawn in several `processes`, for the page and for files with the `endings`; the script that
    calls this with more than one must guard its main part, see `multiprocessing`.
    """
    style = looks_of(results)
    # An empty table has no columns to choose rows by.
    fitted = {case: rates[rates["case"] == case] if len(rates) else rates for case in results.cases}
    one = partial(_draw_case, style=style)
    workers = min(processes, len(results.cases) // CASES_PER_PROCESS)
    if workers < 2:
        pictures = [picture for case in results.cases for picture in one(results, fitted[case], case)]
    else:
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            parts = (results.only(case) for case in results.cases)
            drawn = pool.map(partial(_send_case, one, endings), parts, fitted.values(), results.cases)
            pictures = list(itertools.chain.from_iterable(drawn))
    if summary is not None:
        pictures += filter(None, [_rates(results, summary, style)])
    return sorted(pictures, key=lambda picture: list(KINDS).index(picture.kind))


@drawing()
def _draw_case(results: Results, rates: pd.DataFrame, case: str, style: Mapping[str, Look]) -> list[Picture]:
    # Each draws one kind of picture of a case, or returns None where there are no data for it.
    makers: list[Callable[..., Picture | None]] = [
        partial(_error, rates=rates), partial(_front, metric="seconds"), partial(_front, metric="memory_bytes"), _windows,
        _burn_in, _cosine, _memory,
    ]  # fmt: skip
    return [picture for make in makers if (picture := make(results, case, style))]


def _send_case(
    draw_one: Callable[..., list[Picture]], endings: Sequence[str], results: Results, rates: pd.DataFrame, case: str
) -> list[Picture]:
    """Draw a case in a process of its own, and send the files instead of the figures, which are larger."""
    return [picture.drawn(endings) for picture in draw_one(results, rates, case)]


@drawing()
def overview(results: Results, rates: pd.DataFrame) -> Picture | None:
    """Draw error against depth for the first dataset and algorithm, with a panel per loss, as the README shows it."""
    first, *_ = results.cases.values()
    scores = {name: results.scores(name, "relative_error") for name, case in results.cases.items()
              if (case["dataset"], case["algorithm"]) == (first["dataset"], first["algorithm"])}  # fmt: skip
    drawn = {name: over_seeds(rows) for name, rows in scores.items() if len(rows)}
    if not drawn:
        return None
    figure, panels = axes(len(drawn), squeeze=False)
    for at, (name, data) in zip(panels[0], drawn.items(), strict=True):
        _error_axes(at, results, rates, name, looks_of(results), data)
        at.set_title(f"{results.cases[name]['loss']} loss", loc="left")
    low, high = min(at.get_ylim()[0] for at in panels[0]), max(at.get_ylim()[1] for at in panels[0])
    for at in panels[0]:
        at.set_ylim(low, high)
        ticks(at.yaxis, low, high)
        at.label_outer()
    legend(figure, max(panels[0], key=lambda at: len(at.get_lines())), columns=4)
    shown = " ".join(f"{name}: {ends(data, results.estimators)}." for name, data in drawn.items())
    data = pd.concat([data.assign(case=name) for name, data in drawn.items()])
    alt = f"Error against depth on {first['dataset']}: {shown}"
    return Picture("overview", "Error against depth", "", figure, alt, table(data))


@drawing()
def draw_pair(first: Results, second: Results, labels: tuple[str, str]) -> list[Picture]:
    """Draw error against depth of two results in one figure, for the cases and estimators that both have."""
    style = looks_of(first) | looks_of(second)
    hollow = {"markerfacecolor": "none", "markeredgewidth": 1.3, "markersize": 10, "linewidth": 0.9}
    pictures = []
    for case in [name for name in first.cases if name in second.cases]:
        sides = {label: over_seeds(side.scores(case, "relative_error"))
                 for label, side in zip(labels, (first, second), strict=True)}  # fmt: skip
        names = [name for name in first.estimators if all(name in set(data["estimator"]) for data in sides.values())]
        if not names:
            continue
        figure, at = axes()
        for name in names:
            one, two = (data[data["estimator"] == name] for data in sides.values())
            curve(at, one, "depth", name, style[name])
            curve(at, two, "depth", name, style[name], label=None, **hollow)
        _log_depth(at, "relative error of the gradient")
        lasts = " ".join(f"{label}: {ends(data, names)}." for label, data in sides.items())
        data = pd.concat([data[data["estimator"].isin(names)].assign(side=label) for label, data in sides.items()])
        what = f"relative error against depth, {labels[0]} filled and {labels[1]} hollow. {lasts}"
        pictures.append(_picture(figure, at, case, "pair", "Error against depth", data, what))
    return pictures


def _picture(
    figure: Any, at: Any, case: str, name: str, kind: str, data: pd.DataFrame, what: str,
    columns: Mapping[str, str] | None = None, seeds: int = 0, last: str = "",
) -> Picture:  # fmt: skip
    """Return a figure with its legend and a description: `what` it shows, over how many seeds, and the `last` values."""
    legend(figure, at)
    spread = f" Median over {seeds} seeds, band from least to greatest." if seeds > 1 else ""
    alt = f"{case or 'All cases'}: {what}{spread}{f' Last values{last}.' if last else ''}"
    return Picture(file_name(name, case), kind, case, figure, alt, table(data, columns))


def _curves(at: Any, results: Results, data: pd.DataFrame, style: Mapping[str, Look]) -> None:
    for name in results.estimators:
        if len(part := data[data["estimator"] == name]):
            curve(at, part, "depth", name, style[name])


def _log_depth(at: Any, label: str) -> None:
    at.set(yscale="log", xlabel="depth (layers)", ylabel=label)
    ticks(at.yaxis, *at.get_ylim())


# -- against depth


def _error(results: Results, case: str, style: Mapping[str, Look], rates: pd.DataFrame) -> Picture | None:
    scores = results.scores(case, "relative_error")
    if scores.empty:
        return None
    data = over_seeds(scores)
    figure, at = axes()
    laws = _error_axes(at, results, rates, case, style, data)
    remark = f" Dashed gray lines: theory, {text.listing(laws)}." if laws else ""
    what, last = f"relative error against depth on a log scale.{remark}", f": {ends(data, results.estimators)}"
    seeds = scores["seed"].nunique()
    return _picture(figure, at, case, "error", "Error against depth", data, what, seeds=seeds, last=last)


def _error_axes(
    at: Any, results: Results, rates: pd.DataFrame, case: str, style: Mapping[str, Look], data: pd.DataFrame
) -> list[str]:
    """Draw the curves, the certified bound and the slopes that theory predicts; return the laws of these slopes."""
    _curves(at, results, data, style)
    _log_depth(at, "relative error of the gradient")
    low, high = data["least"].min(), data["greatest"].max()
    references = results.references
    certified = (references["target"] == results.target(case)) & (references["status"] == "certified")
    bound = references.loc[(references["case"] == case) & certified, "bound"].max()
    # A bound far below all errors is written, not drawn: it would squeeze the curves.
    near = low < bound * 1e3
    low = min(low, bound) if near else low
    at.set_ylim(low / 8, high * 3)
    ticks(at.yaxis, low / 8, high * 3)
    if near:
        at.axhspan(low / 8, bound, color=INK, alpha=0.1, linewidth=0)
    if bound > 0:
        place = {"y": bound, "transform": at.get_yaxis_transform()} if near else {"y": 0.02, "transform": at.transAxes}
        label = f"certified bound {text.number(bound)}{'' if near else ', below this axis'}"
        at.text(x=0.02, s=label, fontsize=9, va="bottom", **place)
    return _theory(at, rates, case, data)


def _theory(at: Any, rates: pd.DataFrame, case: str, data: pd.DataFrame) -> list[str]:
    """Draw the predicted slopes through the middle of the window, and return their laws."""
    fitted = rates[(rates["case"] == case) & rates["rate"].notna() & rates["predicted_slope"].notna()]
    drawn = []
    for estimator in (BASE, WINDOW):
        fits = fitted[fitted["estimator"] == estimator]
        if fits.empty:
            continue
        first, last = int(fits["first_depth"].min()), int(fits["last_depth"].max())
        median = data[data["estimator"] == estimator].set_index("depth")["median"]
        inside = median[(median.index >= first) & (median.index <= last)]
        if len(inside) < 2:
            continue
        theory, anchor = fits["theory"].iloc[0], inside.index[0]
        depths = np.linspace(anchor, last, 50)
        # The median seed's slope, as the curve is the median.
        heights = np.log(inside.iloc[0]) + fits["predicted_slope"].median() * (depths - anchor)
        # A little above the curve, so that both are seen.
        shown = 3 * np.exp(heights) * (depths / anchor if theory.linear else 1)
        at.plot(depths, shown, zorder=1, **DASHED)
        at.annotate(str(theory), (depths[25], shown[25]), xytext=(4, 4), textcoords="offset points", fontsize=10)
        drawn.append(str(theory))
    return drawn


def _cosine(results: Results, case: str, style: Mapping[str, Look]) -> Picture | None:
    scores = results.scores(case, "cosine_error")
    data = over_seeds(scores[scores["value"] > 0])
    if data.empty:
        return None
    figure, at = axes()
    # Without bands: the spread over seeds is that of the error, and bands would take a tenth of the page.
    _curves(at, results, data.assign(least=data["median"], greatest=data["median"]), style)
    _log_depth(at, "1 - cosine to the reference")
    what = "1 minus the cosine between estimate and reference, medians over seeds, against depth on a log scale."
    last = f": {ends(data, results.estimators)}"
    return _picture(figure, at, case, "cosine", "Direction against depth", data, what, last=last)


def _memory(results: Results, case: str, style: Mapping[str, Look]) -> Picture | None:
    measured = results.measured(case, "memory_bytes")
    data = over_seeds(measured.assign(value=measured["value"] / MIB))
    if data.empty:
        return None
    figure, at = axes()
    _curves(at, results, data, style)
    at.set(xlabel="depth (layers)", ylabel="peak memory above the problem's (MiB)")
    at.set_ylim(bottom=0)
    what = "peak memory above that of a process that only holds the problem, in MiB, against depth."
    columns, last = {"median": "memory_mib"}, f" (MiB): {ends(data, results.estimators)}"
    return _picture(figure, at, case, "memory-depth", "Memory against depth", data, what, columns, last=last)


# -- against cost


def _front(results: Results, case: str, style: Mapping[str, Look], metric: str) -> Picture | None:
    """Draw error against a cost, and the points that nothing beats in both."""
    data = with_costs(results, case, metric)
    timed = metric == "seconds"
    if timed:
        # A logarithm has no place for a time below what the clock resolves.
        data = data[data["cost"] > 0]
    if data.empty:
        return None
    figure, at = axes()
    shown = data if timed else data.assign(cost=data["cost"] / MIB)
    best = shown[shown["front"]].sort_values(["cost", "median"], ascending=[True, False])
    at.step(best["cost"], best["median"], where="post", color=INK, alpha=0.28, linewidth=4, zorder=1, gid=TOGETHER,
            solid_joinstyle="round")  # fmt: skip
    ring = {"marker": "o", "markersize": 12, "markerfacecolor": "none", "markeredgewidth": 1.1, "color": INK}
    for name in [name for name in results.estimators if name in set(shown["estimator"])]:
        part, look = shown[shown["estimator"] == name], style[name]
        curve(at, part, "cost", name, look, marker=None, label=None, linewidth=1.3)
        groups = (part["measured"], {"markersize": 7.5}), (~part["measured"], {"markersize": 4.5}), (part["front"], ring)
        for chosen, options in groups:
            marks(at, part.loc[chosen, "cost"], part.loc[chosen, "median"], name, look, **options)
        marks(at, [], [], name, look, linestyle=look.line, linewidth=1.6, markersize=6, label=name, gid=None)
    at.set(yscale="log", ylabel="relative error of the gradient")
    if timed:
        at.set(xscale="log", xlabel="time of one gradient")
        ticks(at.xaxis, *at.get_xlim(), text.seconds)
    else:
        at.set(xlabel="peak memory above the problem's (MiB)")
        at.set_xlim(left=0 if shown["cost"].min() > 0 else None)
    ticks(at.yaxis, *at.get_ylim())
    what, unit = ("time of one gradient", "time") if timed else ("peak memory above that of the problem alone", "memory")
    winners = text.listing(list(dict.fromkeys(best["estimator"])))
    what = f"relative error against the {what}. On the front, from the cheapest to the most accurate: {winners}."
    seeds, last = results.scores(case, "relative_error")["seed"].nunique(), f": {ends(data, results.estimators)}"
    return _picture(figure, at, case, unit, f"Error against {unit}", data, what, {"cost": metric}, seeds, last)


# -- windows and burn-in


def _windows(results: Results, case: str, style: Mapping[str, Look]) -> Picture | None:
    """Draw truncated backpropagation's errors: those of the scores, or a stored surface where that has more windows."""
    windows = {spec: options["window"] for spec in results.estimators for name, options in [parsed(spec)]
               if name == "truncated" and options.keys() == {"window"} and isinstance(options["window"], int)}  # fmt: skip
    scores = results.scores(case, "relative_error")
    scores = scores[scores["estimator"].isin(windows)].astype({"depth": "int64"})
    scores = scores.assign(window=scores["estimator"].map(windows).astype("int64"))
    stored = results.artifact_rows("window_surface", case)
    stored = stored[stored["status"] == "ok"].rename(columns={"relative_error": "value"})
    best = stored if stored["window"].nunique() > scores["window"].nunique() else scores
    data = best.groupby(["depth", "window"], as_index=False)["value"].median()
    data = data[data["value"] > 0]
    if data["window"].nunique() < FEWEST_WINDOWS:
        return None
    import seaborn  # Takes as long to import as ten figures to draw, and nothing else needs it.

    grid = data.pivot(index="window", columns="depth", values="value")
    figure, at = axes()
    low, high = float(np.nanmin(grid)), float(np.nanmax(grid))
    # Cividis is even in lightness, for color-blind readers and in gray.
    seaborn.heatmap(grid, ax=at, cmap="cividis", norm=LogNorm(low, max(high, low * 1.001)), linecolor="face", linewidths=0.2,
                    cbar_kws={"label": "relative error of the gradient"})  # fmt: skip
    at.tick_params("x", rotation=0 if grid.shape[1] <= 14 else 90, labelsize=9)
    at.tick_params("y", rotation=0)
    at.grid(False)
    at.set(xlabel="depth (layers)", ylabel="window (layers differentiated)")
    ticks(at.collections[0].colorbar.ax.yaxis, low, high)
    deepest = grid.columns.max()
    last = "; ".join(f"window {window} {text.number(value)}" for window, value in grid[deepest].sort_index().items())
    what = f"relative error of truncated backpropagation over depth and window. At depth {deepest}: {last}"
    data, columns = data.assign(estimator="truncated"), {"value": "relative_error"}
    return _picture(figure, at, case, "windows", "Error over depth and window", data, what, columns)


def _burn_in(results: Results, case: str, style: Mapping[str, Look]) -> Picture | None:
    rows = results.artifact_rows("jacobian_error", case)
    if rows.empty:
        return None
    data = over_seeds(rows.rename(columns={"relative_error": "value"}).assign(estimator="Jacobian"))
    figure, at = axes()
    curve(at, data, "depth", "Jacobian", Look(INK, "o", (0, ())), label=None)
    at.axhline(1.0, **DASHED)
    _log_depth(at, "relative error of the Jacobian")
    at.set_ylim(top=max(at.get_ylim()[1], 1.6))
    ticks(at.yaxis, *at.get_ylim())
    peak = data.loc[data["median"].idxmax()]
    above = data.loc[data["median"] >= 1, "depth"].max()
    later = data["depth"] if pd.isna(above) else data.loc[data["depth"] > above, "depth"]
    settled = f"below one from depth {later.min()} on" if len(later) else "not below one at the deepest depth"
    words = f"peak {text.number(peak['median'])} at depth {peak['depth']}, {settled}"
    at.set_title(words, loc="left", fontsize=10)
    what = f"error of the unrolled Jacobian against depth, {words}."
    return _picture(figure, at, case, "burn-in", "Burn-in", data, what, seeds=rows["seed"].nunique())


# -- rates


@drawing()
def _rates(results: Results, summary: pd.DataFrame, style: Mapping[str, Look]) -> Picture | None:
    """Draw the percentage of the error that each layer removes, fitted against predicted."""
    data = summary[summary["rate"].notna() & summary["predicted_rate"].notna()]
    if data.empty:
        return None
    figure, at = axes()
    rates = ("rate", "rate_low", "rate_high", "predicted_rate", "predicted_rate_low", "predicted_rate_high")
    data = data.assign(**{name: 100 * (1 - data[name]) for name in rates})
    for row in data.itertuples():
        look = style[row.estimator]
        # The greatest rate removes the least.
        wide = [[row.predicted_rate - row.predicted_rate_high], [row.predicted_rate_low - row.predicted_rate]]
        high = [[row.rate - row.rate_high], [row.rate_low - row.rate]]
        options = {"color": look.color, "marker": "", "linewidth": 1, "alpha": 0.7}
        bars = at.errorbar(row.predicted_rate, row.rate, xerr=wide, yerr=high, **options)
        options = {"markersize": 7, "markerfacecolor": "none" if row.crooked else look.color, "markeredgewidth": None}
        (point,) = marks(at, row.predicted_rate, row.rate, row.estimator, look, **options)
        for bar in bars.lines[2]:
            bar.set_gid(point.get_gid())
    for name in [name for name in results.estimators if name in set(data["estimator"])]:
        marks(at, [], [], name, style[name], markersize=7, markeredgewidth=None, label=name, gid=None)
    limits = np.array([at.get_xlim(), at.get_ylim()])
    diagonal = [limits.min(), limits.max()]
    at.plot(diagonal, diagonal, scalex=False, scaley=False, zorder=1, **DASHED)
    at.set(xlabel="predicted: error lost per layer (%)", ylabel="fitted: error lost per layer (%)")
    pairs = [f"{row.estimator} on {row.case} fitted {row.rate:.2f}, predicted {row.predicted_rate:.2f}"
             for row in data.itertuples()]  # fmt: skip
    what = f"error lost per layer in percent, fitted against predicted. {'; '.join(pairs)}."
    columns = {name: name.replace("rate", "lost_per_layer_percent") for name in rates}
    data = data[["case", "estimator", *rates, "crooked"]]
    return _picture(figure, at, "", "rates", "Fitted against predicted rates", data, what, columns)
