"""Denoised images: which method and which gradient denoises best, images before and after, and the
learned filters.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
import pandas as pd

from pudle import text
from pudle.reports.figures.record import Figure
from pudle.reports.learning.methods import Method, cells, group, whole
from pudle.reports.learning.pictures import Gallery, Tile, charts, gallery, gray, signed
from pudle.reports.load import Results
from pudle.reports.looks import Look
from pudle.reports.records import ExperimentRecord

#: Greatest number of filters in a picture; the smoothest are shown.
MOST_FILTERS = 256

decibels = partial(text.fixed, digits=2, unit=" dB")


def denoised(results: Results) -> dict[str, list[Method]]:
    """Return the methods that denoised the same images with the same noise; what was skipped or
    failed is left out.
    """
    return group(
        (item for item in results.experiments if item.kind == "denoising" and item.status == "ok"),
        _images,
    )


def _images(record: ExperimentRecord) -> str:
    source, count = record.summary.get("test_images"), record.summary.get("images")
    sigma = text.number(record.number("sigma"), 4)
    return (
        f"{source}, {count} image{'' if count == 1 else 's'}, noise standard deviation {sigma}"
        " (0-255 scale)"
    )


def _noisy(methods: Sequence[Method]) -> float:
    return pd.Series([method.median("noisy_psnr") for method in methods]).dropna().median()


def _best(method: Method) -> float:
    """Return the greater of the PSNR with and without shifts."""
    return float(np.fmax(method.median("psnr"), method.median("psnr_shifted")))


def table(methods: Sequence[Method]) -> pd.DataFrame:
    """Return one row per method, the best first and the noisy images last."""
    methods, noisy = (
        sorted(methods, key=lambda method: np.nan_to_num(-_best(method))),
        _noisy(methods),
    )
    similarity = partial(text.fixed, digits=3)
    columns = cells(
        methods,
        {
            "PSNR": ("psnr", decibels, "max"),
            "SSIM": ("ssim", similarity, "max"),
            "PSNR with shifts": ("psnr_shifted", decibels, "max"),
            "SSIM with shifts": ("ssim_shifted", similarity, "max"),
        },
    )
    columns["gain over noisy"] = [decibels(_best(method) - noisy, sign="+") for method in methods]
    # A method that is not trained takes no time and no steps.
    columns |= cells(
        methods,
        {
            "training": ("training_seconds", lambda value: text.seconds(value or math.nan), None),
            "steps": ("steps", lambda value: whole(value or math.nan), None),
        },
    )
    last = dict.fromkeys(columns, text.DASH) | {"method": "noisy images", "PSNR": decibels(noisy)}
    shown = pd.DataFrame(
        {heading: [*column, last[heading]] for heading, column in columns.items()}, dtype=object
    )
    return shown.loc[:, (shown != text.DASH).any()]


def answer(methods: Sequence[Method]) -> str:
    """Say which method denoises best, and with which gradient."""
    ranked = sorted(
        (method for method in methods if not math.isnan(_best(method))), key=_best, reverse=True
    )
    if not ranked:
        return ""
    first, top = ranked[0], _best(ranked[0])
    plain = [method for method in ranked if not math.isnan(method.median("psnr"))]
    with_shifts = first not in plain or top > first.median("psnr")
    sentence = (
        f"{first.quoted} denoises best: {decibels(top)}{' with shifts' if with_shifts else ''}"
    )
    sentence += f", {top - _noisy(methods):.2f} dB above the noisy images"
    if len(ranked) > 1:
        sentence += f"; next is {ranked[1].quoted}, {top - _best(ranked[1]):.2f} dB less"
    sentences = [f"{sentence}."]
    if with_shifts and len(plain) > 1:
        best = max(plain, key=lambda method: method.median("psnr"))
        shown = decibels(best.median("psnr"))
        sentences.append(
            f"Without shifts, which not every method uses, {best.quoted} is best: {shown}."
        )
    trained = [method for method in ranked if method.estimator]
    if trained and not first.estimator:
        sentences.append(
            f"The best of the gradients is {trained[0].quoted}, {top - _best(trained[0]):.2f} dB"
            " behind."
        )
    if len(trained) > 1 and max(len(method.runs) for method in trained) == 1:
        sentences.append(
            "Each training ran with one seed only: differences of a few hundredths of a decibel may"
            " be chance."
        )
    return " ".join(sentences)


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


def galleries(title: str, methods: Sequence[Method]) -> list[Gallery]:
    """Return images before and after, and the learned filters."""
    return [*image_galleries(title, methods), *filter_galleries(title, methods)]


def image_galleries(title: str, methods: Sequence[Method]) -> list[Gallery]:
    """Return images before and after denoising by the first seed of each method, one gallery per
    image.
    """
    images: dict[bytes, tuple[list[Tile], list[dict[str, Any]]]] = {}
    for method in methods:
        arrays = method.runs[0].arrays(clean="ij", noisy="ij", denoised="ij", denoised_shifted="ij")
        if not {"clean", "noisy", "denoised"} <= arrays.keys():
            continue
        clean = arrays["clean"]
        tiles, rows = images.setdefault(clean.tobytes(), ([], []))
        if not tiles:
            noisy = psnr(clean, arrays["noisy"])
            alt = f"The same part with noise: {decibels(noisy)}."
            tiles += [
                Tile(gray(clean), ("clean",), "Part of an image without noise."),
                Tile(gray(arrays["noisy"]), ("noisy", decibels(noisy)), alt),
            ]
            rows.append({"method": "noisy", "psnr": noisy, "psnr_shifted": math.nan})
        plain, shifted = psnr(clean, arrays["denoised"]), math.nan
        lines, best = [decibels(plain)], arrays["denoised"]
        if "denoised_shifted" in arrays:
            shifted = psnr(clean, arrays["denoised_shifted"])
            lines = [f"{decibels(shifted)} with shifts", f"{decibels(plain)} without"]
            best = arrays["denoised_shifted"] if shifted >= plain else best
        alt = f"Denoised by {method.label}: {', '.join(lines)}."
        tiles.append(Tile(gray(best), (method.label, *lines), alt, method.estimator))
        rows.append({"method": method.label, "psnr": plain, "psnr_shifted": shifted})
    return [
        gallery(
            f"images-{number}" if number > 1 else "images",
            "Denoised images",
            title,
            [tiles],
            pd.DataFrame(rows),
        )
        for number, (tiles, rows) in enumerate(images.values(), start=1)
    ]


def psnr(clean: np.ndarray, image: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of gray values in [0, 1], in dB; infinite for equal
    images.
    """
    from skimage.metrics import peak_signal_noise_ratio  # slow to import

    with np.errstate(divide="ignore"):
        return float(peak_signal_noise_ratio(clean, image, data_range=1))


