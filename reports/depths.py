"""Errors at some depths as tables for a paper: one per case, with a row per estimator."""

from collections.abc import Callable, Sequence

import pandas as pd

from pudle import text
from pudle.errors import InvalidArgument
from pudle.reports import markup
from pudle.reports.markup import Table
from pudle.reports.report import PREAMBLE, CaseTables, Report
from pudle.reports.summary import Spread

CAPTION = (
    ". Relative error of the gradient after so many layers, as the median over the seeds, with"
    " their range in brackets. "
)


def error_texts(report: Report, depths: Sequence[int]) -> dict[str, Callable[[], str | bytes]]:
    """Return what makes the tables as text, by format; a depth that a case lacks is refused.

    Without `depths` all that were measured are shown.
    """
    cases = {each.name: each for each in report.by_case}
    spreads = {name: _spreads(report, each, depths) for name, each in cases.items()}

    def shown(name: str) -> tuple[str, Table]:
        rows = [
            {"estimator": estimator} | {f"{depth}": each.shown() for depth, each in row.items()}
            for estimator, row in spreads[name].items()
        ]
        _, *others = report.results.cases[name].targets
        left = f" Errors against {text.listing(others)} are in report.md." if others else ""
        return cases[name].caption + CAPTION + cases[name].findings + left, Table.of(rows)

    def markdown() -> str:
        parts = []
        for name, case in cases.items():
            caption, table = shown(name)
            parts.append(f"## {case.label}\n\n{caption}\n\n{markup.markdown_table(table)}\n")
        return "\n".join(parts)

    def latex() -> str:
        parts = [PREAMBLE]
        for name, case in cases.items():
            caption, table = shown(name)
            label = f"tab:errors-{name}"
            parts.append(markup.latex_table(table, f"{case.label}: {caption}", label))
        return "\n".join(parts)

    def csv() -> str:
        rows = [
            {"case": name, "estimator": estimator, "depth": depth}
            | dict(zip(("median", "least", "greatest"), spread, strict=True))
            for name, found in spreads.items()
            for estimator, row in found.items()
            for depth, spread in row.items()
        ]
        return markup.csv(pd.DataFrame(rows))

    return {"markdown": markdown, "csv": csv, "latex": latex}


def _spreads(
    report: Report, case: CaseTables, depths: Sequence[int]
) -> dict[str, dict[int, Spread]]:
    """Return median and range of every estimator at the depths of a case."""
    measured = report.results.cases[case.name].depths
    if lacking := sorted({*depths} - {*measured}):
        known = ", ".join(map(str, measured))
        raise InvalidArgument(
            f"--depths {lacking[0]} was not measured on {case.label}: it has {known}"
        )
    return {
        row.estimator: {
            int(depth): Spread(*spread)
            for depth, *spread in row.measured.errors.spread.tolist()
            if depth in (depths or measured)
        }
        for row in case.rows
    }
