"""Draw the histories of methods: one curve per method against epochs, steps or seconds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pudle.reports import text
from pudle.reports.drawing import ESTIMATOR, INK, Picture, axes, curve, drawing, legend, table, ticks
from pudle.reports.learning.methods import Method
from pudle.reports.load import Results
from pudle.reports.looks import Look, looks, looks_of

#: Label of the horizontal axis, by column of the history.
LABELS = {"epoch": "epochs", "step": "steps", "seconds": "seconds of computation"}
#: The greatest number of points that a curve is drawn with.
POINTS = 120
#: Seconds are on a log scale if the longest training takes this many times as long as the shortest.
WIDE = 20
#: Markers and lines of an estimator's first, second, third and fourth method.
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"markerfacecolor": "none", "markeredgewidth": 1.2, "markersize": 7},
    {"linestyle": (0, (1, 1)), "markersize": 4},
    {"linestyle": (0, (1, 1)), "markerfacecolor": "none", "markeredgewidth": 1.0, "markersize": 5},
)


def draw_curves(
    curves: Mapping[Method, pd.DataFrame], x: str, styles: Mapping[str, Look], *, y: str, column: str, title: str,
    kind: str, name: str, panel: str = "", limits: tuple[float, float] | None = None, goals: Sequence[float] = (),
    log: bool = True,
) -> Picture | None:  # fmt: skip
    """Draw one curve per method, or return None if no method has two values.

    Parameters
    ----------
    curves, styles
        From `Method.curve` and `styles_of`.
    x : {"epoch", "step", "seconds"}
    y, column : str
        What is drawn, as the label of the axis and as a column of the CSV file.
    title, panel : str
        The data, and what distinguishes this picture from the others of these data.
    kind, name : str
        As in `Picture`.
    limits : pair of float, optional
        Least and greatest value of all pictures that share their scale.
    goals : sequence of float
        Values to mark.
    """
    drawn: dict[Method, pd.DataFrame] = {}
    for method, data in curves.items():
        data = data[data["least"] > 0] if log else data
        if len(data) > 1:
            data = data.dropna(subset=[x])
        if len(data):
            drawn[method] = data.iloc[np.unique(np.linspace(0, len(data) - 1, min(len(data), POINTS)).round().astype(int))]
    if not any(len(data) > 1 for data in drawn.values()):
        return None
    ends = [data[x].max() for data in drawn.values() if data[x].max() > 0]
    wide = x == "seconds" and max(ends) > WIDE * min(ends)
    with drawing():
        figure, at = axes()
        for number, (method, data) in enumerate(drawn.items()):
            owner = method.estimator or method.label
            look = styles[owner]
            if len(data) == 1 and not data[x].notna().all():
                at.axhline(data["median"].iloc[0], color=look.color, linewidth=1.2, linestyle=(0, (1, 2)),
                           gid=ESTIMATOR + owner, label=method.label)  # fmt: skip
                continue
            shown = data[data[x] > 0] if wide else data
            # Curves that coincide have their markers side by side.
            gap = max(len(shown) // 8, 1)
            places = (number * gap // len(drawn), gap)
            curve(at, shown, x, owner, look, markevery=places, label=method.label,
                  **VARIANTS[method.variant % len(VARIANTS)])  # fmt: skip
        for goal in goals:
            at.axhline(goal, color=INK, alpha=0.45, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
        at.set(xlabel=LABELS[x], ylabel=y)
        if wide:
            at.set_xscale("log")
            ticks(at.xaxis, *at.get_xlim(), text.seconds)
        if log:
            at.set_yscale("log")
            low, high = limits or at.get_ylim()
            at.set_ylim(low / 1.3, high * 1.3)
            ticks(at.yaxis, *at.get_ylim())
        longest = max(len(method.label) for method in drawn)
        legend(figure, at, 2 if longest < 34 else 1, {method.label: method.estimator or method.label for method in drawn})
    last = "; ".join(f"{method.label} {text.number(data['median'].iloc[-1], 3)}" for method, data in drawn.items())
    seeds = max(len(method.runs) for method in drawn)
    band = f" Median over {seeds} seeds, band from least to greatest." if seeds > 1 else ""
    scale = " on a log scale" if log else ""
    alt = f"{', '.join(filter(None, (title, panel)))}: {y} against {LABELS[x]}{scale}.{band} Last values: {last}."
    tidy = pd.concat([data.assign(method=method.label, estimator=method.estimator) for method, data in drawn.items()])
    tidy = tidy[["method", "estimator", "step", "epoch", "seconds", "median", "least", "greatest"]]
    heading = ", ".join(filter(None, (panel, f"against {LABELS[x]}")))
    return Picture(name, kind, "", figure, alt, table(tidy, {"median": column}), heading)


def limits_of(curves: Iterable[pd.DataFrame]) -> tuple[float, float] | None:
    """Return the least and the greatest positive value of some curves, None if there is none."""
    positive = [part for data in curves if len(part := data[data["least"] > 0])]
    if not positive:
        return None
    return min(part["least"].min() for part in positive), max(part["greatest"].max() for part in positive)


def styles_of(results: Results, groups: Mapping[str, Sequence[Method]]) -> dict[str, Look]:
    """Return the looks of all estimators and, in gray, of the methods of other packages in some groups."""
    others = dict.fromkeys(method.label for methods in groups.values() for method in methods if not method.estimator)
    return looks(others, {}) | looks_of(results)
