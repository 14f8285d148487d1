"""Errors at some depths as tables for a paper: one per case and target, a row per estimator."""

from collections.abc import Callable, Sequence

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
    numbers: list[dict[str, object]] = []
    shown: list[tuple[str, str, Table, str]] = []
    for case in report.by_case:
        for target in report.results.cases[case.name].targets:
            found = _errors(report, case, target, depths)
            place = {"case": case.name, "target": target}
            numbers += [
                place
                | {"estimator": estimator, "depth": depth}
                | dict(zip(("median", "least", "greatest"), spread, strict=True))
                for estimator, row in found.items()
                for depth, spread in row.items()
            ]
            table = Table.of(
                [
                    {"estimator": name} | {f"{depth}": each.shown() for depth, each in row.items()}
                    for name, row in found.items()
                ]
            )
            # The sentences are about the first target.
            said = case.findings * (target == report.results.target(case.name))
            caption = report.caption(case.name, target) + CAPTION + said
            shown.append((case.label, caption, table, f"tab:errors-{case.name}-{target}"))
    return {
        "markdown": lambda: "\n".join(
            f"## {title}\n\n{caption}\n\n{markup.markdown_table(table)}\n"
            for title, caption, table, _ in shown
        ),
        "csv": lambda: markup.csv(pd.DataFrame(numbers)),
        "latex": lambda: "\n".join(
            [PREAMBLE]
            + [
                markup.latex_table(table, f"{title}: {caption}", label)
                for title, caption, table, label in shown
            ]
        ),
    }


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
