"""Draw records of figures with seaborn, for files and for readers whose browser runs no scripts."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import seaborn
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure as Canvas
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from pudle import text
from pudle.reports.looks import Look

if TYPE_CHECKING:
    from pudle.reports.figures.record import Figure

#: Width and height of a panel in inches.
SIZE = (6.0, 4.3)
STYLE: dict[Any, Any] = {
    # Text in an SVG or a PDF stays text that an editor can change.
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    # Text is shown as it is: a name may hold a dollar sign.
    "text.parse_math": False,
}
#: Metadata that would make the same figure differ from one run to the next.
METADATA: dict[str, dict[str, None]] = {
    "svg": dict.fromkeys(("Date", "Creator", "Format", "Type")),
    "pdf": dict.fromkeys(("CreationDate", "Creator", "Producer")),
    "png": dict.fromkeys(("Software",)),
}
GUIDE = {"color": "0.35", "linewidth": 1.3, "linestyle": (0, (4, 3)), "zorder": 1}
LINEWIDTH = 1.6
LABELS = FuncFormatter(lambda value, position: str(text.number(value, 1)))


def draw(*figures: Figure) -> Canvas:
    """Draw figures side by side, with one vertical range and one legend above them.

    pyplot does not know the result, and matplotlib's settings stay as they were.
    """
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=(SIZE[0] * len(figures), SIZE[1]), layout="constrained")
        panels = canvas.subplots(1, len(figures), sharey=True, squeeze=False)[0]
        for at, figure in zip(panels, figures, strict=True):
            {"line": _lines, "point": _points, "cell": _cells}[figure.mark](at, figure)
            at.set(xlabel=figure.x[0].title, ylabel=figure.y[0].title)
            if len(figures) > 1:
                at.set_title(figure.title, loc="left")
                at.label_outer()
            if figure.mark != "cell":
                _scale(at.xaxis, figure.x[0].scale)
                _scale(at.yaxis, figure.y[0].scale)
            # What is behind the rows does not squeeze them.
            at.autoscale_view()
            at.autoscale(False)
            for height, label in figure.levels:
                at.axhline(height, color="0.4", linewidth=1, linestyle=(0, (1, 2)), zorder=1)
                at.text(
                    0.02, height, label, transform=at.get_yaxis_transform(), va="bottom", size=9
                )
            for label, rows in figure.guides.groupby("label", sort=False):
                at.plot(rows["x"], rows["y"], **GUIDE)
                middle = rows.iloc[len(rows) // 2]
                place = (middle["x"], middle["y"])
                at.annotate(label, place, xytext=(4, 4), textcoords="offset points")
        looks = {name: figure.looks[name] for figure in figures for name in figure.lines}
        _legend(canvas, looks, columns=2 * len(figures))
    return canvas


def saved(canvas: Canvas, ending: str, name: str, alt: str) -> bytes:
    """Return a figure as the content of a file, the same whenever it is drawn."""
    buffer = io.BytesIO()
    about = {} if ending == "png" else {"Title": alt}
    # Ids are hashes of this salt: two figures in one document share none.
    with warnings.catch_warnings(), mpl.rc_context(STYLE | {"svg.hashsalt": name}):
        # A spec may hold letters that this font lacks; the reader's program has others.
        warnings.filterwarnings("ignore", message=".*[Gg]lyph.*")
        canvas.savefig(buffer, format=ending, metadata=METADATA[ending] | about, dpi=130)
    return buffer.getvalue()


def _lines(at: Any, figure: Figure) -> None:
    x, y, lines = figure.x[0].column, figure.y[0].column, figure.lines
    looks = {name: figure.looks[name] for name in lines}
    seaborn.lineplot(
        figure.rows,
        x=x,
        y=y,
        hue=figure.series,
        style=figure.series,
        hue_order=list(looks),
        style_order=list(looks),
        palette={name: look.color for name, look in looks.items()},
        markers={name: look.marker for name, look in looks.items()},
        dashes={
            name: tuple(part / LINEWIDTH for part in look.dashes) for name, look in looks.items()
        },
        estimator=None,
        sort=False,
        legend=False,
        linewidth=LINEWIDTH,
        markersize=6,
        markeredgewidth=0,
        # A long history has about twelve markers.
        markevery=max(max(map(len, lines.values()), default=0) // 12, 1),
        ax=at,
    )
    if f"{y}_low" in figure.rows:
        for name, rows in lines.items():
            ends = rows[f"{y}_low"], rows[f"{y}_high"]
            at.fill_between(rows[x], *ends, color=looks[name].color, alpha=0.14, linewidth=0)


def _points(at: Any, figure: Figure) -> None:
    axes = {"xerr": figure.x[0].column, "yerr": figure.y[0].column}
    for name, rows in figure.lines.items():
        look, (x, y) = figure.looks[name], axes.values()
        bars = {
            bar: [rows[column] - rows[f"{column}_low"], rows[f"{column}_high"] - rows[column]]
            for bar, column in axes.items()
            if f"{column}_low" in rows
        }
        at.errorbar(rows[x], rows[y], **bars, color=look.color, linestyle="", alpha=0.7)
        hollow = rows["hollow"] if "hollow" in rows else np.zeros(len(rows), bool)
        for part, fill in ((rows[hollow], "none"), (rows[~hollow], look.color)):
            mark = {"marker": look.marker, "color": look.color, "markersize": 7, "linestyle": ""}
            at.plot(part[x], part[y], markerfacecolor=fill, **mark)


def _cells(at: Any, figure: Figure) -> None:
    value, (x, y) = figure.color, (figure.x[0].column, figure.y[0].column)
    grid = figure.rows.pivot(index=y, columns=x, values=value.column)
    low, high = float(np.nanmin(grid)), float(np.nanmax(grid))
    # Cividis is even in lightness, for color-blind readers and in gray.
    seaborn.heatmap(
        grid,
        ax=at,
        cmap="cividis",
        norm=LogNorm(low, max(high, low * 1.001)),
        linewidths=0.2,
        cbar_kws={"label": value.title, "format": LABELS},
    )
    at.grid(False)
    at.tick_params("x", rotation=0 if grid.shape[1] <= 14 else 90, labelsize=9)
    at.tick_params("y", rotation=0)


def _scale(axis: Any, scale: str) -> None:
    """Make an axis logarithmic if it is to be, with few labels: between whole decades only where
    there are few of them.
    """
    if scale != "log":
        return
    (axis.axes.set_xscale if axis is axis.axes.xaxis else axis.axes.set_yscale)("log")
    low, high = axis.get_view_interval()
    steps = (1.0,) if high > 1e3 * low else (1.0, 3.0) if high > 40 * low else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(subs=steps, numticks=8 if len(steps) == 1 else 15))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(LABELS)


def _legend(canvas: Canvas, looks: dict[str, Look], columns: int) -> None:
    """Put a legend above the panels, where it hides no curve, and make the figure higher by it."""
    handles = [
        Line2D(
            [],
            [],
            label=name,
            color=look.color,
            marker=look.marker,
            linestyle=(0, look.dashes) if look.dashes else "-",
        )
        for name, look in looks.items()
    ]
    if handles:
        canvas.legend(
            handles=handles,
            loc="outside upper left",
            ncols=columns,
            fontsize=10,
            handlelength=3.6,
            columnspacing=1.5,
        )
        lines = -(-len(handles) // columns)
        canvas.set_size_inches(canvas.get_size_inches() + (0, 0.24 * (lines - 1)))
