"""A comparison as lines for a terminal, and as Markdown for a pull request."""

import numpy as np
import pandas as pd

from pudle import text
from pudle.measuring.scoring import ERRORS
from pudle.reports import markup
from pudle.reports.compare.judge import METRICS, Comparison, ErrorLimit

#: Marks the comment, so that a later run can find and replace it.
MARKER = "<!-- pudle-compare -->"
#: Most lines of a table in the comment, whose length is limited; the CSV has all of them.
MOST_LINES = 30
#: Words for metrics and rules that have other names.
WORDS = {name: name.replace("_", " ") for name in ERRORS} | {
    "seconds": "time",
    "memory_bytes": "memory",
    "vanished": "cell vanished",
    "redefined": "case redefined",
}
#: Titles of the tables that are folded.
TITLES = {
    "new": "New",
    "improved": "Improved",
    "changed": "Changed: beyond rounding, within the threshold",
    "undecided": "Undecided: beyond a threshold, but within the noise or not comparable",
}


def lines(comparison: Comparison, verdict: str = "regression") -> list[dict[str, str]]:
    """Return one line per rule, estimator and case, which shows the worst of the cells that have
    the verdict, in the first of the metrics.

    Returns
    -------
    list of dict
        With the keys ``what``, ``estimator``, ``case``, ``cells``, ``base``, ``head`` and
        ``reason``.
    """
    rows = comparison.cells(verdict)
    # A change is a factor: half and double are equally large.
    size = -np.log(rows["change"].where(rows["change"] > 0, np.inf)).abs()
    rows = rows.assign(order=rows["metric"].map(METRICS.index), size=size)
    rows = rows.sort_values(["order", "size"], kind="stable")
    rows["case"] = rows["case"].map(comparison.labels)
    return [_line(group) for _, group in rows.groupby(["rule", "estimator", "case"])]


def _line(group: pd.DataFrame) -> dict[str, str]:
    row = group.iloc[0]
    metrics = [WORDS[name] for name in group["metric"].unique()]
    # Of several errors that grow together, one is enough.
    where = metrics[0] if row.rule == "accuracy" else text.listing(metrics)
    where += "" if pd.isna(row.depth) else f" at depth {row.depth}"
    where += "" if pd.isna(row.seed) else f", seed {row.seed}"
    show = {"seconds": text.seconds, "memory_bytes": text.memory}.get(row.metric, text.number)
    return {
        "what": WORDS.get(row.rule, row.rule),
        "estimator": row.estimator,
        "case": row.case,
        "cells": text.count(group["depth"].nunique() or 1, "depth"),
        "base": show(row["base"]),
        "head": show(row["head"]),
        "reason": ": ".join(filter(None, [where, row.reason])),
    }


def verdict(comparison: Comparison) -> str:
    """Return the result of the comparison in one sentence."""
    cells, counts = len(comparison.frame), comparison.frame["verdict"].value_counts()
    failed = counts["regression"]
    others = ", ".join(f"{counts[name]} {name}" for name in TITLES if counts[name])
    start = f"{failed} of {cells} cells regressed" if failed else f"no regression in {cells} cells"
    return f"{start} ({others})" if others else start


def plain(comparison: Comparison) -> str:
    """Return the comparison for a terminal or a log: regressions first, the verdict last."""
    said = [
        f"regression: {line['what']} of {line['estimator']} on {line['case']} ({line['cells']}): "
        f"{line['base']} -> {line['head']}; {line['reason']}"
        for line in lines(comparison)
    ]
    said += [
        f"differs: {name}: {' -> '.join(values)}" for name, values in comparison.differences.items()
    ]
    said += [f"note: {note}" for note in comparison.notes]
    return "\n".join([*said, verdict(comparison)])


def markdown(comparison: Comparison, base: str, head: str, profile: str) -> str:
    """Return a summary for a comment on a pull request, which calls the two sides `base` and
    `head`.
    """
    differences = [
        {"differs": name, "base": old, "head": new}
        for name, (old, new) in comparison.differences.items()
    ]
    return markup.render(
        "compare.md.j2",
        table=_table,
        marker=markup.Markdown(MARKER),
        verdict=verdict(comparison),
        base=base,
        head=head,
        profile=profile,
        comparison=comparison,
        limits=comparison.limits,
        lines={name: lines(comparison, name) for name in ("regression", *TITLES)},
        titles=TITLES,
        differences=differences,
        errors={WORDS[name]: getattr(comparison.limits, name, ErrorLimit()) for name in ERRORS},
    ).removesuffix("\n")


def _table(rows: list[dict[str, str]]) -> markup.Markdown:
    shown = pd.DataFrame(rows[:MOST_LINES], dtype=object)
    more = len(rows) - MOST_LINES
    return markup.Markdown(
        markup.markdown_table(shown, code=("estimator", "case"))
        + (f"\n\n... and {more} more lines." if more > 0 else "")
    )
