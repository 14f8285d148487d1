"""A comparison as lines for a terminal, and as Markdown for a pull request."""

from __future__ import annotations

import math

import pandas as pd

from pudle import text
from pudle.measuring.scoring import ERRORS
from pudle.reports import markup
from pudle.reports.compare.judge import Comparison
from pudle.reports.compare.limits import Limits

#: Marks the comment, so that a later run can find and replace it.
MARKER = "<!-- pudle-compare -->"

#: Most lines of a table in the comment, whose length is limited; the CSV has all of them.
MOST_LINES = 30

#: Words for the metrics; of several errors that fail together, the first of `ERRORS` is shown.
METRICS = {name: name.replace("_", " ") for name in ERRORS} | {
    "seconds": "time",
    "memory_bytes": "memory",
}

#: Rules about a cell as a whole, with their words: metrics that fail by them for the same reason
#: share one line.
WHOLE_CELL = {"vanished": "cell vanished", "status": "status", "redefined": "case redefined"}


def lines(comparison: Comparison, verdict: str = "regression") -> list[dict[str, str]]:
    """Return one line per (case, estimator) and kind of finding, which shows the worst of its
    cells.

    Returns
    -------
    list of dict
        With the keys ``what``, ``estimator``, ``case``, ``cells``, ``base``, ``head`` and
        ``reason``.
    """
    rows = comparison.cells(verdict)
    kind = rows["rule"].where(
        rows["rule"].isin((*WHOLE_CELL, "accuracy", "nan", "new")), rows["metric"]
    )
    return [
        _line(group)
        for _, group in rows.assign(kind=kind).groupby(["kind", "estimator", "case"], sort=True)
    ]


def _line(group: pd.DataFrame) -> dict[str, str]:
    rule = group["rule"].iloc[0]
    metrics = [name for name in METRICS if name in set(group["metric"])]
    worst = group[group["metric"] == metrics[0]] if metrics[0] in ERRORS else group
    # A change is a factor: half and double are equally large.
    sizes = worst["change"].map(lambda factor: abs(math.log(factor)) if factor > 0 else math.inf)
    row = worst.loc[sizes.sort_values(kind="stable").index[-1]]
    words, depth, reason = (
        METRICS[row["metric"]],
        "" if pd.isna(row["depth"]) else f"at depth {row['depth']}",
        row["reason"],
    )
    if rule in ("accuracy", "nan"):
        what, depth = "accuracy", f"{words} {depth}".strip()
    else:
        what = WHOLE_CELL.get(rule, words)
    if rule in ("vanished", "status"):
        reason = f"{reason} ({text.listing([METRICS[name] for name in metrics])})"
    cells = group["depth"].nunique() or 1
    show = {"seconds": text.seconds, "memory_bytes": text.memory}.get(row["metric"], text.number)
    return {
        "what": what,
        "estimator": row["estimator"],
        "case": row["case"],
        "cells": f"{cells} {'depth' if cells == 1 else 'depths'}",
        "base": show(row["base"]),
        "head": show(row["head"]),
        "reason": ": ".join(filter(None, [depth, reason])),
    }


def verdict(comparison: Comparison) -> str:
    """Return the result of the comparison in one sentence."""
    counts, cells = comparison.frame["verdict"].value_counts(), len(comparison.frame)
    failed = counts.get("regression", 0)
    others = ", ".join(
        f"{counts[name]} {name}"
        for name in ("improved", "changed", "new", "undecided")
        if name in counts
    )
    start = f"{failed} of {cells} cells regressed" if failed else f"no regression in {cells} cells"
    return f"{start} ({others})" if others else start


def plain(comparison: Comparison) -> str:
    """Return the comparison for a terminal or a log: regressions first, the verdict last."""
    regressions = (
        f"regression: {line['what']} of {line['estimator']} on {line['case']} ({line['cells']}): "
        f"{line['base']} -> {line['head']}; {line['reason']}"
        for line in lines(comparison)
    )
    differences = (
        f"differs: {name}: {base} -> {head}"
        for name, (base, head) in comparison.differences.items()
    )
    notes = (f"note: {note}" for note in comparison.notes)
    return "\n".join([*regressions, *differences, *notes, verdict(comparison)])


def markdown(comparison: Comparison, base: str, head: str, profile: str) -> str:
    """Return a summary for a comment on a pull request, which calls the two sides `base` and
    `head`.
    """
    failed = lines(comparison)
    parts = [
        MARKER,
        f"### {'❌' if failed else '✅'} pudle compare: {verdict(comparison)}",
        (
            f"{markup.markdown_code(base)} → {markup.markdown_code(head)}, profile"
            f" {markup.markdown_code(profile)}"
        ),
    ]
    parts += [_table(failed)] if failed else []
    parts += [f"- {markup.markdown(note)}" for note in comparison.notes]
    differences = [
        {"differs": name, "base": old, "head": new}
        for name, (old, new) in comparison.differences.items()
    ]
    parts += [_table(differences)] if differences else []
    titles = {
        "new": "New",
        "improved": "Improved",
        "changed": "Changed: beyond rounding, within the threshold",
        "undecided": "Undecided: beyond a threshold, but within the noise or not comparable",
    }
    for name, title in titles.items():
        if count := len(comparison.cells(name)):
            parts.append(_folded(f"{title} ({count} cells)", _table(lines(comparison, name))))
    parts.append(_folded("Thresholds", _thresholds(comparison.limits)))
    return "\n\n".join(parts) + "\n"


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{content}\n</details>"


def _thresholds(limits: Limits) -> str:
    known = ((METRICS[name], limits.of_error(name)) for name in ERRORS)
    errors = ", ".join(f"{name} {limit.ratio:g} ({limit.elsewhere:g})" for name, limit in known)
    time, memory = limits.seconds, limits.memory_bytes
    return (
        f"- Accuracy, as a factor for each seed (on unequal machines or libraries): {errors};"
        f" errors below {limits.floor_multiple:g} times the certified bound of the reference count"
        f" as equal.\n- Time: median ratio {time.ratio:g}, at a false discovery rate of"
        f" {time.significance:g} over all cells.\n- Memory above a process that estimates nothing:"
        f" ratio {memory.ratio:g} and {memory.mebibytes:g} MiB.\n- NaN, a cell that vanished and a"
        " cell that is no longer ok are always regressions."
    )


def _table(rows: list[dict[str, str]]) -> str:
    table = markup.markdown_table(
        pd.DataFrame(rows[:MOST_LINES], dtype=object), code=("estimator", "case")
    )
    return table + (
        f"\n\n... and {len(rows) - MOST_LINES} more lines." if len(rows) > MOST_LINES else ""
    )
