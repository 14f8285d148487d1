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
        (first, own), *others = zip(self.names, map(_contents, self.reports), strict=True)
        for name, contents in others:
            if not set(own) & set(contents):
                raise InvalidArgument(
                    "these results have no case and no experiment in common:"
                    f" {first} holds {_listed(own)} and {name} holds {_listed(contents)}"
                )

    def csv(self) -> str:
        """Return all tidy tables as one, with the column ``run``."""
        frames = [report.results.frame for report in self.reports]
        return markup.csv(self._joined(frames))

    def _joined(self, frames: Sequence[pd.DataFrame], start: int = 0) -> pd.DataFrame:
        """Return tables of runs as one, with the column ``run``."""
        named = zip(frames, self.names[start:], strict=True)
        parts = [frame.assign(run=name) for frame, name in named if len(frame.columns)]
        return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()

    def markdown(self) -> str:
        """Return the runs, their answers and their differences as Markdown."""
        parts = ["# Runs side by side", markup.markdown_table(self.overview, code=["run"])]
        for name, table in (
            ("Answers", self.answers),
            ("Differences", self.differences),
            ("Experiments", self.experiments),
            ("Skipped, refused or failed", self.problems),
        ):
            reading = [markup.markdown(READING)] if name == "Differences" else []
            if reading or not table.empty:
                parts += [f"## {name}", *reading]
            if not table.empty:
                parts.append(markup.markdown_table(table, code=table.columns[:1]))
        return "\n\n".join(parts) + "\n"

    @cached_property
    def overview(self) -> pd.DataFrame:
        """One row per run: commit, date, machine and what it holds."""
        rows = []
        for name, report in zip(self.names, self.reports, strict=True):
            facts, results = report.facts, report.results
            row = {"run": name, "commit": facts["Commit"], "date": facts["Newest record"][:10]}
            row |= {"machine": facts.get("Machine", "unknown"), "processor": facts["Processor"]}
            row["versions"] = facts.get("Versions", "")
            for what in ("cases", "estimators", "experiments"):
                row[what] = str(len(getattr(results, what)))
            rows.append(row)
        return pd.DataFrame(rows, dtype=object)

    @cached_property
    def answers(self) -> pd.DataFrame:
        """Which estimator each run says to use, one row per case of any run."""
        rows: dict[str, dict[str, str]] = {}
        for name, report in zip(self.names, self.reports, strict=True):
            for row in report.answers:
                rows.setdefault(row["case"], {})[name] = _answer(row)
        table = [
            {"case": case} | {name: row.get(name, text.DASH) for name in self.names}
            for case, row in rows.items()
        ]
        return pd.DataFrame(table, dtype=object)

    @cached_property
    def differences(self) -> pd.DataFrame:
        """Error, time and memory of every later run beside the first, one row per run, case and
        estimator.
        """
        first, *others = self.reports
        return self._joined([_differences(first, other) for other in others], 1)

    @cached_property
    def experiments(self) -> pd.DataFrame:
        """The experiments of every later run beside the first."""
        first, *others = (report.results for report in self.reports)
        return self._joined([experiments_pair(first, other) for other in others], 1)

    @cached_property
    def problems(self) -> pd.DataFrame:
        """What was skipped, refused or failed in any run."""
        return self._joined([report.problems for report in self.reports])


def _differences(first: Report, second: Report) -> pd.DataFrame:
    """Compare errors in decades, times as a ratio, memory as a difference, and only where both have
    the same depth.
    """
    common = first.results.cases.keys() & second.results.cases.keys()
    if not common:
        return pd.DataFrame()
    one, two = (report.summary.set_index(["case", "estimator"]) for report in (first, second))
    keys = [key for key in dict.fromkeys([*one.index, *two.index]) if key[0] in common]
    one, two = one.reindex(keys), two.reindex(keys)

    def both(depth: str, value: str) -> tuple[pd.Series, pd.Series]:
        """Return a value of both sides where their depths are the same."""
        # An estimator that one side lacks or did not time has no depth there, which equals no
        # other.
        same = one[depth].astype("Float64").eq(two[depth].astype("Float64")).fillna(False)
        return one[value].where(same), two[value].where(same)

    errors, times = both("depth", "error"), both("seconds_depth", "seconds")
    memories = both("memory_depth", "memory")
    decades = np.log10(errors[1].where(errors[1] > 0) / errors[0].where(errors[0] > 0))
    ratios = times[1] / times[0].where(times[0] > 0)
    old, new = (side["status"].fillna("absent") for side in (one, two))
    table = pd.DataFrame(keys, columns=["case", "estimator"], dtype=object).assign(run="")
    shown = {
        "error before": one["error"].map(text.number),
        "error": two["error"].map(text.number),
        "decades": decades.map(partial(text.fixed, digits=2, sign="+")),
        "time before": one["seconds"].map(text.seconds),
        "time": two["seconds"].map(text.seconds),
        "times": ratios.map(partial(text.fixed, digits=2)),
        "memory before": one["memory"].map(text.memory),
        "memory": two["memory"].map(text.memory),
        "more memory": (memories[1] - memories[0]).map(_signed_memory),
        "status": old.where(old == new, old + ", then " + new),
    }
    return table.assign(**{name: column.to_list() for name, column in shown.items()})


def _answer(row: Mapping[str, Any]) -> str:
    layers = f"{row['depth']} layer{'' if row['depth'] == '1' else 's'}"
    return f"{row['use'] or 'no answer'}: {row['error']}, {layers}, {row['time']}"


def _contents(report: Report) -> list[str]:
    return [*report.results.cases, *(item.name for item in report.results.experiments)]


def _listed(contents: Sequence[str]) -> str:
    more = len(contents) - MOST_NAMES
    return ", ".join(contents[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _signed_memory(more: float) -> text.Cell:
    sign = "+" if more > 0 else "-" if more < 0 else ""
    return text.Cell(
        sign + text.memory(abs(more)) if more else "0", key=None if np.isnan(more) else more
    )
