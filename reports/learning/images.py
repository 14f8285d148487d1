"""Studies whose results are images: which method and which gradient denoises best, images before
and after, the learned filters, and the training samples that shaped each learned atom.
"""

import base64
import io
import math
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from pudle import text
from pudle.learning.images import Pixels, gray, mosaic, psnr, signed_to_gray
from pudle.reports.figures.record import Axis, Picture, file_name
from pudle.reports.learning.study import (
    LONGEST_NAME,
    Block,
    Method,
    NumberColumn,
    Study,
    charts,
    table,
    whole,
)
from pudle.reports.load import ShownExperiment
from pudle.reports.looks import Looks

#: Greatest number of tiles in a row of a sheet, the width of a tile and the height of a line of its
#: caption in inches.
ABREAST, WIDTH, LINE = 7, 1.6, 0.2
#: Letters of a caption in an inch, and the least width of a tile where a row may wrap.
LETTERS, NARROWEST = 13, 1.0


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

    #: How its files begin; by default it is made of `kind` and `about`.
    name: str = ""

    def __post_init__(self) -> None:
        name = file_name(self.name or f"{self.kind.lower()}-{self.about}", longest=LONGEST_NAME)
        object.__setattr__(self, "name", name)

    @cached_property
    def alt(self) -> str:
        """The images in words."""
        tiles = " ".join(tile.alt for row in self.tiles for tile in row)
        return f"{self.about}: {self.kind.lower()}. {tiles}"

    def canvas(self, width: float | None = None) -> Any:
        """Draw the tiles as one sheet with matplotlib, `ABREAST` in a row at most, or `width`
        inches wide; its settings stay as they were.
        """
        import matplotlib as mpl
        from matplotlib.figure import Figure as Canvas

        from pudle.reports.figures.drawing import STYLE

        abreast = ABREAST
        if width and len(self.tiles) == 1:
            # A single row wraps, as captions such as names of methods need some width.
            abreast = min(ABREAST, max(int(width / NARROWEST), 1))
        rows = [
            row[start : start + abreast]
            for row in self.tiles
            for start in range(0, len(row), abreast)
        ]
        columns = max(map(len, rows))
        tile_width = width / columns if width else WIDTH
        captions = {
            id(tile): "\n".join(
                textwrap.fill(line, max(int(LETTERS * tile_width), 1)) for line in tile.caption
            )
            for row in rows
            for tile in row
        }
        lines = max(
            (1 + caption.count("\n") for caption in captions.values())
            if width
            else (len(tile.caption) for row in rows for tile in row)
        )
        size = (tile_width * columns, (tile_width + LINE * lines) * len(rows))
        with mpl.rc_context(STYLE):
            canvas = Canvas(figsize=size, layout="constrained")
            panels = canvas.subplots(len(rows), columns, squeeze=False)
            for at in panels.flat:
                at.axis("off")
            for row, tiles in zip(panels, rows, strict=True):
                for at, tile in zip(row, tiles, strict=False):
                    at.imshow(tile.image, cmap="gray", vmin=0, vmax=255, interpolation="none")
                    at.set_title(captions[id(tile)], fontsize=8, parse_math=False)
        return canvas


# -- denoised images

decibels = partial(text.fixed, digits=2, unit=" dB")
similarity = partial(text.fixed, digits=3)
#: Columns of the table. A method that is not trained takes no time and no steps.
COLUMNS = (
    NumberColumn("noisy", "noisy_psnr", decibels),
    NumberColumn("PSNR", "psnr", decibels, max),
    NumberColumn("SSIM", "ssim", similarity, max),
    NumberColumn("PSNR with shifts", "psnr_shifted", decibels, max),
    NumberColumn("SSIM with shifts", "ssim_shifted", similarity, max),
    NumberColumn("gradient error", "gradient_error"),
    NumberColumn("training", "training_seconds", lambda value: text.seconds(value or math.nan)),
    NumberColumn("steps", "steps", lambda value: whole(value or math.nan)),
)
#: The images that every method was given.
FIRST = "clean", "noisy"


