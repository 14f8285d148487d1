"""Several runs side by side: of commits, of machines, or of anything else that has results."""

import math
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pudle import text
from pudle.errors import InvalidArgument
from pudle.measuring.case import common, labels
from pudle.reports import markup
from pudle.reports.learning.sections import experiments_pair
from pudle.reports.report import Report
from pudle.reports.tables import some

READING = (
    "The first run is what the others are compared with. Error: median over seeds at the deepest"
    " depth of the case; its difference is in decades, above zero where the later run is worse."
    " Time is compared as a ratio and memory as a difference, at the deepest timed depth. Times"
    " from two machines say little about the code. Numbers at different depths are not compared."
    " These tables describe; pudle compare judges."
)


def _decades(before: float, after: float) -> text.Cell:
    decades = math.log10(after / before) if before > 0 and after > 0 else math.nan
    return text.fixed(decades, 2, sign="+")


def _times(before: float, after: float) -> text.Cell:
    return text.fixed(after / before if before > 0 else math.nan, 2)


def _more(before: float, after: float) -> text.Cell:
    more = after - before
    sign = "+" if more > 0 else "-"
    return text.Cell(sign + text.memory(abs(more)) if more else "0", key=more)


#: What is compared: the column of the summary, that of its depth, how it is shown, and title and
#: text of the difference.
MEASURES = {
    "error": ("error", "depth", text.number, "decades", _decades),
    "time": ("seconds", "seconds_depth", text.seconds, "times", _times),
    "memory": ("memory", "memory_depth", text.memory, "more memory", _more),
}


@dataclass(frozen=True, eq=False)
class Runs:
    """Several reports by the names that the user gave them; refused if some run has nothing in
    common with the first.
    """

    reports: Mapping[str, Report]

    def __post_init__(self) -> None:
        held = {
            name: [*report.results.cases, *(item.name for item in report.results.experiments)]
            for name, report in self.reports.items()
        }
        (first, others), *_ = held.items()
        for name, names in held.items():
            if set(names).isdisjoint(others):
                raise InvalidArgument(
                    "these results have no case and no experiment in common:"
                    f" {first} holds {some(others)} and {name} holds {some(names)}"
                )

    def csv(self) -> str:
        """Return all tidy tables as one, with the column ``run``."""
        frames = {name: report.results.frame for name, report in self.reports.items()}
        return markup.csv(_joined(frames))

    def markdown(self) -> str:
        """Return the runs, their answers and their differences as Markdown."""
        return markup.render("runs.md.j2", runs=self, reading=READING)

    @property
    def problems(self) -> pd.DataFrame:
        """What was skipped, refused or failed in any run."""
        return _joined({name: report.problems for name, report in self.reports.items()})

    @property
    def overview(self) -> pd.DataFrame:
        """One row per run: commit, date, machine and what it holds."""
        rows = []
        for name, report in self.reports.items():
            facts = {"Machine": "unknown", "Versions": ""} | report.facts
            row = {"run": name, "commit": facts["Commit"], "date": facts["Newest record"][:10]}
            row |= {key.lower(): facts[key] for key in ("Machine", "Processor", "Versions")}
            for what in ("cases", "estimators", "experiments"):
                row[what] = str(len(getattr(report.results, what)))
            rows.append(row)
        return pd.DataFrame(rows, dtype=object)

    @property
    def answers(self) -> pd.DataFrame:
        """Which algorithm and estimator each run says to use, one row per problem of any run."""
        answers, problems = (defaultdict[Any, dict[str, Any]](dict) for _ in "ap")
        for name, report in self.reports.items():
            for case in report.results.cases.values():
                problems[case["problem"]][case["name"]] = case
            for row in report.answers:
                depth = f"{row['depth']} {row['best'].unit}{'s' * (row['depth'].key != 1)}"
                use = f"{row['use']}: {row['error']}, {depth}, {row['time']}"
                answers[report.results.cases[row["case"]]["problem"]][name] = use
        called = labels({name: case for some in problems.values() for name, case in some.items()})
        rows = [
            {"problem": common([called[name] for name in some])} | answers[problem]
            for problem, some in problems.items()
        ]
        return pd.DataFrame(rows, columns=["problem", *self.reports], dtype=object).fillna(
            text.DASH
        )

    @property
    def differences(self) -> pd.DataFrame:
        """Error, time and memory of every later run beside the first, one row per run, common case
        and estimator; numbers are compared only at the same depth.
        """
        (_, first), *others = self.reports.items()
        rows = []
        for name, other in others:
            both = first.results.cases.keys() & other.results.cases.keys()
            sides = [
                {
                    (row["case"], row["estimator"]): row
                    for row in report.summary.to_dict("records")
                    if row["case"] in both
                }
                for report in (first, other)
            ]
            for case, estimator in sides[0] | sides[1]:
                one, two = (side.get((case, estimator), {"status": "absent"}) for side in sides)
                row = {"case": first.results.labels[case], "estimator": estimator, "run": name}
                for label, (value, depth, show, title, difference) in MEASURES.items():
                    before, after = one.get(value, math.nan), two.get(value, math.nan)
                    # An estimator that one side lacks or did not time has no depth there.
                    same = depth in one and one[depth] == two.get(depth)
                    row |= {f"{label} before": show(before), label: show(after)}
                    row[title] = difference(before, after) if same else text.Cell(text.DASH)
                row["status"] = ", then ".join(dict.fromkeys((one["status"], two["status"])))
                rows.append(row)
        return pd.DataFrame(rows, dtype=object)

    @property
    def experiments(self) -> pd.DataFrame:
        """The experiments of every later run beside the first."""
        (_, first), *others = self.reports.items()
        return _joined(
            {name: experiments_pair(first.results, other.results) for name, other in others}
        )


def _joined(tables: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return a table of each run as one, with the column ``run``."""
    named = [table.assign(run=name) for name, table in tables.items() if len(table.columns)]
    return pd.concat(named or [pd.DataFrame()], ignore_index=True)
