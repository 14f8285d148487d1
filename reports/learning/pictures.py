"""Draw what experiments store: the histories of methods as curves, and small images as galleries."""

from __future__ import annotations

import base64
import io
import itertools
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

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
#: Greatest side of an image in the page, in pixels; a larger image is cut to its middle.
LARGEST_SIDE = 256
#: Greatest number of tiles in a row of a sheet.
ABREAST = 5
#: Width of a tile in a sheet and height of a line of its caption, in inches.
WIDTH, LINE = 2.0, 0.2


def draw_curves(
    title: str, panels: Mapping[str, Mapping[Method, pd.DataFrame]], horizontal: Sequence[str],
    styles: Mapping[str, Look], *, y: str, column: str, kind: str, name: str, goals: Sequence[float] = (), log: bool = True,
) -> list[Picture]:  # fmt: skip
    """Draw one picture per panel and column of the history in `horizontal`; those without a curve are left out.

    `title` names the data, and a panel's name says what distinguishes it; it holds the curve of each method, from
    `Method.curve`. `y` and `column` name the value in the picture and in its CSV file, and `name` is the format of the file
    names. On a log scale all panels have the same limits. `goals` are marked, and values far below the last are cut off.
    """
    panels = {panel: {method: data[data["least"] > 0] if log else data for method, data in curves.items()}
              for panel, curves in panels.items()}  # fmt: skip
    every_curve = [data for curves in panels.values() for data in curves.values() if len(data)]
    low = max(min((data["least"].min() for data in every_curve), default=0), goals[-1] / 10 if goals else 0)
    high = max((data["greatest"].max() for data in every_curve), default=0)
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


# -- galleries


@dataclass(frozen=True, eq=False)
class Tile:
    """One image of a gallery, as uint8, with the lines of its caption below it; `enlarged` shows each pixel as a square."""

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
    """Images that a page shows one by one and a file as one sheet; several rows stay rows, a single row wraps."""

    rows: Sequence[Sequence[Tile]] = ()


def gray(image: np.ndarray) -> np.ndarray:
    """Return an image with values in [0, 1] as uint8, cut to its middle if it is larger than a page shows."""
    top, left = (max(side - LARGEST_SIDE, 0) // 2 for side in image.shape)
    middle = np.nan_to_num(image[top : top + LARGEST_SIDE, left : left + LARGEST_SIDE])
    return np.round(255 * np.clip(middle, 0, 1)).astype(np.uint8)


def signed(image: np.ndarray) -> np.ndarray:
    """Return an image as uint8, scaled to its own greatest magnitude; zero becomes the gray level 128."""
    image = np.nan_to_num(image)
    return np.round(128 + 127 * (image / (np.abs(image).max(initial=0.0) or 1.0))).astype(np.uint8)


def gallery(name: str, kind: str, title: str, rows: Sequence[Sequence[Tile]], data: pd.DataFrame) -> Gallery:
    """Return rows of tiles as a gallery; `data` holds the numbers of the captions, and `name` starts the file's name."""
    sheet = [rows[0][start : start + ABREAST] for start in range(0, len(rows[0]), ABREAST)] if len(rows) == 1 else rows
    columns, lines = max(map(len, sheet)), max(len(tile.caption) for row in rows for tile in row)
    width = WIDTH * min(1, ABREAST / columns)
    with drawing():
        figure = Figure(figsize=(width * columns, (width + LINE * lines) * len(sheet)), layout="constrained")
        FigureCanvasAgg(figure)
        for row, row_of_axes in zip(sheet, figure.subplots(len(sheet), columns, squeeze=False), strict=True):
            for at, tile in itertools.zip_longest(row_of_axes, row):
                at.axis("off")
                if tile is not None:
                    at.imshow(tile.image, cmap="gray", vmin=0, vmax=255, interpolation="none")
                    caption = (textwrap.fill(line, max(int(13 * width), 8)) for line in tile.caption)
                    at.set_title("\n".join(caption), fontsize=8)
    alt = f"{title}: {kind.lower()}. " + " ".join(tile.alt for row in rows for tile in row)
    return Gallery(file_name(name, title), kind, "", figure, alt, table(data), kind, rows=rows)
