"""Pictures in a report: images before and after denoising, learned filters, and the samples that shaped an atom."""

from __future__ import annotations

import base64
import io
import itertools
import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from pudle.errors import UnreadableResult
from pudle.reports import text
from pudle.reports.drawing import Picture, drawing, file_name, table
from pudle.reports.learning import recovery as learning
from pudle.reports.learning.records import ExperimentRecord
from pudle.reports.learning.recovery import Method
from pudle.reports.load import Results
from pudle.reports.text import Cell

#: Side of an image in the page, in pixels; of a larger one the middle is shown.
LARGEST_SIDE = 256
#: Filters of a mosaic; of more the smoothest are shown.
MOST_FILTERS = 256
#: Tiles beside each other in a figure's file.
ABREAST = 5
#: Inches that a tile is wide there.
WIDTH = 2.0


@dataclass(frozen=True, eq=False)
class Tile:
    """One picture of a gallery.

    Attributes
    ----------
    image : array of uint8, shape (height, width)
    caption : tuple of str
        Lines below it.
    alt : str
        What there is to see, for who cannot see it.
    estimator : str
        The estimator it is about, empty where it is about none.
    enlarged : bool
        Whether its pixels are to be seen as such.
    """

    image: np.ndarray
    caption: tuple[str, ...]
    alt: str
    estimator: str = ""
    enlarged: bool = False

    @cached_property
    def uri(self) -> str:
        """The image as PNG in an address, so that a page needs no file beside it."""
        buffer = io.BytesIO()
        Image.fromarray(self.image, mode=None).save(buffer, "PNG", optimize=True)
        return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


@dataclass(frozen=True, eq=False)
class Gallery(Picture):
    """Pictures that belong together: a page shows them one by one, a file as one figure.

    Attributes
    ----------
    rows : tuple of tuple of Tile
        Rows that stay rows; a single one wraps.
    """

    rows: tuple[tuple[Tile, ...], ...] = ()


# -- gray levels


