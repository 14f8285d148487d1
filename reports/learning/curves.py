"""Draw the histories of methods: one curve per method against epochs, steps or seconds."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pudle.reports import text
from pudle.reports.drawing import ESTIMATOR, INK, Picture, axes, curve, drawing, file_name, legend, table, ticks
from pudle.reports.learning.methods import Method
from pudle.reports.looks import Look

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
    title: str, panels: Mapping[str, Mapping[Method, pd.DataFrame]], horizontal: Sequence[str],
    styles: Mapping[str, Look], *, y: str, column: str, kind: str, name: str, goals: Sequence[float] = (),
    floor: float = 0.0, log: bool = True,
) -> list[Picture]:  # fmt: skip
    """Draw one picture per panel and horizontal axis, with one curve per method; those without a curve are left out.

    Parameters
    ----------
    title : str
        The data.
    panels : mapping
        By what distinguishes a picture from the others of these data: the curve of each method, from `Method.curve`.
    horizontal : sequence of {"epoch", "step", "seconds"}
    styles : mapping
        Looks of the methods, by their owner.
    y, column : str
        What is drawn, as the label of the axis and as a column of the CSV file.
    kind : str
        As in `Picture`.
    name : str
        Format of the file names, with the fields ``title``, ``panel`` and ``x``.
    goals : sequence of float
        Values to mark.
    floor : float
        Smaller values are cut off on a log scale.
    log : bool
        Whether values are on a log scale, which all pictures share.
    """
    panels = {panel: {method: data[data["least"] > 0] if log else data for method, data in curves.items()}
              for panel, curves in panels.items()}  # fmt: skip
    every_curve = [data for curves in panels.values() for data in curves.values() if len(data)]
    low = max(min((data["least"].min() for data in every_curve), default=floor), floor)
    high = max((data["greatest"].max() for data in every_curve), default=floor)
    pictures = []
    for (panel, curves), x in itertools.product(panels.items(), horizontal):
        drawn = {method: points for method, data in curves.items() if len(points := _points(data, x))}
        if all(len(data) == 1 for data in drawn.values()):
            continue
        with drawing():
            figure, at = axes()
            _draw(at, drawn, x, styles)
            for goal in goals:
                at.axhline(goal, color=INK, alpha=0.45, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
            at.set(xlabel=LABELS[x], ylabel=y)
            if log:
                at.set_yscale("log")
                at.set_ylim(low / 1.3, high * 1.3)
                ticks(at.yaxis, *at.get_ylim())
            columns = 2 if max(len(method.label) for method in drawn) < 34 else 1
            legend(figure, at, columns, {method.label: method.owner for method in drawn})
        last = "; ".join(f"{method.label} {text.number(data['median'].iloc[-1], 3)}" for method, data in drawn.items())
        seeds = max(len(method.runs) for method in drawn)
        band = f" Median over {seeds} seeds, band from least to greatest." if seeds > 1 else ""
        about, against = ", ".join(filter(None, (title, panel))), f"against {LABELS[x]}"
        alt = f"{about}: {y} {against}{' on a log scale' if log else ''}.{band} Last values: {last}."
        tidy = pd.concat([data.assign(method=method.label, estimator=method.estimator) for method, data in drawn.items()])
        tidy = tidy[["method", "estimator", "step", "epoch", "seconds", "median", "least", "greatest"]].astype({"step": int})
        pictures.append(Picture(
            file_name(name.format(title=title, panel=panel, x=x)), kind, "", figure, alt, table(tidy, {"median": column}),
            ", ".join(filter(None, (panel, against))),
        ))  # fmt: skip
    return pictures


def _points(data: pd.DataFrame, x: str) -> pd.DataFrame:
    """Return at most `POINTS` rows of a curve, evenly spaced; a single row needs no value of `x`."""
    data = data.dropna(subset=[x]) if len(data) > 1 else data
    return data.iloc[np.unique(np.linspace(0, len(data) - 1, min(len(data), POINTS)).round().astype(int))]


def _draw(at: Any, drawn: Mapping[Method, pd.DataFrame], x: str, styles: Mapping[str, Look]) -> None:
    ends = [data[x].max() for data in drawn.values() if data[x].max() > 0]
    wide = x == "seconds" and max(ends, default=0) > WIDE * min(ends, default=0)
    for number, (method, data) in enumerate(drawn.items()):
        look = styles[method.owner]
        if len(data) == 1 and data[x].isna().all():
            at.axhline(data["median"].iloc[0], color=look.color, linewidth=1.2, linestyle=(0, (1, 2)),
                       gid=ESTIMATOR + method.owner, label=method.label)  # fmt: skip
            continue
        shown = data[data[x] > 0] if wide else data
        # Curves that coincide have their markers side by side.
        gap = max(len(shown) // 8, 1)
        options = VARIANTS[method.variant % len(VARIANTS)] | {"markevery": (number * gap // len(drawn), gap)}
        curve(at, shown, x, method.owner, look, label=method.label, **options)
    if wide:
        at.set_xscale("log")
        ticks(at.xaxis, *at.get_xlim(), text.seconds)
