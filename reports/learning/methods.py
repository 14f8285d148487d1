"""Experiments that differ in nothing but their seed are one method, and methods on the same data
one group.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

import pandas as pd

from pudle import names, text
from pudle.reports.load import parsed
from pudle.reports.records import ExperimentRecord
from pudle.reports.summary import Spread, spread

#: Options that distinguish trainings on one dataset with one estimator and depth, in the order in
#: which a label has them, and how it shows their values.
PARTS = {"loss": "{} loss", "algorithm": "{}", "optimizer": "{}", "schedule": "{}"} | {
    name: f"{name} {{}}" for name in ("batch", "epochs", "dtype")
}
#: What a title says of trainings in which each sample starts from its codes of the step before;
#: where it says nothing, codes start alike in every step, at zero as a rule.
WARM = "from the last codes"


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
    runs: list[ExperimentRecord]

    @property
    def warm(self) -> bool:
        """Whether each sample starts from its codes of the step before."""
        return bool(self.runs[0].options.get("warm_start"))

    @property
    def good(self) -> list[ExperimentRecord]:
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
        rest = self.label.removeprefix(self.estimator)
        if not self.estimator or rest == self.label:
            return self.label
        return f"`{self.estimator}`" + (f" ({rest.removeprefix(', ')})" if rest else "")

    def spread(self, name: str) -> Spread:
        """Return the median, least and greatest value over the seeds of a number of the summary,
        NaN if no seed has it.
        """
        return spread(run.number(name) for run in self.good)

    def median(self, name: str) -> float:
        """Return the median over the seeds of a number of the summary."""
        return self.spread(name).value

    def curve(self, name: str) -> pd.DataFrame:
        """Return the median over the seeds of a column of the history, by step, and the least and
        greatest value with the endings ``_low`` and ``_high``.

        Steps at which some seed has no value are left out, because a median over other seeds would
        jump there. Some seed must be good.
        """
        places = ["step", "epoch", "seconds", name]
        histories = [run.history(*places).dropna(subset=[name]) for run in self.good]
        steps = pd.concat(histories).groupby("step")
        ends = {f"{name}_low": (name, "min"), f"{name}_high": (name, "max")}
        merged = steps.agg(**{each: (each, "median") for each in places[1:]}, **ends)
        return merged[steps.size() == len(histories)].reset_index()


def group(
    records: Iterable[ExperimentRecord], title: Callable[[ExperimentRecord], str]
) -> dict[str, list[Method]]:
    """Sort experiments by a title that names their data, and those with one title into methods, in
    the order of depths.
    """
    members = defaultdict(list)
    for record in records:
        members[title(record)].append(record)
    return {name: _methods(same_title) for name, same_title in members.items()}


def _methods(records: list[ExperimentRecord]) -> list[Method]:
    """Label trainings by their estimator and the options in which they differ, other experiments by
    their own words.
    """
    trainings = [record.options for record in records if record.kind == "learning"]
    differing = [
        part for part in PARTS if len({str(options.get(part)) for options in trainings}) > 1
    ]
    runs = defaultdict(list)
    for record in records:
        options = sorted((record.options | {"seed": None}).items())
        runs[repr((record.method, options))].append(record)
    made = []
    for first, *others in runs.values():
        label, depth = first.method, None
        if first.kind == "learning":
            parts = (PARTS[part].format(first.options.get(part)) for part in differing)
            solver = names.entries("algorithms").get(parsed(str(first.options["algorithm"]))[0])
            label = ", ".join([first.estimator, *parts])
            depth = first.depth if getattr(solver, "differentiable", True) else None
        made.append(Method(label, first.estimator, depth, [first, *others]))
    counts = Counter((method.label, method.depth, method.warm) for method in made)
    labeled = (
        replace(method, label=f"{method.label}, {method.runs[0].name}")
        if counts[method.label, method.depth, method.warm] > 1
        else method
        for method in made
    )
    return sorted(labeled, key=lambda method: (method.depth is None, method.depth))
