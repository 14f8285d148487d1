"""What `pudle.benchmark` returns: results that a notebook shows."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import escape

from pudle import text
from pudle.answers import Requirement
from pudle.errors import InvalidArgument
from pudle.files import write_atomically
from pudle.reports.answers import answers
from pudle.reports.results import Results
from pudle.reports.scope import some


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
        self,
        error: float | None = None,
        seconds: float = math.inf,
        memory: float = math.inf,
        algorithm: str = "",
    ) -> Answers:
        """Return which algorithm and estimator to use for each problem, or which estimator with one
        algorithm, within a relative error, a time (s) and a memory (bytes), as the report does.

        It is the fastest one that reaches the error or, without an `error`, the most accurate one.
        Columns are ``problem``, ``algorithm``, ``estimator`` (empty where nothing was measured),
        whether the error is ``reached`` (otherwise it is the closest), ``depth``, ``error``,
        ``seconds`` and ``memory_bytes``; where an algorithm cannot be differentiated, then the same
        of the best other one, such as ``unrolled_seconds``. An error holds on every seed at its
        depth, which was measured.
        """
        rows = []
        for row in answers(self.results, Requirement(error, seconds, memory), algorithm):
            beside = row["best unrolled"].values if self.results.solved else {}
            beside = {f"unrolled_{name}": value for name, value in beside.items()}
            rows.append({"problem": row["problem"]} | row["best"].values | beside)
        return Answers(rows)

    def plot(self, metric: str = "relative_error", **options: Any) -> Any:
        """Draw a metric against depth, with a panel per case, and return the axes.

        The line is the median over the seeds, the band reaches from the least to the greatest.
        `options` go to `seaborn.relplot`.
        """
        import seaborn

        rows = self.table[(self.table["metric"] == metric) & self.table["value"].notna()]
        if rows.empty:
            choices = ", ".join(self.table["metric"].unique())
            raise InvalidArgument(f"metric={metric!r} was not measured: choose from {choices}")
        rows = rows.assign(case=rows["case"].map(self.results.labels))
        rows = rows.astype({"depth": float, "seed": float}).rename(columns={"value": metric})
        axes = seaborn.relplot(
            rows,
            **dict(x="depth", y=metric, hue="estimator", col="case", col_wrap=3, kind="line")
            | dict(estimator="median", errorbar=("pi", 100), marker="o")
            | options,
        )
        axes.set(yscale="log")
        axes.set_titles("{col_name}")
        return axes.axes

    def report(self, path: str | Path = "report.html") -> Path:
        """Write the page that `pudle report` writes, and return its path."""
        from pudle.reports.page.page import html
        from pudle.reports.report import Report

        write_atomically(Path(path), html({self.results.profile: Report.of(self.results)}))
        return Path(path)

    @property
    def _errors(self) -> pd.DataFrame:
        """The errors at the deepest depth, one row per case and one column per estimator."""
        rows = {
            self.results.labels[case]: {
                each.estimator: spread[-1, 1]
                for each in measured
                if len(spread := each.errors.spread)
            }
            for case, measured in self.results.measured.items()
        }
        return pd.DataFrame(rows, index=self.results.estimators).T.map(text.number)

    @property
    def _remarks(self) -> list[str]:
        """Why estimators have no number on a case, one line per reason, and what is not kept."""
        rows = self.table[self.table["metric"] == "relative_error"]
        without = rows[rows.groupby(["case", "estimator"])["value"].transform("count") == 0]
        remarks = []
        for (status, reason), part in without.groupby(["status", "reason"], sort=False):
            cases = [self.results.labels[case] for case in part["case"].unique()]
            names = some(part["estimator"].unique().tolist())
            remarks.append(f"{names} on {some(cases)}: {status}: {reason}")
        return [*remarks, *self.notes]

    @property
    def _scope(self) -> str:
        kept = "in memory only" if self.folder is None else f"kept in {self.folder}"
        counts = {"estimator": len(self.results.estimators), "case": len(self.results.cases)}
        counts |= {name: self.table[name].nunique() for name in ("depth", "seed")}
        counted = ", ".join(text.count(number, name) for name, number in counts.items())
        return f"{counted}; {kept}"

    def __repr__(self) -> str:
        lines = [f"BenchmarkResults: {self._scope}", self._errors.to_string(), *self._remarks]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        remarks = "".join(f"<p>{escape(remark)}</p>" for remark in self._remarks)
        what = f"{self._scope}. Median relative error of the gradient at the largest depth:"
        return f"<p>{escape(what)}</p>{self._errors.to_html()}{remarks}"
