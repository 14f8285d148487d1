"""Figures: what is drawn, case by case, and one picture each with its data."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D

from pudle import specs
from pudle.errors import PudleError
from pudle.reports import text
from pudle.reports.costs import with_costs
from pudle.reports.drawing import (  # fmt: skip
    ESTIMATOR_ID,
    INK,
    TOGETHER,
    Picture,
    axes,
    curve,
    drawing,
    ends,
    file_name,
    legend,
    over_seeds,
    table,
    ticks,
)
from pudle.reports.load import Results
from pudle.reports.looks import Look, looks, looks_of
from pudle.reports.rates import BASE, WINDOW, law

__all__ = ["Picture", "draw", "draw_pair", "looks", "overview"]

#: A heat map over fewer windows than this shows nothing that the curves do not.
FEWEST_WINDOWS = 3

#: Kinds of figures, in the order in which a page shows them, each with the sentence that says how to read it.
KINDS = {
    "Error against depth": "Dashed gray lines are the slopes that theory predicts; the gray floor is the reference's own "
    "bound, below which no error is reported.",
    "Error against time": "Down and to the left is better. Ringed points are on the front: nothing measured is both faster "
    "and more accurate. Time is linear between the timed depths, which are the larger markers.",
    "Error against memory": "As for time, with the peak of memory above that of a process that estimates nothing.",
    "Error over depth and window": "Truncated backpropagation: darker is more accurate. At and above a depth's own number "
    "of layers a window is full backpropagation.",
    "Burn-in": "Error of the unrolled Jacobian itself: above one it is worse than no Jacobian at all.",
    "Fitted against predicted rates": "On the diagonal a rate is what theory says. Bars reach from the least to the "
    "greatest seed; hollow markers are of curves that are not straight.",
    "Direction against depth": "1 - cosine of the angle to the reference: what is left when the length is no "
    "matter. Medians only.",
    "Memory against depth": "Peak above that of a process that estimates nothing.",
}


def draw(results: Results, rates: pd.DataFrame, summary: pd.DataFrame | None = None) -> list[Picture]:
    """Draw everything there are data for, kind by kind in the order of `KINDS`.

    Parameters
    ----------
    results : Results
    rates : DataFrame
        From `pudle.reports.rates.fit`.
    summary : DataFrame, optional
        From `pudle.reports.tables.summarize`; without it fitted rates are not drawn against predicted ones.
    """
    style = looks_of(results)
    makers: list[Callable[[str], Picture | None]] = [
        lambda case: _error(results, rates, case, style),
        lambda case: _front(results, case, style, "seconds"),
        lambda case: _front(results, case, style, "memory_bytes"),
        lambda case: _windows(results, case),
        lambda case: _burn_in(results, case),
        lambda case: _cosine(results, case, style),
        lambda case: _memory(results, case, style),
    ]
    with drawing():
        pictures = [make(case) for make in makers for case in results.cases]
        if summary is not None:
            pictures.append(_rates(results, summary, style))
    return sorted(filter(None, pictures), key=lambda picture: list(KINDS).index(picture.kind))


def overview(results: Results, rates: pd.DataFrame) -> Picture | None:
    """Draw error against depth for the first dataset of some results, a panel per loss, as the README shows it."""
    style = looks_of(results)
    first = next(iter(results.cases.values()))
    cases = [name for name, case in results.cases.items()
             if (case["dataset"], case["algorithm"]) == (first["dataset"], first["algorithm"])]  # fmt: skip
    cases = [name for name in cases if not results.scores(name, "relative_error").empty]
    if not cases:
        return None
    parts = []
    with drawing():
        figure, all_axes = axes(len(cases), sharey=True, squeeze=False)
        low, high = np.inf, 0.0
        for at, name in zip(all_axes[0], cases, strict=True):
            data = over_seeds(results.scores(name, "relative_error"))
            _error_axes(at, results, rates, name, style, data)
            at.set_title(f"{results.cases[name]['loss']} loss", loc="left")
            low, high = min(low, at.get_ylim()[0]), max(high, at.get_ylim()[1])
            parts.append(data.assign(case=name))
        for at in all_axes[0]:
            at.set_ylim(low, high)
            ticks(at.yaxis, low, high)
            at.label_outer()
        most = max(all_axes[0], key=lambda at: len(at.get_lines()))
        legend(figure, most, columns=4)
    drawn = pd.concat(parts)
    alt = f"Error against depth on {first['dataset']}: " + " ".join(
        f"{name}: {ends(part, results.estimators)}." for name, part in drawn.groupby("case", sort=False)
    )
    return Picture("overview", "Error against depth", "", figure, alt, table(drawn))


def draw_pair(first: Results, second: Results, labels: tuple[str, str], metric: str = "relative_error") -> Iterator[Picture]:
    """Yield error against depth of two results over each other, for the cases and estimators that both have."""
    style = looks_of(first) | looks_of(second)
    for case in [name for name in first.cases if name in second.cases]:
        sides = [over_seeds(side.scores(case, metric)) for side in (first, second)]
        names = [name for name in first.estimators if all(name in set(data["estimator"]) for data in sides)]
        if not names:
            continue
        with drawing():
            figure, at = axes()
            for name in names:
                one, two = (data[data["estimator"] == name] for data in sides)
                curve(at, one, "depth", name, style[name])
                hollow = {"markerfacecolor": "none", "markeredgewidth": 1.3, "markersize": 10, "linewidth": 0.9}
                curve(at, two, "depth", name, style[name], label=None, **hollow)
            at.set(yscale="log", xlabel="depth (layers)", ylabel="relative error of the gradient")
            ticks(at.yaxis, *at.get_ylim())
            legend(figure, at)
        data = pd.concat([data.assign(side=label) for data, label in zip(sides, labels, strict=True)])
        data = data[data["estimator"].isin(names)]
        alt = (
            f"{case}: relative error against depth, {labels[0]} filled and {labels[1]} hollow. "
            f"{labels[0]}: {ends(sides[0], names)}. {labels[1]}: {ends(sides[1], names)}."
        )
        yield Picture(file_name("pair", case), "Error against depth", case, figure, alt, table(data))


# -- error against depth


def _error(results: Results, rates: pd.DataFrame, case: str, style: Mapping[str, Look]) -> Picture | None:
    scores = results.scores(case, "relative_error")
    if scores.empty:
        return None
    data = over_seeds(scores)
    figure, at = axes()
    laws = _error_axes(at, results, rates, case, style, data)
    legend(figure, at)
    remark = f" Dashed gray lines: theory, {text.listing(laws)}." if laws else ""
    what = f"relative error against depth on a log scale.{remark}"
    return _picture(figure, results, case, "error", "Error against depth", data, what, scores["seed"].nunique())


def _error_axes(
    at: Any, results: Results, rates: pd.DataFrame, case: str, style: Mapping[str, Look], data: pd.DataFrame
) -> list[str]:
    """Draw the curves, the bound and the slopes that theory predicts; return what these are."""
    for name in results.estimators:
        part = data[data["estimator"] == name]
        if len(part):
            curve(at, part, "depth", name, style[name])
    at.set(yscale="log", xlabel="depth (layers)", ylabel="relative error of the gradient")
    low, high = data["least"].min(), data["greatest"].max()
    bound = _bound(results, case)
    near = low < bound * 1e3
    if near:
        low = min(low, bound)
    at.set_ylim(low / 8, high * 3)
    ticks(at.yaxis, low / 8, high * 3)
    # A bound far below all errors is told, not drawn: the curves would be squeezed to make room for it.
    if near:
        at.axhspan(low / 8, bound, color=INK, alpha=0.1, linewidth=0)
    if bound > 0:
        place = {"y": bound, "transform": at.get_yaxis_transform()} if near else {"y": 0.02, "transform": at.transAxes}
        label = f"certified bound {text.number(bound)}{'' if near else ', below this axis'}"
        at.text(x=0.02, s=label, fontsize=9, va="bottom", **place)
    return _theory(at, results, rates, case, data)


def _theory(at: Any, results: Results, rates: pd.DataFrame, case: str, data: pd.DataFrame) -> list[str]:
    """Draw the predicted slopes through the middle of the window, and return what they are."""
    fitted = rates[(rates["case"] == case) & rates["rate"].notna() & rates["predicted_slope"].notna()]
    drawn = []
    for estimator in (BASE, WINDOW):
        fits = fitted[fitted["estimator"] == estimator]
        if fits.empty:
            continue
        records = results.records
        claim = records[(records["case"] == case) & (records["estimator"] == estimator)].iloc[0]
        problem = results.cases[case]
        theory = law(problem["loss"], problem["algorithm"], claim["computes"], claim["consistent_for"])
        # The median seed's slope, where the median curve is drawn.
        slope = fits["predicted_slope"].median()
        first, last = int(fits["first_depth"].min()), int(fits["last_depth"].max())
        median = data[data["estimator"] == estimator].set_index("depth")["median"]
        inside = median[(median.index >= first) & (median.index <= last)]
        if len(inside) < 2:
            continue
        anchor = inside.index[0]
        depths = np.linspace(anchor, last, 50)
        heights = np.log(inside.iloc[0]) + slope * (depths - anchor)
        if theory.linear:
            heights = heights + np.log(depths / anchor)
        # A little above the curve, so that both are seen.
        shown = np.exp(heights) * 3
        at.plot(depths, shown, color=INK, alpha=0.55, linewidth=1.3, linestyle=(0, (4, 3)), zorder=1)
        place = (depths[25], shown[25])
        at.annotate(str(theory), place, xytext=(4, 4), textcoords="offset points", fontsize=10)
        drawn.append(str(theory))
    return drawn


def _bound(results: Results, case: str) -> float:
    references = results.references
    rows = (references["case"] == case) & (references["target"] == results.target(case))
    bounds = references.loc[rows & (references["status"] == "certified"), "bound"].dropna()
    return float(bounds.max()) if len(bounds) else 0.0


# -- cost


def _front(results: Results, case: str, style: Mapping[str, Look], metric: str) -> Picture | None:
    """Draw error against a cost, and the points that nothing beats in both."""
    data = with_costs(results, case, metric)
    timed = metric == "seconds"
    if timed and len(data):
        # A logarithm has no place for a time below what the clock resolves.
        data = data[data["cost"] > 0]
    if data.empty:
        return None
    figure, at = axes()
    shown = data if timed else data.assign(cost=data["cost"] / 2**20)
    best = shown[shown["front"]].sort_values(["cost", "median"], ascending=[True, False])
    at.step(best["cost"], best["median"], where="post", color=INK, alpha=0.28, linewidth=4, zorder=1, gid=TOGETHER,
            solid_joinstyle="round")  # fmt: skip
    for name in results.estimators:
        part = shown[shown["estimator"] == name]
        if part.empty:
            continue
        look = style[name]
        curve(at, part, "cost", name, look, marker=None, label=None, linewidth=1.3)
        for size, those in ((7.5, part[part["measured"]]), (4.5, part[~part["measured"]])):
            at.plot(those["cost"], those["median"], color=look.color, marker=look.marker, linestyle="", markersize=size,
                    markeredgewidth=0, gid=ESTIMATOR_ID + name)  # fmt: skip
        ringed = part[part["front"]]
        at.plot(ringed["cost"], ringed["median"], marker="o", markersize=12, markerfacecolor="none", markeredgewidth=1.1,
                color=INK, linestyle="", gid=ESTIMATOR_ID + name)  # fmt: skip
        at.plot([], [], color=look.color, marker=look.marker, linestyle=look.line, linewidth=1.6, markersize=6,
                markeredgewidth=0, label=name)  # fmt: skip
    at.set(yscale="log", ylabel="relative error of the gradient")
    if timed:
        at.set(xscale="log", xlabel="time of one gradient")
        ticks(at.xaxis, *at.get_xlim(), text.seconds)
    else:
        at.set(xlabel="peak memory over the baseline (MiB)")
        at.set_xlim(left=0 if shown["cost"].min() > 0 else None)
    ticks(at.yaxis, *at.get_ylim())
    legend(figure, at)
    what, unit = ("time of one gradient", "time") if timed else ("peak of memory above the baseline", "memory")
    winners = text.listing(list(dict.fromkeys(best["estimator"])))
    alt = f"relative error against the {what}. On the front, from the cheapest to the most accurate: {winners}."
    columns = {"cost": metric}
    seeds = results.scores(case, "relative_error")["seed"].nunique()
    return _picture(figure, results, case, unit, f"Error against {unit}", data, alt, seeds, columns)


def _memory(results: Results, case: str, style: Mapping[str, Look]) -> Picture | None:
    measured = results.measured(case, "memory_bytes")
    if measured.empty:
        return None
    data = over_seeds(measured.assign(value=measured["value"] / 2**20))
    figure, at = axes()
    for name in results.estimators:
        part = data[data["estimator"] == name]
        if len(part):
            curve(at, part, "depth", name, style[name])
    at.set(xlabel="depth (layers)", ylabel="peak memory over the baseline (MiB)")
    at.set_ylim(bottom=0)
    legend(figure, at)
    return _picture(figure, results, case, "memory-depth", "Memory against depth", data,
                    "peak memory above that of a process that estimates nothing, in MiB, against depth.", 0,
                    {"median": "memory_mib"})  # fmt: skip


# -- direction


def _cosine(results: Results, case: str, style: Mapping[str, Look]) -> Picture | None:
    scores = results.scores(case, "cosine_error")
    scores = scores[scores["value"] > 0]
    if scores.empty:
        return None
    data = over_seeds(scores)
    figure, at = axes()
    for name in results.estimators:
        part = data[data["estimator"] == name]
        if len(part):
            # Without bands: the spread over seeds is that of the error, and a tenth of the page.
            curve(at, part.assign(least=part["median"], greatest=part["median"]), "depth", name, style[name])
    at.set(yscale="log", xlabel="depth (layers)", ylabel="1 - cosine to the reference")
    ticks(at.yaxis, *at.get_ylim())
    legend(figure, at)
    return _picture(figure, results, case, "cosine", "Direction against depth", data,
                    "1 minus the cosine between estimate and reference, medians over seeds, against depth on a log scale.",
                    0)  # fmt: skip


# -- windows and burn-in


def window_of(estimator: str) -> int | None:
    """Return the window of a truncated estimator's spec, and None for any other."""
    try:
        name, arguments = specs.parse(estimator)
    except PudleError:
        return None
    window = arguments.get("window")
    return window if name == "truncated" and arguments.keys() == {"window"} and isinstance(window, int) else None


