"""Draw records of figures with seaborn, for files and for readers whose browser runs no scripts."""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import pandas as pd
import seaborn
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import LogFormatter

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

    from pudle.reports.figures.record import Figure

#: Width and height of a panel in inches.
SIZE = (6.0, 4.3)
STYLE: dict[RcKeyType, Any] = {
    # A folder of results may hold settings, which matplotlib reads.
    "text.usetex": False,
    # Text in an SVG or a PDF stays text that an editor can change.
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "lines.scale_dashes": False,
}
#: Of a figure of a given width: the size of its letters in points, which holds for exponents too,
#: because they are written as in 1e-05, and the least width of a panel beside others.
PRINTED: dict[RcKeyType, Any] = {"font.size": 8, "axes.titlesize": 8, "lines.markersize": 4}
NARROWEST = 2.8
#: What a letter and the line before a name take of the legend, in inches.
LETTER, LINE = 0.065, 0.55
#: Dots in an inch of a PNG: on a screen, and printed.
DOTS, PRINTED_DOTS = 130, 300
#: Metadata that would make the same figure differ from one run to the next.
DATES = {"svg": "Date", "pdf": "CreationDate"}


class _PlainLogFormatter(LogFormatter):
    """Labels the places that matplotlib would label, without formulas: ``1e-05``, ``0.25``."""

    def __call__(self, x: float, pos: int | None = None) -> str:
        return f"{x:.3g}" if super().__call__(x, pos) else ""


