"""Errors at some depths as tables for a paper: one per case and target, a row per estimator."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import pandas as pd

from pudle.errors import InvalidArgument
from pudle.reports import markup
from pudle.reports.markup import Table
from pudle.reports.report import PREAMBLE, CaseTables, Report
from pudle.reports.summary import Spread

CAPTION = (
    ". Relative error of the gradient after so many layers, as the median over the seeds, with"
    " their range in brackets. "
)


class ErrorTable(NamedTuple):
    """The errors on a case against one of its targets: of every estimator at each depth."""

    case: CaseTables
    target: str
    caption: str
    errors: dict[str, dict[int, Spread]]

    @property
    def shown(self) -> Table:
        """The errors as text."""
        return Table.of(
            [
                {"estimator": estimator} | {f"{depth}": each.shown() for depth, each in row.items()}
                for estimator, row in self.errors.items()
            ]
        )


def error_texts(report: Report, depths: Sequence[int]) -> dict[str, Callable[[], str | bytes]]:
    """Return what makes the tables as text, by format; a depth that a case lacks is refused.

    Without `depths` all that were measured are shown.
    """
    every = [
        ErrorTable(
            each,
            target,
            # The sentences are about the first target.
            report.caption(each.name, target) + CAPTION + each.findings * (not place),
            _errors(report, each, target, depths),
        )
        for each in report.by_case
        for place, target in enumerate(report.results.cases[each.name].targets)
    ]

    def markdown() -> str:
        parts = []
        for each in every:
            case, target, caption, _ = each
            table = markup.markdown_table(each.shown)
            parts.append(f"## {case.label}, against {target}\n\n{caption}\n\n{table}\n")
        return "\n".join(parts)

    def latex() -> str:
        parts = [PREAMBLE]
        for each in every:
            case, target, caption, _ = each
            label = f"tab:errors-{case.name}-{target}"
            parts.append(markup.latex_table(each.shown, f"{case.label}: {caption}", label))
        return "\n".join(parts)

    def csv() -> str:
        rows = [
            {"case": case.name, "target": target, "estimator": estimator, "depth": depth}
            | dict(zip(("median", "least", "greatest"), spread, strict=True))
            for case, target, _, errors in every
            for estimator, row in errors.items()
            for depth, spread in row.items()
        ]
        return markup.csv(pd.DataFrame(rows))

    return {"markdown": markdown, "csv": csv, "latex": latex}


def _errors(
    report: Report, case: CaseTables, target: str, depths: Sequence[int]
) -> dict[str, dict[int, Spread]]:
    """Return median and range of every estimator at the depths of a case."""
    results = report.results
    measured = results.cases[case.name].depths
    if lacking := sorted({*depths} - {*measured}):
        known = ", ".join(map(str, measured))
        raise InvalidArgument(
            f"--depths {lacking[0]} was not measured on {case.label}: it has {known}"
        )
    curves = {name: results.curve(case.name, name, target=target) for name in results.estimators}
    return {
        name: {
            int(depth): Spread(*spread)
            for depth, *spread in curve.spread.tolist()
            if depth in (depths or measured)
        }
        for name, curve in curves.items()
    }
