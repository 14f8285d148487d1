"""The results of a run as tables, and each estimator's errors and costs as arrays; `load` reads
them.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from pudle import paired, text
from pudle.answers import NO_CURVE, NO_LINE, NO_ROUNDS, Curve, Line, Measured, Rounds
from pudle.measuring import contents
from pudle.measuring.case import common, labels
from pudle.reports.records import ExperimentRecord

#: Metrics that are costs: measured once, for no seed and no target.
TIMES = ("seconds", "seconds_torch")
COSTS = (*TIMES, "memory_bytes")
#: Metrics that a figure's vertical axis can show, with its title.
TITLES = {
    "relative_error": "relative error of the gradient",
    "cosine_error": "1 - cosine to the reference",
    "code_error": "error of the codes",
    "support_error": "share of samples with a wrong sign",
}

#: Columns of `Results.frame` with their pandas types. It has one row per (case, target, estimator,
#: depth, seed, metric).
COLUMNS = dict.fromkeys("case dataset algorithm loss target estimator".split(), "str")
COLUMNS |= {"depth": "Int64", "seed": "Int64", "metric": "str", "value": "float64"}
COLUMNS |= dict.fromkeys("status reason commit machine profile".split(), "str")
COLUMNS["at_floor"] = "bool"
#: What `Results.records` have beside case and estimator.
CLAIMS = ("status", "reason", "computes", "consistent_for")
#: Columns of `Results.references`, numbers from ``bound`` on.
REFERENCES = (
    "case seed target status reason bound gradient_norm kkt_residual smallest_eigenvalue"
    " condition_number dual_margin smallest_amplitude zero_codes uncertified samples step rho"
).split()
#: Statuses of a measurement that broke, as opposed to a finding about an estimator.
BROKEN = (*contents.BROKEN, "missing")


#: A row of a table, or what a record holds, by name.
Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Results:
    """Results of one profile."""

    profile: str
    #: The tidy table; its columns are `COLUMNS`.
    frame: pd.DataFrame
    #: One row per (case, seed, target): status, reason, bound and the rest of the certificate.
    references: pd.DataFrame
    #: One mapping per selected (case, estimator), with `CLAIMS`; consistent_for has losses, or is
    #: None for all.
    records: Sequence[Row]
    #: One row per time (metric, case, estimator, depth): seconds, a tuple ``samples`` of them by
    #: round, and ``turns``, see `pudle.measuring.contents.CostRecord`.
    timings: pd.DataFrame
    #: The selected cases by name, each with the ``problem`` that it shares with others and whether
    #: its algorithm is ``differentiable``, and the selected estimators, in their order.
    cases: Mapping[str, Row]
    estimators: tuple[str, ...]
    #: The provenances of the records, newest first.
    provenances: Sequence[Row] = ()
    #: What a reader has to know about the origin of these numbers.
    notes: Sequence[str] = ()
    #: Surfaces and curves of single problems, see `contents.Artifact`; often none.
    artifacts: Sequence[contents.Artifact] = ()
    #: The record of each experiment. Where there are some, there may be no cases.
    experiments: Sequence[ExperimentRecord] = ()
    #: A line for each file that is damaged and therefore left out: it names the file and the
    #: remedy.
    damaged: Sequence[str] = ()

    @cached_property
    def labels(self) -> Mapping[str, text.Cell]:
        """What tables and titles call each case, by name."""
        shown = labels(self.cases).items()
        return {name: text.Cell(label, case=name * (label != name)) for name, label in shown}

    def target(self, case: str) -> str:
        """Return the target that a case's summary is about: its first."""
        return self.cases[case]["targets"][0]

    def curve(
        self, case: str, estimator: str, metric: str = "relative_error", target: str = ""
    ) -> Curve:
        """Return the errors of an estimator on a case, by default for the case's first target."""
        return self._curves.get((metric, case, target or self.target(case), estimator), NO_CURVE)

    @cached_property
    def _curves(self) -> Mapping[Any, Curve]:
        curves = {}
        # Costs have no target, and are in no group.
        for key, every in self._measured.groupby(["metric", "case", "target"]):
            # A seed that was scored counts for each estimator, also for one that failed on it.
            seeds = np.unique(every["seed"].to_numpy(int))
            for estimator, part in every.groupby("estimator"):
                depths, rows = np.unique(part["depth"].to_numpy(int), return_inverse=True)
                columns = np.searchsorted(seeds, part["seed"].to_numpy(int))
                values = np.full((len(depths), len(seeds)), np.nan)
                at_floor = np.zeros(values.shape, bool)
                values[rows, columns], at_floor[rows, columns] = part["value"], part["at_floor"]
                curves[*key, estimator] = Curve(depths, seeds, values, at_floor)
        return curves

    def line(self, case: str, estimator: str, cost: str) -> Line:
        """Return a cost against depth; a cost is a metric."""
        return self._lines.get((cost, case, estimator), NO_LINE)

    @cached_property
    def _lines(self) -> Mapping[Any, Line]:
        costs = self._measured[self._measured["metric"].isin(COSTS)]
        return {
            key: Line(dict(zip(part["depth"], part["value"], strict=True)))
            for key, part in costs.groupby(["metric", "case", "estimator"])
        }

    def rounds(self, case: str, estimator: str, metric: str = "seconds") -> Rounds:
        """Return the times of an estimator by round."""
        return self._rounds.get((metric, case, estimator), NO_ROUNDS)

    @cached_property
    def _rounds(self) -> Mapping[Any, Rounds]:
        # All that was timed in the same turns is compared with each other at each depth.
        p_values = [np.empty(0)]
        numbers = self.timings["samples"].map(len)
        alike = ["metric", "depth", "turns", numbers[numbers > 1]]
        for _, part in self.timings.groupby(alike):
            taken = np.array([*part["samples"]])
            one, other = np.triu_indices(len(taken), 1)
            p_values.append(paired.compare(taken[one], taken[other]).p_value)
        significance = paired.critical(np.concatenate(p_values))
        rounds = {}
        for key, part in self.timings.groupby(["metric", "case", "estimator"]):
            # Those at one depth may have been measured later than others.
            part = part[part["turns"] == part["turns"].iloc[-1]]
            samples = dict(zip(part["depth"].astype(int), part["samples"], strict=True))
            rounds[key] = Rounds(samples, part["turns"].iloc[-1], significance)
        return rounds

    @cached_property
    def _measured(self) -> pd.DataFrame:
        return self.frame[self.frame["status"].eq("ok") & self.frame["value"].notna()]

    @cached_property
    def measured(self) -> Mapping[str, tuple[Measured, ...]]:
        """What answers rest on: the estimators of each case."""

        return {
            case: tuple(
                Measured(
                    name,
                    self.curve(case, name),
                    self.line(case, name, "seconds"),
                    self.line(case, name, "memory_bytes"),
                    self.rounds(case, name),
                    facts["algorithm"],
                    case,
                    facts["differentiable"],
                )
                for name in self.estimators
            )
            for case, facts in self.cases.items()
        }

    @cached_property
    def problems(self) -> Sequence[tuple[str, tuple[Measured, ...]]]:
        """What each problem is called, and what was measured on it: the estimators of its cases,
        which differ in the algorithm alone.
        """
        groups = defaultdict[Any, list[str]](list)
        for name, case in self.cases.items():
            groups[case["problem"]].append(name)
        return [
            (
                common([self.labels[name] for name in names]),
                tuple(each for name in names for each in self.measured[name]),
            )
            for names in groups.values()
        ]

    @property
    def solved(self) -> bool:
        """True if there is an algorithm that cannot be differentiated."""
        return not all(case["differentiable"] for case in self.cases.values())

    def badge(self, case: str) -> str:
        """Return ``limit`` for a case whose reference is a limit and no certified minimizer, else
        an empty text.
        """
        return "limit" if case in self._limits else ""

    @cached_property
    def _limits(self) -> set[str]:
        return set(self.references.loc[self.references["status"] == "limit", "case"])

    @cached_property
    def bounds(self) -> Mapping[tuple[str, str], float]:
        """The greatest bound over the seeds of each (case, target) whose references are certified
        or a limit.
        """
        scored = self.references[self.references["status"].isin(("certified", "limit"))]
        return scored[scored["bound"] > 0].groupby(["case", "target"])["bound"].max().to_dict()

    def artifact_rows(self, kind: str, case: str) -> pd.DataFrame:
        """Return the rows of a case's artifacts of one kind as a table with the column ``seed``."""
        rows = [
            {"seed": item.seed} | row
            for item in self.artifacts
            if (item.kind, item.case) == (kind, case)
            for row in item.rows
        ]
        return pd.DataFrame(rows, columns=["seed", "depth", "window", "relative_error"])
