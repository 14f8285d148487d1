"""What a page says of one study of trainings: methods, which are experiments that differ in nothing
but their seed, the interface of the studies, and what their blocks are made of.
"""

import itertools
import math
from abc import ABC, abstractmethod
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np
import pandas as pd

from pudle import names, text
from pudle.measuring.grouping import grouped
from pudle.reports.cells import Cell, Shown, interval_cell, is_blank
from pudle.reports.figures.record import Axis, Figure, Picture, file_name
from pudle.reports.load import Results, ShownExperiment, parsed
from pudle.reports.looks import Look, Looks
from pudle.reports.markup import Table
from pudle.reports.summary import Spread, spread

#: Options that distinguish trainings on one dataset with one estimator and depth, in the order in
#: which a label has them, and how it shows their values.
PARTS = {"loss": "{} loss", "algorithm": "{}", "optimizer": "{}", "schedule": "{}"} | {
    name: f"{name} {{}}" for name in ("batch", "epochs", "dtype")
}
#: What a title says of trainings in which each sample starts from its codes of the step before;
#: where it says nothing, codes start alike in every step, at zero as a rule.
WARM = "from the last codes"
#: Horizontal axes, by column of the history.
LABELS = {"epoch": "epochs", "step": "steps", "seconds": "seconds of computation"}
#: Seconds are on a log scale if the longest training takes this many times as long as the shortest.
WIDE = 20
#: The error of the gradient along a training, where it was measured.
GRADIENT = Axis("gradient_error", "relative error of the gradient", "log")
#: Dashes of an estimator's second, third and fourth method; the first has the estimator's own.
VARIANTS = ((), (1, 1), (5, 1), (3, 1, 1, 1))
#: The greatest length of the name of a figure's file, which people type.
LONGEST_NAME = 64
#: The greatest number of points that a curve is drawn with.
POINTS = 120


@dataclass(frozen=True, eq=False)
class Method:
    """Experiments that differ in nothing but their seed.

    The label holds the estimator and the options that distinguish the method from the others of its
    group, or the name of another package, whose estimator is empty. What solves for the codes has
    no depth.
    """

    label: str
    estimator: str
    depth: int | None
    runs: list[ShownExperiment]

    @property
    def warm(self) -> bool:
        """Whether each sample starts from its codes of the step before."""
        return bool(self.runs[0].options.get("warm_start"))

    @property
    def good(self) -> list[ShownExperiment]:
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
        options = self.label.removeprefix(self.estimator)
        if not self.estimator or options == self.label:
            return self.label
        return f"`{self.estimator}`" + (f" ({options.removeprefix(', ')})" if options else "")

    def spread(self, name: str) -> Spread:
        """Return the median, least and greatest value over the seeds of a number of the summary,
        NaN if no seed has it.
        """
        return spread(run.number(name) for run in self.good)

    def median(self, name: str) -> float:
        """Return the median over the seeds of a number of the summary."""
        return self.spread(name).value

    def curve(self, name: str) -> pd.DataFrame:
        """Return the median over the seeds of a column of the history, by step, with epoch and
        seconds, and the least and greatest value with the endings ``_low`` and ``_high``.

        Steps at which some seed has no value are left out, because a median over other seeds would
        jump there. Some seed must be good.
        """
        places = ["step", "epoch", "seconds", name]
        histories = [run.history(*places).dropna(subset=[name]) for run in self.good]
        steps = pd.concat(histories).groupby("step")
        ends = {f"{name}_low": (name, "min"), f"{name}_high": (name, "max")}
        merged = steps.agg(**{column: (column, "median") for column in places[1:]}, **ends)
        return merged[steps.size() == len(histories)].reset_index()


def _methods(records: list[ShownExperiment]) -> list[Method]:
    """Sort experiments into methods, which differ in nothing but the seed, by depth, those without
    one last.

    Trainings are labeled by their estimator and the options in which they differ, other experiments
    by their own words; of two labels that are alike each gets the name of its experiment.
    """
    trainings = [record.options for record in records if record.kind == "learning"]
    differing = [
        part for part in PARTS if len({str(options.get(part)) for options in trainings}) > 1
    ]
    runs = grouped(
        records,
        lambda record: repr((record.method, sorted((record.options | {"seed": None}).items()))),
    )
    methods = []
    for first_run, *later_runs in runs.values():
        label, depth = first_run.method, None
        if first_run.kind == "learning":
            parts = (PARTS[part].format(first_run.options.get(part)) for part in differing)
            solver = names.entries("algorithms").get(parsed(str(first_run.options["algorithm"]))[0])
            label = ", ".join([first_run.estimator, *parts])
            depth = first_run.depth if getattr(solver, "differentiable", True) else None
        methods.append(Method(label, first_run.estimator, depth, [first_run, *later_runs]))
    counts = Counter((method.label, method.depth, method.warm) for method in methods)
    labeled = (
        replace(method, label=f"{method.label}, {method.runs[0].name}")
        if counts[method.label, method.depth, method.warm] > 1
        else method
        for method in methods
    )
    return sorted(labeled, key=lambda method: (method.depth is None, method.depth))


