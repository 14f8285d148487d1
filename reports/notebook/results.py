"""What `pudle.benchmark` returns: results that a notebook shows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import escape

from pudle import text
from pudle.errors import InvalidArgument
from pudle.files import write_atomically
from pudle.reports.costs import points
from pudle.reports.results import Results
from pudle.reports.scope import some
from pudle.text import count


class Answers(pd.DataFrame):
    """A table of answers that is printed whole, however wide it is."""

    def __repr__(self) -> str:
        return self.to_string(index=False, float_format="{:.4g}".format, na_rep=text.DASH)


@dataclass(frozen=True, eq=False)
class BenchmarkResults:
    """Results of `pudle.benchmark`.

    Attributes
    ----------
    results : pudle.reports.load.Results
        The results as reports read them.
    folder : Path or None
        Where they are kept; None if they are in memory only.
    notes : tuple of str
        What is not kept, and why.
    """

    results: Results
    folder: Path | None
    notes: tuple[str, ...] = ()

    @property
    def table(self) -> pd.DataFrame:
        """The tidy table: one row per case, target, estimator, depth, seed and metric;
        docs/schema.md has its columns.
        """
        return self.results.frame

    def answers(
        self, error: float | None = None, seconds: float | None = None, memory: float | None = None
    ) -> Answers:
        """Return which estimator to use on each case, within a relative error, a time (s) and a
        memory (bytes).

        It is the fastest one with the error in the median seed or, without an `error`, the most
        accurate one. Columns are ``case``, ``estimator`` (empty where there is none), ``depth``,
        ``error``, ``seconds`` and ``memory_bytes``.
        """
        return Answers([self._answer(case, error, seconds, memory) for case in self.results.cases])

    def _answer(
        self, case: str, error: float | None, seconds: float | None, memory: float | None
    ) -> dict[str, Any]:
        # An unknown cost is NaN, which is within no limit.
        limits = {"error": error, "seconds": seconds, "memory": memory}
        given = {name: limit for name, limit in limits.items() if limit is not None}
        found = [
            point
            for point in points(self.results, case)
            if all(getattr(point, name) <= given[name] for name in given)
        ]
        if not found:
            return {"case": case, "estimator": ""}
        # Without known times, fewer layers count.
        best = min(
            found,
            key=lambda point: (
                point.error if error is None else np.nan_to_num(point.seconds, nan=np.inf),
                point.depth,
            ),
        )
        costs = {"seconds": best.seconds, "memory_bytes": best.memory}
        return {
            "case": case,
            "estimator": best.estimator,
            "depth": best.depth,
            "error": best.error,
            **costs,
        }

    def plot(self, metric: str = "relative_error", **options: Any) -> Any:
        """Draw a metric against depth, with a panel per case, and return the axes.

        The line is the median over the seeds, the band reaches from the least to the greatest.
        `options` go to `seaborn.relplot`.
        """
        import seaborn

        found = self.table[(self.table["metric"] == metric) & self.table["value"].notna()]
        if found.empty:
            known = ", ".join(self.table["metric"].unique())
            raise InvalidArgument(f"metric={metric!r} was not measured: choose from {known}")
        drawn = {
            "kind": "line",
            "estimator": "median",
            "errorbar": ("pi", 100),
            "marker": "o",
            "col_wrap": 3,
        } | options
        found = found.astype({"depth": float, "seed": float}).rename(columns={"value": metric})
        grid = seaborn.relplot(found, x="depth", y=metric, hue="estimator", col="case", **drawn)
        grid.set(yscale="log")
        grid.set_titles("{col_name}")
        return grid.axes

    def report(self, path: str | Path = "report.html") -> Path:
        """Write the page that `pudle report` writes, and return its path."""
        from pudle.reports.page.page import Page
        from pudle.reports.report import Report

        write_atomically(Path(path), Page([Report.of(self.results)], [self.results.profile]).html())
        return Path(path)

    def _shown(self) -> pd.DataFrame:
        """Return the errors at the deepest depth, one row per case and one column per estimator."""
        found = self.table[self.table["metric"] == "relative_error"]
        deepest = found[found["depth"] == found.groupby("case")["depth"].transform("max")]
        value = deepest.pivot_table(
            index="case", columns="estimator", values="value", aggfunc="median", sort=False
        )
        return (
            value.map(text.number).reindex(columns=list(self.results.estimators)).fillna(text.DASH)
        )

    def _reasons(self) -> list[str]:
        """Return why estimators have no number on a case, one line per reason."""
        found = self.table[self.table["metric"] == "relative_error"]
        without = found[found.groupby(["case", "estimator"])["value"].transform("count") == 0]
        kinds = without.drop_duplicates(["case", "estimator"]).groupby(
            ["status", "reason"], sort=False
        )
        return [
            f"{some(part['estimator'].unique().tolist())} on"
            f" {some(part['case'].unique().tolist())}: {status}: {reason}"
            for (status, reason), part in kinds
        ]

    def _what(self) -> str:
        kept = "in memory only" if self.folder is None else f"kept in {self.folder}"
        counts = {"estimator": len(self.results.estimators), "case": len(self.results.cases)}
        counts |= {name: self.table[name].nunique() for name in ("depth", "seed")}
        return f"{', '.join(count(number, name) for name, number in counts.items())}; {kept}"

    def __repr__(self) -> str:
        shown = self._shown()
        errors = [] if shown.empty else [shown.to_string()]
        return "\n".join(
            [f"BenchmarkResults: {self._what()}", *errors, *self._reasons(), *self.notes]
        )

    def _repr_html_(self) -> str:
        notes = "".join(f"<p>{escape(note)}</p>" for note in (*self._reasons(), *self.notes))
        what = escape(
            f"{self._what()}. Median relative error of the gradient at the largest depth:"
        )
        return f"<p>{what}</p>{self._shown().to_html()}{notes}"
