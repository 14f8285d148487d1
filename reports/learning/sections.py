"""What pages say of experiments: one section per study, their failures, and two results compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import pandas as pd

from pudle import text
from pudle.reports.figures.record import Figure
from pudle.reports.learning import denoising, interpretation, optimizers, recovery
from pudle.reports.learning.pictures import Gallery, files
from pudle.reports.looks import looks, looks_of
from pudle.reports.records import ExperimentRecord
from pudle.reports.results import BROKEN, Results

#: Kinds of experiments that have a section of their own.
KINDS = ("learning", "baseline", "denoising", "interpretation")


class Block(NamedTuple):
    """Part of a section: its conclusion, tables with their captions, charts and images on one
    dataset or noise level.
    """

    heading: str
    answer: str = ""
    tables: Sequence[tuple[pd.DataFrame, str]] = ()
    charts: Sequence[Figure] = ()
    galleries: Sequence[Gallery] = ()

    @property
    def pictures(self) -> list[Figure | Gallery]:
        """The charts and images as figures for files."""
        return [*(figure for chart in self.charts for figure in files(chart)), *self.galleries]


class Section(NamedTuple):
    """What a page says of one study, and how to read it."""

    anchor: str
    name: str
    reading: str
    blocks: list[Block]


def sections(results: Results) -> list[Section]:
    """Return the sections on the experiments of a result, without those that are empty."""
    recovered, optimized, denoised = (
        recovery.recovered(results),
        optimizers.optimized(results),
        denoising.denoised(results),
    )
    groups = [*recovered.values(), *denoised.values()]
    others = dict.fromkeys(
        method.label for methods in groups for method in methods if not method.estimator
    )
    styles = looks(others, {}) | looks_of(results)
    found = [
        Section(
            "recovery",
            "Dictionaries recovered",
            "Error: distance between the learned dictionary and the one that made the data, after"
            " their atoms are matched one to one; the relative error is this distance divided by"
            " the norm of the latter. Time is that of the computation alone. An estimator has the"
            " same color and marker throughout this page; its further methods have hollow markers"
            " or dotted lines. The best of a column is bold.",
            [
                Block(
                    title,
                    recovery.answer(methods),
                    [(recovery.table(methods), f"Recovery of the dictionary of {title}")],
                    recovery.curves(title, methods, styles),
                )
                for title, methods in recovered.items()
            ],
        ),
        Section(
            "optimizers",
            "Optimizers",
            "Steps and computing time until the relative error of the dictionary first falls to a"
            " goal; between rows of the history its logarithm is interpolated linearly. Of several"
            " learning rates the one with the fewest steps is shown and named. The fewest steps of"
            " a column are bold. A step of an optimizer with a line search computes several"
            " gradients. Dashed lines in the figures mark the goals.",
            [
                Block(
                    title,
                    optimizers.answer(trainings),
                    [
                        (
                            optimizers.table(trainings, goal),
                            f"Steps to a relative error of {goal:g}: {title}",
                        )
                        for goal in optimizers.goals(trainings)
                    ],
                    optimizers.curves(title, trainings, styles),
                )
                for title, trainings in optimized.items()
            ],
        ),
        Section(
            "denoising",
            "Images denoised",
            "PSNR and SSIM are means over the test images. With shifts, shifted copies of an image"
            " are denoised and averaged. The gain is that of the better of the two. The pictures"
            " show parts of one image, each with the PSNR of that part, and the learned filters"
            " from smooth to rough, each scaled to its own greatest magnitude with zero in gray.",
            [
                Block(
                    title,
                    denoising.answer(methods),
                    [(denoising.table(methods), f"Denoising of {title}")],
                    denoising.curves(title, methods, styles),
                    denoising.galleries(title, methods),
                )
                for title, methods in denoised.items()
            ],
        ),
        Section(
            "interpretation",
            "Which samples shaped an atom",
            "Each row shows one atom, scaled to its greatest magnitude with zero in gray, and the"
            " training samples that shaped it most, with their weights, in the order in which the"
            " experiment stored them.",
            [
                Block(title, answer, galleries=[gallery])
                for title, answer, gallery in interpretation.interpreted(results)
            ],
        ),
        Section(
            "others",
            "Other experiments",
            "Experiments of kinds that this version cannot draw.",
            _others(results),
        ),
    ]
    return [section for section in found if section.blocks]


def _others(results: Results) -> list[Block]:
    """List the experiments of plug-ins with their summaries."""
    rows = [
        {
            "experiment": item.name,
            "study": item.study,
            "kind": item.kind,
            "status": item.status,
            "summary": (
                "; ".join(f"{key}: {_shown(value)}" for key, value in item.summary.items())
                or text.DASH
            ),
        }
        for item in results.experiments
        if item.kind not in KINDS
    ]
    return (
        [Block("", tables=[(pd.DataFrame(rows, dtype=object), "Summaries of other experiments")])]
        if rows
        else []
    )


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value[:5])) + (" ..." if len(value) > 5 else "")
    return text.number(value, 4) if value is None or isinstance(value, float) else str(value)


def experiments_problems(results: Results) -> pd.DataFrame:
    """Return the experiments that were skipped or failed, with the columns of
    `pudle.reports.tables.problems_table`.
    """
    rows = [
        {
            "case": item.name,
            "estimator": item.estimator or item.options.get("baseline") or text.DASH,
            "what": item.study,
            "status": item.status,
            "depths": str(item.options.get("depth", text.DASH)),
            "seeds": str(item.options.get("seed", text.DASH)),
            "reason": item.reason,
        }
        for item in results.experiments
        if item.status != "ok"
    ]
    return pd.DataFrame(rows, dtype=object)


def broken_experiments(results: Results) -> list[str]:
    """Return the experiments that broke: their status is an error, not a result."""
    return [item.name for item in results.experiments if item.status in BROKEN]


#: By kind: what experiments are compared by, its name in the summary, that of the time, and how
#: values are formatted.
MEASURES: dict[str, tuple[str, str, str, Callable[[float], str]]] = {
    "learning": ("relative error of the dictionary", "relative_error", "seconds", text.number),
    "baseline": ("relative error of the dictionary", "relative_error", "seconds", text.number),
    "denoising": ("PSNR", "psnr", "training_seconds", denoising.decibels),
}


def experiments_pair(one: Results, two: Results) -> pd.DataFrame:
    """Return one row for each experiment of either result, with both values and their difference.

    Errors are compared by their ratio, PSNR by the difference in decibels. Only statuses are
    compared where the options or the images differ, and for kinds that are not in `MEASURES`.
    """
    first, second = ({item.name: item for item in result.experiments} for result in (one, two))
    rows = []
    for name in first | second:
        sides = [first.get(name), second.get(name)]
        known = [side for side in sides if side]
        measure, number, time, show = MEASURES.get(known[0].kind, (text.DASH, "", "", text.number))
        (a, b), times = (
            [side.number(key) if side else math.nan for side in sides] for key in (number, time)
        )
        status = ", then ".join(dict.fromkeys(side.status if side else "absent" for side in sides))
        difference = text.Cell(text.DASH)
        # One that is absent on a side is compared with itself.
        if differing := _differing(known[0], known[-1]):
            status += f"; {differing}"
        elif number == "psnr":
            difference = denoising.decibels(b - a, sign="+")
        elif a > 0 and not math.isnan(b):
            difference = text.Cell(f"{text.number(b / a, 3)} times")
        rows.append(
            {
                "experiment": name,
                "measure": measure,
                "before": show(a),
                "after": show(b),
                "difference": difference,
                "time before": text.seconds(times[0]),
                "time": text.seconds(times[1]),
                "status": status,
            }
        )
    return pd.DataFrame(rows, dtype=object)


def _differing(one: ExperimentRecord, two: ExperimentRecord) -> str:
    """Return why two experiments of the same name cannot be compared, or an empty text."""
    # An option that one side's version does not have yet is no difference.
    shared = one.options.keys() & two.options.keys()
    if one.kind != two.kind or any(one.options[key] != two.options[key] for key in shared):
        return "other options"
    images = ("test_images", "images")
    return (
        "other images"
        if any(one.summary.get(key) != two.summary.get(key) for key in images)
        else ""
    )
