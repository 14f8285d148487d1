"""Dictionaries that trainings recover: which gradient comes nearest to the dictionary that made the
data, and with which optimizer.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import ClassVar

from pudle import text
from pudle.reports.figures.record import Axis
from pudle.reports.learning.study import (
    WARM,
    Block,
    Method,
    NumberColumn,
    Study,
    charts,
    setup_text,
    table,
    whole,
)
from pudle.reports.load import ShownExperiment, parsed
from pudle.reports.looks import Looks

ERROR, START = "dictionary_error", "start_dictionary_error"
COLUMNS = (
    NumberColumn("error at start", START),
    NumberColumn("error at end", ERROR, best=min),
    NumberColumn("relative error", "relative_error", best=min),
    NumberColumn(
        "support recovered", "support_recovery", lambda share: text.fixed(100 * share, 0, "%"), max
    ),
    NumberColumn("gradient error", "gradient_error"),
    NumberColumn("steps", "steps", whole),
    NumberColumn("time", "seconds", text.seconds),
)
#: The columns whose best cells are bold.
BOLD = text.listing([column.heading for column in COLUMNS if column.best])
#: Errors up to so many times the least are called alike.
SAME_ERROR = 1.05
#: Methods by what distinguishes a part of them.
Panels = Mapping[str, Sequence[Method]]


class Recovery(Study):
    """Trainings by dataset, and with them those of other packages, but for those of the study of
    optimizers.
    """

    anchor = "recovery"
    name = "Dictionaries recovered"
    reading = (
        "Error: the distance between the learned dictionary and the one that made the data, after"
        " their atoms are matched one to one. Relative error: this distance divided by the norm of"
        " the dictionary that made the data. Time is that of the computation alone. Bold is"
        f" the best {BOLD}, of no other column."
    )
    kinds: ClassVar[tuple[str, ...]] = ("learning", "baseline")
    outcome = Axis("relative_error", "relative error of the dictionary", "log")
    time = "seconds"
    #: Columns of the history that errors are drawn against.
    against: ClassVar[tuple[str, ...]] = ("epoch", "seconds")
    #: How a sentence names a panel.
    where: ClassVar[str] = "At {}"

    def shows(self, record: ShownExperiment) -> bool:
        return record.kind in self.kinds and record.study != "optimizers"

    def title(self, record: ShownExperiment) -> str:
        return record.dataset

    def panels(self, methods: Sequence[Method]) -> Panels:
        """Return the methods by start and depth, by the name of the panel. Beside each stand other
        packages, and of the same start those that solve for the codes.

        Without a training all stand in one panel without a name.
        """
        places = dict.fromkeys(
            (method.warm, method.depth) for method in methods if method.estimator
        )
        layered = {warm for warm, depth in places if depth is not None}
        panels = {}
        for warm, depth in places:
            if depth is not None or warm not in layered:
                name = "solved codes" if depth is None else f"{depth} layers"
                panels[f"{name}, {WARM}" if warm else name] = [
                    method
                    for method in methods
                    if not method.estimator
                    or (method.warm == warm and method.depth in (depth, None))
                ]
        return panels or {"": methods}

    def block(self, title: str, methods: list[Method], styles: Looks) -> Block:
        """Return a table, and one chart per panel."""
        panels = self.panels(methods)
        known = {method for part in panels.values() for method in part}
        panel_methods = [method for method in methods if method in known]
        axis = Axis(ERROR, "error of the dictionary", "log")
        figures = charts(
            title, panels, styles, x=self.against, y=axis, kind="Error of the dictionary"
        )
        caption = f"Recovery of the dictionary of {title}"
        if setup := setup_text(panel_methods):
            caption += f", trained on the {setup}"
        caption += f". {_starts(panel_methods)}"
        if not all(math.isnan(method.median("gradient_error")) for method in panel_methods):
            caption += " Gradient error: the median along the training."
        answer = self.answer(panels, panel_methods)
        return Block(title, answer, [(table(panel_methods, COLUMNS), caption)], figures)

    def answer(self, panels: Panels, methods: Sequence[Method]) -> str:
        """Say which gradient recovers the dictionary best in each panel, and how certain that is,
        and which other package.
        """
        sentences = [
            f"{self.where.format(name)} {_conclusion(best)}."
            for name, part in panels.items()
            if (best := ranked(method for method in part if method.estimator))
        ]
        if baselines := ranked(method for method in methods if not method.estimator):
            sentences.append(
                f"Of the other packages {baselines[0].label} comes nearest, with an error of"
                f" {text.number(baselines[0].median(ERROR))}."
            )
        return " ".join(sentences)


def _starts(methods: Sequence[Method]) -> str:
    """Say where the codes start in each step of some trainings, those of other packages aside."""
    warm = {method.warm for method in methods if method.estimator}
    if warm == {True, False}:
        return (
            "Codes start from zero, or from those of the step before, as the column says; only"
            " trainings with the same start are compared."
        )
    if True in warm:
        return "In every step the codes start from those that each sample had in the step before."
    return "In every step the codes start from zero."


def ranked(methods: Iterable[Method]) -> list[Method]:
    """Return the methods that have an error of the dictionary, the smallest median first."""
    known = [method for method in methods if not math.isnan(method.median(ERROR))]
    return sorted(known, key=lambda method: method.median(ERROR))


def _conclusion(best: Sequence[Method]) -> str:
    """Say which of some methods recovers best, how its error falls, and that of the second; none is
    best by less than `SAME_ERROR`, within the spread over the seeds, or on one seed.
    """
    first, *runners_up = best
    start, end = first.median(START), first.median(ERROR)
    numbers = f"{text.number(start)} to {text.number(end)}"
    if end >= start:
        return f"no gradient recovers anything: the error of {first.quoted} grows from {numbers}"
    fall = f"its error falls from {numbers}"
    if not runners_up:
        return f"only {first.quoted} was trained: {fall}"
    second = runners_up[0].median(ERROR)
    fall += f", that of {runners_up[0].quoted} to {text.number(second)}"
    if second <= SAME_ERROR * end:
        ends = " and ".join(dict.fromkeys([text.number(end), text.number(second)]))
        return (
            f"{first.quoted} and {runners_up[0].quoted} recover alike: the error falls from"
            f" {text.number(start)} to {ends}, a difference below"
            f" {SAME_ERROR - 1:.0%}"
        )
    if end > 0:
        fall += f", {text.number(second / end)} times as much"
    if min(len(first.good), len(runners_up[0].good)) == 1:
        return f"{first.quoted} ends nearest: {fall}; on one seed, so that the order may be chance"
    if runners_up[0].spread(ERROR).low <= first.spread(ERROR).high:
        return (
            f"{first.quoted} ends nearest: {fall}; their seeds overlap, so that the order may be"
            " chance"
        )
    return f"{first.quoted} recovers best: {fall}"


class Optimizers(Recovery):
    """Trainings of the study of optimizers by dataset, depth, algorithm and size of the batches."""

    anchor = "optimizers"
    name = "Optimizers"
    reading = (
        "Where each optimizer ends with each gradient. Of several learning rates the one that ends"
        " nearest is shown. A step of an optimizer with a line search computes several gradients."
    )
    kinds = ("learning",)
    against = ("step",)
    where = "With {}"

    def shows(self, record: ShownExperiment) -> bool:
        return record.kind in self.kinds and record.study == "optimizers"

    def title(self, record: ShownExperiment) -> str:
        batch = record.options.get("batch")
        title = "{dataset}, {depth} layers, {algorithm}".format(**record.options)
        return f"{title}, batches of {batch}" if batch else title

    def panels(self, methods: Sequence[Method]) -> Panels:
        """Return the methods by optimizer, each gradient at its best learning rate; without those
        that failed.
        """
        chosen: dict[str, dict[str, Method]] = defaultdict(dict)
        for method in ranked(methods):
            options = method.runs[0].options
            name, arguments = parsed(str(options.get("optimizer")))
            other_arguments = (
                f"{key}={arguments[key]}" for key in arguments.keys() - {"learning_rate"}
            )
            optimizer = ", ".join([name, *sorted(other_arguments)])
            chosen[optimizer].setdefault(f"{method.estimator} {options.get('loss')}", method)
        return {name: [*part.values()] for name, part in chosen.items()}
