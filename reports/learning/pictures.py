"""What experiments store, as a page and files show it: the histories of methods as charts, small
images as galleries.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import pandas as pd
from PIL import Image

from pudle import text
from pudle.reports.figures.drawing import Picture, file_name
from pudle.reports.learning.drawing import LABELS, draw_chart, draw_sheet
from pudle.reports.learning.methods import Method
from pudle.reports.looks import Look

#: The greatest number of points that a curve is drawn with.
POINTS = 120
#: Greatest side of an image in the page, in pixels; a larger image is cut to its middle.
LARGEST_SIDE = 256


@dataclass(frozen=True, eq=False)
class Chart:
    """Curves of methods against columns of their histories, as the page draws them and as files
    show them.

    `title` names the data and the panel; `series` holds the curve of each method, from
    `Method.curve`. `y` and `column` name the value in the figure and in its CSV file. `goals` are
    marked.
    """

    title: str
    kind: str
    name: str
    y: str
    column: str
    log: bool
    horizontal: tuple[str, ...]
    series: Mapping[Method, pd.DataFrame]
    styles: Mapping[str, Look]
    goals: tuple[float, ...] = ()

    @cached_property
    def about(self) -> str:
        """The chart in words."""
        last = "; ".join(
            f"{method.label} {text.number(data['median'].iloc[-1], 3)}"
            for method, data in self.series.items()
        )
        seeds = max(len(method.runs) for method in self.series)
        band = f" Median over {seeds} seeds, band from least to greatest." if seeds > 1 else ""
        return (
            f"{self.title}: {self.y}{' on a log scale' if self.log else ''}.{band} Last values:"
            f" {last}."
        )

    @cached_property
    def table(self) -> pd.DataFrame:
        """The data as one table."""
        columns = ["method", "estimator", "step", "epoch", "seconds", "median", "least", "greatest"]
        parts = (
            data.assign(method=method.label, estimator=method.estimator)
            for method, data in self.series.items()
        )
        return (
            pd.concat(parts)[columns].astype({"step": int}).rename(columns={"median": self.column})
        )

    @property
    def pictures(self) -> list[Picture]:
        """The chart as figures for files, one per column of the history."""
        return [
            Picture(
                file_name(self.name.replace("{x}", x)),
                self.kind,
                "",
                f"{self.about} Against {LABELS[x]}.",
                self.table,
                partial(draw_chart, self, x),
                f"{self.title}, against {LABELS[x]}",
            )
            for x in self.horizontal
        ]


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
) -> list[Chart]:
    """Return one chart per panel; those without a curve of several points are left out.

    `title` names the data, and a panel's name says what distinguishes it; `name` is the format of
    the file names.
    """
    made = []
    for panel, curves in panels.items():
        series = {
            method: _points(data[data["least"] > 0] if log else data)
            for method, data in curves.items()
        }
        series = {method: data for method, data in series.items() if len(data)}
        if any(len(data) > 1 for data in series.values()):
            known = tuple(
                x
                for x in horizontal
                if all(data[x].notna().all() for data in series.values() if len(data) > 1)
            )
            file = name.replace("{title}", title).replace("{panel}", panel)
            full = ", ".join(filter(None, (title, panel)))
            made.append(
                Chart(full, kind, file, y, column, log, known, series, styles, tuple(goals))
            )
    return made


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
class Gallery(Picture):
    """Images that a page shows one by one and a file as one sheet; several rows stay rows, a single
    row wraps.
    """

    rows: Sequence[Sequence[Tile]] = ()


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
    return Gallery(
        file_name(name, title), kind, "", alt, data, partial(draw_sheet, rows), kind, rows
    )
