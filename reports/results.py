"""The results of a run as tables, and each estimator's errors and costs as arrays; `load` reads
them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from pudle.answers import NO_CURVE, NO_LINE, Curve, Line, Measured
from pudle.measuring import contents, statuses
from pudle.measuring.scoring import ERRORS
from pudle.reports.curves import split
from pudle.reports.records import ExperimentRecord

#: Possible entries of the column ``metric`` of `Results.frame`, with their units.
METRICS = dict.fromkeys(ERRORS, "") | {"support_error": "share of samples", "memory_bytes": "bytes"}
METRICS |= dict.fromkeys(("seconds", "seconds_torch"), "s")
#: Those that are costs: measured once, for no seed and no target.
COSTS = ("seconds", "seconds_torch", "memory_bytes")
#: Those that a figure's vertical axis can show, with its title.
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
#: Those that the records give, in the order in which `load` reads them.
SCORES = (
    "case target estimator depth seed metric value status reason at_floor commit machine".split()
)
#: Columns of `Results.records`, `Results.timings` and `Results.references`; of the last, numbers
#: from ``bound`` on.
RECORDS = "case estimator status reason computes consistent_for seconds".split()
CELL = ("metric", "case", "estimator", "depth")
TIMINGS = "case estimator depth seconds low high samples".split()
REFERENCES = (
    "case seed target status reason bound gradient_norm kkt_residual smallest_eigenvalue"
    " condition_number dual_margin smallest_amplitude zero_codes uncertified samples step rho"
).split()
#: By kind of artifact: the columns that figures read.
ARTIFACTS = {
    "window_surface": ["seed", "depth", "window", "relative_error", "status"],
    "jacobian_error": ["seed", "depth", "relative_error"],
}
#: Statuses of a measurement that broke, as opposed to a finding about an estimator.
BROKEN = (*statuses.BROKEN, "missing")


@dataclass(frozen=True, eq=False)
class Results:
    """Results of one profile."""

    profile: str
    #: The tidy table; its columns are `COLUMNS`.
    frame: pd.DataFrame
    #: One row per (case, seed, target): status, reason, bound and the rest of the certificate.
    references: pd.DataFrame
    #: One row per selected (case, estimator): status, reason, computes, consistent_for (losses, or
    #: None for all).
    records: pd.DataFrame
    #: One row per timed (case, estimator, depth): seconds, their quartiles ``low`` and ``high``
    #: (NaN where there are fewer repeats than quartiles need), and a tuple ``samples`` of the
    #: repeats.
    timings: pd.DataFrame
    #: The selected cases by name and the selected estimators, in their order.
    cases: Mapping[str, Mapping[str, Any]]
    estimators: tuple[str, ...]
    #: The distinct provenances of the records, newest first.
    provenances: tuple[Mapping[str, Any], ...] = ()
    #: What a reader has to know about the origin of these numbers.
    notes: tuple[str, ...] = ()
    #: Surfaces and curves of single problems, see `contents.Artifact`; often none.
    artifacts: tuple[contents.Artifact, ...] = ()
    #: The record of each experiment, without its arrays. Where there are some, there may be no
    #: cases.
    experiments: tuple[ExperimentRecord, ...] = ()
    #: A line for each file that is damaged and therefore left out: it names the file and the
    #: remedy.
    damaged: tuple[str, ...] = ()

    def target(self, case: str) -> str:
        """Return the target that a case's summary is about: its first."""
        return self.cases[case]["targets"][0]

    def curve(
        self, case: str, estimator: str, metric: str = "relative_error", target: str | None = None
    ) -> Curve:
        """Return the errors of an estimator on a case, by default for the case's first target."""
        return self._curves.get((metric, case, target or self.target(case), estimator), NO_CURVE)

    @cached_property
    def _curves(self) -> dict[tuple[Any, ...], Curve]:
        rows = self.frame[
            (self.frame["status"] == "ok")
            & self.frame["value"].notna()
            & self.frame["target"].notna()
        ]
        return dict(split(rows, "metric", "case", "target", "estimator"))

    def line(self, case: str, estimator: str, cost: str) -> Line:
        """Return a cost against depth: a metric that is one, or the ``low`` or ``high`` quartile of
        the timing.
        """
        return self._lines.get((cost, case, estimator), NO_LINE)

    @cached_property
    def _lines(self) -> dict[tuple[Any, ...], Line]:
        costs = self.frame[
            (self.frame["status"] == "ok")
            & self.frame["value"].notna()
            & self.frame["metric"].isin(COSTS)
        ]
        columns = ["metric", "case", "estimator", "depth", "value"]
        quartiles = [
            self.timings.assign(metric=name, value=self.timings[name])[columns]
            for name in ("low", "high")
        ]
        rows = pd.concat([costs[columns], *quartiles], ignore_index=True).assign(
            seed=0, at_floor=False
        )
        return {
            key: Line.of(dict(zip(curve.depths.tolist(), curve.values[:, 0].tolist(), strict=True)))
            for key, curve in split(rows, *columns[:3])
        }

    @cached_property
    def measured(self) -> Mapping[str, tuple[Measured, ...]]:
        """What answers rest on: the estimators of each case."""

        def of(case: str, name: str) -> Measured:
            lines = [
                self.line(case, name, cost) for cost in ("seconds", "memory_bytes", "low", "high")
            ]
            return Measured(name, self.curve(case, name), *lines[:2], (lines[2], lines[3]))

        return {case: tuple(of(case, name) for name in self.estimators) for case in self.cases}

    def badge(self, case: str) -> str:
        """Return ``limit`` for a case whose reference is a limit and no certified minimizer, else
        an empty text.
        """
        return "limit" if case in self._limits else ""

    @cached_property
    def bounds(self) -> Mapping[tuple[str, str], float]:
        """The greatest bound over the seeds of each (case, target) whose references are certified
        or a limit.
        """
        scored = self.references[
            self.references["status"].isin(("certified", "limit")) & (self.references["bound"] > 0)
        ]
        return scored.groupby(["case", "target"])["bound"].max().to_dict()

    @cached_property
    def _limits(self) -> set[str]:
        return set(self.references.loc[self.references["status"] == "limit", "case"])

    def artifact_rows(self, kind: str, case: str) -> pd.DataFrame:
        """Return the rows of a case's artifacts of one kind as a table with the column ``seed``."""
        rows = [
            {"seed": item.seed, **row}
            for item in self.artifacts
            if (item.kind, item.case) == (kind, case)
            for row in item.rows
        ]
        return pd.DataFrame(rows, columns=ARTIFACTS[kind])
