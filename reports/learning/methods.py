"""What sections on experiments are made of. Those that differ in nothing but their seed are one
method, and methods on the same data one group; their histories are shown as charts, small images
as galleries.
"""

import base64
import io
import math
import textwrap
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from pudle import text
from pudle.reports.figures.record import Axis, Figure, Picture, file_name
from pudle.reports.load import parsed
from pudle.reports.looks import Looks
from pudle.reports.records import ExperimentRecord
from pudle.text import Cell

#: Options that distinguish trainings on one dataset with one estimator and depth, in the order in
#: which a label has them, and how it shows their values.
PARTS = {"loss": "{} loss", "algorithm": "{}", "optimizer": "{}", "schedule": "{}"} | {
    name: f"{name} {{}}" for name in ("batch", "epochs", "dtype")
}
#: Label of the horizontal axis, by column of the history.
LABELS = {"epoch": "epochs", "step": "steps", "seconds": "seconds of computation"}
#: Seconds are on a log scale if the longest training takes this many times as long as the shortest.
WIDE = 20
#: Dashes of an estimator's second, third and fourth method; the first has the estimator's own.
VARIANTS = ((), (1, 1), (5, 1), (3, 1, 1, 1))
#: The greatest number of points that a curve is drawn with.
POINTS = 120
#: Greatest number of tiles in a row of a sheet, the width of a tile and the height of a line of its
#: caption in inches.
ABREAST, WIDTH, LINE = 7, 1.6, 0.2


@dataclass(frozen=True, eq=False)
class Method:
    """Experiments that differ in nothing but their seed.

    The label holds the estimator and the options that distinguish the method from the others of its
    group, or the name of another package, whose estimator is empty; `parts` has these options with
    their shortened values.
    """

    label: str
    estimator: str
    parts: Mapping[str, str]
    depth: int | None
    runs: list[ExperimentRecord]

    @property
    def good(self) -> list[ExperimentRecord]:
        """The runs whose status is ``ok``."""
        return [run for run in self.runs if run.status == "ok"]

    @property
    def status(self) -> str:
        """``ok``, or the statuses of the runs that failed and their number."""
        failed = [run.status for run in self.runs if run.status != "ok"]
        count = f" in {len(failed)} of {len(self.runs)} seeds" if self.good else ""
        return f"{text.listing([*dict.fromkeys(failed)])}{count}" if failed else "ok"

    @property
    def quoted(self) -> str:
        """The label as a sentence has it: the estimator as code, and the rest in parentheses."""
        rest = self.label.removeprefix(self.estimator)
        if not self.estimator or rest == self.label:
            return self.label
        return f"`{self.estimator}`" + (f" ({rest.removeprefix(', ')})" if rest else "")

    def spread(self, name: str) -> tuple[float, float, float]:
        """Return the median, least and greatest value over the seeds of a number of the summary,
        NaN if no seed has it.
        """
        values = pd.Series([run.number(name) for run in self.good], dtype=float)
        return values.median(), values.min(), values.max()

    def median(self, name: str) -> float:
        """Return the median over the seeds of a number of the summary, NaN if no seed has it."""
        return self.spread(name)[0]

    def curve(self, name: str) -> pd.DataFrame:
        """Return the median over the seeds of a column of the history, by step, and the least and
        greatest value with the endings ``_low`` and ``_high``.

        Steps at which some seed has no value are left out, because a median over other seeds would
        jump there. Some seed must be good.
        """
        places = ["step", "epoch", "seconds", name]
        histories = [run.history(*places).dropna(subset=[name]) for run in self.good]
        steps = pd.concat(histories).groupby("step")
        ends = {f"{name}_low": (name, "min"), f"{name}_high": (name, "max")}
        merged = steps.agg(**{each: (each, "median") for each in places[1:]}, **ends)
        return merged[steps.size() == len(histories)].reset_index()


def chance(methods: Sequence[Method]) -> list[str]:
    """Return a sentence on how certain an order of methods is, where each has one seed."""
    trained = [method for method in methods if method.estimator]
    if len(trained) < 2 or any(len(method.runs) > 1 for method in methods):
        return []
    return ["Each training ran with one seed only: small differences may be chance."]


def group(
    records: Iterable[ExperimentRecord], title: Callable[..., str]
) -> dict[str, list[Method]]:
    """Sort experiments by a title that names their data, and those with one title into methods, in
    the order of depths.
    """
    members = defaultdict(list)
    for record in records:
        members[title(record)].append(record)
    return {name: _methods(same_title) for name, same_title in members.items()}


def _methods(records: list[ExperimentRecord]) -> list[Method]:
    """Label trainings by their estimator and the options in which they differ, other experiments by
    their own words.
    """
    trainings = [record.options for record in records if record.kind == "learning"]
    short = {
        part: shortened(specs)
        for part in PARTS
        if len(specs := {str(options.get(part)) for options in trainings}) > 1
    }
    runs = defaultdict(list)
    for record in records:
        options = sorted((record.options | {"seed": None}).items())
        runs[repr((record.method, options))].append(record)
    made = []
    for first, *others in runs.values():
        label, depth, parts = first.method, None, {}
        if first.kind == "learning":
            depth = first.options.get("depth")
            parts = {part: names[str(first.options.get(part))] for part, names in short.items()}
            label = ", ".join(
                [first.estimator, *(PARTS[part].format(value) for part, value in parts.items())]
            )
        made.append(Method(label, first.estimator, parts, depth, [first, *others]))
    counts = Counter((method.label, method.depth) for method in made)
    labeled = (
        replace(method, label=f"{method.label}, {method.runs[0].name}")
        if counts[method.label, method.depth] > 1
        else method
        for method in made
    )
    return sorted(labeled, key=lambda method: (method.depth is None, method.depth))