def window_errors(results: Results, case: str) -> pd.DataFrame:
    """Return (depth, window, value) of truncated backpropagation: from the scores, or from a stored surface if it has more.

    Values are medians over the seeds.
    """
    scores = results.scores(case, "relative_error")
    windows = {name: window for name in results.estimators if (window := window_of(name)) is not None}
    found = scores[scores["estimator"].isin(windows)].astype({"depth": "int64"})
    found = found.assign(window=found["estimator"].map(windows).astype("int64"))[["depth", "window", "value"]]
    rows = [
        {"depth": row["depth"], "window": row["window"], "value": row["relative_error"]}
        for surface in results.artifacts if surface["kind"] == "window_surface" and surface["case"] == case
        for row in surface["rows"] if row["status"] == "ok"
    ]  # fmt: skip
    stored = pd.DataFrame(rows, columns=["depth", "window", "value"])
    best = stored if stored["window"].nunique() > found["window"].nunique() else found
    return best.groupby(["depth", "window"], as_index=False)["value"].median()


def _windows(results: Results, case: str) -> Picture | None:
    data = window_errors(results, case)
    data = data[data["value"] > 0]
    if data["window"].nunique() < FEWEST_WINDOWS:
        return None
    grid = data.pivot(index="window", columns="depth", values="value").sort_index(ascending=False)
    figure, at = axes()
    low, high = float(np.nanmin(grid)), float(np.nanmax(grid))
    # Cividis is even in lightness, for color-blind readers and in gray.
    image = at.pcolormesh(np.ma.masked_invalid(grid.to_numpy()), cmap="cividis", edgecolors="face", linewidth=0.2,
                          norm=LogNorm(low, max(high, low * 1.001)))  # fmt: skip
    at.set_xticks(np.arange(grid.shape[1]) + 0.5, grid.columns, rotation=0 if grid.shape[1] <= 14 else 90, fontsize=9)
    at.set_yticks(np.arange(grid.shape[0]) + 0.5, grid.index)
    at.set(xlabel="depth (layers)", ylabel="window (layers differentiated)")
    at.grid(False)
    bar = figure.colorbar(image, ax=at, label="relative error of the gradient")
    bar.outline.set_visible(False)
    ticks(bar.ax.yaxis, low, high)
    deepest = grid.columns.max()
    last = "; ".join(f"window {window} {text.number(value)}" for window, value in grid[deepest].sort_index().items())
    what = f"relative error of truncated backpropagation over depth and window. At depth {deepest}: {last}"
    data = data.assign(estimator="truncated")
    return _picture(figure, results, case, "windows", "Error over depth and window", data, what, 0,
                    {"value": "relative_error"}, last=False)  # fmt: skip


