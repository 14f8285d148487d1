"""Denoised images: which method and which gradient denoises best, images before and after, and the
learned filters.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from pudle import text
from pudle.learning import images
from pudle.reports.figures.record import Figure
from pudle.reports.learning.methods import Method, cells, chance, group, whole
from pudle.reports.learning.pictures import Block, Gallery, Tile, charts, gallery
from pudle.reports.load import Results
from pudle.reports.looks import Look
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
QUALITY = {
    "PSNR": ("psnr", decibels, "max"),
    "SSIM": ("ssim", similarity, "max"),
    "PSNR with shifts": ("psnr_shifted", decibels, "max"),
    "SSIM with shifts": ("ssim_shifted", similarity, "max"),
}
EFFORT = {
    "training": ("training_seconds", lambda value: text.seconds(value or math.nan), None),
    "steps": ("steps", lambda value: whole(value or math.nan), None),
}


def blocks(results: Results, styles: Mapping[str, Look]) -> Iterator[Block]:
    """Yield one block per set of images and noise level."""
    for title, methods in denoised(results).items():
        tables = [(table(methods), f"Denoising of {title}")]
        galleries = [*image_galleries(title, methods), *filter_galleries(title, methods)]
        yield Block(title, answer(methods), tables, curves(title, methods, styles), galleries)


def denoised(results: Results) -> dict[str, list[Method]]:
    """Return the methods that denoised the same images with the same noise; what was skipped or
    failed is left out.
    """
    return group(
        (item for item in results.experiments if item.kind == "denoising" and item.status == "ok"),
        _images,
    )


def _images(record: ExperimentRecord) -> str:
    count = text.count(record.summary.get("images"), "image")
    sigma = text.number(record.number("sigma"), 4)
    source = record.summary.get("test_images")
    return f"{source}, {count}, noise standard deviation {sigma} (0-255 scale)"


def _noisy(methods: Sequence[Method]) -> float:
    return pd.Series([method.median("noisy_psnr") for method in methods]).dropna().median()


def _best(method: Method) -> float:
    """Return the greater of the PSNR with and without shifts."""
    return float(np.fmax(method.median("psnr"), method.median("psnr_shifted")))


def table(methods: Sequence[Method]) -> pd.DataFrame:
    """Return one row per method, the best first and the noisy images last."""
    methods = sorted(methods, key=lambda method: np.nan_to_num(-_best(method)))
    noisy = _noisy(methods)
    columns = cells(methods, QUALITY)
    columns["gain over noisy"] = [decibels(_best(method) - noisy, sign="+") for method in methods]
    columns |= cells(methods, EFFORT)
    last = dict.fromkeys(columns, text.DASH) | {"method": "noisy images", "PSNR": decibels(noisy)}
    shown = pd.DataFrame(
        {heading: [*column, last[heading]] for heading, column in columns.items()}, dtype=object
    )
    return shown.loc[:, (shown != text.DASH).any()]


def answer(methods: Sequence[Method]) -> str:
    """Say which method denoises best, and with which gradient."""
    good = (method for method in methods if not math.isnan(_best(method)))
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
        behind = top - _best(trained[0])
        sentences.append(
            f"The best of the gradients is {trained[0].quoted}, {behind:.2f} dB behind."
        )
    return " ".join([*sentences, *chance(methods)])


def curves(title: str, methods: Sequence[Method], styles: Mapping[str, Look]) -> list[Figure]:
    """Return the PSNR on validation images against steps and seconds."""
    return charts(
        title,
        {"": {method: method.curve("psnr") for method in methods}},
        ("step", "seconds"),
        styles,
        y="PSNR on validation images (dB)",
        column="psnr",
        kind="Denoising while training",
        name="denoising-{x}-{title}",
        log=False,
    )


def image_galleries(title: str, methods: Sequence[Method]) -> list[Gallery]:
    """Return images before and after denoising by the first seed of each method, one gallery per
    image.
    """
    shown: dict[bytes, tuple[list[Tile], list[dict[str, Any]]]] = {}
    for method in methods:
        arrays = {name: each for name, each in method.runs[0].shown.items() if name != "filters"}
        if not {"clean", "noisy", "denoised"} <= arrays.keys():
            continue
        clean = arrays.pop("clean")
        quality = {name: images.psnr(clean, each, clip=False) for name, each in arrays.items()}
        noisy = decibels(quality["noisy"])
        start = [
            Tile(images.gray(clean), ("clean",), "Part of an image without noise."),
            Tile(images.gray(arrays["noisy"]), ("noisy", noisy), f"With noise: {noisy}."),
        ]
        tiles, rows = shown.setdefault(
            clean.tobytes(), (start, [{"method": "noisy", "psnr": quality["noisy"]}])
        )
        lines, best = [decibels(quality["denoised"])], "denoised"
        if "denoised_shifted" in quality:
            best = max(("denoised_shifted", "denoised"), key=quality.__getitem__)
            lines = [
                f"{decibels(quality['denoised_shifted'])} with shifts",
                f"{decibels(quality['denoised'])} without",
            ]
        alt = f"Denoised by {method.label}: {', '.join(lines)}."
        caption = (method.label, *lines)
        tiles.append(Tile(images.gray(arrays[best]), caption, alt, method.estimator))
        rows.append(
            {
                "method": method.label,
                "psnr": quality["denoised"],
                "psnr_shifted": quality.get("denoised_shifted"),
            }
        )
    return [
        gallery(
            f"images-{number}" if number > 1 else "images",
            "Denoised images",
            title,
            [tiles],
            pd.DataFrame(rows).reindex(columns=["method", "psnr", "psnr_shifted"]),
        )
        for number, (tiles, rows) in enumerate(shown.values(), start=1)
    ]


def filter_galleries(title: str, methods: Sequence[Method]) -> list[Gallery]:
    """Return the filters that the first seed of each method learned as one gallery, none if there
    are no filters.
    """
    tiles, tables = [], []
    for method in methods:
        filters = method.runs[0].shown.get("filters", np.empty(0))
        if filters.size:
            sheet, order = images.mosaic(filters)
            number = f"{len(order)} of " if len(order) < len(filters) else ""
            height, width = filters.shape[1:]
            size = f"{number}{len(filters)} filters of {height} by {width} pixels"
            alt = f"The {size} that {method.label} learned, from smooth to rough."
            tiles.append(Tile(sheet, (method.label, size), alt, method.estimator, enlarged=True))
            roughness = images.roughness(filters)[order]
            columns = {"place": range(len(order)), "filter": order, "roughness": roughness}
            tables.append(pd.DataFrame({"method": method.label} | columns))
    if not tiles:
        return []
    return [gallery("filters", "Learned filters", title, [tiles], pd.concat(tables))]
