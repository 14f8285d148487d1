"""What pages say of experiments: one section per study, failures, and two results compared."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import pandas as pd

from pudle import text
from pudle.reports.learning import denoising, interpretation, optimizers, recovery
from pudle.reports.learning.pictures import Block
from pudle.reports.load import BROKEN, Results
from pudle.reports.looks import looks, looks_of
from pudle.reports.records import ExperimentRecord

#: Modules of the sections by their anchors: each has a name, says how to read it, and makes blocks.
STUDIES: dict[str, Any] = {
    "recovery": recovery,
    "optimizers": optimizers,
    "denoising": denoising,
    "interpretation": interpretation,
}
#: Kinds of experiments that have a section of their own.
KINDS = ("learning", "baseline", "denoising", "interpretation")


class Section(NamedTuple):
    """What a page says of one study, and how to read it."""

    anchor: str
    name: str
    reading: str
    blocks: Sequence[Block]


def sections(results: Results) -> list[Section]:
    """Return the sections on the experiments of a result, without those that are empty."""
    others = {item.method: None for item in results.experiments if not item.estimator}
    styles = looks(others, {}) | looks_of(results)
    made = [
        Section(anchor, study.NAME, study.READING, [*study.blocks(results, styles)])
        for anchor, study in STUDIES.items()
    ]
    reading = "Experiments of kinds that this version cannot draw."
    made.append(Section("others", "Other experiments", reading, [*_others(results)]))
    return [section for section in made if section.blocks]


def _others(results: Results) -> Iterator[Block]:
    """List the experiments of plug-ins with their summaries."""
    rows = [
        {
            "experiment": item.name,
            "study": item.study,
            "kind": item.kind,
            "status": item.status,
            "summary": "; ".join(f"{key}: {_shown(value)}" for key, value in item.summary.items())
            or text.DASH,
        }
        for item in results.experiments
        if item.kind not in KINDS
    ]
    if rows:
        yield Block("", tables=[(pd.DataFrame(rows), "Summaries of other experiments")])


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_shown, value[:5])) + " ..." * (len(value) > 5)
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
RECOVERY = ("relative error of the dictionary", "relative_error", "seconds", text.number)
MEASURES: dict[str, Any] = {
    "learning": RECOVERY,
    "baseline": RECOVERY,
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
        # One that is absent on a side is compared with itself.
        old, new = sides[0] or sides[1], sides[1] or sides[0]
        measure, number, time, show = MEASURES.get(old.kind, (text.DASH, "", "", text.number))
        a, b, before, after = (
            side.number(key) if side else math.nan for key in (number, time) for side in sides
        )
        status = ", then ".join(dict.fromkeys(side.status if side else "absent" for side in sides))
        difference = text.Cell(text.DASH)
        if differing := _differing(old, new):
            status += f"; {differing}"
        elif number == "psnr":
            difference = show(b - a, sign="+")
        elif a > 0 and not math.isnan(b):
            difference = text.Cell(f"{text.number(b / a, 3)} times")
        rows.append(
            {
                "experiment": name,
                "measure": measure,
                "before": show(a),
                "after": show(b),
                "difference": difference,
                "time before": text.seconds(before),
                "time": text.seconds(after),
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
    same = all(one.summary.get(key) == two.summary.get(key) for key in images)
    return "" if same else "other images"
