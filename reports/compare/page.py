"""Two results side by side: two commits, or two machines."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from pudle.errors import InvalidArgument
from pudle.reports import figures, tables, text
from pudle.reports.answers import answers
from pudle.reports.drawing import Picture
from pudle.reports.learning.sections import experiments_pair, experiments_problems
from pudle.reports.page import LARGEST, Report, environment

SECTIONS = (
    ("answers", "Answers"), ("differences", "Differences"), ("figures", "Figures"), ("experiments", "Experiments"),
    ("problems", "Skipped, refused or failed"), ("provenance", "Provenance"),
)  # fmt: skip
#: Names that an error gives of each side.
MOST_NAMES = 5
EXPERIMENTS = (
    "Where each ended. Errors differ by a factor, below one where B is nearer; PSNR by decibels, above zero where B is "
    "better. What the two sides did with other options or on other images is not compared. One training a side says nothing "
    "of chance."
)
KINDS = {
    "Error against depth": "A has filled markers and thick lines, B hollow markers and thin lines. Where a hollow marker "
    "surrounds a filled one both have the same error."
}


@dataclass(frozen=True, eq=False)
class SideBySide:
    """Two results of the same cases or experiments.

    Attributes
    ----------
    sides : tuple of Report
    names : tuple of str
        What the user called them.

    Raises
    ------
    InvalidArgument
        If they have neither a case nor an experiment in common.
    """

    sides: tuple[Report, Report]
    names: tuple[str, str]

    def __post_init__(self) -> None:
        first, second = ({item.name for item in side.results.experiments} for side in self.sides)
        if not self.cases and not first & second:
            held = " and ".join(f"{name} holds {_held(side)}" for name, side in zip(self.names, self.sides, strict=True))
            raise InvalidArgument(f"the two results have no case and no experiment in common: {held}")

    @cached_property
    def cases(self) -> list[str]:
        """Cases that both have, in the order of the first."""
        first, second = (side.results.cases for side in self.sides)
        return [name for name in first if name in second]

    @cached_property
    def pictures(self) -> list[Picture]:
        """The figures, drawn once for all formats."""
        first, second = (side.results for side in self.sides)
        return list(figures.draw_pair(first, second, ("A", "B"))) if self.cases else []

    def html(self) -> str:
        """Return one HTML page that loads nothing from anywhere."""
        template = environment(True, *(side.results for side in self.sides)).get_template("pair.html.j2")
        page = template.render(self._content(), embedded=True)
        return page if len(page) <= LARGEST else template.render(self._content(), embedded=False)

    def markdown(self) -> str:
        """Return the same as Markdown, whose images are the figures beside it."""
        made = environment(False, *(side.results for side in self.sides))
        return made.get_template("pair.md.j2").render(self._content()).strip() + "\n"

    def csv(self) -> str:
        """Return both tidy tables as one, with the column ``side``."""
        frames = [side.results.frame.assign(side=label) for side, label in zip(self.sides, "AB", strict=True)]
        return pd.concat(frames).to_csv(index=False, lineterminator="\n")

    def figure_files(self) -> Iterator[tuple[str, bytes]]:
        """Yield (name, content) of every figure as SVG, PDF and CSV."""
        for picture in self.pictures:
            yield from picture.files()

    def differences(self) -> pd.DataFrame:
        """Return error, time and memory of both sides and how they differ, one row per (case, estimator) that either has."""
        rows: list[dict[str, str]] = []
        if not self.cases:
            return pd.DataFrame(rows)
        one, two = (side.summary.set_index(["case", "estimator"]) for side in self.sides)
        for key in list(dict.fromkeys([*one.index, *two.index])):
            if key[0] in self.cases:
                mine = one.loc[key] if key in one.index else None
                theirs = two.loc[key] if key in two.index else None
                rows.append({"case": key[0], "estimator": key[1], **_difference(mine, theirs)})
        return pd.DataFrame(rows, dtype=object)

    def _content(self) -> dict[str, Any]:
        first, second = self.sides
        choices = [{row["case"]: row for row in answers(side.results, side.summary)} for side in self.sides]
        problems = [
            pd.concat([tables.problems_table(side.results), experiments_problems(side.results)]).assign(side=label)
            for side, label in zip(self.sides, "AB", strict=True)
        ]
        compared = experiments_pair(first.results, second.results)
        empty = {"answers", "differences", "figures"} if not self.cases else set()
        empty |= {"experiments"} if compared.empty else set()
        facts = [dict(tables.provenance_table(side.results)) for side in self.sides]
        rows = list(dict.fromkeys([*facts[0], *facts[1]]))
        only = [
            f"Only in {label}: {', '.join(missing)}."
            for label, side in zip("AB", self.sides, strict=True)
            if (missing := [f"`{name}`" for name in side.results.cases if name not in self.cases])
        ]
        return {
            "title": "Two results side by side",
            "subtitle": f"A: {_side(self.names[0], facts[0])}. B: {_side(self.names[1], facts[1])}.",
            "profile": " and ".join(dict.fromkeys([first.results.profile, second.results.profile])),
            "sections": [section for section in SECTIONS if section[0] not in empty],
            "answers": [_both(*(choice[case] for choice in choices)) for case in self.cases],
            "differences": self.differences(),
            "figures": {"Error against depth": self.pictures} if self.pictures else {},
            "experiments": compared,
            "experiments_reading": EXPERIMENTS,
            "kinds": KINDS,
            "problems": pd.concat(problems, ignore_index=True),
            "provenance": [
                {"name": name, "A": facts[0].get(name, text.DASH), "B": facts[1].get(name, text.DASH),
                 "differs": facts[0].get(name) != facts[1].get(name)} for name in rows
            ],
            "notes": [*only, *(f"{label}: {note}" for label, side in zip("AB", self.sides, strict=True)
                               for note in side.results.notes)],
        }  # fmt: skip


def _held(side: Report) -> str:
    names = [*side.results.cases, *(item.name for item in side.results.experiments)]
    return ", ".join(names[:MOST_NAMES]) + (f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else "")


def _side(name: str, facts: dict[str, str]) -> str:
    return f"{name} (commit {facts['Commit']}, {facts.get('Machine', 'unknown machine')})"


def _both(one: dict[str, Any], two: dict[str, Any]) -> dict[str, Any]:
    return {name: one[name] for name in ("case", "problem", "dataset", "algorithm", "loss")} | {
        "A": one, "B": two, "same": one["use"] == two["use"],
    }  # fmt: skip


def _difference(one: pd.Series | None, two: pd.Series | None) -> dict[str, str]:
    """Compare the errors at the deepest depth that both have, in decades; time as a ratio; memory as a difference."""
    absent = {"status": "absent", "error": math.nan, "depth": math.nan, "seconds": math.nan, "seconds_depth": math.nan,
              "memory": math.nan, "memory_depth": math.nan}  # fmt: skip
    one, two = (pd.Series(absent) if side is None else side for side in (one, two))
    decades = _decades(one, two)
    ratio = two["seconds"] / one["seconds"] if _same(one, two, "seconds_depth") and one["seconds"] > 0 else math.nan
    more = two["memory"] - one["memory"] if _same(one, two, "memory_depth") else math.nan
    return {
        "error A": text.number(one["error"]), "error B": text.number(two["error"]),
        "decades B - A": text.fixed(decades, 2, sign="+"),
        "time A": text.seconds(one["seconds"]), "time B": text.seconds(two["seconds"]),
        "time B / A": text.fixed(ratio, 2),
        "memory A": text.memory(one["memory"]), "memory B": text.memory(two["memory"]),
        "memory B - A": text.DASH if math.isnan(more) else text.Cell(_signed(more), key=more),
        "status": one["status"] if one["status"] == two["status"] else f"{one['status']}, then {two['status']}",
    }  # fmt: skip


def _signed(more: float) -> str:
    return "0" if more == 0 else ("-" if more < 0 else "+") + text.memory(abs(more))


def _decades(one: pd.Series, two: pd.Series) -> float:
    if not _same(one, two, "depth") or not (one["error"] > 0 and two["error"] > 0):
        return math.nan
    return math.log10(two["error"] / one["error"])


def _same(one: pd.Series, two: pd.Series, name: str) -> bool:
    """Whether both measured at the same depth: numbers at different ones are not compared."""
    return not pd.isna(one[name]) and not pd.isna(two[name]) and one[name] == two[name]