class Denoising(Study):
    """Methods that denoised the same images with the same noise; what was skipped or failed is left
    out.
    """

    anchor = "denoising"
    name = "Images denoised"
    reading = (
        "PSNR and SSIM are means over the test images. With shifts, shifted copies of an image are"
        " denoised and averaged. The pictures show parts of one image, with shifts where a method"
        " has them, each with the PSNR of that part, and the learned filters,"
        " each scaled to its own greatest magnitude with zero in gray."
    )
    kinds = ("denoising",)
    outcome = Axis("psnr", "PSNR (dB)")
    time = "training_seconds"

    def title(self, record: ShownExperiment) -> str:
        """Return the source and the number of the test images, and the noise."""
        images = text.count(int(np.nan_to_num(record.number("images"))), "image")
        deviation = text.number(record.number("sigma"), 4)
        return (
            f"{record.summary.get('test_images')}, {images},"
            f" noise standard deviation {deviation} (0-255 scale)"
        )

    def show(self, value: float) -> str:
        return decibels(value)

    def block(self, title: str, methods: list[Method], styles: Looks) -> Block:
        """Return a table, the PSNR while training, and images."""
        figures = charts(
            title,
            {"": methods},
            styles,
            x=("step", "seconds"),
            y=Axis("psnr", "PSNR on validation images (dB)"),
            kind="Denoising while training",
        )
        ranked = sorted(methods, key=lambda method: np.nan_to_num(-_best(method)))
        tables = [(table(ranked, COLUMNS), f"Denoising of {title}")]
        galleries = image_gallery(title, methods), filter_gallery(title, methods)
        return Block(title, answer(ranked), tables, figures, [*filter(None, galleries)])


def _best(method: Method) -> float:
    """Return the greater of the PSNR with and without shifts."""
    return float(np.fmax(method.median("psnr"), method.median("psnr_shifted")))


def answer(ranked: Sequence[Method]) -> str:
    """Say which method denoises best, and with which gradient, from methods in the order of their
    PSNR; an empty text where none has a PSNR.
    """
    best = [method for method in ranked if not math.isnan(_best(method))]
    if not best:
        return ""
    top = _best(best[0])
    sentence = (
        f"{best[0].quoted} denoises best: {decibels(top)},"
        f" {top - best[0].median('noisy_psnr'):.2f} dB above the noisy images"
    )
    if len(best) > 1:
        sentence += f"; next is {best[1].quoted}, {top - _best(best[1]):.2f} dB less"
    sentences = [f"{sentence}."]
    trained = [method for method in best if method.estimator]
    if trained and not best[0].estimator:
        sentences.append(
            f"The best of the gradients is {trained[0].quoted},"
            f" {top - _best(trained[0]):.2f} dB behind."
        )
    return " ".join(sentences)


def image_gallery(title: str, methods: Sequence[Method]) -> Gallery | None:
    """Return an image before and after denoising by the first seed of each method; None if there is
    no denoised image.
    """
    arrays = [(method, method.runs[0].shown) for method in methods]
    denoised = [
        (method, images) for method, images in arrays if {*FIRST, "denoised"} <= images.keys()
    ]
    if not denoised:
        return None
    clean, noisy = (denoised[0][1][name] for name in FIRST)
    start = decibels(psnr(clean, noisy, clip=False))
    tiles = [
        Tile(gray(clean), ["clean"], "Part of an image without noise."),
        Tile(gray(noisy), ["noisy", start], f"With noise: {start}."),
    ]
    rows = []
    for method, images in denoised:
        # The better one, with shifts where both are as good.
        image = images.get("denoised_shifted", images["denoised"])
        quality = psnr(clean, image, clip=False)
        alt = f"Denoised by {method.label}: {decibels(quality)}."
        tiles.append(Tile(gray(image), [method.label, decibels(quality)], alt, method.estimator))
        rows.append({"method": method.label, "psnr": quality})
    return Gallery("Denoised images", title, [tiles], pd.DataFrame(rows))


