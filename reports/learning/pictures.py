"""What experiments store, as a page and files show it: the histories of methods as charts, small
images as galleries.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

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
#: Greatest side of an image in the page, in pixels; a larger image is cut to its middle.
LARGEST_SIDE = 256


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
        from pudle.reports.figures.drawing import saved
        from pudle.reports.learning.drawing import draw_sheet

        if "csv" in endings:
            yield f"{self.name}.csv", markup.csv(self.data, float_format="%.6g").encode()
        if drawn := [ending for ending in endings if ending != "csv"]:
            sheet = draw_sheet(self.rows)
            for ending in drawn:
                yield f"{self.name}.{ending}", saved(sheet, ending, self.name, self.alt)


def gray(image: np.ndarray) -> np.ndarray:
    """Return an image with values in [0, 1] as uint8, cut to its middle if it is larger than a page
    shows.
    """
    top, left = (max(side - LARGEST_SIDE, 0) // 2 for side in image.shape)
    middle = np.nan_to_num(image[top : top + LARGEST_SIDE, left : left + LARGEST_SIDE])
    return np.round(255 * np.clip(middle, 0, 1)).astype(np.uint8)


def signed(image: np.ndarray) -> np.ndarray:
    """Return an image as uint8, scaled to its own greatest magnitude; zero becomes the gray level
    128.
    """
    image = np.nan_to_num(image)
    return np.round(128 + 127 * (image / (np.abs(image).max(initial=0.0) or 1.0))).astype(np.uint8)


def gallery(
    name: str, kind: str, title: str, rows: Sequence[Sequence[Tile]], data: pd.DataFrame
) -> Gallery:
    """Return rows of tiles as a gallery; `data` holds the numbers of the captions, and `name`
    starts the file's name.
    """
    alt = f"{title}: {kind.lower()}. " + " ".join(tile.alt for row in rows for tile in row)
    return Gallery(file_name(name, title), kind, kind, alt, data, rows)
