"""What experiments store, as a page and files show it: the histories of methods as charts, small
images as galleries.
"""

from __future__ import annotations

import base64
import io
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from pudle.reports.figures.record import Axis, Figure, Picture, file_name
from pudle.reports.learning.methods import Method
from pudle.reports.looks import Look

#: Label of the horizontal axis, by column of the history.
LABELS = {"epoch": "epochs", "step": "steps", "seconds": "seconds of computation"}
#: Seconds are on a log scale if the longest training takes this many times as long as the shortest.
WIDE = 20
#: Dashes of an estimator's second, third and fourth method; the first has the estimator's own.
VARIANTS = ((), (1, 1), (5, 1), (3, 1, 1, 1))
#: The greatest number of points that a curve is drawn with.
POINTS = 120
#: Greatest number of tiles in a row of a sheet, the width of a tile and the height of a line of its
#: caption in inches.
ABREAST, WIDTH, LINE = 7, 1.6, 0.2


def charts(
    title: str,
    panels: Mapping[str, Mapping[str, Method]],
    column: str,
    styles: Mapping[str, Look],
    *,
    x: Sequence[str],
    y: Axis,
    kind: str,
    goals: Sequence[float] = (),
) -> list[Figure]:
    """Return the history of a column as one figure per panel, whose methods stand by their labels;
    those without a curve of several points are left out.

    `title` names the data, and a panel's name says what distinguishes it.
    """
    numbers: dict[str, dict[str, int]] = defaultdict(dict)
    made = []
    for panel, methods in panels.items():
        looks, parts = {}, []
        for label, method in methods.items():
            owner = method.owner
            # Numbers of an estimator's methods in the order of their appearance.
            number = numbers[owner].setdefault(method.label, len(numbers[owner]))
            data = method.curve(column) if method.good else pd.DataFrame()
            if y.scale == "log" and len(data):
                data = data[data[f"{column}_low"] > 0]
            if len(data) > 1:
                dashes = VARIANTS[number % len(VARIANTS)] or styles[owner].dashes
                looks[label] = replace(styles[owner], dashes=dashes)
                places = np.linspace(0, len(data) - 1, min(len(data), POINTS)).round().astype(int)
                parts.append(data.iloc[places].assign(method=label, estimator=owner))
        if not parts:
            continue
        rows = pd.concat(parts).astype({"step": int})
        ends = rows.groupby("method")["seconds"].max()
        scales = {"seconds": "log" if ends.max() > WIDE * ends.min() else "linear"}
        made.append(
            Figure(
                f"{kind.lower()}-{{x}}-{title}-{panel}",
                kind,
                ", ".join(filter(None, (title, panel))),
                rows,
                [
                    Axis(each, LABELS[each], scales.get(each, "linear"))
                    for each in x
                    if rows[each].notna().all()
                ],
                [y],
                looks,
                series="method",
                levels=[(goal, "") for goal in goals],
                tips={"step": "step"},
            )
        )
    return made


@dataclass(frozen=True, eq=False)
class Block:
    """Part of a section: its conclusion, tables with their captions, charts and images on one
    dataset or noise level.
    """

    heading: str
    answer: str = ""
    tables: Sequence[tuple[pd.DataFrame, str]] = ()
    charts: Sequence[Figure] = ()
    galleries: Sequence[Gallery] = ()

    @property
    def pictures(self) -> list[Any]:
        """The charts, one per column of the history, and the images as figures for files."""
        views = [
            figure.view(
                axis.column,
                name=file_name(figure.name.replace("{x}", axis.column)),
                title=f"{figure.title}, against {axis.title}",
            )
            for figure in self.charts
            for axis in figure.x
        ]
        return [*views, *self.galleries]


# -- galleries


@dataclass(frozen=True, eq=False)
class Tile:
    """One image of a gallery, as uint8, with the lines of its caption below it; `enlarged` shows
    each pixel as a square.
    """

    image: np.ndarray
    caption: Sequence[str]
    alt: str
    estimator: str = ""
    enlarged: bool = False

    @cached_property
    def uri(self) -> str:
        """Return the image as the address of a PNG, so that a page needs no file beside it."""
        buffer = io.BytesIO()
        Image.fromarray(self.image).save(buffer, "PNG", optimize=True)
        return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@dataclass(frozen=True, eq=False)
class Gallery(Picture):
    """Images that a page shows one by one and a file as one sheet; several rows of tiles stay rows,
    a single row wraps. Its rows are the numbers of the captions.
    """

    kind: str
    about: str
    tiles: Sequence[Sequence[Tile]]
    rows: pd.DataFrame

    @property
    def title(self) -> str:
        return self.kind

    @cached_property
    def name(self) -> str:
        """How its files begin."""
        return file_name(self.kind.lower(), self.about)

    @cached_property
    def alt(self) -> str:
        """The images in words."""
        tiles = " ".join(tile.alt for row in self.tiles for tile in row)
        return f"{self.about}: {self.kind.lower()}. {tiles}"

    def canvas(self) -> Any:
        import matplotlib as mpl
        from matplotlib.figure import Figure as Canvas

        from pudle.reports.figures.drawing import STYLE

        rows = [
            row[start : start + ABREAST]
            for row in self.tiles
            for start in range(0, len(row), ABREAST)
        ]
        columns = max(map(len, rows))
        lines = max(len(tile.caption) for row in rows for tile in row)
        size = (WIDTH * columns, (WIDTH + LINE * lines) * len(rows))
        with mpl.rc_context(STYLE):
            canvas = Canvas(figsize=size, layout="constrained")
            panels = canvas.subplots(len(rows), columns, squeeze=False)
            for at in panels.flat:
                at.axis("off")
            for row, tiles in zip(panels, rows, strict=True):
                for at, tile in zip(row, tiles, strict=False):
                    at.imshow(tile.image, cmap="gray", vmin=0, vmax=255, interpolation="none")
                    caption = (textwrap.fill(line, int(13 * WIDTH)) for line in tile.caption)
                    at.set_title("\n".join(caption), fontsize=8)
        return canvas
