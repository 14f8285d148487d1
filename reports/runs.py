"""Several runs side by side: of commits, of machines, or of anything else that has results."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd

from pudle import text
from pudle.errors import InvalidArgument
from pudle.reports import markup
from pudle.reports.learning.sections import experiments_pair
from pudle.reports.report import Report

#: Names that an error lists for each run.
MOST_NAMES = 5
READING = (
    "The first run is what the others are compared with. Error: median over seeds at the deepest"
    " depth of the case; its difference is in decades, above zero where the later run is worse."
    " Time is compared as a ratio and memory as a difference, at the deepest timed depth. Times"
    " from two machines say little about the code. Numbers at different depths are not compared."
    " These tables describe; pudle compare judges."
)


@dataclass(frozen=True, eq=False)
class Runs:
    """Several reports and the names that the user gave them; refused if some run has nothing in
    common with the first.
    """

    reports: Sequence[Report]
    names: Sequence[str]

    def __post_init__(self) -> None:
        first = self.reports[0]
        for name, other in zip(self.names[1:], self.reports[1:], strict=True):
            if not _contents(first) & _contents(other):
                contents = (
                    f"{label} holds {_listed(report)}"
                    for label, report in ((self.names[0], first), (name, other))
                )
                raise InvalidArgument(
                    "these results have no case and no experiment in common:"
                    f" {' and '.join(contents)}"
                )

    def csv(self) -> str:
        """Return all tidy tables as one, with the column ``run``."""
        frames = [
            report.results.frame.assign(run=name)
            for name, report in zip(self.names, self.reports, strict=True)
        ]
        return markup.csv(pd.concat(frames, ignore_index=True))

    def markdown(self) -> str:
        """Return the runs, their answers and their differences as Markdown."""
        parts = [
            "# Runs side by side",
            self.overview,
            "## Answers",
            self.answers,
            "## Differences",
            markup.markdown(READING),
            self.differences,
            "## Experiments",
            self.experiments,
            "## Skipped, refused or failed",
            self.problems,
        ]
        shown, heading = [], ""
        for part in parts:
            if isinstance(part, pd.DataFrame):
                if not part.empty:
                    shown += [heading] * bool(heading) + [
                        markup.markdown_table(part, code=part.columns[:1])
                    ]
                    heading = ""
            elif part.startswith("## "):
                heading = part
            else:
                shown += [heading] * bool(heading) + [part]
                heading = ""
        return "\n\n".join(shown) + "\n"

    @cached_property
    def overview(self) -> pd.DataFrame:
        """One row per run: commit, date, machine and what it holds."""
        rows = []
        for name, report in zip(self.names, self.reports, strict=True):
            facts, results = report.facts, report.results
            rows.append(
                {
                    "run": name,
                    "commit": facts["Commit"],
                    "date": facts["Newest record"][:10],
                    "machine": facts.get("Machine", "unknown"),
                    "processor": facts["Processor"],
                    "versions": facts.get("Versions", ""),
                    "cases": str(len(results.cases)),
                    "estimators": str(len(results.estimators)),
                    "experiments": str(len(results.experiments)),
                }
            )
        return pd.DataFrame(rows, dtype=object)

    @cached_property
    def answers(self) -> pd.DataFrame:
        """Which estimator each run says to use, one row per case of any run."""
        by_run = {
            name: {row["case"]: row for row in report.answers}
            for name, report in zip(self.names, self.reports, strict=True)
        }
        cases = dict.fromkeys(case for rows in by_run.values() for case in rows)
        shown = {
            case: {name: _answer(rows.get(case)) for name, rows in by_run.items()} for case in cases
        }
        return pd.DataFrame([{"case": case, **row} for case, row in shown.items()], dtype=object)

    @cached_property
    def differences(self) -> pd.DataFrame:
        """Error, time and memory of every later run beside the first, one row per run, case and
        estimator.
        """
        first, *others = self.reports
        parts = [
            _differences(first, other).assign(run=name)
            for name, other in zip(self.names[1:], others, strict=True)
            if first.results.cases and other.results.cases
        ]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    @cached_property
    def experiments(self) -> pd.DataFrame:
        """The experiments of every later run beside the first."""
        first, *others = (report.results for report in self.reports)
        parts = [
            experiments_pair(first, other).assign(run=name)
            for name, other in zip(self.names[1:], others, strict=True)
        ]
        return pd.concat(parts, ignore_index=True)

    @cached_property
    def problems(self) -> pd.DataFrame:
        """What was skipped, refused or failed in any run."""
        parts = [
            report.problems.assign(run=name)
            for name, report in zip(self.names, self.reports, strict=True)
        ]
        return pd.concat(parts, ignore_index=True)


def _differences(first: Report, second: Report) -> pd.DataFrame:
    """Compare errors in decades, times as a ratio, memory as a difference, and only where both have
    the same depth.
    """
    one, two = (report.summary.set_index(["case", "estimator"]) for report in (first, second))
    common = first.results.cases.keys() & second.results.cases.keys()
    keys = [key for key in dict.fromkeys([*one.index, *two.index]) if key[0] in common]
    if not keys:
        return pd.DataFrame()
    one, two = one.reindex(keys), two.reindex(keys)
    # An estimator that one side lacks or did not time has no depth there, which equals no other.
    depths, other = (
        side[["depth", "seconds_depth", "memory_depth"]].astype("Float64") for side in (one, two)
    )
    same = depths.eq(other).fillna(False)
    decades = np.log10(
        (two["error"] / one["error"]).where(same["depth"] & (one["error"] > 0) & (two["error"] > 0))
    )
    ratios = (two["seconds"] / one["seconds"]).where(same["seconds_depth"] & (one["seconds"] > 0))
    more = (two["memory"] - one["memory"]).where(same["memory_depth"])
    old, new = (side["status"].fillna("absent") for side in (one, two))
    cases, estimators = zip(*keys, strict=True)
    columns: Mapping[str, Any] = {
        "case": cases,
        "estimator": estimators,
        "run": "",
        "error before": map(text.number, one["error"]),
        "error": map(text.number, two["error"]),
        "decades": map(partial(text.fixed, digits=2, sign="+"), decades),
        "time before": map(text.seconds, one["seconds"]),
        "time": map(text.seconds, two["seconds"]),
        "times": map(partial(text.fixed, digits=2), ratios),
        "memory before": map(text.memory, one["memory"]),
        "memory": map(text.memory, two["memory"]),
        "more memory": map(_signed_memory, more),
        "status": old.where(old == new, old + ", then " + new),
    }
    return pd.DataFrame(
        {name: cells if isinstance(cells, str) else list(cells) for name, cells in columns.items()},
        dtype=object,
    )


def _answer(row: Mapping[str, Any] | None) -> str:
    if row is None:
        return text.DASH
    layers = f"{row['depth']} layer{'' if row['depth'] == '1' else 's'}"
    return f"{row['use'] or 'no answer'}: {row['error']}, {layers}, {row['time']}"


def _contents(report: Report) -> set[str]:
    return {*report.results.cases, *(item.name for item in report.results.experiments)}


def _listed(report: Report) -> str:
    names = [*report.results.cases, *(item.name for item in report.results.experiments)]
    return ", ".join(names[:MOST_NAMES]) + (
        f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    )


def _signed_memory(more: float) -> text.Cell:
    sign = "+" if more > 0 else "-" if more < 0 else ""
    return text.Cell(
        sign + text.memory(abs(more)) if more else "0", key=None if np.isnan(more) else more
    )