def filter_galleries(title: str, methods: Sequence[Method]) -> list[Gallery]:
    """Return the filters that the first seed of each method learned as one gallery, none if there
    are no filters.
    """
    tiles, tables = [], []
    for method in methods:
        filters = method.runs[0].arrays(filters="pij").get("filters", np.empty(0))
        if filters.size:
            sheet, order = mosaic(filters)
            count = (
                f"{len(order)} of {len(filters)}"
                if len(order) < len(filters)
                else f"{len(filters)}"
            )
            size = f"{count} filters of {filters.shape[1]} by {filters.shape[2]} pixels"
            alt = f"The {size} that {method.label} learned, from smooth to rough."
            tiles.append(Tile(sheet, (method.label, size), alt, method.estimator, enlarged=True))
            tables.append(
                pd.DataFrame(
                    {
                        "method": method.label,
                        "place": range(len(order)),
                        "filter": order,
                        "roughness": roughness(filters)[order],
                    }
                )
            )
    return (
        [gallery("filters", "Learned filters", title, [tiles], pd.concat(tables))] if tiles else []
    )


def roughness(filters: np.ndarray) -> np.ndarray:
    """Return the energy of the differences between neighbors over the energy of each filter;
    infinite for zeros.
    """
    filters = np.nan_to_num(filters)
    energy = (filters**2).sum((1, 2))
    differences = sum((np.diff(filters, axis=axis) ** 2).sum((1, 2)) for axis in (1, 2))
    return np.divide(differences, energy, out=np.full(len(filters), np.inf), where=energy > 0)


def mosaic(filters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return filters side by side as uint8, from smooth to rough, and their indices in that order.

    Each is scaled to its own greatest magnitude; zero is gray in all of them.
    """
    from skimage.util import montage  # slow to import

    order = np.argsort(roughness(filters), kind="stable")[:MOST_FILTERS]
    columns = math.ceil(math.sqrt(len(order)))
    shape = (math.ceil(len(order) / columns), columns)
    sheet = montage([*map(signed, filters[order])], fill=255, grid_shape=shape, padding_width=1)
    # Without the padding around the whole sheet.
    return sheet[1:-1, 1:-1], order
