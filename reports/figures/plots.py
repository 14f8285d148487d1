"""Draw the figures that files show, with seaborn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from pudle import text
from pudle.reports.figures.drawing import axes, drawing, legend, log_axis
from pudle.reports.looks import Look
from pudle.reports.rates import predicted_slopes
from pudle.reports.results import TITLES, Results

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DASHED = {"color": "0.35", "linewidth": 1.3, "linestyle": (0, (4, 3)), "zorder": 1}


def _plot(
    at: Any, rows: pd.DataFrame, style: Mapping[str, Look], x: str = "depth", y: str = "value"
) -> None:
    """Draw medians over seeds with a band from the least to the greatest."""
    import seaborn

    names = [name for name in style if name in set(rows["estimator"])]
    seaborn.lineplot(
        rows,
        x=x,
        y=y,
        hue="estimator",
        style="estimator",
        hue_order=names,
        style_order=names,
        ax=at,
        sort=x == "depth",
        estimator="median" if x == "depth" else None,
        errorbar=("pi", 100),
        linewidth=1.6,
        markersize=6,
        palette={name: style[name].color for name in names},
        markers={name: style[name].marker for name in names},
        markeredgewidth=0,
        err_kws={"linewidth": 0, "alpha": 0.14},
        dashes={name: tuple(length / 1.6 for length in style[name].dashes) for name in names},
    )


@drawing
def draw_lines(
    rows: pd.DataFrame,
    style: Mapping[str, Look],
    label: str,
    log: bool = True,
    title: str = "",
    level: float | None = None,
) -> Figure:
    figure, at = axes()
    _plot(at, rows, style)
    at.set(xlabel="depth (layers)", ylabel=label)
    at.set_title(title, loc="left", fontsize=10)
    if level is not None:
        at.axhline(level, **DASHED)
    if log:
        log_axis(at.yaxis)
    else:
        at.set_ylim(bottom=0)
    legend(figure, at)
    return figure


def _error_axes(
    at: Any,
    results: Results,
    case: str,
    rows: pd.DataFrame,
    style: Mapping[str, Look],
    rates: pd.DataFrame,
) -> None:
    """Draw the curves, the bound and the slopes that theory predicts."""
    _plot(at, rows, style)
    at.set(xlabel="depth (layers)", ylabel=TITLES["relative_error"])
    low, high = rows["value"].min(), rows["value"].max()
    bound = results.bounds.get((case, results.target(case)), 0.0)
    # A bound far below all errors is written, not drawn: it would squeeze the curves.
    near = low < bound * 1e3
    low = min(low, bound) if near else low
    at.set_ylim(low / 8, high * 3)
    log_axis(at.yaxis)
    if near:
        at.axhspan(low / 8, bound, color="0.5", alpha=0.15, linewidth=0)
    if bound > 0:
        place = (
            {"y": bound, "transform": at.get_yaxis_transform()}
            if near
            else {"y": 0.02, "transform": at.transAxes}
        )
        what = "estimated error of the limit" if results.badge(case) else "certified bound"
        at.text(
            x=0.02,
            s=f"{what} {text.number(bound)}{'' if near else ', below this axis'}",
            fontsize=9,
            va="bottom",
            **place,
        )
    for law in predicted_slopes(results, rates, case):
        at.plot(law["depths"], law["errors"], **DASHED)
        middle = len(law["depths"]) // 2
        at.annotate(
            law["law"],
            (law["depths"][middle], law["errors"][middle]),
            xytext=(4, 4),
            textcoords="offset points",
        )


@drawing
def draw_error(
    results: Results, case: str, rows: pd.DataFrame, style: Mapping[str, Look], rates: pd.DataFrame
) -> Figure:
    figure, at = axes()
    _error_axes(at, results, case, rows, style, rates)
    legend(figure, at)
    return figure


@drawing
def draw_overview(
    results: Results,
    data: Mapping[str, pd.DataFrame],
    style: Mapping[str, Look],
    rates: pd.DataFrame,
) -> Figure:
    figure, panels = axes(len(data), squeeze=False)
    for at, (name, rows) in zip(panels[0], data.items(), strict=True):
        _error_axes(at, results, name, rows, style, rates[rates["case"] == name])
        at.set_title(f"{results.cases[name]['loss']} loss", loc="left")
    ends = [at.get_ylim() for at in panels[0]]
    for at in panels[0]:
        at.set_ylim(min(low for low, _ in ends), max(high for _, high in ends))
        log_axis(at.yaxis)
        at.label_outer()
    most = max(panels[0], key=lambda at: len(at.get_lines()))
    legend(figure, most, columns=4)
    for at in panels[0]:
        if at.get_legend():
            at.get_legend().remove()
    return figure


@drawing
def draw_cost(
    data: pd.DataFrame, best: pd.DataFrame, style: Mapping[str, Look], cost: str
) -> Figure:
    figure, at = axes()
    at.step(
        best["cost"], best["median"], where="post", color="0.5", alpha=0.4, linewidth=4, zorder=1
    )
    _plot(at, data, style, "cost", "median")
    at.set(ylabel=TITLES["relative_error"])
    log_axis(at.yaxis)
    if cost == "seconds":
        at.set(xlabel="time of one gradient")
        log_axis(at.xaxis, text.seconds)
    else:
        at.set(xlabel="peak memory above the problem's (MiB)")
    legend(figure, at)
    return figure


@drawing
def draw_windows(data: pd.DataFrame) -> Figure:
    import seaborn
    from matplotlib.colors import LogNorm

    grid = data.pivot(index="window", columns="depth", values="value")
    figure, at = axes()
    low, high = float(np.nanmin(grid)), float(np.nanmax(grid))
    # Cividis is even in lightness, for color-blind readers and in gray.
    seaborn.heatmap(
        grid,
        ax=at,
        cmap="cividis",
        norm=LogNorm(low, max(high, low * 1.001)),
        linewidths=0.2,
        cbar_kws={"label": TITLES["relative_error"]},
    )
    at.tick_params("x", rotation=0 if grid.shape[1] <= 14 else 90, labelsize=9)
    at.tick_params("y", rotation=0)
    at.set(xlabel="depth (layers)", ylabel="window (layers differentiated)")
    return figure


@drawing
def draw_rates(data: pd.DataFrame, style: Mapping[str, Look]) -> Figure:
    figure, at = axes()
    for name, rows in data.groupby("estimator", sort=False):
        look, straight = style[name], rows[~rows["crooked"]]
        # The greatest rate removes the least.
        bars = {
            axis: np.abs([rows[kind] - rows[f"{kind}_high"], rows[f"{kind}_low"] - rows[kind]])
            for axis, kind in (("xerr", "predicted_rate"), ("yerr", "rate"))
        }
        at.errorbar(
            rows["predicted_rate"],
            rows["rate"],
            **bars,
            color=look.color,
            linestyle="",
            linewidth=1,
            alpha=0.7,
        )
        mark = {"marker": look.marker, "color": look.color, "markersize": 7, "linestyle": ""}
        at.plot(rows["predicted_rate"], rows["rate"], markerfacecolor="none", **mark)
        at.plot(straight["predicted_rate"], straight["rate"], label=name, **mark)
    limits: Sequence[float] = [
        min(at.get_xlim()[0], at.get_ylim()[0]),
        max(at.get_xlim()[1], at.get_ylim()[1]),
    ]
    at.plot(limits, limits, scalex=False, scaley=False, **DASHED)
    at.set(xlabel="predicted: error lost per layer (%)", ylabel="fitted: error lost per layer (%)")
    legend(figure, at)
    return figure
