"""Group experiments: those that differ in nothing but their seed are one method, and methods on the same data one group."""

from __future__ import annotations

import math
import statistics
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

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
        Shortened values of the options that distinguish the method from the others.
    variant : int
        Number of earlier methods with the same estimator and other labels.
    depth : int or None
    runs : sequence of ExperimentRecord
        One per seed.
    """

    label: str
    estimator: str
    parts: Mapping[str, str]
    variant: int
    depth: int | None
    runs: Sequence[ExperimentRecord]

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
        """The label as a sentence has it: the estimator as code, and the rest in parentheses."""
        if not self.estimator or not self.label.startswith(self.estimator):
            return self.label
        rest = self.label.removeprefix(self.estimator).removeprefix(", ")
        return f"`{self.estimator}` ({rest})" if rest else f"`{self.estimator}`"

    def spread(self, name: str) -> tuple[float, float, float]:
        """Return the median, least and greatest value over the seeds of a number of the summary, NaN if no seed has it."""
        values = without_nan(run.number(name) for run in self.good) or [math.nan]
        return statistics.median(values), min(values), max(values)

    def median(self, name: str) -> float:
        """Return the median over the seeds of a number of the summary, NaN if no seed has it."""
        return self.spread(name)[0]

    def curve(self, name: str) -> pd.DataFrame:
        """Return the median, least and greatest value over the seeds of a column of the history.

        Steps at which some seed has no value are left out, because a median over other seeds would jump there.

        Returns
        -------
        DataFrame
            With the columns ``step``, ``epoch``, ``seconds``, ``median``, ``least`` and ``greatest``.
        """
        columns = ["step", "epoch", "seconds", "median", "least", "greatest"]
        histories = []
        for run in self.good:
            history = pd.DataFrame({key: run.column(key) for key in columns[:3]} | {"value": run.column(name)})
            if "step" not in run.rows:
                history["step"] = range(len(history))
            histories.append(history.dropna(subset=["value"]))
        if not histories:
            return pd.DataFrame(columns=columns)
        merged = pd.concat(histories).groupby("step", as_index=False).agg(
            epoch=("epoch", "median"), seconds=("seconds", "median"), median=("value", "median"), least=("value", "min"),
            greatest=("value", "max"), seeds=("value", "count"),
        )  # fmt: skip
        return merged.loc[merged["seeds"] == len(histories), columns].reset_index(drop=True)


def group(records: Iterable[ExperimentRecord], title: Callable[[ExperimentRecord], str]) -> dict[str, list[Method]]:
    """Sort experiments by a title that names their data, and those with one title into methods, in the order of depths."""
    members: dict[str, list[ExperimentRecord]] = {}
    for record in records:
        members.setdefault(title(record), []).append(record)
    return {name: _methods(same_title) for name, same_title in members.items()}


def _methods(records: Sequence[ExperimentRecord]) -> list[Method]:
    """Label trainings by their estimator and the options in which they differ, other experiments by their own words."""
    values = {part: [str(record.options.get(part)) for record in records if record.kind == "learning"] for part in PARTS}
    short = {part: shortened(options) for part, options in values.items() if len(set(options)) > 1}
    runs: dict[tuple[str, int | None, str], tuple[dict[str, str], list[ExperimentRecord]]] = {}
    for record in records:
        label, depth, parts = record.method, None, {}
        if record.kind == "learning":
            parts = {part: names[str(record.options.get(part))] for part, names in short.items()}
            label = ", ".join([record.estimator, *(_phrase(part, value) for part, value in parts.items())])
            depth = record.options.get("depth")
        runs.setdefault((label, depth, record.options_without_seed), (parts, []))[1].append(record)
    counts = Counter((label, depth) for label, depth, _ in runs)
    labels: dict[str, list[str]] = {}
    methods = []
    for (label, depth, _), (parts, members) in runs.items():
        label, estimator = label if counts[label, depth] == 1 else f"{label}, {members[0].name}", members[0].estimator
        earlier = labels.setdefault(estimator, [])
        if label not in earlier:
            earlier.append(label)
        # A method of another package has a marker of its own and needs no variant.
        methods.append(Method(label, estimator, parts, earlier.index(label) if estimator else 0, depth, members))
    return sorted(methods, key=lambda method: math.inf if method.depth is None else method.depth)


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


def without_nan(values: Iterable[float]) -> list[float]:
    """Return the values that are not NaN."""
    return [value for value in values if not math.isnan(value)]


def whole(value: float) -> str:
    """Return a number of steps, rounded up."""
    return text.DASH if math.isnan(value) else f"{math.ceil(value - 1e-9)}"


def cells(
    methods: Sequence[Method],
    columns: Mapping[str, tuple[str, Callable[[float], str], Callable[[list[float]], float] | None]],
) -> dict[Method, dict[str, Cell]]:
    """Return the cells of a table with one row per method: medians and ranges over the seeds.

    Parameters
    ----------
    columns : mapping
        By heading: name of a number in the summary, function that formats it, and `min` or `max` to mark the best cell.
    """
    rows: dict[Method, dict[str, Cell]] = {method: {} for method in methods}
    for heading, (name, show, choose) in columns.items():
        medians = without_nan(method.median(name) for method in methods)
        best = choose(medians) if choose and medians else math.nan
        for method, row in rows.items():
            row[heading] = Cell(text.between(*method.spread(name), show), best=method.median(name) == best)
    return rows
