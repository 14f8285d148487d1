"""What experiments store, as a page and files show it: the histories of methods as charts, small
images as galleries.
"""

from __future__ import annotations

import base64
import io
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd
from PIL import Image

from pudle.reports import markup
from pudle.reports.figures.record import Axis, Figure, file_name
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
ABREAST, WIDTH, LINE = 5, 2.0, 0.2


def charts(
    title: str,
    panels: Mapping[str, Mapping[Method, pd.DataFrame]],
    horizontal: Sequence[str],
    styles: Mapping[str, Look],
    *,
    y: str,
    column: str,
    kind: str,
    name: str,
    goals: Sequence[float] = (),
    log: bool = True,
) -> list[Figure]:
    """Return one figure per panel; those without a curve of several points are left out.

    `title` names the data, and a panel's name says what distinguishes it; `name` is the format of
    the file names. A method without a history is a level.
    """
    made = []
    for panel, series in panels.items():
        curves = {
            method: _points(data[data["least"] > 0] if log else data)
            for method, data in series.items()
        }
        histories = {method: data for method, data in curves.items() if len(data) > 1}
        if not histories:
            continue
        rows = pd.concat(
            data.assign(method=method.label, estimator=method.owner)
            for method, data in histories.items()
        ).astype({"step": int})
        ends = {"median": column, "least": f"{column}_low", "greatest": f"{column}_high"}
        axes = [
            Axis(each, LABELS[each], _scale(each, rows))
            for each in horizontal
            if rows[each].notna().all()
        ]
        levels = [
            (float(data["median"].iloc[0]), method.label)
            for method, data in curves.items()
            if len(data) == 1
        ]
        made.append(
            Figure(
                name.replace("{title}", title).replace("{panel}", panel),
                kind,
                ", ".join(filter(None, (title, panel))),
                rows.rename(columns=ends),
                axes,
                [Axis(column, y, "log" if log else "linear")],
                {method.label: _look(method, styles) for method in histories},
                series="method",
                levels=[*((goal, "") for goal in goals), *levels],
                tips={"step": "step"},
            )
        )
    return made


def files(figure: Figure) -> list[Figure]:
    """Return a figure of trainings as those that files show, one per column of the history."""
    return [
        figure.view(
            axis.column,
            name=file_name(figure.name.replace("{x}", axis.column)),
            title=f"{figure.title}, against {axis.title}",
        )
        for axis in figure.x
    ]


def _look(method: Method, styles: Mapping[str, Look]) -> Look:
    look = styles[method.owner]
    return replace(look, dashes=VARIANTS[method.variant % len(VARIANTS)] or look.dashes)


def _scale(column: str, rows: pd.DataFrame) -> Literal["linear", "log"]:
    ends = rows.groupby("method")[column].max()
    return "log" if column == "seconds" and ends.max() > WIDE * ends.min() else "linear"


def _points(data: pd.DataFrame) -> pd.DataFrame:
    """Return at most `POINTS` rows of a curve, evenly spaced."""
    return data.iloc[
        np.unique(np.linspace(0, len(data) - 1, min(len(data), POINTS)).round().astype(int))
    ]


# -- galleries


@dataclass(frozen=True, eq=False)
class Block:
    """Part of a section: its conclusion, tables with their captions, charts and images on one
    dataset or noise level.
    """

    heading: str
    answer: str = ""
    tables: Sequence[tuple[pd.DataFrame, str]] = ()
    charts: Sequence[Any] = ()
    galleries: Sequence[Any] = ()

    @property
    def pictures(self) -> list[Any]:
        """The charts and images as figures for files."""
        return [*(view for chart in self.charts for view in files(chart)), *self.galleries]


@dataclass(frozen=True, eq=False)
class Tile:
    """One image of a gallery, as uint8, with the lines of its caption below it; `enlarged` shows
    each pixel as a square.
    """

    image: np.ndarray
    caption: tuple[str, ...]
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
class Gallery:
    """Images that a page shows one by one and a file as one sheet; several rows stay rows, a single
    row wraps.
    """

    name: str
    kind: str
    title: str
    alt: str
    #: The numbers of the captions.
    data: pd.DataFrame
    rows: Sequence[Sequence[Tile]]

    def files(self, endings: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield (name, content) of the sheet's files, see `Figure.files`."""
        if "csv" in endings:
            yield f"{self.name}.csv", markup.csv(self.data, float_format="%.6g").encode()
        if drawn := [ending for ending in endings if ending != "csv"]:
            # Takes a second, and a page needs none of it.
            from pudle.reports.figures.drawing import saved

            sheet = self._sheet()
            for ending in drawn:
                yield f"{self.name}.{ending}", saved(sheet, ending, self.name, self.alt)

    def _sheet(self) -> Any:
        """Draw the tiles as one sheet."""
        import matplotlib as mpl
        from matplotlib.figure import Figure as Canvas

        from pudle.reports.figures.drawing import STYLE

        rows = self.rows
        if len(rows) == 1:
            rows = [rows[0][start : start + ABREAST] for start in range(0, len(rows[0]), ABREAST)]
        columns = max(map(len, rows))
        lines = max(len(tile.caption) for row in rows for tile in row)
        width = WIDTH * min(1, ABREAST / columns)
        size = (width * columns, (width + LINE * lines) * len(rows))
        with mpl.rc_context(STYLE):
            canvas = Canvas(figsize=size, layout="constrained")
            panels = canvas.subplots(len(rows), columns, squeeze=False)
            for at in panels.flat:
                at.axis("off")
            for row, tiles in zip(panels, rows, strict=True):
                for at, tile in zip(row, tiles, strict=False):
                    at.imshow(tile.image, cmap="gray", vmin=0, vmax=255, interpolation="none")
                    caption = (textwrap.fill(line, int(13 * width)) for line in tile.caption)
                    at.set_title("\n".join(caption), fontsize=8)
        return canvas


def gallery(
    name: str, kind: str, title: str, rows: Sequence[Sequence[Tile]], data: pd.DataFrame
) -> Gallery:
    """Return rows of tiles as a gallery; `data` holds the numbers of the captions, and `name`
    starts the file's name.
    """
    alt = f"{title}: {kind.lower()}. " + " ".join(tile.alt for row in rows for tile in row)
    return Gallery(file_name(name, title), kind, kind, alt, data, rows)