def layers_text(methods: Iterable[Method]) -> str:
    """Say how many layers some trainings run, and of what: ``25 or 50 layers of ista``; empty where
    none runs layers.
    """
    runs = [(method.depth, method.runs[0]) for method in methods if method.estimator]
    depths = sorted({depth for depth, _ in runs if depth is not None})
    if not depths:
        return ""
    algorithms = dict.fromkeys(
        str(run.options.get("algorithm")) for depth, run in runs if depth is not None
    )
    noun = "layer" if depths == [1] else "layers"
    return f"{' or '.join(map(str, depths))} {noun} of {' or '.join(algorithms)}"


def setup_text(methods: Iterable[Method]) -> str:
    """Say on which outer loss some trainings ran, and through which layers or with which solver, as
    far as it is known: ``lasso loss, 25 layers of ista``.
    """
    options = [(method, method.runs[0].options) for method in methods if method.estimator]
    losses = dict.fromkeys(str(known["loss"]) for _, known in options if known.get("loss"))
    solvers = dict.fromkeys(
        str(known["algorithm"])
        for method, known in options
        if method.depth is None and method.runs[0].kind == "learning"
    )
    parts = [f"{' or '.join(losses)} loss"] if losses else []
    codes = [
        layers_text(method for method, _ in options),
        *(f"solved by {name}" for name in solvers),
    ]
    return ", ".join([*parts, *filter(None, codes)])


@dataclass(frozen=True, eq=False)
class Block:
    """Part of a section: its conclusion, tables with their captions, charts and images on one
    dataset or noise level.
    """

    heading: str
    answer: str = ""
    tables: Sequence[tuple[Table, str]] = ()
    charts: Sequence[Figure] = ()
    galleries: Sequence[Picture] = ()

    @property
    def pictures(self) -> list[Picture]:
        """The charts, one per column of the history, and the images as figures for files."""
        return [
            figure.view(
                axis.column,
                name=file_name(figure.name.replace("{x}", axis.column), longest=LONGEST_NAME),
                title=f"{figure.title}, against {axis.title}",
            )
            for figure in self.charts
            for axis in figure.x
        ] + [*self.galleries]


class Study(ABC):
    """One kind of experiments, and what a page says of them: a subclass per study.

    Attributes
    ----------
    anchor, name, reading : str
        Anchor and title of the section, and how to read it.
    kinds : tuple of str
        Kinds of the experiments, which say what rows, summary and arrays these have.
    outcome : Axis
        What its experiments are compared by: a number of the summary.
    time : str
        The number of the summary that says how long one took; empty for a study that compares
        nothing.
    """

    anchor: ClassVar[str]
    name: ClassVar[str]
    reading: ClassVar[str]
    kinds: ClassVar[tuple[str, ...]]
    outcome: ClassVar[Axis] = Axis("", text.DASH)
    time: ClassVar[str] = ""

    def shows(self, record: ShownExperiment) -> bool:
        """Tell whether an experiment belongs to the study."""
        return record.kind in self.kinds and record.status == "ok"

    @abstractmethod
    def title(self, record: ShownExperiment) -> str:
        """Return the title of an experiment, which names its data: those with one title are
        compared.
        """

    @abstractmethod
    def block(self, title: str, methods: list[Method], styles: Looks) -> Block:
        """Build the block of a page on the methods that share their data."""

    def groups(self, results: Results) -> dict[str, list[Method]]:
        """Return the methods of the study by their titles, of the experiments that it shows."""
        same_title = grouped(filter(self.shows, results.experiments), self.title)
        return {title: _methods(records) for title, records in same_title.items()}

    def show(self, value: float) -> str:
        """Return a value of the outcome as text."""
        return text.number(value)


def whole(value: float) -> str:
    """Return a number of steps, rounded up."""
    return f"{math.ceil(value - 1e-9)}" if math.isfinite(value) else text.DASH


class NumberColumn(NamedTuple):
    """A column of a table of methods that shows a number of the summary, as median and range over
    the seeds.
    """

    heading: str
    #: Name of the number.
    number: str
    show: Callable[[float], str] = text.number
    #: Chooses the best of the medians, where one is.
    best: Callable[[Iterable[float]], float] | None = None

    def cells(self, methods: Sequence[Method]) -> list[Shown]:
        """Return the cell of each method, a dash where it has no such number; what is printed as
        the best one is marked like it.
        """
        spreads = [method.spread(self.number) for method in methods]
        known = [of_seeds.value for of_seeds in spreads if not math.isnan(of_seeds.value)]
        best = self.show(self.best(known)) if self.best and known else text.DASH
        return [
            interval_cell(*of_seeds, self.show).with_mark(
                best != text.DASH and self.show(of_seeds.value) == best
            )
            for of_seeds in spreads
        ]