def filter_gallery(title: str, methods: Sequence[Method]) -> Gallery | None:
    """Return the filters that the first seed of each method learned; None if there are none."""
    tiles, rows = [], []
    for method in methods:
        filters = method.runs[0].shown.get("filters", np.empty(0))
        if filters.size:
            sheet = mosaic(filters)
            size = "{} filters of {} by {} pixels".format(*filters.shape)
            alt = f"The {size} that {method.label} learned."
            tiles.append(Tile(sheet, [method.label, size], alt, method.estimator, enlarged=True))
            rows.append({"method": method.label, "filters": len(filters)})
    return Gallery("Learned filters", title, [tiles], pd.DataFrame(rows)) if tiles else None


# -- samples that shaped atoms

MINUS = "\u2212"
#: Numbers of the summary, and the sentence about each.
SENTENCES = {
    "share": "The samples shown carry {:.0%} of what all samples contribute to an {noun}.",
    "cosine": (
        "On average, the weighted sum of the samples that are shown beside an {noun} has a cosine"
        " of {:.2f} with that {noun}."
    ),
    "residual": "All samples together reproduce {whole} with a relative error of {:.2g}.",
}


class Interpretation(Study):
    """Atoms, each beside the samples that shaped it."""

    anchor = "interpretation"
    name = "Which samples shaped an atom"
    reading = (
        "Each row shows one atom, scaled to its greatest magnitude with zero in gray, and the"
        " training samples that shaped it most, with their weights, in the order in which the"
        " experiment stored them. Where images are explained, a row shows one image and the"
        " training images that it combines, with their weights, or that have the most similar"
        " codes, with the cosines."
    )
    kinds = ("interpretation",)

    def title(self, record: ShownExperiment) -> str:
        return f"{record.method}, {record.summary.get('dataset') or record.dataset}"

    def block(self, title: str, methods: list[Method], styles: Looks) -> Block:
        """Return sentences and a gallery of each experiment."""
        records = [record for method in methods for record in method.runs]
        sentences = [
            sentence.format(value, **_words(record))
            for record in records
            for name, sentence in SENTENCES.items()
            if not math.isnan(value := record.number(name))
        ]
        galleries = [_gallery(title, record) for record in records]
        return Block(title, " ".join(sentences), galleries=galleries)


def _words(record: ShownExperiment) -> dict[str, str]:
    """Name the explained object with the words that `SENTENCES` leave open."""
    if record.summary.get("explains") == "image":
        return {"noun": "image", "whole": "what the layers make of the images"}
    return {"noun": "atom", "whole": "the atoms"}


def _gallery(title: str, record: ShownExperiment) -> Gallery:
    """Return the gallery of an experiment: a row for each atom or explained image, with the samples
    beside it.
    """
    noun = _words(record)["noun"]
    rows = [
        {noun: atom + 1, "rank": rank + 1, "weight": weight}
        for (atom, rank), weight in np.ndenumerate(record.shown["weights"])
    ]
    about = f"{title}, {record.name}"
    kind = "Samples that shaped an atom" if noun == "atom" else "Samples that explain an image"
    return Gallery(kind, about, [*_rows(record, noun)], pd.DataFrame(rows), record.name)


def _rows(record: ShownExperiment, noun: str) -> Iterator[list[Tile]]:
    """Yield the tiles of each row: the atom or the image, then its samples with their weights."""
    arrays = (record.shown[name] for name in ("atoms", "samples", "weights"))
    for number, (atom, samples, weights) in enumerate(zip(*arrays, strict=True), start=1):
        alt = f"The learned atom {number}." if noun == "atom" else f"The image {number}."
        row = [
            Tile(signed_to_gray(atom), [f"{noun} {number}"], alt, record.estimator, enlarged=True)
        ]
        for sample, value in zip(samples, weights.tolist(), strict=True):
            weight = f"{MINUS if value < 0 else ''}{text.number(abs(value))}"
            # Samples that are not gray values in [0, 1] are drawn like atoms.
            draw = (
                gray
                if sample.min(initial=0) >= 0 and sample.max(initial=0) <= 1
                else signed_to_gray
            )
            verb = "shaped" if noun == "atom" else "explains"
            alt = f"A sample that {verb} {noun} {number}: weight {weight}."
            row.append(Tile(draw(sample), [weight], alt, enlarged=True))
        yield row
