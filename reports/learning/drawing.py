"""Draw the galleries of experiments for files."""

from __future__ import annotations

import itertools
import textwrap
from collections.abc import Sequence

import matplotlib as mpl
from matplotlib.figure import Figure

from pudle.reports.figures.drawing import STYLE
from pudle.reports.learning.pictures import Tile

#: Greatest number of tiles in a row of a sheet.
ABREAST = 5
#: Width of a tile in a sheet and height of a line of its caption, in inches.
WIDTH, LINE = 2.0, 0.2


def draw_sheet(rows: Sequence[Sequence[Tile]]) -> Figure:
    """Draw rows of tiles as one sheet."""
    with mpl.rc_context(STYLE):
        sheet = (
            [rows[0][start : start + ABREAST] for start in range(0, len(rows[0]), ABREAST)]
            if len(rows) == 1
            else rows
        )
        columns, lines = (
            max(map(len, sheet)),
            max(len(tile.caption) for row in rows for tile in row),
        )
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
                    caption = (
                        textwrap.fill(line, max(int(13 * width), 8)) for line in tile.caption
                    )
                    at.set_title("\n".join(caption), fontsize=8)
        return figure
