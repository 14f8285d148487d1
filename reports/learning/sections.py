"""What a page says of experiments: one section per study, each with the blocks that there is something in."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pudle.reports import text
from pudle.reports.drawing import Picture
from pudle.reports.learning import optimizers as optimizing
from pudle.reports.learning import pictures
from pudle.reports.learning import recovery as learning
from pudle.reports.learning.records import ExperimentRecord
from pudle.reports.load import BROKEN, Results

#: Kinds that have a section of their own.
KNOWN = ("learning", "baseline", "denoising", "interpretation")


@dataclass(frozen=True, eq=False)
class Block:
    """Part of a section: what is about one dataset, or one noise level.

    Attributes
    ----------
    heading : str
    answer : str
        What is to be learned from it, empty where there is nothing.
    tables : tuple of (DataFrame, str)
        With their captions.
    pictures : tuple of Picture
    """

    heading: str
    answer: str = ""
    tables: tuple[tuple[pd.DataFrame, str], ...] = ()
    pictures: tuple[Picture, ...] = ()


@dataclass(frozen=True, eq=False)
class Section:
    """What a page says of one study.

    Attributes
    ----------
    anchor, name : str
    reading : str
        How to read it.
    blocks : tuple of Block
    """

    anchor: str
    name: str
    reading: str
    blocks: tuple[Block, ...]


def sections(results: Results) -> list[Section]:
    """Return the sections about a result's experiments; those with nothing in them are left out."""
    made = [_recovery(results), _optimizers(results), _denoising(results), _interpretation(results), _others(results)]
    return [section for section in made if section.blocks]


def _recovery(results: Results) -> Section:
    reading = (
        "Error: distance between the learned dictionary and the one that made the data, their atoms matched one to one; "
        "relative to that one's norm. Time is that of the computing alone. An estimator has the same color and marker "
        "throughout this page; further methods of it have hollow markers or dotted lines. The best of a column is bold."
    )
    pictures = learning.recovery_pictures(results)
    blocks = tuple(
        Block(group.dataset, learning.recovery_answer(group),
              ((learning.recovery_table(group), f"Recovery of the dictionary of {group.dataset}"),), tuple(drawn))
        for group, drawn in zip(learning.recovered(results), pictures, strict=True)
    )  # fmt: skip
    return Section("recovery", "Dictionaries recovered", reading, blocks)


def _optimizers(results: Results) -> Section:
    reading = (
        "Steps and time of computing until the relative error of the dictionary first falls to a goal, its logarithm taken "
        "as linear between rows of the history. Of several learning rates the one with the fewest steps counts, and is "
        "named. The fewest steps of a column are bold. A step of an optimizer that searches along a line computes several "
        "gradients. Dashed lines in the figures are the goals."
    )
    blocks = []
    for matrix, drawn in zip(optimizing.matrices(results), optimizing.optimizers_pictures(results), strict=True):
        made = tuple((optimizing.goal_table(matrix, goal), f"Steps to a relative error of {goal:g}: {matrix.title}")
                     for goal in matrix.goals())  # fmt: skip
        blocks.append(Block(matrix.title, optimizing.optimizers_answer(matrix), made, tuple(drawn)))
    return Section("optimizers", "Optimizers", reading, tuple(blocks))


def _denoising(results: Results) -> Section:
    reading = (
        "PSNR and SSIM are means over the test images; with shifts, of images denoised in shifted copies and averaged. "
        "The gain is that of the better of the two. Below, parts of one image with the PSNR of that part, and the "
        "learned filters from smooth to rough, each scaled to its own greatest magnitude, zero in gray."
    )
    blocks = tuple(
        Block(images.title, pictures.denoising_answer(images),
              ((pictures.denoising_table(images), f"Denoising of {images.title}"),),
              (*drawn, *pictures.denoising_galleries(images)))
        for images, drawn in zip(pictures.denoised(results), pictures.denoising_pictures(results), strict=True)
    )  # fmt: skip
    return Section("denoising", "Images denoised", reading, blocks)


def _interpretation(results: Results) -> Section:
    reading = (
        "Each row is one atom, scaled to its greatest magnitude with zero in gray, and the training samples that shaped it "
        "most, each with its weight, in the order in which they are stored."
    )
    blocks = tuple(Block(heading, answer, pictures=(gallery,)) for heading, answer, gallery in pictures.interpreted(results))
    return Section("interpretation", "Which samples shaped an atom", reading, blocks)


