"""Group experiments: those that differ in nothing but their seed are one method, and methods on the
same data one group.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from pudle import text
from pudle.reports.load import parsed
from pudle.reports.records import ExperimentRecord
from pudle.text import Cell

#: Options that distinguish trainings on one dataset with one estimator and depth, in the order in
#: which a label has them, and how it shows their values.
PARTS = {"loss": "{} loss", "algorithm": "{}", "optimizer": "{}", "schedule": "{}"} | {
    name: f"{name} {{}}" for name in ("batch", "epochs", "dtype")
}


@dataclass(frozen=True, eq=False)
class Method:
    """Experiments that differ in nothing but their seed.

    The label holds the estimator and the options that distinguish the method from the others of its
    group, or the name of another package, whose estimator is empty. `parts` has these options with
    their shortened values, and `variant` counts the other labels that the estimator has before this
    one.
    """

    label: str
    estimator: str
    parts: Mapping[str, str]
    depth: int | None
    runs: list[ExperimentRecord]
    variant: int = 0

    @property
    def owner(self) -> str:
        """Name whose look the method has: the estimator, or the other package."""
        return self.estimator or self.label

    @property
    def good(self) -> list[ExperimentRecord]:
        """The runs whose status is ``ok``."""
        return [run for run in self.runs if run.status == "ok"]

    @property
    def status(self) -> str:
        """``ok``, or the statuses of the runs that failed and their number."""
        failed = [run.status for run in self.runs if run.status != "ok"]
        count = f" in {len(failed)} of {len(self.runs)} seeds" if self.good else ""
        return text.listing(list(dict.fromkeys(failed))) + count if failed else "ok"

    @property
    def quoted(self) -> str:
        """The label as a sentence has it: the estimator as code, and the rest in parentheses."""
        if not self.estimator or not self.label.startswith(self.estimator):
            return self.label
        rest = self.label.removeprefix(self.estimator).removeprefix(", ")
        return f"`{self.estimator}` ({rest})" if rest else f"`{self.estimator}`"

    def spread(self, name: str) -> tuple[float, float, float]:
        """Return the median, least and greatest value over the seeds of a number of the summary,
        NaN if no seed has it.
        """
        values = pd.Series([run.number(name) for run in self.good], dtype=float).dropna()
        return values.median(), values.min(), values.max()

    def median(self, name: str) -> float:
        """Return the median over the seeds of a number of the summary, NaN if no seed has it."""
        return self.spread(name)[0]

    def curve(self, name: str) -> pd.DataFrame:
        """Return the median, least and greatest value over the seeds of a column of the history, by
        step.

        Steps at which some seed has no value are left out, because a median over other seeds would
        jump there.
        """
        columns = ["step", "epoch", "seconds", "median", "least", "greatest"]
        histories = [run.history(*columns[:3], name).dropna(subset=[name]) for run in self.good]
        if not histories:
            return pd.DataFrame(columns=columns, dtype=float)
        steps = pd.concat(histories).groupby("step")
        ends = {"median": (name, "median"), "least": (name, "min"), "greatest": (name, "max")}
        times = {each: (each, "median") for each in columns[1:3]}
        merged = steps.agg(**times, **ends)[steps.size() == len(histories)]
        return merged.reset_index()


def chance(methods: Sequence[Method]) -> list[str]:
    """Return a sentence on how certain an order of methods is, where each has one seed."""
    trained = [method for method in methods if method.estimator]
    if len(trained) < 2 or max(len(method.runs) for method in methods) > 1:
        return []
    return ["Each training ran with one seed only: small differences may be chance."]


def group(
    records: Iterable[ExperimentRecord], title: Callable[[ExperimentRecord], str]
) -> dict[str, list[Method]]:
    """Sort experiments by a title that names their data, and those with one title into methods, in
    the order of depths.
    """
    members: dict[str, list[ExperimentRecord]] = defaultdict(list)
    for record in records:
        members[title(record)].append(record)
    return {name: _methods(same_title) for name, same_title in members.items()}


def _methods(records: Sequence[ExperimentRecord]) -> list[Method]:
    """Label trainings by their estimator and the options in which they differ, other experiments by
    their own words.
    """
    values = {
        part: [str(record.options.get(part)) for record in records if record.kind == "learning"]
        for part in PARTS
    }
    short = {part: shortened(options) for part, options in values.items() if len(set(options)) > 1}
    methods: dict[tuple[str, int | None, str], Method] = {}
    for record in records:
        label, depth, parts = record.method, None, {}
        if record.kind == "learning":
            parts = {part: names[str(record.options.get(part))] for part, names in short.items()}
            label = ", ".join(
                [record.estimator, *(PARTS[part].format(value) for part, value in parts.items())]
            )
            depth = record.options.get("depth")
        options = repr(
            sorted((name, repr(value)) for name, value in record.options.items() if name != "seed")
        )
        methods.setdefault(
            (label, depth, options), Method(label, record.estimator, parts, depth, [])
        ).runs.append(record)
    counts = Counter((method.label, method.depth) for method in methods.values())
    labels = [
        method.label
        if counts[method.label, method.depth] == 1
        else f"{method.label}, {method.runs[0].name}"
        for method in methods.values()
    ]
    return sorted(
        relabeled(methods.values(), labels),
        key=lambda item: math.inf if item.depth is None else item.depth,
    )


def relabeled(methods: Iterable[Method], labels: Iterable[str]) -> list[Method]:
    """Return methods with other labels, and with variants that distinguish the labels of one
    estimator.
    """
    variants: dict[str, dict[str, int]] = defaultdict(dict)
    made = []
    for method, label in zip(methods, labels, strict=True):
        earlier = variants[method.estimator or label]
        made.append(replace(method, label=label, variant=earlier.setdefault(label, len(earlier))))
    return made


def shortened(values: Sequence[str]) -> dict[str, str]:
    """Return specs without the arguments that all of the same name share, and without the name if
    all have the same.
    """
    specs = {value: parsed(value) for value in values}
    one_name = len({name for name, _ in specs.values()}) == 1
    short = {}
    for value, (name, arguments) in specs.items():
        same_name = [other for other_name, other in specs.values() if other_name == name]
        differing = ", ".join(
            f"{key}={item}"
            for key, item in arguments.items()
            if any(key not in other or other[key] != item for other in same_name)
        )
        short[value] = name if not differing else differing if one_name else f"{name}({differing})"
    return short


def whole(value: float) -> str:
    """Return a number of steps, rounded up."""
    return text.DASH if math.isnan(value) else f"{math.ceil(value - 1e-9)}"


def cells(
    methods: Sequence[Method], columns: Mapping[str, tuple[str, Callable[[float], str], str | None]]
) -> dict[str, list[Cell]]:
    """Return columns of a table with one row per method: its label, and medians and ranges over the
    seeds.

    `columns` has by heading: a number of the summary, the function that formats it, and ``min`` or
    ``max`` to mark the best.
    """
    table = {"method": [Cell(method.label, method.estimator) for method in methods]}
    for heading, (name, show, choose) in columns.items():
        spreads = [method.spread(name) for method in methods]
        best = pd.Series([median for median, *_ in spreads]).agg(choose) if choose else math.nan
        table[heading] = [
            Cell(text.between(*spread, show), best=spread[0] == best) for spread in spreads
        ]
    return table
