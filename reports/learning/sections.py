"""What pages say of experiments: one section per study, what gradients buy, and two results
compared.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import pandas as pd

from pudle import text
from pudle.reports.figures.record import Axis, Figure, file_name
from pudle.reports.learning import denoising, interpretation, optimizers, recovery
from pudle.reports.learning.methods import Block, Method
from pudle.reports.load import Results, parsed
from pudle.reports.looks import looks, looks_of
from pudle.reports.records import ExperimentRecord

#: Modules of the sections by their anchors: each has a name, says how to read it, and makes blocks.
STUDIES = {
    "recovery": recovery,
    "optimizers": optimizers,
    "denoising": denoising,
    "interpretation": interpretation,
}


class Section(NamedTuple):
    """What a page says of one study, and how to read it."""

    anchor: str
    name: str
    reading: str
    blocks: Sequence[Block]


def sections(results: Results) -> list[Section]:
    """Return the sections on the experiments of a result, without those that are empty."""
    others = (item.method for item in results.experiments if not item.estimator)
    styles = looks(dict.fromkeys(others), {}) | looks_of(results)
    made = [
        Section(anchor, study.NAME, study.READING, [*study.blocks(results, styles)])
        for anchor, study in STUDIES.items()
    ]
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
        if item.kind not in (*MEASURES, "interpretation")
    ]
    if rows:
        made.append(
            Section(
                "others",
                "Other experiments",
                "Experiments of kinds that this version cannot draw.",
                [Block("", tables=[(pd.DataFrame(rows), "Summaries of other experiments")])],
            )
        )
    return [section for section in made if section.blocks]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"{', '.join(map(_shown, value[:5]))}{' ...' * (len(value) > 5)}"
    return text.number(value, 4) if value is None or isinstance(value, float) else str(value)


def bought(results: Results) -> list[Figure]:
    """Return one figure per dataset: for each training the error of its gradient, and what it led
    to.

    The error is the median scored at the training's depth, or at the next smaller one that was
    measured, on a case with the same kind of dataset, loss and algorithm. The note names these
    cases, and counts trainings without one.
    """
    compared = {
        title: [*each.method.unique()] for title, each in optimizers.optimized(results).items()
    }
    groups = (
        (
            Axis("relative_error", "relative error of the dictionary", "log"),
            recovery.recovered(results) | compared,
        ),
        (Axis("psnr", "PSNR (dB)"), denoising.denoised(results)),
    )
    figures = []
    for outcome, title, methods in (
        (outcome, *item) for outcome, group in groups for item in group.items()
    ):
        trained = [method for method in methods if method.estimator and method.good]
        scores = [_errors(results, method) for method in trained]
        rows = pd.DataFrame(
            {
                "method": method.label,
                "estimator": method.estimator,
                "depth": method.depth,
                outcome.column: method.median(outcome.column),
                "gradient_error": pd.Series(errors, dtype=float).median(),
            }
            for method, errors in zip(trained, scores, strict=True)
        )
        if trained:
            rows = rows.dropna(subset=[outcome.column, "gradient_error"])
        if rows.empty:
            continue
        listed = "; ".join(
            f"{row['method']} {text.number(row['gradient_error'])} led to"
            f" {text.number(row[outcome.column], 3)}"
            for row in rows.to_dict("records")
        )
        left = len(trained) - len(rows)
        scored = (results.cases[name] for errors in scores for name in errors)
        where = dict.fromkeys(f"{case.dataset}, {case.algorithm}" for case in scored)
        note = f"Errors of gradients are those on {text.listing([*where])}."
        none = f" {left} of {len(trained)} trainings have no case that scores their gradient."
        figures.append(
            Figure(
                file_name("bought", title),
                "What gradients buy",
                title,
                rows,
                [Axis("gradient_error", "relative error of the gradient", "log")],
                [outcome],
                looks_of(results),
                mark="point",
                about=f"{title}: {listed}.",
                note=note + none * bool(left),
                tips={"method": "method"},
            )
        )
    return figures


def _errors(results: Results, method: Method) -> dict[str, float]:
    """Return, by case that scores gradients of the kind of problem that a training solves, the
    error at the greatest measured depth that is none above the training's; without cases that have
    none, or none above it.
    """
    options = method.good[0].options
    depth = method.depth or options.get("depth")
    errors = {}
    for name, case in results.cases.items():
        depths, values = results.curve(name, method.estimator).spread[:, :2].T
        # The same kind of problem, whatever the options of the dataset.
        same = case.loss == options.get("loss") and all(
            parsed(getattr(case, key))[0] == parsed(str(options.get(key)))[0]
            for key in ("dataset", "algorithm")
        )
        if same and depth is not None and len(depths) and depths[0] <= depth <= depths[-1]:
            errors[name] = values[depths <= depth][-1]
    return errors


#: By kind: what experiments are compared by, its name in the summary, that of the time, and how
#: values are formatted.
RECOVERY = ("relative error of the dictionary", "relative_error", "seconds", text.number)
MEASURES = {
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
    other = any(one.summary.get(key) != two.summary.get(key) for key in images)
    return "other images" if other else ""