def _burn_in(results: Results, case: str) -> Picture | None:
    rows = [
        {"estimator": "Jacobian", "seed": curve_["seed"], "depth": row["depth"], "value": row["relative_error"]}
        for curve_ in results.artifacts if curve_["kind"] == "jacobian_error" and curve_["case"] == case
        for row in curve_["rows"]
    ]  # fmt: skip
    if not rows:
        return None
    drawn = pd.DataFrame(rows)
    data = over_seeds(drawn)
    figure, at = axes()
    curve(at, data, "depth", "Jacobian", Look(INK, "o", (0, ())), label=None)
    at.axhline(1.0, color=INK, alpha=0.55, linewidth=1.3, linestyle=(0, (4, 3)))
    at.set(yscale="log", xlabel="depth (layers)", ylabel="relative error of the Jacobian")
    low, high = at.get_ylim()
    at.set_ylim(low, max(high, 1.6))
    ticks(at.yaxis, *at.get_ylim())
    peak = data.loc[data["median"].idxmax()]
    above = data[~(data["median"] < 1)]["depth"]
    later = data[data["depth"] > above.max()]["depth"] if len(above) else data["depth"]
    settled = f"below one from depth {later.min()} on" if len(later) else "not below one at the deepest depth"
    words = f"peak {text.number(peak['median'])} at depth {peak['depth']}, {settled}"
    at.set_title(words, loc="left", fontsize=10)
    what = f"error of the unrolled Jacobian against depth, {words}."
    return _picture(figure, results, case, "burn-in", "Burn-in", data, what, drawn["seed"].nunique(), last=False)


