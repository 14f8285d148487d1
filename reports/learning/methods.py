"""Group experiments: those that differ in nothing but their seed are one method, and methods on the same data one group."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pudle import specs
from pudle.errors import PudleError
from pudle.reports import text
from pudle.reports.learning.records import ExperimentRecord
from pudle.reports.text import Cell

#: Options that distinguish trainings on one dataset with one estimator and depth, in the order in which a label has them.
PARTS = ("loss", "algorithm", "optimizer", "schedule", "batch", "epochs", "dtype")


@dataclass(frozen=True, eq=False)
class Method:
    """Experiments that differ in nothing but their seed.

    Attributes
    ----------
    label : str
        The estimator and what distinguishes the method from the others of its group, or another package's name.
    estimator : str
        Empty for a method of another package.
    parts : mapping
        Shortened values of the options that distinguish the method from the others, by name.
    variant : int
        Number of methods with the same estimator that precede it in its group.
    depth : int or None
    runs : list of ExperimentRecord
        One per seed.
    """

    label: str
    estimator: str
    parts: Mapping[str, str]
    variant: int
    depth: int | None
    runs: list[ExperimentRecord] = field(default_factory=list)

    @property
    def good(self) -> list[ExperimentRecord]:
        """The runs whose status is ``ok``."""
        return [run for run in self.runs if run.status == "ok"]

    @property
    def status(self) -> str:
        """``ok``, or the statuses of the runs that failed and their number."""
        failed = [run.status for run in self.runs if run.status != "ok"]
        if not failed:
            return "ok"
        count = f" in {len(failed)} of {len(self.runs)} seeds" if self.good else ""
        return text.listing(list(dict.fromkeys(failed))) + count

    @property
    def quoted(self) -> str:
        """The label as a sentence has it."""
        return quoted(self.label, self.estimator)

    def spread(self, name: str) -> tuple[float, float, float]:
        """Return the median, least and greatest value over the seeds of a number of the summary, NaN if no seed has it."""
        values = without_nan(run.number(name) for run in self.good)
        return (float(np.median(values)), min(values), max(values)) if values else (math.nan, math.nan, math.nan)

    def median(self, name: str) -> float:
        """Return the median over the seeds of a number of the summary, NaN if no seed has it."""
        return self.spread(name)[0]

    def curve(self, name: str) -> pd.DataFrame:
        """Return the median, least and greatest value over the seeds of a column of the history.

        Steps that some seed has no value for are left out, because a median over other seeds would jump there.

        Returns
        -------
        DataFrame
            With the columns ``step``, ``epoch``, ``seconds``, ``median``, ``least`` and ``greatest``.
        """
        columns = ["step", "epoch", "seconds", "median", "least", "greatest"]
        histories = []
        for run in self.good:
            step = run.column("step") if "step" in run.rows else pd.Series(range(len(run.rows)), run.rows.index)
            history = {
                "step": step,
                "epoch": run.column("epoch"),
                "seconds": run.column("seconds"),
                "value": run.column(name),
            }
            histories.append(pd.DataFrame(history).dropna(subset=["value"]))
        if not histories:
            return pd.DataFrame(columns=columns)
        merged = pd.concat(histories).groupby("step", as_index=False).agg(
            epoch=("epoch", "median"), seconds=("seconds", "median"), median=("value", "median"), least=("value", "min"),
            greatest=("value", "max"), seeds=("value", "count"),
        )  # fmt: skip
        return merged.loc[merged["seeds"] == len(histories), columns].reset_index(drop=True)


@dataclass(frozen=True, eq=False)
class Group:
    """Methods on the same data.

    Attributes
    ----------
    title : str
        What the data are.
    methods : tuple of Method
        In the order of their depths.
    """

    title: str
    methods: tuple[Method, ...]

    @property
    def depths(self) -> list[int]:
        return sorted({method.depth for method in self.methods if method.depth is not None})

    @property
    def seeds(self) -> int:
        """The greatest number of seeds that a method has."""
        return max(len(method.runs) for method in self.methods)


def groups(records: Iterable[ExperimentRecord], title: Callable[[ExperimentRecord], str]) -> list[Group]:
    """Sort experiments into groups with the same title, and each group into methods."""
    members: dict[str, list[ExperimentRecord]] = {}
    for record in records:
        members.setdefault(title(record), []).append(record)
    return [Group(name, _methods(found)) for name, found in members.items()]


def dataset(record: ExperimentRecord) -> str:
    """Return the spec of the dataset that an experiment learned from."""
    return str(record.options.get("dataset", "unknown dataset"))


def _methods(records: Sequence[ExperimentRecord]) -> tuple[Method, ...]:
    trainings = [record for record in records if record.kind == "learning"]
    others = [record for record in records if record.kind != "learning"]
    methods = [*_by_options(trainings), *_by_name(others)]
    return tuple(sorted(methods, key=lambda method: math.inf if method.depth is None else method.depth))


def _by_options(trainings: Sequence[ExperimentRecord]) -> list[Method]:
    """Label trainings by their estimator and the options in which they differ."""
    values = {part: list(dict.fromkeys(str(record.options.get(part)) for record in trainings)) for part in PARTS}
    short = {part: shortened(specs_) for part, specs_ in values.items() if len(specs_) > 1}
    methods: dict[tuple[str, int | None], Method] = {}
    labels: dict[str, list[str]] = {}
    for record in trainings:
        parts = {part: names[str(record.options.get(part))] for part, names in short.items()}
        label = ", ".join([record.estimator, *(_phrase(part, value) for part, value in parts.items())])
        depth = record.options.get("depth")
        same_estimator = labels.setdefault(record.estimator, [])
        if label not in same_estimator:
            same_estimator.append(label)
        method = Method(label, record.estimator, parts, same_estimator.index(label), depth)
        methods.setdefault((label, depth), method).runs.append(record)
    return list(methods.values())


def _by_name(records: Sequence[ExperimentRecord]) -> list[Method]:
    """Label other experiments as they name their method, and by their own name if methods with other options have it too."""
    runs: dict[tuple[str, str], list[ExperimentRecord]] = {}
    for record in records:
        runs.setdefault((record.method, record.options_without_seed), []).append(record)
    names = Counter(name for name, _ in runs)
    variants: Counter[str] = Counter()
    methods = []
    for (name, _), members in runs.items():
        label, estimator = name if names[name] == 1 else f"{name}, {members[0].name}", members[0].estimator
        # A method of another package has a marker of its own and needs no variant.
        methods.append(Method(label, estimator, {}, variants[estimator] if estimator else 0, None, members))
        variants[estimator] += 1
    return methods


def _phrase(part: str, value: str) -> str:
    if part in ("algorithm", "optimizer", "schedule"):
        return value
    return f"{value} loss" if part == "loss" else f"{part} {value}"


def shortened(values: Sequence[str]) -> dict[str, str]:
    """Return specs without the arguments that all of the same name share, and without the name if all have the same."""
    parsed = {value: parse(value) for value in values}
    one_name = len({name for name, _ in parsed.values()}) == 1
    short = {}
    for value, (name, arguments) in parsed.items():
        same_name = [other for other_name, other in parsed.values() if other_name == name]
        differing = ", ".join(f"{key}={item}" for key, item in arguments.items()
                              if any(key not in other or other[key] != item for other in same_name))  # fmt: skip
        short[value] = name if not differing else differing if one_name else f"{name}({differing})"
    return short


def parse(spec: str) -> tuple[str, dict[str, Any]]:
    """Split a spec into name and arguments; a text that is no spec is a name without arguments."""
    try:
        return specs.parse(spec)
    except PudleError:
        return spec, {}


def quoted(label: str, estimator: str) -> str:
    """Return a label as a sentence has it: the estimator as code, and the rest in parentheses."""
    if not estimator or not label.startswith(estimator):
        return label
    rest = label.removeprefix(estimator).removeprefix(", ")
    return f"`{estimator}` ({rest})" if rest else f"`{estimator}`"


def without_nan(values: Iterable[float]) -> list[float]:
    """Return the values that are not NaN."""
    return [value for value in values if not math.isnan(value)]


def cells(
    methods: Sequence[Method],
    columns: Mapping[str, tuple[str, Callable[[float], str], Callable[[list[float]], float] | None]],
) -> dict[Method, dict[str, Cell]]:
    """Return the cells of a table with a row per method: medians with their ranges over the seeds.

    Parameters
    ----------
    columns : mapping
        By heading: name of a number in the summary, function that formats it, and function that chooses the best of a
        column (`min` or `max`), which is marked.
    """
    rows: dict[Method, dict[str, Cell]] = {method: {} for method in methods}
    for heading, (name, show, choose) in columns.items():
        medians = without_nan(method.median(name) for method in methods)
        best = choose(medians) if choose and medians else math.nan
        for method, row in rows.items():
            row[heading] = Cell(text.between(*method.spread(name), show), best=method.median(name) == best)
    return rows


def whole(value: float) -> str:
    """Return a number of steps, rounded up."""
    return text.DASH if math.isnan(value) else f"{math.ceil(value - 1e-9)}"