def draw(*figures: Figure, width: float | None = None) -> Canvas:
    """Return figures drawn side by side by matplotlib, with one vertical range and one legend above
    them.

    With a `width` in inches the whole is that wide, its letters have the size that they are printed
    in, and panels that would be too narrow stand below each other. pyplot does not know the result,
    and matplotlib's settings stay as they were.
    """
    with mpl.rc_context(STYLE | PRINTED if width else STYLE):
        across = len(figures)
        if width and width / across < NARROWEST:
            across = 1
        down = len(figures) // across
        panel_width = width / across if width else SIZE[0]
        height = down * panel_width * SIZE[1] / SIZE[0]
        canvas = Canvas(figsize=(panel_width * across, height), layout="constrained")
        panels = canvas.subplots(down, across, sharex=down > 1, sharey=True, squeeze=False).ravel()
        handles_by_label: dict[str, Artist] = {}
        for at, figure in zip(panels, figures, strict=True):
            _panel(at, figure)
            if width:
                _write_exponents_in_full_size(at)
            if len(figures) > 1:
                at.set_title(figure.title, loc="left", parse_math=False)
                at.label_outer()
            handles, names = at.get_legend_handles_labels()
            handles_by_label |= dict(zip(names, handles, strict=True))
            if at.get_legend():
                at.get_legend().remove()
        if handles_by_label:
            # Above the panels, where it hides no curve; the figure grows by its further lines.
            columns = 2 * across
            line = 0.24
            if width:
                longest = max(map(len, handles_by_label))
                columns = min(columns, max(int(width / (LINE + LETTER * longest)), 1))
                line *= PRINTED["font.size"] / STYLE["font.size"]
            legend = canvas.legend(
                handles_by_label.values(),
                handles_by_label,
                loc="outside upper left",
                ncols=columns,
                handlelength=3.6,
            )
            for name in legend.get_texts():
                # It is shown as it is: it may hold dollar signs.
                name.set_parse_math(False)
            canvas.set_figheight(height + line * ((len(handles_by_label) - 1) // columns))
    return canvas


def _write_exponents_in_full_size(at: Axes) -> None:
    """Label logarithmic axes, that of colors included, as in 1e-05, where exponents would be
    smaller than other letters.
    """
    axes = [axis for axis in (at.xaxis, at.yaxis) if axis.get_scale() == "log"]
    bars = [cells.colorbar for cells in at.collections if cells.colorbar is not None]
    for axis in [*axes, *(bar.ax.yaxis for bar in bars)]:
        axis.set_major_formatter(_PlainLogFormatter())
        axis.set_minor_formatter(_PlainLogFormatter(minor_thresholds=(1, 0.4)))


def _panel(at: Axes, figure: Figure) -> None:
    """Draw a figure on axes, with what stands behind its rows, but without its title and its
    legend.
    """
    {"line": _lines, "point": _points, "cell": _cells}[figure.mark](at, figure)
    x, y = figure.x[0], figure.y[0]
    at.set(xlabel=x.title, ylabel=y.title)
    if x.scale == "log":
        at.set_xscale("log")
    if y.scale == "log":
        at.set_yscale("log")
    # What is behind the rows does not squeeze them.
    at.autoscale_view()
    if figure.most and at.viewLim.containsy(figure.most[0]):
        at.set_ylim(top=figure.most[0])
    at.autoscale(False)
    for height, label in figure.levels:
        # Text outside of the axes would take their place.
        if at.viewLim.containsy(height):
            at.axhline(height, color="0.4", linewidth=1, linestyle=(0, (1, 2)), zorder=1)
            at.text(0.02, height, label, transform=at.get_yaxis_transform(), va="bottom")
    for label, rows in figure.guides.groupby("label", sort=False):
        at.plot(rows["x"], rows["y"], color="0.35", linewidth=1.3, linestyle=(0, (4, 3)), zorder=1)
        middle = rows[["x", "y"]].iloc[len(rows) // 2]
        at.annotate(label, middle, xytext=(4, 4), textcoords="offset points")


def saved(canvas: Canvas, ending: str, name: str, alt: str, for_print: bool = False) -> bytes:
    """Return a drawn figure as the content of a file in a format (svg, pdf, png), the same whenever
    it is drawn; `alt` is its title there. A PNG `for_print` has more dots.
    """
    buffer = io.BytesIO()
    about = {DATES[ending]: None, "Title": alt} if ending in DATES else {}
    dots = PRINTED_DOTS if for_print else DOTS
    # Ids are hashes of this salt: two figures in one document share none.
    with warnings.catch_warnings(), mpl.rc_context(STYLE | {"svg.hashsalt": name}):
        # A spec may hold letters that this font lacks, and the reader's program has, or be longer
        # than the figure is wide.
        warnings.filterwarnings("ignore", message=".*([Gg]lyph|constrained_layout).*")
        canvas.savefig(buffer, format=ending, metadata=about, dpi=dots)
    # What a comment repeats is markup of the numbers beside it.
    return re.sub(rb"<!--.*?-->", b"", buffer.getvalue()) if ending == "svg" else buffer.getvalue()


def _lines(at: Axes, figure: Figure) -> None:
    """Draw a line for each series, with markers, and a band where the rows have columns ``_low``
    and ``_high``.
    """
    x, y, lines = figure.x[0].column, figure.y[0].column, figure.lines
    if not lines:
        return
    looks = pd.DataFrame([figure.looks[name] for name in lines], index=[*lines])
    seaborn.lineplot(
        figure.rows,
        x=x,
        y=y,
        hue=figure.series,
        style=figure.series,
        hue_order=looks.index,
        style_order=looks.index,
        palette=looks["color"].to_dict(),
        markers=looks["marker"].to_dict(),
        dashes=looks["dashes"].to_dict(),
        estimator=None,
        sort=False,
        linewidth=1.6,
        markeredgewidth=0,
        # A long history has about twelve markers.
        markevery=max(max(map(len, lines.values())) // 12, 1),
        ax=at,
    )
    for name, rows in lines.items():
        if f"{y}_low" in rows:
            ends = rows[f"{y}_low"], rows[f"{y}_high"]
            at.fill_between(rows[x], *ends, color=looks["color"][name], alpha=0.14, linewidth=0)


def _points(at: Axes, figure: Figure) -> None:
    """Draw a point for each row in the look of its series, with bars where the rows have some."""
    x, y = figure.x[0].column, figure.y[0].column
    for name, series in figure.lines.items():
        look = figure.looks[name]
        at.errorbar(
            series[x],
            series[y],
            _bars(series, y),
            _bars(series, x),
            marker=look.marker,
            color=look.color,
            linestyle="",
            label=name,
        )


def _bars(rows: pd.DataFrame, column: str) -> Any:
    """Return how far bars reach down and up, None where there are none."""
    if f"{column}_low" not in rows:
        return None
    return [rows[column] - rows[f"{column}_low"], rows[f"{column}_high"] - rows[column]]


def _cells(at: Axes, figure: Figure) -> None:
    """Draw the rows as a grid of colored cells on a logarithmic scale, with a color bar."""
    value, x, y = figure.color or figure.y[0], figure.x[0].column, figure.y[0].column
    grid = figure.rows.pivot(index=y, columns=x, values=value.column)
    # Cividis is even in lightness, for color-blind readers and in gray.
    scale = {"label": value.title}
    seaborn.heatmap(grid, ax=at, cmap="cividis_r", norm=LogNorm(), linewidths=0.2, cbar_kws=scale)
    at.grid(False)
    # Of many depths each label would meet the next.
    at.tick_params("x", rotation=90)
    at.tick_params("y", rotation=0)
