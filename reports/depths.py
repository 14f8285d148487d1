"""Errors at some depths as tables for a paper: one per case and target, a row per estimator."""

from collections.abc import Callable, Iterator, Sequence

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


def error_texts(report: Report, depths: Sequence[int]) -> dict[str, Callable[[], str | bytes]]:
    """Return what makes the tables as text, by format; a depth that a case lacks is refused.

    Without `depths` all that were measured are shown.
    """
    errors = {
        (each.name, target): _errors(report, each, target, depths)
        for each in report.by_case
        for target in report.results.cases[each.name].targets
    }

    def shown() -> Iterator[tuple[str, str, Table, str]]:
        """Yield title, caption and table of each, and what a document calls it."""
        cases = {each.name: each for each in report.by_case}
        for (name, target), found in errors.items():
            rows = [
                {"estimator": estimator} | {f"{depth}": each.shown() for depth, each in row.items()}
                for estimator, row in found.items()
            ]
            # The sentences are about the first target.
            said = cases[name].findings * (target == report.results.target(name))
            caption = report.caption(name, target) + CAPTION + said
            yield cases[name].label, caption, Table.of(rows), f"tab:errors-{name}-{target}"

    def markdown() -> str:
        return "\n".join(
            f"## {title}\n\n{caption}\n\n{markup.markdown_table(table)}\n"
            for title, caption, table, _ in shown()
        )

    def latex() -> str:
        return "\n".join(
            [PREAMBLE]
            + [
                markup.latex_table(table, f"{title}: {caption}", label)
                for title, caption, table, label in shown()
            ]
        )

    def csv() -> str:
        rows = [
            {"case": case, "target": target, "estimator": estimator, "depth": depth}
            | dict(zip(("median", "least", "greatest"), spread, strict=True))
            for (case, target), found in errors.items()
            for estimator, row in found.items()
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
