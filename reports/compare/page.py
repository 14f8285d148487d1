"""Two results side by side, as a page, as Markdown and as a table: two commits, or two machines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np
import pandas as pd

from pudle.errors import InvalidArgument
from pudle.reports import figures, tables, text
from pudle.reports.answers import answers
from pudle.reports.drawing import Picture
from pudle.reports.learning.sections import experiments_pair, experiments_problems
from pudle.reports.load import Results
from pudle.reports.page import LAST_SECTIONS, Document, Report

#: Anchors and titles of the sections about cases.
CASE_SECTIONS = (("answers", "Answers"), ("differences", "Differences"), ("figures", "Figures"))
#: Names that an error lists for each side.
MOST_NAMES = 5
#: How to read the figures and the table of experiments.
FIGURES = (
    "A has filled markers and thick lines, B hollow markers and thin lines. A hollow marker around a filled one means that "
    "both have the same error."
)
EXPERIMENTS = (
    "The result at the end of each experiment. Errors are compared by a factor, below one where B is smaller; PSNR in "
    "decibels, above zero where B is higher. Experiments with different options or images are not compared. With one "
    "training per side, a difference may be due to chance."
)


@dataclass(frozen=True, eq=False)
class SideBySide(Document):
    """Two results and the names that the user gave them; refused if they have no case and no experiment in common."""

    reports: tuple[Report, Report]
    names: tuple[str, str]
    linked: Sequence[str] = ()

    template = "pair"

    def __post_init__(self) -> None:
        first, second = ({item.name for item in side.experiments} for side in self.sides)
        if not self.cases and not first & second:
            contents = (f"{name} holds {_contents(side)}" for name, side in zip(self.names, self.reports, strict=True))
            raise InvalidArgument(f"the two results have no case and no experiment in common: {' and '.join(contents)}")

    @property
    def sides(self) -> tuple[Results, ...]:
        """The results of both."""
        return tuple(report.results for report in self.reports)

    @property
    def labeled(self) -> Mapping[str, Report]:
        """The sides by their labels on the page."""
        return dict(zip("AB", self.reports, strict=True))

    @cached_property
    def cases(self) -> list[str]:
        """Cases that both have, in the order of the first."""
        first, second = (side.cases for side in self.sides)
        return [name for name in first if name in second]

    @cached_property
    def pictures(self) -> list[Picture]:
        """The figures about cases that both have."""
        return figures.draw_pair(*self.sides, ("A", "B")) if self.cases else []

    def csv(self) -> str:
        """Return both tidy tables as one, with the column ``side``."""
        frames = [side.results.frame.assign(side=label) for label, side in self.labeled.items()]
        return text.csv(pd.concat(frames, ignore_index=True))

    def differences(self) -> pd.DataFrame:
        """Return error, time and memory of both sides and their differences, one row per (case, estimator) of either.

        Errors are compared in decades, times as a ratio, memory as a difference, and only where both have the same depth.
        """
        if not self.cases:
            return pd.DataFrame()
        one, two = (side.summary.set_index(["case", "estimator"]) for side in self.reports)
        keys = [key for key in dict.fromkeys([*one.index, *two.index]) if key[0] in self.cases]
        one, two = one.reindex(keys), two.reindex(keys)
        # An estimator that one side lacks or did not time has no depth there, which equals no other.
        depths, other = (side[["depth", "seconds_depth", "memory_depth"]].astype("Float64") for side in (one, two))
        same = depths.eq(other).fillna(False)
        decades = np.log10((two["error"] / one["error"]).where(same["depth"] & (one["error"] > 0) & (two["error"] > 0)))
        ratios = (two["seconds"] / one["seconds"]).where(same["seconds_depth"] & (one["seconds"] > 0))
        more = (two["memory"] - one["memory"]).where(same["memory_depth"])
        old, new = (side["status"].fillna("absent") for side in (one, two))
        cases, estimators = zip(*keys, strict=True)
        columns = {
            "case": cases, "estimator": estimators,
            "error A": map(text.number, one["error"]), "error B": map(text.number, two["error"]),
            "decades B - A": map(partial(text.fixed, digits=2, sign="+"), decades),
            "time A": map(text.seconds, one["seconds"]), "time B": map(text.seconds, two["seconds"]),
            "time B / A": map(partial(text.fixed, digits=2), ratios),
            "memory A": map(text.memory, one["memory"]), "memory B": map(text.memory, two["memory"]),
            "memory B - A": map(_signed_memory, more), "status": old.where(old == new, old + ", then " + new),
        }  # fmt: skip
        return pd.DataFrame({name: list(cells) for name, cells in columns.items()}, dtype=object)

    @cached_property
    def content(self) -> dict[str, Any]:
        """What the templates show: sentences, tables and figures by section."""
        first, second = self.sides
        chosen = {label: {row["case"]: row for row in answers(side.results, side.summary)}
                  for label, side in self.labeled.items()}  # fmt: skip
        problems = [
            frame.assign(side=label) for label, side in self.labeled.items()
            for frame in (tables.problems_table(side.results), experiments_problems(side.results))
        ]  # fmt: skip
        experiments = experiments_pair(first, second)
        facts = {label: dict(tables.provenance_table(side.results)) for label, side in self.labeled.items()}
        notes = [f"Only in {label}: {', '.join(f'`{name}`' for name in missing)}." for label, side in self.labeled.items()
                 if (missing := [name for name in side.results.cases if name not in self.cases])]  # fmt: skip
        notes += [f"{label}: {note}" for label, side in self.labeled.items() for note in side.results.notes]
        named = zip(self.names, facts.items(), strict=True)
        return {
            "title": "Two results side by side",
            "subtitle": " ".join(f"{label}: {name} (commit {known['Commit']}, {known.get('Machine', 'unknown machine')})."
                                 for name, (label, known) in named),
            "profile": " and ".join(dict.fromkeys([first.profile, second.profile])),
            "sections": [*(CASE_SECTIONS if self.cases else ()),
                         *([] if experiments.empty else [("experiments", "Experiments")]), *LAST_SECTIONS],
            "answers": [chosen["A"][case] | {label: rows[case] for label, rows in chosen.items()} for case in self.cases],
            "differences": self.differences(),
            "figures": self.pictures,
            "figures_reading": FIGURES,
            "experiments": experiments,
            "experiments_reading": EXPERIMENTS,
            "problems": pd.concat(problems, ignore_index=True),
            "provenance": [(name, *(known.get(name, text.DASH) for known in facts.values()))
                           for name in dict.fromkeys([*facts["A"], *facts["B"]])],
            "notes": notes,
        }  # fmt: skip


def _contents(side: Report) -> str:
    names = [*side.results.cases, *(item.name for item in side.results.experiments)]
    return ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")


def _signed_memory(more: float) -> text.Cell:
    sign = "+" if more > 0 else "-" if more < 0 else ""
    return text.Cell(sign + text.memory(abs(more)) if more else "0", key=None if np.isnan(more) else more)