def _others(results: Results) -> Section:
    """What no section is about: the experiments of plug-ins, with what they say of themselves."""
    rows = [
        {"experiment": item.name, "study": item.study, "kind": item.kind, "status": item.status,
         "summary": "; ".join(f"{key}: {_value(value)}" for key, value in item.summary.items()) or text.DASH}
        for item in results.experiments if item.kind not in KNOWN
    ]  # fmt: skip
    table = pd.DataFrame(rows, dtype=object)
    blocks = (Block("", "", ((table, "What other experiments say of themselves"),)),) if rows else ()
    return Section("others", "Other experiments", "Experiments of kinds that this version has no pictures of.", blocks)


def _value(value: Any) -> str:
    if isinstance(value, bool) or value is None:
        return text.DASH if value is None else str(value).lower()
    if isinstance(value, (int, float)):
        return text.number(float(value), 4) if math.isfinite(value) else text.DASH
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_value(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_value, value[:5])) + (" ..." if len(value) > 5 else "")
    return str(value)


def experiments_problems(results: Results) -> pd.DataFrame:
    """Return the experiments that were skipped or failed, as rows of the table of what has no number."""
    rows = [
        {"case": item.name,
         "estimator": item.estimator or item.setting.get("baseline") or text.DASH,
         "what": item.study, "status": item.status, "depths": str(item.options.get("depth", text.DASH)),
         "seeds": str(item.options.get("seed", text.DASH)), "reason": item.reason}
        for item in results.experiments if item.status != "ok"
    ]  # fmt: skip
    return pd.DataFrame(rows, dtype=object)


def broken_experiments(results: Results) -> list[str]:
    """Return the experiments that broke (an error, not a finding)."""
    return [item.name for item in results.experiments if item.status in BROKEN]


def _unlike(one: ExperimentRecord, two: ExperimentRecord) -> str:
    """Say what makes two experiments of one name something else, empty where nothing does."""
    # An option that one side's version did not have yet tells nothing.
    shared = one.options.keys() & two.options.keys()
    if one.kind != two.kind or any(one.options[key] != two.options[key] for key in shared):
        return "other options"
    images = ("test_images", "images")
    return "other images" if any(one.summary.get(key) != two.summary.get(key) for key in images) else ""


def _times(first: float, second: float) -> str:
    return f"{text.number(second / first, 3)} times" if first > 0 and not math.isnan(second) else text.DASH


def _gain(first: float, second: float) -> str:
    return text.DASH if math.isnan(second - first) else f"{second - first:+.2f} dB"


@dataclass(frozen=True)
class Measure:
    """What experiments of one kind are judged by.

    Attributes
    ----------
    words : str
    name, time : str
        What the summary calls it and the time it took.
    show, difference : callable
        Give a value, and how far a second one is from the first, as words.
    """

    words: str
    name: str
    time: str
    show: Callable[[float], str] = text.number
    difference: Callable[[float, float], str] = _times


_ERROR = Measure("relative error of the dictionary", "relative_error", "seconds")
MEASURES = {
    "learning": _ERROR,
    "baseline": _ERROR,
    "denoising": Measure("PSNR", "psnr", "training_seconds", pictures.decibels, _gain),
}


def experiments_pair(one: Results, two: Results) -> pd.DataFrame:
    """Return the experiments that either result has, those both have with how far they differ.

    Errors differ by a factor, PSNR by decibels. Of experiments that the two carried out with other options, and of kinds
    without such a measure, only the statuses are compared.
    """
    sides = [{item.name: item for item in result.experiments} for result in (one, two)]
    names = dict.fromkeys([*sides[0], *sides[1]])
    rows = [{"experiment": name} | _pair_of(*(side.get(name) for side in sides)) for name in names]
    return pd.DataFrame(rows, dtype=object)


def _pair_of(one: ExperimentRecord | None, two: ExperimentRecord | None) -> dict[str, str]:
    there = one or two
    assert there is not None
    measure = MEASURES.get(there.kind, Measure(text.DASH, "", ""))
    values, times = ([math.nan if side is None else side.number(name) for side in (one, two)]
                     for name in (measure.name, measure.time))  # fmt: skip
    status = ", then ".join(dict.fromkeys("absent" if side is None else side.status for side in (one, two)))
    difference = measure.difference(*values)
    other = _unlike(one, two) if one and two else ""
    if other:
        difference, status = text.DASH, f"{status}; {other}"
    return {
        "measure": measure.words, "A": measure.show(values[0]), "B": measure.show(values[1]), "difference": difference,
        "time A": text.seconds(times[0]), "time B": text.seconds(times[1]), "status": status,
    }  # fmt: skip
