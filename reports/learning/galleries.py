"""Galleries of small images: a page shows them one by one, a figure's file as one sheet."""

from __future__ import annotations

import base64
import io
import itertools
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pudle.reports.drawing import Picture, drawing, file_name, table

#: Greatest side of an image in the page, in pixels; a larger image is cut to its middle.
LARGEST_SIDE = 256
#: Greatest number of tiles in a row of a sheet.
ABREAST = 5
#: Width of a tile in a sheet and height of a line of its caption, in inches.
WIDTH, LINE = 2.0, 0.2


@dataclass(frozen=True, eq=False)
class Tile:
    """One image of a gallery.

    Attributes
    ----------
    image : array of uint8, shape (height, width)
    caption : tuple of str
        Lines below it.
    alt : str
        Description of the image in words.
    estimator : str
        The estimator whose result it shows, or empty.
    enlarged : bool
        Whether each pixel is shown as a square.
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
    """Images that belong together; several rows stay rows, a single row wraps."""

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
    alt = f"{title}: {kind.lower()}. " + " ".join(tile.alt for row in rows for tile in row)
    with drawing():
        figure = _sheet(rows)
    return Gallery(file_name(name, title), kind, "", figure, alt, table(data), kind, rows)


def _sheet(rows: Sequence[Sequence[Tile]]) -> Figure:
    if len(rows) == 1:
        rows = [rows[0][start : start + ABREAST] for start in range(0, len(rows[0]), ABREAST)]
    columns = max(map(len, rows))
    width = WIDTH * min(1, ABREAST / columns)
    lines = max(len(tile.caption) for row in rows for tile in row)
    figure = Figure(figsize=(width * columns, (width + LINE * lines) * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    for row, axes in zip(rows, figure.subplots(len(rows), columns, squeeze=False), strict=True):
        for at, tile in itertools.zip_longest(axes, row):
            at.axis("off")
            if tile is not None:
                at.imshow(tile.image, cmap="gray", vmin=0, vmax=255, interpolation="none")
                caption = (textwrap.fill(line, max(int(13 * width), 8)) for line in tile.caption)
                at.set_title("\n".join(caption), fontsize=8)
    return figure
