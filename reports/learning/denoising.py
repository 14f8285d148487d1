"""Denoised images: which method and which gradient denoises best, images before and after, and the
learned filters.
"""

import math
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np
import pandas as pd

from pudle import text
from pudle.learning.images import gray, mosaic, psnr, roughness
from pudle.reports.figures.record import Axis
from pudle.reports.learning.methods import (
    Block,
    Gallery,
    Method,
    Tile,
    cells,
    chance,
    charts,
    group,
    whole,
)
from pudle.reports.load import Results
from pudle.reports.looks import Looks
from pudle.reports.records import ExperimentRecord

NAME = "Images denoised"
READING = (
    "PSNR and SSIM are means over the test images. With shifts, shifted copies of an image are"
    " denoised and averaged. The gain is that of the better of the two. The pictures show parts of"
    " one image, each with the PSNR of that part, and the learned filters from smooth to rough,"
    " each scaled to its own greatest magnitude with zero in gray."
)
decibels = partial(text.fixed, digits=2, unit=" dB")
similarity = partial(text.fixed, digits=3)
#: Columns of the table, see `cells`. A method that is not trained takes no time and no steps.
COLUMNS = {
    "PSNR": ("psnr", decibels, "max"),
    "SSIM": ("ssim", similarity, "max"),
    "PSNR with shifts": ("psnr_shifted", decibels, "max"),
    "SSIM with shifts": ("ssim_shifted", similarity, "max"),
    "training": ("training_seconds", lambda value: text.seconds(value or math.nan), ""),
    "steps": ("steps", lambda value: whole(value or math.nan), ""),
}
#: Images by a method, the better one first where both are as good, and what the caption adds.
DENOISED = {"denoised_shifted": " with shifts", "denoised": " without"}


def blocks(results: Results, styles: Looks) -> Iterator[Block]:
    """Yield one block per set of images and noise level."""
    for title, methods in denoised(results).items():
        figures = charts(
            title,
            {"": {method.label: method for method in methods}},
            styles,
            x=("step", "seconds"),
            y=Axis("psnr", "PSNR on validation images (dB)"),
            kind="Denoising while training",
        )
        yield Block(
            title,
            answer(methods),
            [(table(methods), f"Denoising of {title}")],
            figures,
            [*image_galleries(title, methods), *filter_galleries(title, methods)],
        )


def denoised(results: Results) -> dict[str, list[Method]]:
    """Return the methods that denoised the same images with the same noise; what was skipped or
    failed is left out.
    """
    kept = (each for each in results.experiments if (each.kind, each.status) == ("denoising", "ok"))
    return group(kept, _images)


def _images(record: ExperimentRecord) -> str:
    return (
        f"{record.summary.get('test_images')}, {text.count(record.summary.get('images'), 'image')},"
        f" noise standard deviation {text.number(record.number('sigma'), 4)} (0-255 scale)"
    )


def _noisy(methods: Sequence[Method]) -> float:
    return pd.Series([method.median("noisy_psnr") for method in methods]).median()


def _best(method: Method) -> float:
    """Return the greater of the PSNR with and without shifts."""
    return float(np.fmax(method.median("psnr"), method.median("psnr_shifted")))


def table(methods: Sequence[Method]) -> pd.DataFrame:
    """Return one row per method, the best first and the noisy images last."""
    methods = sorted(methods, key=lambda method: np.nan_to_num(-_best(method)))
    noisy = _noisy(methods)
    shown = pd.DataFrame(cells(methods, COLUMNS), dtype=object)
    shown.insert(
        5, "gain over noisy", [decibels(_best(method) - noisy, sign="+") for method in methods]
    )
    shown.loc[len(shown)] = {"method": "noisy images", "PSNR": decibels(noisy)}
    shown = shown.fillna(text.DASH)
    return shown.loc[:, (shown != text.DASH).any()]


def answer(methods: Sequence[Method]) -> str:
    """Say which method denoises best, and with which gradient."""
    good = [method for method in methods if not math.isnan(_best(method))]
    ranked = sorted(good, key=_best, reverse=True)
    if not ranked:
        return ""
    first, top = ranked[0], _best(ranked[0])
    sentence = (
        f"{first.quoted} denoises best: {decibels(top)},"
        f" {top - _noisy(methods):.2f} dB above the noisy images"
    )
    if len(ranked) > 1:
        sentence += f"; next is {ranked[1].quoted}, {top - _best(ranked[1]):.2f} dB less"
    sentences = [f"{sentence}."]
    trained = [method for method in ranked if method.estimator]
    if trained and not first.estimator:
        sentences.append(
            f"The best of the gradients is {trained[0].quoted},"
            f" {top - _best(trained[0]):.2f} dB behind."
        )
    return " ".join([*sentences, *chance(methods)])


def image_galleries(title: str, methods: Sequence[Method]) -> Iterator[Gallery]:
    """Yield an image before and after denoising by the first seed of each method as one gallery,
    none if there is no image.
    """
    tiles, rows = [], []
    for method in methods:
        shown = method.runs[0].shown
        if not {"clean", "noisy", "denoised"} <= shown.keys():
            continue
        clean, noisy = shown["clean"], shown["noisy"]
        if not tiles:
            start = psnr(clean, noisy, clip=False)
            before = decibels(start)
            tiles += [
                Tile(gray(clean), ["clean"], "Part of an image without noise."),
                Tile(gray(noisy), ["noisy", before], f"With noise: {before}."),
            ]
            rows.append({"method": "noisy", "psnr": start})
        quality = {name: psnr(clean, shown[name], clip=False) for name in DENOISED if name in shown}
        lines = [
            f"{decibels(value)}{DENOISED[name] * (len(quality) > 1)}"
            for name, value in quality.items()
        ]
        best = shown[max(quality, key=quality.__getitem__)]
        alt = f"Denoised by {method.label}: {', '.join(lines)}."
        tiles.append(Tile(gray(best), [method.label, *lines], alt, method.estimator))
        values = {name.replace("denoised", "psnr"): value for name, value in quality.items()}
        rows.append({"method": method.label, **values})
    if tiles:
        yield Gallery("Denoised images", title, [tiles], pd.DataFrame(rows))


def filter_galleries(title: str, methods: Sequence[Method]) -> Iterator[Gallery]:
    """Yield the filters that the first seed of each method learned as one gallery, none if there
    are no filters.
    """
    tiles, tables = [], []
    for method in methods:
        filters = method.runs[0].shown.get("filters", np.empty(0))
        if filters.size:
            sheet, order = mosaic(filters)
            number = f"{len(order)} of " if len(order) < len(filters) else ""
            pixels = f"{filters.shape[1]} by {filters.shape[2]} pixels"
            size = f"{number}{len(filters)} filters of {pixels}"
            alt = f"The {size} that {method.label} learned, from smooth to rough."
            tiles.append(Tile(sheet, [method.label, size], alt, method.estimator, enlarged=True))
            tables.append(
                pd.DataFrame(
                    {
                        "method": method.label,
                        "filter": order,
                        "roughness": roughness(filters)[order],
                    }
                )
            )
    if tiles:
        yield Gallery("Learned filters", title, [tiles], pd.concat(tables))
