"""Dictionaries that trainings recover: which gradient comes nearest to the dictionary that made the
data.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

from pudle import text
from pudle.reports.figures.record import Axis
from pudle.reports.learning.methods import Method, chance
from pudle.reports.learning.study import Block, Column, Study, cells, charts, whole
from pudle.reports.looks import Looks
from pudle.reports.markup import Table
from pudle.reports.records import ExperimentRecord

ERROR, START = "dictionary_error", "start_dictionary_error"
COLUMNS = {
    "error at start": Column(START),
    "error at end": Column(ERROR, best=min),
    "relative error": Column("relative_error", best=min),
    "support recovered": Column(
        "support_recovery", lambda share: text.fixed(100 * share, 0, "%"), max
    ),
    "steps": Column("steps", whole),
    "time": Column("seconds", text.seconds),
}


class Recovery(Study):
    """Trainings by dataset, and with them those of other packages, but for those of the study of
    optimizers.
    """

    anchor = "recovery"
    name = "Dictionaries recovered"
    reading = (
        "Error: distance between the learned dictionary and the one that made the data, after their"
        " atoms are matched one to one; the relative error is this distance divided by the norm of"
        " the latter. Time is that of the computation alone. An estimator has the same color and"
        " marker throughout this page; its further methods have other dashes. The best of a column"
        " is bold."
    )
    kinds: ClassVar[tuple[str, ...]] = ("learning", "baseline")
    outcome = Axis("relative_error", "relative error of the dictionary", "log")
    time = "seconds"

    def shows(self, record: ExperimentRecord) -> bool:
        return record.kind in self.kinds and record.study != "optimizers"

    def title(self, record: ExperimentRecord) -> str:
        return record.dataset

    def block(self, title: str, methods: list[Method], styles: Looks) -> Block:
        """Return a table, and one chart per depth."""
        depths = dict.fromkeys(method.depth for method in methods if method.depth is not None)
        panels = {
            "" if depth is None else f"{depth} layers": {
                method.label: method for method in methods if method.depth in (depth, None)
            }
            for depth in depths or [None]
        }
        figures = charts(
            title,
            panels,
            styles,
            x=("epoch", "seconds"),
            y=Axis(ERROR, "error of the dictionary", "log"),
            kind="Error of the dictionary",
        )
        caption = f"Recovery of the dictionary of {title}"
        return Block(title, answer(methods), [(table(methods), caption)], figures)


def table(methods: Sequence[Method]) -> Table:
    """Return one row per method and depth: errors at the start and the end, support, steps and
    time.
    """
    columns = cells(methods, COLUMNS)
    layers = [text.DASH if method.depth is None else f"{method.depth}" for method in methods]
    shown: dict[str, Sequence[str]] = {"method": columns.pop("method"), "layers": layers, **columns}
    shown["status"] = [method.status for method in methods]
    if any(len(method.runs) > 1 for method in methods):
        shown["seeds"] = [f"{len(method.runs)}" for method in methods]
    return Table(shown)


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
        sentences.append(
            f"Of the other packages {baselines[0].label} comes nearest, with an error of"
            f" {text.number(errors[baselines[0]])}."
        )
    return " ".join([*sentences, *chance(methods)])