def shortened(specs: Collection[str]) -> dict[str, str]:
    """Return specs without the arguments that all of the same name share, and without the name if
    all have the same.
    """
    pairs = {spec: parsed(spec) for spec in specs}
    one_name = len({name for name, _ in pairs.values()}) == 1
    short = {}
    for spec, (name, arguments) in pairs.items():
        others = [other for other_name, other in pairs.values() if other_name == name]
        differing = ", ".join(
            f"{key}={value}"
            for key, value in arguments.items()
            if any(key not in other or other[key] != value for other in others)
        )
        short[spec] = (differing if one_name else f"{name}({differing})") if differing else name
    return short


def whole(value: float) -> str:
    """Return a number of steps, rounded up."""
    return f"{math.ceil(value - 1e-9)}" if math.isfinite(value) else text.DASH


def cells(methods: Sequence[Method], columns: Mapping[str, Any]) -> dict[str, list[Cell]]:
    """Return columns of a table with one row per method: its label, and medians and ranges over the
    seeds.

    `columns` has by heading: a number of the summary, the function that formats it, and ``min`` or
    ``max`` to mark the best.
    """
    table = {"method": [Cell(method.label, method.estimator) for method in methods]}
    for heading, (name, show, choose) in columns.items():
        spreads = [method.spread(name) for method in methods]
        best = pd.Series([spread[0] for spread in spreads]).agg(choose) if choose else math.nan
        # What is printed alike is marked alike.
        table[heading] = [
            Cell(text.between(*spread, show), best=show(spread[0]) == show(best) != text.DASH)
            for spread in spreads
        ]
    return table


# -- charts


def charts(
    title: str,
    panels: Mapping[str, Mapping[str, Method]],
    styles: Looks,
    *,
    x: Sequence[str],
    y: Axis,
    kind: str,
    goals: Sequence[float] = (),
) -> list[Figure]:
    """Return the history of a column, that of `y`, as one figure per panel, whose methods stand by
    their labels; those without a curve of several points are left out.

    `title` names the data, and a panel's name says what distinguishes it.
    """
    numbers = defaultdict(dict)
    made = []
    for panel, methods in panels.items():
        looks, parts = {}, []
        for label, method in methods.items():
            # An estimator or another package, and numbers of its methods in the order of their
            # appearance.
            owner = method.estimator or method.runs[0].method
            number = numbers[owner].setdefault(method.label, len(numbers[owner]))
            if not method.good:
                continue
            data = method.curve(y.column)
            if y.scale == "log":
                data = data[data[f"{y.column}_low"] > 0]
            if len(data) > 1:
                dashes = VARIANTS[number % len(VARIANTS)] or styles[owner].dashes
                looks[label] = replace(styles[owner], dashes=dashes)
                places = np.linspace(0, len(data) - 1, min(len(data), POINTS)).round().astype(int)
                parts.append(data.iloc[places].assign(method=label, estimator=owner))
        if not parts:
            continue
        rows = pd.concat(parts).astype({"step": int})
        ends = rows.groupby("method")["seconds"].max()
        wide = ends.max() / WIDE > ends.min()
        made.append(
            Figure(
                f"{kind.lower()}-{{x}}-{title}-{panel}",
                kind,
                ", ".join(filter(None, (title, panel))),
                rows,
                [
                    Axis(each, LABELS[each], "log" if each == "seconds" and wide else "linear")
                    for each in x
                    if rows[each].notna().all()
                ],
                [y],
                looks,
                series="method",
                levels=[(goal, "") for goal in goals],
                tips={"step": "step"},
            )
        )
    return made


# -- galleries


@dataclass(frozen=True, eq=False)
class Tile:
    """One image of a gallery, as uint8, with the lines of its caption below it; `enlarged` shows
    each pixel as a square.
    """

    image: np.ndarray
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

    @cached_property
    def name(self) -> str:
        """How its files begin."""
        return file_name(self.kind.lower(), self.about)

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


@dataclass(frozen=True, eq=False)
class Block:
    """Part of a section: its conclusion, tables with their captions, charts and images on one
    dataset or noise level.
    """

    heading: str
    answer: str = ""
    tables: Sequence[tuple[pd.DataFrame, str]] = ()
    charts: Sequence[Figure] = ()
    galleries: Sequence[Gallery] = ()

    @property
    def pictures(self) -> list[Any]:
        """The charts, one per column of the history, and the images as figures for files."""
        return [
            figure.view(
                axis.column,
                name=file_name(figure.name.replace("{x}", axis.column)),
                title=f"{figure.title}, against {axis.title}",
            )
            for figure in self.charts
            for axis in figure.x
        ] + [*self.galleries]
