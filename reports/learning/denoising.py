"""Denoised images: which method and which gradient denoises best, images before and after, and the
learned filters.
"""

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
import pandas as pd

from pudle import text
from pudle.learning.images import gray, mosaic, psnr
from pudle.reports.figures.record import Axis
from pudle.reports.learning.galleries import Gallery, Tile
from pudle.reports.learning.methods import Method
from pudle.reports.learning.study import Block, Column, Study, charts, table, whole
from pudle.reports.looks import Looks
from pudle.reports.records import ExperimentRecord

decibels = partial(text.fixed, digits=2, unit=" dB")
similarity = partial(text.fixed, digits=3)
#: Columns of the table. A method that is not trained takes no time and no steps.
COLUMNS = {
    "noisy": Column("noisy_psnr", decibels),
    "PSNR": Column("psnr", decibels, max),
    "SSIM": Column("ssim", similarity, max),
    "PSNR with shifts": Column("psnr_shifted", decibels, max),
    "SSIM with shifts": Column("ssim_shifted", similarity, max),
    "gradient error": Column("gradient_error"),
    "training": Column("training_seconds", lambda value: text.seconds(value or math.nan)),
    "steps": Column("steps", lambda value: whole(value or math.nan)),
}
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

    def title(self, record: ExperimentRecord) -> str:
        images = text.count(int(np.nan_to_num(record.number("images"))), "image")
        deviation = text.number(record.number("sigma"), 4)
        return (
            f"{record.summary.get('test_images')}, {images},"
            f" noise standard deviation {deviation} (0-255 scale)"
        )

    def show(self, value: float) -> text.Cell:
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
    """Say which method denoises best, and with which gradient."""
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
    """Return an image before and after denoising by the first seed of each method, if there is
    one.
    """
    shown = [(method, method.runs[0].shown) for method in methods]
    shown = [(method, images) for method, images in shown if {*FIRST, "denoised"} <= images.keys()]
    if not shown:
        return None
    clean, noisy = (shown[0][1][name] for name in FIRST)
    start = decibels(psnr(clean, noisy, clip=False))
    tiles = [
        Tile(gray(clean), ["clean"], "Part of an image without noise."),
        Tile(gray(noisy), ["noisy", start], f"With noise: {start}."),
    ]
    rows = []
    for method, images in shown:
        # The better one, with shifts where both are as good.
        image = images.get("denoised_shifted", images["denoised"])
        quality = psnr(clean, image, clip=False)
        alt = f"Denoised by {method.label}: {decibels(quality)}."
        tiles.append(Tile(gray(image), [method.label, decibels(quality)], alt, method.estimator))
        rows.append({"method": method.label, "psnr": quality})
    return Gallery("Denoised images", title, [tiles], pd.DataFrame(rows))


def filter_gallery(title: str, methods: Sequence[Method]) -> Gallery | None:
    """Return the filters that the first seed of each method learned, if there are some."""
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