def gray(image: np.ndarray) -> np.ndarray:
    """Return an image with values in [0, 1] as uint8, cut to its middle where it is larger than a page shows."""
    height, width = image.shape
    top, left = (max(side - LARGEST_SIDE, 0) // 2 for side in (height, width))
    shown = np.nan_to_num(image[top : top + LARGEST_SIDE, left : left + LARGEST_SIDE])
    return np.round(255 * np.clip(shown, 0, 1)).astype(np.uint8)


def signed(image: np.ndarray) -> np.ndarray:
    """Return an image scaled to its own greatest magnitude as uint8: zero is the gray of 128."""
    image = np.nan_to_num(image)
    greatest = np.abs(image).max(initial=0.0)
    return np.round(128 + 127 * (image / greatest if greatest > 0 else image)).astype(np.uint8)


def roughness(filters: np.ndarray) -> np.ndarray:
    """Return how rough each filter is: the energy of its differences between neighbors over its own, from smooth to rough.

    Parameters
    ----------
    filters : array, shape (p, k, k)
    """
    filters = np.nan_to_num(filters)
    energy = (filters**2).sum((1, 2))
    differences = (np.diff(filters, axis=1) ** 2).sum((1, 2)) + (np.diff(filters, axis=2) ** 2).sum((1, 2))
    return np.where(energy > 0, differences / np.where(energy > 0, energy, 1), np.inf)


def mosaic(filters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return filters side by side as uint8, from smooth to rough, and the number of each in that order.

    Each is scaled to its own greatest magnitude, and zero is gray in all of them.
    """
    order = np.argsort(roughness(filters), kind="stable")[:MOST_FILTERS]
    _, height, width = filters.shape
    columns = math.ceil(math.sqrt(len(order)))
    sheet = np.full((math.ceil(len(order) / columns) * (height + 1) - 1, columns * (width + 1) - 1), 255, dtype=np.uint8)
    for place, number in enumerate(order):
        top, left = (place // columns) * (height + 1), (place % columns) * (width + 1)
        sheet[top : top + height, left : left + width] = signed(filters[number])
    return sheet, order


def psnr(clean: np.ndarray, image: np.ndarray) -> float:
    """Return the peak signal-to-noise ratio of gray values in [0, 1], ``-10 log10 |clean - image|^2 / size``, in dB."""
    error = float(np.mean((np.asarray(clean, dtype=float) - image) ** 2))
    return math.inf if error == 0 else -10 * math.log10(error)


# -- denoising


@dataclass(frozen=True, eq=False)
class Images:
    """Methods that denoised the same images at the same noise.

    Attributes
    ----------
    title : str
    methods : tuple of Method
    """

    title: str
    methods: tuple[Method, ...]

    @property
    def noisy(self) -> float:
        """PSNR of the noisy images."""
        values = [value for method in self.methods if not math.isnan(value := method.spread("noisy_psnr")[0])]
        return float(np.median(values)) if values else math.nan


def denoised(results: Results) -> list[Images]:
    """Return what was denoised, by images and noise; what was skipped or failed is left out."""
    found: dict[str, list[ExperimentRecord]] = {}
    for item in results.experiments:
        if item.kind == "denoising" and item.status == "ok":
            sigma, source, images = (item.summary.get(name) for name in ("sigma", "test_images", "images"))
            level = f"{sigma:g}" if isinstance(sigma, (int, float)) else str(sigma)
            level += " of 255" if isinstance(sigma, (int, float)) and sigma > 1 else ""
            count = f"{images} images" if images != 1 else "1 image"
            found.setdefault(f"{source}, {count}, noise of standard deviation {level}", []).append(item)
    return [Images(title, _methods(records)) for title, records in found.items()]


def _methods(records: list[ExperimentRecord]) -> tuple[Method, ...]:
    """Sort what differs in its seed only into methods."""
    found: dict[tuple[str, str], list[ExperimentRecord]] = {}
    for record in records:
        found.setdefault((str(record.summary.get("method") or record.name), record.alike), []).append(record)
    labels = [label for label, _ in found]
    variants: dict[str, Iterator[int]] = {}
    methods = []
    for (label, _), runs in found.items():
        # Of two settings that call themselves the same, the names tell.
        shown = label if labels.count(label) == 1 else f"{label} ({runs[0].name})"
        estimator = runs[0].estimator
        # Another package's method has a marker of its own.
        variant = next(variants.setdefault(estimator, itertools.count())) if estimator else 0
        methods.append(Method(shown, estimator, {}, variant, None, runs))
    return tuple(methods)


def _greatest(method: Method) -> float:
    """Return the PSNR of a method, with shifts where it has them and gains by them."""
    values = [value for name in ("psnr", "psnr_shifted") if not math.isnan(value := method.spread(name)[0])]
    return max(values, default=math.nan)


def denoising_table(images: Images) -> pd.DataFrame:
    """Return one row per method, the best first and the noisy images last; the best of each column is marked."""
    columns = {"PSNR": "psnr", "SSIM": "ssim", "PSNR with shifts": "psnr_shifted", "SSIM with shifts": "ssim_shifted"}
    spreads = {method: {name: method.spread(name) for name in columns.values()} for method in images.methods}
    best = {name: max((found[name][0] for found in spreads.values() if not math.isnan(found[name][0])), default=math.nan)
            for name in columns.values()}  # fmt: skip
    gains = {method: _greatest(method) - images.noisy for method in images.methods}
    rows = []
    for method in sorted(images.methods, key=lambda method: -_greatest(method) if gains[method] == gains[method] else 0):
        cells = {}
        for column, name in columns.items():
            show = decibels if name.startswith("psnr") else _similarity
            cells[column] = Cell(text.between(*spreads[method][name], show), best=spreads[method][name][0] == best[name])
        gained = gains[method]
        rows.append({
            "method": Cell(method.label, method.estimator), **cells,
            "gain over noisy": text.fixed(gained, 2, " dB", "+"),
            # What is not trained took no time.
            "training": text.between(*method.spread("training_seconds"), lambda value: text.seconds(value or math.nan)),
            "steps": text.between(*method.spread("steps"), lambda value: learning.whole(value or math.nan)),
        })  # fmt: skip
    blank = dict.fromkeys(rows[0], text.DASH)
    rows.append(blank | {"method": "noisy images", "PSNR": decibels(images.noisy)})
    made = pd.DataFrame(rows, dtype=object)
    # A column that no method has anything in.
    return made[[name for name in made if (made[name] != text.DASH).any()]]


def decibels(value: float) -> str:
    return text.fixed(value, 2, " dB")


def _similarity(value: float) -> str:
    return text.DASH if math.isnan(value) else f"{value:.3f}"


def denoising_answer(images: Images) -> str:
    """Say which method denoises best, and which gradient."""
    order = sorted((method for method in images.methods if not math.isnan(_greatest(method))), key=_greatest, reverse=True)
    if not order:
        return ""
    first, rest = order[0], order[1:]
    top = _greatest(first)
    plain = {method: value for method in order if not math.isnan(value := method.spread("psnr")[0])}
    averaged = top > plain.get(first, math.nan)
    line = f"{_named(first)} denoises best: {decibels(top)}{' with shifts' if averaged else ''}"
    line += f", {top - images.noisy:.2f} dB above the noisy images"
    if rest:
        line += f"; next is {_named(rest[0])}, {top - _greatest(rest[0]):.2f} dB less"
    sentences = [line + "."]
    if averaged and len(plain) > 1:
        leader = max(plain, key=plain.__getitem__)
        sentences.append(
            f"Without averages over shifts, which not every method has, it is {_named(leader)}: {decibels(plain[leader])}."
        )
    trained = [method for method in order if method.estimator]
    if trained and not first.estimator:
        behind = top - _greatest(trained[0])
        sentences.append(f"The best of the gradients is {_named(trained[0])}, {behind:.2f} dB behind.")
    if len(trained) > 1 and max(len(method.runs) for method in trained) == 1:
        sentences.append("Each gradient was trained once: differences of a few hundredths of a decibel may be chance.")
    return " ".join(sentences)


def _named(method: Method) -> str:
    estimator = method.estimator
    return (
        f"`{estimator}`{method.label[len(estimator) :]}"
        if estimator and method.label.startswith(estimator)
        else method.label
    )


def denoising_pictures(results: Results) -> list[list[Picture]]:
    """Draw the PSNR on validation images against steps and seconds, a list for each of `denoised`."""
    groups = denoised(results)
    style = learning.styles(results, [method for images in groups for method in images.methods])
    with drawing():
        return [
            [
                picture
                for x in ("step", "seconds")
                if (
                    picture := learning.draw_curves(
                        {method: method.curve("psnr") for method in images.methods}, x, style,
                        what="PSNR on validation images (dB)", column="psnr", title=images.title, panel="",
                        kind="Denoising while training", name=file_name("denoising", x, images.title), logarithmic=False,
                    )
                )
            ]
            for images in groups
        ]  # fmt: skip


def denoising_galleries(images: Images) -> list[Gallery]:
    """Return the images before and after denoising, and the learned filters, of the first seed of each method."""
    shown: dict[bytes, list[Tile]] = {}
    rows: dict[bytes, list[dict[str, Any]]] = {}
    sheets, orders = [], []
    for method in images.methods:
        record = method.runs[0]
        arrays = record.arrays()
        if {"clean", "noisy", "denoised"} <= arrays.keys():
            for name in ("clean", "noisy", "denoised", *({"denoised_shifted"} & arrays.keys())):
                _check(record, name, arrays[name], 2, arrays["clean"].shape)
            clean = arrays["clean"]
            key = clean.tobytes()
            tiles = shown.setdefault(key, [])
            drawn = rows.setdefault(key, [])
            if not tiles:
                before = psnr(clean, arrays["noisy"])
                tiles.append(Tile(gray(clean), ("clean",), "Part of an image as it is, without noise."))
                tiles.append(Tile(gray(arrays["noisy"]), ("noisy", decibels(before)),
                                  f"The same with noise: {decibels(before)}."))  # fmt: skip
                drawn.append({"method": "noisy", "psnr": before, "psnr_shifted": math.nan})
            plain = psnr(clean, arrays["denoised"])
            shifted = psnr(clean, arrays["denoised_shifted"]) if "denoised_shifted" in arrays else math.nan
            best = arrays["denoised"] if math.isnan(shifted) or shifted < plain else arrays["denoised_shifted"]
            told = [decibels(plain)]
            if not math.isnan(shifted):
                told = [f"{decibels(shifted)} with shifts", f"{decibels(plain)} without"]
            alt = f"Denoised by {method.label}: {', '.join(told)}."
            tiles.append(Tile(gray(best), (method.label, *told), alt, method.estimator))
            drawn.append({"method": method.label, "psnr": plain, "psnr_shifted": shifted})
        filters = arrays.get("filters")
        if filters is not None and filters.size:
            _check(record, "filters", filters, 3)
            sheet, order = mosaic(filters)
            count = f"{len(order)} of {len(filters)} filters" if len(order) < len(filters) else f"{len(filters)} filters"
            size = f"{count} of {filters.shape[1]} by {filters.shape[2]} pixels"
            sheets.append(Tile(sheet, (method.label, size), f"The {size} that {method.label} learned, from smooth to rough.",
                               method.estimator, enlarged=True))  # fmt: skip
            orders.append(pd.DataFrame({"method": method.label, "place": range(len(order)), "filter": order,
                                        "roughness": roughness(filters)[order]}))  # fmt: skip
    galleries = [
        _gallery("images", "Denoised images", images.title, [tiles], pd.DataFrame(rows[key]), number)
        for number, (key, tiles) in enumerate(shown.items())
    ]
    if sheets:
        galleries.append(_gallery("filters", "Learned filters", images.title, [sheets], pd.concat(orders)))
    return galleries


# -- interpretation


def interpreted(results: Results) -> list[tuple[str, str, Gallery]]:
    """Return which samples shaped which atoms: heading, answer and gallery of each experiment that says so."""
    found = []
    for record in results.experiments:
        if record.kind != "interpretation" or record.status != "ok":
            continue
        arrays = record.arrays()
        missing = {"atoms", "samples", "weights"} - arrays.keys()
        if missing:
            raise UnreadableResult(f"{record.path} lacks the arrays {', '.join(sorted(missing))}: delete it and run again")
        atoms, samples, weights = (np.asarray(arrays[name]) for name in ("atoms", "samples", "weights"))
        _check(record, "atoms", atoms, 3)
        _check(record, "samples", samples, 4)
        _check(record, "weights", weights, 2, (len(atoms), samples.shape[1]))
        if len(samples) != len(atoms):
            raise UnreadableResult(f"{record.path.with_suffix('.npz')} has samples of {len(samples)} atoms and {len(atoms)} "
                                   f"atoms: delete {record.path} and run `pudle run` again")  # fmt: skip
        method = str(record.summary.get("method") or record.estimator or record.name)
        estimator = record.estimator
        dataset = record.summary.get("dataset") or record.options.get("dataset")
        heading = ", ".join(filter(None, (method, str(dataset or ""))))
        rows = [_shaped(place, *parts, estimator) for place, parts in enumerate(zip(atoms, samples, weights, strict=True))]
        ranks = np.indices(weights.shape)
        data = pd.DataFrame({"atom": ranks[0].ravel() + 1, "rank": ranks[1].ravel() + 1, "weight": weights.ravel()})
        gallery = _gallery(f"samples-{record.name}", "Samples that shaped an atom", heading, rows, data)
        found.append((heading, _interpretation_answer(record, samples.shape[1]), gallery))
    return found


def _interpretation_answer(record: ExperimentRecord, shown: int) -> str:
    """Say how much of an atom the samples shown explain, and whether they are of one kind."""
    share, cosine, residual = (record.number(name) for name in ("share", "cosine", "residual"))
    purity, chance = record.number("purity"), record.number("purity_by_chance")
    sentences = []
    if not math.isnan(share):
        sentences.append(
            f"The {shown} samples shown of an atom are {100 * share:.0f}% of all that shaped it"
            + ("." if math.isnan(cosine) else f", and combined with their weights have a cosine of {cosine:.2f} with it.")
        )
    if not math.isnan(purity):
        by_chance = "" if math.isnan(chance) else f", where of as many drawn at random it is {100 * chance:.0f}%"
        sentences.append(f"On average {100 * purity:.0f}% of them share one label{by_chance}.")
    if not math.isnan(residual):
        sentences.append(f"All samples together give the atoms back but for a relative error of {text.number(residual)}.")
    return " ".join(sentences)


def _shaped(place: int, atom: np.ndarray, samples: np.ndarray, weights: np.ndarray, estimator: str) -> list[Tile]:
    """Return the tiles of an atom and of the samples that shaped it."""
    name = f"atom {place + 1}"
    tiles = [Tile(signed(atom), (name,), f"The learned {name}.", estimator, enlarged=True)]
    for rank, (sample, weight) in enumerate(zip(samples, weights, strict=True)):
        told = _weight(weight)
        alt = f"Sample {rank + 1} of those that shaped {name} most: weight {told}."
        tiles.append(Tile(_sample(sample), (told,), alt, enlarged=True))
    return tiles


def _sample(sample: np.ndarray) -> np.ndarray:
    """Show gray values as they are, and what is below zero somewhere as an atom is shown."""
    return signed(sample) if sample.min(initial=0.0) < 0 or sample.max(initial=0.0) > 1 else gray(sample)


def _weight(value: float) -> str:
    return text.number(float(value)).replace("-", "\u2212", 1) if float(value) < 0 else text.number(float(value))


# -- galleries


def _check(
    record: ExperimentRecord, name: str, array: np.ndarray, dimensions: int, shape: Iterable[int] | None = None
) -> None:
    """Refuse an array that is not numbers of the shape it has to have."""
    numbers = np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)
    if not numbers or array.ndim != dimensions or (shape is not None and array.shape != tuple(shape)):
        raise UnreadableResult(
            f"{record.path.with_suffix('.npz')}: the array {name!r} of shape {array.shape} is not what a report can show: "
            f"delete {record.path} and run `pudle run` again"
        )


def _gallery(
    name: str, kind: str, title: str, rows: Sequence[Sequence[Tile]], data: pd.DataFrame, number: int = 0
) -> Gallery:
    count = str(number + 1) if number else ""
    tiles = [tile for row in rows for tile in row]
    alt = f"{title}: {kind.lower()}. " + " ".join(tile.alt for tile in tiles)
    with drawing():
        figure = _sheet(rows)
    return Gallery(file_name(name, title, count), kind, "", figure, alt, table(data), kind, tuple(map(tuple, rows)))


def _sheet(rows: Sequence[Sequence[Tile]]) -> Figure:
    """Draw tiles as one figure: rows stay rows, and a single one wraps."""
    if len(rows) == 1:
        rows = [rows[0][start : start + ABREAST] for start in range(0, len(rows[0]), ABREAST)]
    columns = max(len(row) for row in rows)
    width = WIDTH if columns <= ABREAST else WIDTH * ABREAST / columns
    tallest = max(tile.image.shape[0] / tile.image.shape[1] for row in rows for tile in row)
    lines = max(len(_wrapped(tile, width)) for row in rows for tile in row)
    figure = Figure(figsize=(width * columns, (width * tallest + 0.16 * lines) * len(rows)), layout="constrained")
    FigureCanvasAgg(figure)
    for at, tile in zip(
        figure.subplots(len(rows), columns, squeeze=False).ravel(),
        (tile for row in rows for tile in [*row, *[None] * (columns - len(row))]), strict=True,
    ):  # fmt: skip
        at.axis("off")
        if tile is not None:
            at.imshow(tile.image, cmap="gray", vmin=0, vmax=255, interpolation="none")
            at.set_title("\n".join(_wrapped(tile, width)), fontsize=8)
    return figure


def _wrapped(tile: Tile, width: float) -> list[str]:
    return [line for text_ in tile.caption for line in textwrap.wrap(text_, max(int(13 * width), 8))]
