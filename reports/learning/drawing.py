"""Draw the charts and galleries of experiments for files."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pudle import text
from pudle.reports.figures.drawing import axes, drawing, legend, log_axis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pudle.reports.learning.pictures import Chart, Tile

#: Label of the horizontal axis, by column of the history.
LABELS = {"epoch": "epochs", "step": "steps", "seconds": "seconds of computation"}
#: Seconds are on a log scale if the longest training takes this many times as long as the shortest.
WIDE = 20
#: Lines of an estimator's first, second, third and fourth method.
VARIANTS: tuple[Any, ...] = ("-", (0, (1, 1)), (0, (5, 1)), (0, (3, 1, 1, 1)))
#: Greatest number of tiles in a row of a sheet.
ABREAST = 5
#: Width of a tile in a sheet and height of a line of its caption, in inches.
WIDTH, LINE = 2.0, 0.2


@drawing
def draw_chart(chart: Chart, x: str) -> Figure:
    """Draw a chart against a column of the history."""
    figure, at = axes()
    ends = [data[x].max() for data in chart.series.values() if data[x].max() > 0]
    wide = x == "seconds" and max(ends, default=0) > WIDE * min(ends, default=0)
    for method, data in chart.series.items():
        look, line = chart.styles[method.owner], VARIANTS[method.variant % len(VARIANTS)]
        if len(data) == 1 and data[x].isna().all():
            at.axhline(
                data["median"].iloc[0],
                color=look.color,
                linewidth=1.2,
                linestyle=(0, (1, 2)),
                label=method.label,
            )
            continue
        shown = data[data[x] > 0] if wide else data
        at.plot(
            shown[x],
            shown["median"],
            color=look.color,
            linestyle=line,
            marker=look.marker,
            label=method.label,
            markevery=max(len(shown) // 8, 1),
            linewidth=1.6,
            markersize=6,
            markeredgewidth=0,
        )
        at.fill_between(
            shown[x], shown["least"], shown["greatest"], color=look.color, alpha=0.14, linewidth=0
        )
    for goal in chart.goals:
        at.axhline(goal, color="0.4", linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    at.set(xlabel=LABELS[x], ylabel=chart.y)
    if chart.log:
        log_axis(at.yaxis)
    if wide:
        log_axis(at.xaxis, text.seconds)
    legend(figure, at, 2 if max(len(method.label) for method in chart.series) < 34 else 1)
    return figure


@drawing
def draw_sheet(rows: Sequence[Sequence[Tile]]) -> Figure:
    """Draw rows of tiles as one sheet."""
    from matplotlib.figure import Figure

    sheet = (
        [rows[0][start : start + ABREAST] for start in range(0, len(rows[0]), ABREAST)]
        if len(rows) == 1
        else rows
    )
    columns, lines = max(map(len, sheet)), max(len(tile.caption) for row in rows for tile in row)
    width = WIDTH * min(1, ABREAST / columns)
    figure = Figure(
        figsize=(width * columns, (width + LINE * lines) * len(sheet)), layout="constrained"
    )
    for row, row_of_axes in zip(
        sheet, figure.subplots(len(sheet), columns, squeeze=False), strict=True
    ):
        for at, tile in itertools.zip_longest(row_of_axes, row):
            at.axis("off")
            if tile is not None:
                at.imshow(tile.image, cmap="gray", vmin=0, vmax=255, interpolation="none")
                caption = (textwrap.fill(line, max(int(13 * width), 8)) for line in tile.caption)
                at.set_title("\n".join(caption), fontsize=8)
    return figure
