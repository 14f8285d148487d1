"""Small images side by side: what trainings made, and what they made it from."""

import base64
import io
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd
from PIL import Image

from pudle.learning.images import Pixels
from pudle.reports.figures.record import Picture, file_name

#: Greatest number of tiles in a row of a sheet, the width of a tile and the height of a line of its
#: caption in inches.
ABREAST, WIDTH, LINE = 7, 1.6, 0.2


@dataclass(frozen=True, eq=False)
class Tile:
    """One image of a gallery, as uint8, with the lines of its caption below it; `enlarged` shows
    each pixel as a square.
    """

    image: Pixels
    caption: Sequence[str]
    alt: str
    estimator: str = ""
    enlarged: bool = False

    @cached_property
    def uri(self) -> str:
        """Return the image as the address of a PNG, so that a page needs no file beside it."""
        buffer = io.BytesIO()
        Image.fromarray(self.image).save(buffer, "PNG", optimize=True)
        return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


@dataclass(frozen=True, eq=False)
class Gallery(Picture):
    """Images that a page shows one by one and a file as one sheet; several rows of tiles stay rows,
    a single row wraps. Its rows are the numbers of the captions.
    """

    kind: str
    about: str
    tiles: Sequence[Sequence[Tile]]
    rows: pd.DataFrame

    #: How its files begin.
    name: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", file_name(self.kind.lower(), self.about))

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
                    caption = "\n".join(
                        textwrap.fill(line, int(13 * WIDTH)) for line in tile.caption
                    )
                    at.set_title(caption, fontsize=8, parse_math=False)
        return canvas