# -- rates


def _rates(results: Results, summary: pd.DataFrame, style: Mapping[str, Look]) -> Picture | None:
    """Draw what an error loses per layer, as fitted against as predicted."""
    data = summary[summary["rate"].notna() & summary["predicted_rate"].notna()]
    if data.empty:
        return None
    figure, at = axes()
    lost = {
        f"{name}{end}": 100 * (1 - data[f"{name}{end}"])
        for name in ("rate", "predicted_rate")
        for end in ("", "_low", "_high")
    }
    data = data.assign(**lost)
    for name in results.estimators:
        part = data[data["estimator"] == name]
        if part.empty:
            continue
        look = style[name]
        for row in part.itertuples():
            # Of what is lost per layer the greatest rate is the least.
            at.errorbar(row.predicted_rate, row.rate, yerr=[[row.rate - row.rate_high], [row.rate_low - row.rate]],
                        xerr=[[row.predicted_rate - row.predicted_rate_high], [row.predicted_rate_low - row.predicted_rate]],
                        color=look.color, marker="", linewidth=1, alpha=0.7)[2][0].set_gid(ESTIMATOR_ID + name)  # fmt: skip
            at.containers[-1][2][1].set_gid(ESTIMATOR_ID + name)
            at.plot(row.predicted_rate, row.rate, color=look.color, marker=look.marker, markersize=7, linestyle="",
                    markerfacecolor="none" if row.crooked else look.color, gid=ESTIMATOR_ID + name)  # fmt: skip
        at.plot([], [], color=look.color, marker=look.marker, linestyle="", markersize=7, label=name)
    ends_ = [min(at.get_xlim()[0], at.get_ylim()[0]), max(at.get_xlim()[1], at.get_ylim()[1])]
    at.add_line(Line2D(ends_, ends_, color=INK, alpha=0.55, linewidth=1.3, linestyle=(0, (4, 3)), zorder=1))
    at.set(xlabel="predicted: error lost per layer (%)", ylabel="fitted: error lost per layer (%)")
    legend(figure, at)
    off = "; ".join(
        f"{row.estimator} on {row.case} fitted {row.rate:.2f}, predicted {row.predicted_rate:.2f}"
        for row in data.itertuples()
    )
    columns = ["case", "estimator", *lost, "crooked"]
    percent = {name: name.replace("rate", "lost_per_layer_percent") for name in lost}
    alt = f"All cases: error lost per layer in percent, as fitted against as predicted. {off}."
    return Picture("rates", "Fitted against predicted rates", "", figure, alt, table(data[columns], percent))


def _picture(
    figure: Any, results: Results, case: str, name: str, kind: str, data: pd.DataFrame, what: str, seeds: int,
    columns: Mapping[str, str] | None = None, last: bool = True,
) -> Picture:  # fmt: skip
    spread = f" Median over {seeds} seeds, band from least to greatest." if seeds > 1 else ""
    values = f" Last values{' (MiB)' if name == 'memory-depth' else ''}: {ends(data, results.estimators)}." if last else ""
    alt = f"{case}: {what}{spread}{values}"
    return Picture(file_name(name, case), kind, case, figure, alt, table(data, columns))