def _always(methods: Sequence[Method]) -> bool:
    return True


def _some_start_warm(methods: Sequence[Method]) -> bool:
    return any(method.warm for method in methods)


def _some_have_seeds(methods: Sequence[Method]) -> bool:
    return any(len(method.runs) > 1 for method in methods)


def _start_of_codes(method: Method) -> str:
    """Say where the codes of a training start in each step."""
    if not method.estimator:
        return text.DASH
    return "last codes" if method.warm else "zero"


class FactColumn(NamedTuple):
    """A column that every table of methods has, as far as it is needed for some methods."""

    heading: str
    cell: Callable[[Method], Shown]
    needed: Callable[[Sequence[Method]], bool] = _always

    def cells(self, methods: Sequence[Method]) -> list[Shown]:
        """Return the cell of each method."""
        return [self.cell(method) for method in methods]


#: The columns before those of a study, and after them.
FIRST_COLUMNS = (
    FactColumn("method", lambda method: Cell(method.label, estimator=method.estimator)),
    FactColumn("layers", lambda method: text.DASH if method.depth is None else f"{method.depth}"),
    FactColumn("codes start at", _start_of_codes, needed=_some_start_warm),
)
LAST_COLUMNS = (
    FactColumn("status", lambda method: method.status),
    FactColumn("seeds", lambda method: f"{len(method.runs)}", needed=_some_have_seeds),
)


def table(methods: Sequence[Method], columns: Sequence[NumberColumn]) -> Table:
    """Return a table with one row per method.

    Its columns are, from the left, the label, the layers, where the codes start (only if those of
    some method start from their values in the step before), the study's `columns`, the status, and
    the number of seeds (only if some method has several). Columns that are empty in every row are
    left out.
    """
    shown_columns: list[FactColumn | NumberColumn] = [
        *(column for column in FIRST_COLUMNS if column.needed(methods)),
        *columns,
        *(column for column in LAST_COLUMNS if column.needed(methods)),
    ]
    filled_columns = {}
    for column in shown_columns:
        cells = column.cells(methods)
        if not all(map(is_blank, cells)):
            filled_columns[column.heading] = cells
    return Table(filled_columns)


def charts(
    title: str,
    panels: Mapping[str, Sequence[Method]],
    styles: Looks,
    *,
    x: Sequence[str],
    y: Axis,
    kind: str,
) -> list[Figure]:
    """Return the history of a column, that of `y`, and of the gradient's error where it was
    measured, as one figure per panel; methods without a curve of several points are left out.

    `title` names the data, and a panel's name says what distinguishes it.
    """
    # Of each estimator or other package, its methods in the order of their appearance.
    numbers: dict[str, list[str]] = defaultdict(list)
    figures = []
    curves = {kind: y, GRADIENT.title.capitalize(): GRADIENT}
    for (heading, axis), (panel, methods) in itertools.product(curves.items(), panels.items()):
        looks: dict[str, Look] = {}
        parts = []
        for method in methods:
            owner, label = method.estimator or method.runs[0].method, method.label
            if label not in numbers[owner]:
                numbers[owner].append(label)
            data = _drawn(method, axis)
            if len(data) > 1:
                variant = VARIANTS[numbers[owner].index(label) % len(VARIANTS)]
                looks[label] = replace(styles[owner], dashes=variant or styles[owner].dashes)
                places = np.linspace(0, len(data) - 1, min(len(data), POINTS)).round().astype(int)
                parts.append(data.iloc[places].assign(method=label, estimator=owner))
        if not parts:
            continue
        rows = pd.concat(parts).astype({"step": int})
        ends = rows.groupby("method")["seconds"].max()
        wide = ends.max() / WIDE > ends.min()
        figures.append(
            Figure(
                f"{heading.lower()}-{{x}}-{title}-{panel}",
                heading,
                ", ".join(filter(None, (title, panel))),
                rows,
                [
                    Axis(
                        column, LABELS[column], "log" if wide and column == "seconds" else "linear"
                    )
                    for column in x
                    if rows[column].notna().all()
                ],
                [axis],
                looks,
                series="method",
                tips={"step": "step"},
            )
        )
    return figures


def _drawn(method: Method, y: Axis) -> pd.DataFrame:
    """Return the curve of a method as far as the axis can show it, positive on a log scale; an
    empty table where no run is good.
    """
    if not method.good:
        return pd.DataFrame()
    data = method.curve(y.column)
    return data[data[f"{y.column}_low"] > 0] if y.scale == "log" else data
