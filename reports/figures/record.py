"""One record per figure: the page draws it with Vega-Lite, a file shows it drawn by seaborn.

A module that has something to draw returns a `Figure` and draws nothing: `rows` hold the numbers,
`x` and `y` say which columns the axes may show, `looks` has color, marker and dashes of every
series, in their order. A training, for example, is one figure with the axes ``step``, ``epoch`` and
``seconds``, the series column ``method``, the goals (and methods without a history) as `levels`,
and ``view("seconds", name=...)`` for the file that shows it against seconds. Of an axis with the
column ``psnr`` the columns ``psnr_low`` and ``psnr_high`` are its band or its bars.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import pandas as pd

from pudle import text
from pudle.measuring.naming import LONGEST, short
from pudle.reports import markup
from pudle.reports.looks import Looks

NO_GUIDES = pd.DataFrame(columns=["label", "estimator", "x", "y"])


@dataclass(frozen=True)
class Axis:
    """What an axis may show: a column of the rows, its title with the unit, and its scale."""

    column: str
    title: str
    scale: Literal["linear", "log", "ordinal"] = "linear"


class Picture(ABC):
    """What can be written into files: a name, words, numbers and a drawing."""

    name: str
    rows: pd.DataFrame
    alt: Any

    @abstractmethod
    def canvas(self, width: float | None = None) -> Any:
        """Draw it with matplotlib, `width` inches wide if that is given, with letters to be read at
        that size.
        """

    def files(
        self, endings: Sequence[str], width: float | None = None
    ) -> Iterator[tuple[str, bytes]]:
        """Yield (name, content) of its files, drawn at most once; ``csv`` holds the numbers. No
        file is written.
        """
        if "csv" in endings:
            yield f"{self.name}.csv", markup.csv(self.rows, float_format="%.6g").encode()
        if drawn := [ending for ending in endings if ending != "csv"]:
            # Takes a second, and a page needs none of it.
            from pudle.reports.figures.drawing import saved

            canvas = self.canvas(width)
            for ending in drawn:
                content = saved(canvas, ending, self.name, self.alt, for_print=width is not None)
                yield f"{self.name}.{ending}", content


@dataclass(frozen=True, eq=False)
class Figure(Picture):
    """A figure, see the module; its files are called `name` (see `file_name`) with an ending, and
    figures of one `kind` stand together.
    """

    name: str
    kind: str
    title: str
    rows: pd.DataFrame
    x: Sequence[Axis]
    y: Sequence[Axis]
    looks: Looks = field(default_factory=dict)
    #: Lines with bands, points with bars, or cells, colored by the axis `color`.
    mark: Literal["line", "point", "cell"] = "line"
    color: Axis | None = None
    #: The column that distinguishes the series.
    series: str = "estimator"
    #: The case that it is about, if it is about one.
    case: str = ""
    #: What it shows in words; by default the last values.
    about: str = ""
    #: What the axes do not say, whichever the figure shows.
    note: str = ""
    #: What holds for one pair of axes alone, by their columns: ``depth relative_error``.
    notes: Mapping[str, str] = field(default_factory=dict)
    #: Dashed lines behind the first axes: rows with ``label``, ``x``, ``y`` and ``estimator``,
    #: which is empty for a line that belongs to no estimator.
    guides: pd.DataFrame = field(default_factory=NO_GUIDES.copy)
    #: Heights of dotted horizontal lines, with their labels.
    levels: Sequence[tuple[float, str]] = ()
    #: The greatest value that the first vertical axis shows, if larger ones are cut off, and the
    #: note that says so.
    most: tuple[float, str] | None = None
    #: Figures that a file shows side by side in place of this one.
    panels: Sequence[Figure] = ()
    #: Columns that a pointer shows beside those of the axes, with their titles.
    tips: Mapping[str, str] = field(default_factory=dict)

    @property
    def alt(self) -> str:
        """The figure in words."""
        if self.about:
            return self.about
        x, y = self.x[0], self.y[0]
        values = []
        for name, rows in self.lines.items():
            place, value = rows[x.column].iloc[-1], text.number(rows[y.column].iloc[-1])
            values.append(f"{name} {value} at {place:g}")
        laws = text.listing([*filter(None, self.guides["label"].unique())])
        dashed = f" Dashed: {laws}." if laws else ""
        return (
            f"{self.title}: {y.title} against {x.title}.{dashed} Last values: {'; '.join(values)}."
        )

    @cached_property
    def lines(self) -> dict[str, pd.DataFrame]:
        """The rows of each series that has a look."""
        if not self.looks:
            return {}
        rows = dict(iter(self.rows.groupby(self.series, sort=False)))
        return {name: rows[name] for name in self.looks if name in rows}

    def view(self, x: str, y: str = "", **changes: Any) -> Figure:
        """Return the figure with one column on each axis, and the rows that an axis can show in
        both: no NaN, and on a log scale positive numbers. By default `y` is the first one;
        `changes` replace other fields.

        Its note is that of these axes. Guides, levels and what is cut off belong to the first axes
        of each direction, and are left out for others.
        """
        axes = {axis.column: axis for axis in (*self.x, *self.y)}
        across, upward = axes[x], axes[y or self.y[0].column]
        first_upward = upward is self.y[0]
        most = self.most if first_upward else None
        notes = [self.note, self.notes.get(f"{across.column} {upward.column}"), most and most[1]]
        fields: dict[str, Any] = {
            "guides": self.guides if first_upward and across is self.x[0] else NO_GUIDES,
            "levels": self.levels if first_upward else (),
            "most": most,
            "note": " ".join(filter(None, notes)),
            "notes": {},
        }
        rows = self.rows
        for axis in (across, upward):
            log = axis.scale == "log"
            rows = rows[rows[axis.column] > 0] if log else rows.dropna(subset=[axis.column])
        return replace(self, **{**fields, "rows": rows, "x": (across,), "y": (upward,)} | changes)

    def canvas(self, width: float | None = None) -> Any:
        from pudle.reports.figures.drawing import draw

        return draw(*(self.panels or [self]), width=width)


def file_name(*parts: str, longest: int = LONGEST) -> str:
    """Return parts as one name that any file system accepts; a longer one than `longest` is cut,
    and followed by a digest of the whole.
    """
    return short(re.sub(r"[^A-Za-z0-9]+", "-", "-".join(filter(None, parts))).strip("-"), longest)
