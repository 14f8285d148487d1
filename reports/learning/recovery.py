"""Dictionaries that trainings recover: which gradient comes nearest to the dictionary that made the
data.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

import pandas as pd

from pudle import text
from pudle.reports.figures.record import Figure
from pudle.reports.learning.methods import Method, cells, chance, group, whole
from pudle.reports.learning.optimizers import STUDY
from pudle.reports.learning.pictures import Block, charts
from pudle.reports.load import Results
from pudle.reports.looks import Look

NAME = "Dictionaries recovered"
READING = (
    "Error: distance between the learned dictionary and the one that made the data, after their"
    " atoms are matched one to one; the relative error is this distance divided by the norm of the"
    " latter. Time is that of the computation alone. An estimator has the same color and marker"
    " throughout this page; its further methods have other dashes. The best of a column is bold."
)
ERROR, START = "dictionary_error", "start_dictionary_error"
#: Columns of the table, see `cells`.
COLUMNS = {
    "error at start": (START, text.number, None),
    "error at end": (ERROR, text.number, "min"),
    "relative error": ("relative_error", text.number, "min"),
    "support recovered": (
        "support_recovery",
        lambda share: text.fixed(100 * share, 0, "%"),
        "max",
    ),
    "steps": ("steps", whole, None),
    "time": ("seconds", text.seconds, None),
}


def blocks(results: Results, styles: Mapping[str, Look]) -> Iterator[Block]:
    """Yield one block per dataset."""
    for title, methods in recovered(results).items():
        caption = f"Recovery of the dictionary of {title}"
        yield Block(
            title, answer(methods), [(table(methods), caption)], curves(title, methods, styles)
        )


def recovered(results: Results) -> dict[str, list[Method]]:
    """Return the trainings by dataset, and with them those of other packages; the study of
    optimizers is left out.
    """
    records = (
        item
        for item in results.experiments
        if item.kind in ("learning", "baseline") and item.study != STUDY
    )
    return group(records, lambda record: record.dataset)


def table(methods: Sequence[Method]) -> pd.DataFrame:
    """Return one row per method and depth: errors at the start and the end, support, steps and
    time.
    """
    columns = cells(methods, COLUMNS)
    layers = [text.DASH if method.depth is None else str(method.depth) for method in methods]
    columns = {"method": columns.pop("method"), "layers": layers} | columns
    columns["status"] = [method.status for method in methods]
    if max(len(method.runs) for method in methods) > 1:
        columns["seeds"] = [str(len(method.runs)) for method in methods]
    return pd.DataFrame(columns, dtype=object)


def answer(methods: Sequence[Method]) -> str:
    """Say which gradient recovers the dictionary best at each depth, and how certain that is."""
    errors = {method: error for method in methods if not math.isnan(error := method.median(ERROR))}
    ranked = sorted(errors, key=errors.__getitem__)
    sentences = []
    for depth in sorted({method.depth for method in ranked if method.depth is not None}):
        best, *others = (method for method in ranked if method.depth == depth)
        start, end = best.median(START), errors[best]
        fall = f"its error falls from {text.number(start)} to {text.number(end)}"
        if end >= start:
            fall = f"but no gradient recovers anything: {fall.replace('falls', 'grows')}"
        elif others:
            second = errors[others[0]]
            fall += f", that of {others[0].quoted} to {text.number(second)}"
            if end > 0:
                # Two that are as good as equal are not "1 times" apart.
                digits = 2 if second >= 1.1 * end else 3
                fall += f", {text.number(second / end, digits)} times as much"
            if len(best.good) > 1 and others[0].spread(ERROR)[1] <= best.spread(ERROR)[2]:
                fall += "; their seeds overlap, so that the order may be chance"
        sentences.append(f"At {depth} layers {best.quoted} recovers best: {fall}.")
    if baselines := [method for method in ranked if not method.estimator]:
        error = text.number(errors[baselines[0]])
        sentences.append(
            f"Of the other packages {baselines[0].label} comes nearest, with an error of {error}."
        )
    return " ".join([*sentences, *chance(methods)])


def curves(title: str, methods: Sequence[Method], styles: Mapping[str, Look]) -> list[Figure]:
    """Return the error of the dictionary against epochs and seconds, one chart per depth."""
    histories = {method: method.curve(ERROR) for method in methods}
    depths = dict.fromkeys(method.depth for method in methods if method.depth is not None)
    panels = {
        f"{depth} layers": {
            method: curve for method, curve in histories.items() if method.depth in (depth, None)
        }
        for depth in depths
    }
    return charts(
        title,
        panels or {"": histories},
        ("epoch", "seconds"),
        styles,
        y="error of the dictionary",
        column=ERROR,
        kind="Error of the dictionary",
        name="recovery-{x}-{title}-{panel}",
    )
