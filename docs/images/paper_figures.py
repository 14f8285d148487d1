"""Draw figures of the paper's experiments from the tables of the pages that show them.

`python docs/images/paper_figures.py` writes an SVG for each entry of `FIGURES` beside this file.
The numbers are those of the tables, and each SVG carries the numbers that it shows as its
description: a test compares them.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from math import nan
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pudle.reports.figures.drawing import STYLE

IMAGES = Path(__file__).parent
RESULTS = IMAGES.parent / "results"
NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
RANGE = re.compile(rf"\(({NUMBER.pattern}) to ({NUMBER.pattern})\)")

Cell = tuple[float, float, float]
Numbers = dict[str, list[Cell]]


def parse_cell(text: str) -> Cell:
    """Return the number that a cell begins with and the range after it, NaN where there is none."""
    text = text.replace("*", "").strip()
    start = NUMBER.match(text)
    if not start:
        return nan, nan, nan
    value = float(start[0])
    ends = RANGE.search(text)
    return (value, float(ends[1]), float(ends[2])) if ends else (value, value, value)


def read_table(page: str, header: str) -> list[list[str]]:
    """Return the cells of the rows of the table on a page whose header line begins so."""
    lines = (RESULTS / page).read_text().splitlines()
    starts = [index for index, line in enumerate(lines) if line.startswith(header)]
    if len(starts) != 1:
        raise ValueError(f"{page}: {len(starts)} tables begin with {header!r}, not one")
    rows = []
    for line in lines[starts[0] + 2 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split("|")])
    return rows


def codes() -> Numbers:
    """Return the depths and the error of the codes: two kinds of signs, and as published."""
    rows = read_table("published.md", "| depth | a sign per entry |")
    columns = ("depth", "a sign per entry", "a sign per sample", "published")
    return {name: [parse_cell(row[k]) for row in rows] for k, name in enumerate(columns)}


TARGETS = ("ghat", "gstar", "gtilde")
METHODS = ("dec", "aelasso", "aels")


def gradients() -> Numbers:
    """Return depths and the errors of each gradient against each target, ours and published."""
    rows = read_table("published.md", "| method | target | depth | measured")
    numbers = {"depth": [parse_cell(row[2]) for row in rows[:6]]}
    for method in METHODS:
        for target in TARGETS:
            chosen = [row for row in rows if row[:2] == [method, target]]
            numbers[f"{method}, {target}"] = [parse_cell(row[3]) for row in chosen]
            numbers[f"{method}, {target}, published"] = [parse_cell(row[5]) for row in chosen]
    return numbers


def penalties() -> Numbers:
    """Return penalties and hard thresholds, with the PSNR of each gradient and as published."""
    soft = read_table("denoising.md", "| penalty | alternating")
    hard = read_table("denoising.md", "| hard threshold | backprop")
    ours = ("penalty", "alternating", "alternating, published", "backprop", "backprop, published")
    numbers = {name: [parse_cell(row[k]) for row in soft] for k, name in enumerate(ours)}
    theirs = ("threshold", "hard", "hard, published")
    return numbers | {name: [parse_cell(row[k]) for row in hard] for k, name in enumerate(theirs)}


def near_start() -> Numbers:
    """Return steps and relative errors of NOODL and of decays that are lowered, with the ends."""
    rows = read_table("recovery.md", "| steps | NOODL, s = 10")
    steps = [row for row in rows if row[0].isdigit()]
    (ends,) = [row for row in rows if row[0].startswith("published")]
    methods = [f"{name}, s = {s}" for name in ("NOODL", "decay lowered") for s in (10, 20, 40)]
    numbers = {"steps": [parse_cell(row[0]) for row in steps]}
    for column, name in enumerate(methods, 1):
        numbers[name] = [parse_cell(row[column]) for row in steps]
        numbers[f"{name}, published"] = [parse_cell(ends[column])]
    return numbers


GRADIENTS = ("alternating, lasso", "backprop, lasso", "backprop, reconstruction")


def gap() -> Numbers:
    """Return the distances at the end for each depth, gradient and optimizer."""
    rows = read_table("recovery.md", "| depth | gradient | gradient descent | Adam | CPU")
    numbers = {"depth": [parse_cell(row[0]) for row in rows[::3]]}
    for gradient in GRADIENTS:
        chosen = [row for row in rows if row[1] == gradient]
        numbers[f"gradient descent: {gradient}"] = [parse_cell(row[2]) for row in chosen]
        numbers[f"Adam: {gradient}"] = [parse_cell(row[3]) for row in chosen]
    far = read_table("recovery.md", "| depth | gradient | 200 epochs | 400 | 600 | smallest")
    published = {row[1]: parse_cell(row[8]) for row in far if row[0] == "100"}
    for gradient in GRADIENTS:
        numbers[f"published: {gradient}"] = [published[gradient]]
    return numbers


def batches() -> Numbers:
    """Return the distances at the end for each batch and gradient."""
    rows = read_table("conditions.md", "| batch, n = 10000 | steps |")
    numbers = {"batch": [parse_cell(row[0]) for row in rows]}
    return numbers | {
        name: [parse_cell(row[column]) for row in rows] for column, name in enumerate(GRADIENTS, 2)
    }


def noise() -> Numbers:
    """Return the distances at the end with and without noise, with 1000 samples."""
    rows = read_table("conditions.md", "| depth, n = 1000 | gradient |")
    numbers = {"depth": [parse_cell(row[0]) for row in rows[::3]]}
    for gradient in GRADIENTS:
        chosen = [row for row in rows if row[1] == gradient]
        numbers[f"noise: {gradient}"] = [parse_cell(row[3]) for row in chosen]
        numbers[f"no noise: {gradient}"] = [parse_cell(row[4]) for row in chosen]
    return numbers


def plot(
    panel: Axes, numbers: Numbers, x: str, name: str, look: str, *, color: str, label: str
) -> None:
    """Plot a series over another, with its ranges as bars."""
    values = [cell[0] for cell in numbers[name]]
    lows = [value - cell[1] for value, cell in zip(values, numbers[name], strict=True)]
    highs = [cell[2] - value for value, cell in zip(values, numbers[name], strict=True)]
    places = [cell[0] for cell in numbers[x]][-len(values) :]
    panel.errorbar(places, values, [lows, highs], fmt=look, color=color, label=label)


def draw_codes(figure: Figure, numbers: Numbers) -> None:
    panel = figure.subplots()
    panel.set(xlabel="layers", ylabel="mean of |z - minimizer|", yscale="log")
    looks = {"a sign per entry": "o-", "a sign per sample": "s--", "published": "kx"}
    for index, (name, look) in enumerate(looks.items()):
        color = "black" if name == "published" else f"C{index}"
        plot(panel, numbers, "depth", name, look.strip("k"), color=color, label=name)
    panel.legend()


def draw_gradients(figure: Figure, numbers: Numbers) -> None:
    panels = figure.subplots(1, 3, sharey=True)
    for panel, target in zip(panels, TARGETS, strict=True):
        panel.set(title=f"against {target}", xlabel="layers", yscale="log")
        for color, method in enumerate(METHODS):
            name, look = f"{method}, {target}", {"color": f"C{color}"}
            plot(panel, numbers, "depth", name, "-", label=method, **look)
            plot(panel, numbers, "depth", f"{name}, published", "x", label="_", **look)
    panels[0].set_ylabel("error of the gradient")
    panels[0].legend(title="cross: published", fontsize=8)


def draw_penalties(figure: Figure, numbers: Numbers) -> None:
    panels = figure.subplots(1, 2, sharey=True)
    for color, name in (("C0", "alternating"), ("C1", "backprop")):
        plot(panels[0], numbers, "penalty", name, "o-", color=color, label=name)
        theirs = f"{name}, published"
        plot(panels[0], numbers, "penalty", theirs, "x--", color=color, label=theirs)
    plot(panels[1], numbers, "threshold", "hard", "o-", color="C1", label="backprop")
    look = {"color": "C1", "label": "backprop, published"}
    plot(panels[1], numbers, "threshold", "hard, published", "x--", **look)
    panels[0].set(xlabel="penalty", ylabel="PSNR on BSD68 (dB)")
    panels[1].set(xlabel="hard threshold")
    for panel in panels:
        panel.legend(fontsize=8)


def draw_near_start(figure: Figure, numbers: Numbers) -> None:
    panels = figure.subplots(1, 2, sharey=True)
    for panel, method in zip(panels, ("NOODL", "decay lowered"), strict=True):
        panel.set(title=method, xlabel="steps", yscale="log")
        for color, sparsity in enumerate((10, 20, 40)):
            name, look = f"{method}, s = {sparsity}", {"color": f"C{color}"}
            plot(panel, numbers, "steps", name, "-", label=f"s = {sparsity}", **look)
            theirs = f"{name}, published"
            plot(panel, numbers, "steps", theirs, "x", label="_", **look)
        panel.legend(title="cross: published")
    panels[0].set_ylabel("relative error")


def draw_gap(figure: Figure, numbers: Numbers) -> None:
    panels = figure.subplots(1, 2, sharey=True)
    for panel, optimizer in zip(panels, ("gradient descent", "Adam"), strict=True):
        panel.set(title=optimizer, xlabel="layers", yscale="log", xticks=[25, 50, 100])
        for color, gradient in enumerate(GRADIENTS):
            look = {"color": f"C{color}"}
            name = f"{optimizer}: {gradient}"
            plot(panel, numbers, "depth", name, "o-", label=gradient, **look)
            if optimizer == "Adam":
                published = f"published: {gradient}"
                plot(panel, numbers, "depth", published, "x", label="_", **look)
    panels[0].set_ylabel("distance to the dictionary")
    panels[1].legend(title="cross: published", fontsize=8)


def draw_batches(figure: Figure, numbers: Numbers) -> None:
    panel = figure.subplots()
    panel.set(xlabel="batch", ylabel="distance to the dictionary", xscale="log", yscale="log")
    panel.set_xticks([4, 16, 64], ["4", "16", "64"])
    panel.minorticks_off()
    for color, (gradient, look) in enumerate(zip(GRADIENTS, ("o-", "s--", "o-"), strict=True)):
        plot(panel, numbers, "batch", gradient, look, color=f"C{color}", label=gradient)
    panel.legend(fontsize=8)


def draw_noise(figure: Figure, numbers: Numbers) -> None:
    panel = figure.subplots()
    panel.set(xlabel="layers", ylabel="distance to the dictionary", yscale="log", xticks=[25, 100])
    for color, gradient in enumerate(GRADIENTS):
        for kind, look in (("noise", "o-"), ("no noise", "x--")):
            name, label = f"{kind}: {gradient}", f"{gradient}, {kind}"
            plot(panel, numbers, "depth", name, look, color=f"C{color}", label=label)
    panel.legend(fontsize=7)


@dataclass(frozen=True)
class PaperFigure:
    """A figure: the numbers that it shows, what draws them, and its width in inches."""

    read: Callable[[], Numbers]
    draw: Callable[[Figure, Numbers], None]
    width: float = 8.0


FIGURES = {
    "codes": PaperFigure(codes, draw_codes, 5.5),
    "gradients": PaperFigure(gradients, draw_gradients, 9.0),
    "penalties": PaperFigure(penalties, draw_penalties),
    "near_start": PaperFigure(near_start, draw_near_start),
    "gap": PaperFigure(gap, draw_gap),
    "batches": PaperFigure(batches, draw_batches, 5.5),
    "noise": PaperFigure(noise, draw_noise, 5.5),
}


def draw(name: str) -> tuple[Figure, Numbers]:
    """Return a figure and the numbers that it shows."""
    chosen = FIGURES[name]
    numbers = chosen.read()
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(chosen.width, 3.4), layout="constrained")
        chosen.draw(figure, numbers)
    return figure, numbers


if __name__ == "__main__":
    for name in FIGURES:
        figure, numbers = draw(name)
        about = {"Date": None, "Description": json.dumps(numbers)}
        with mpl.rc_context(STYLE | {"svg.hashsalt": name}):
            figure.savefig(IMAGES / f"{name}.svg", metadata=about)
