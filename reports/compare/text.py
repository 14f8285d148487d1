"""A comparison as lines for a terminal and as Markdown for a pull request."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pandas as pd

from pudle.reports import text
from pudle.reports.compare.judge import Comparison, Limits

#: Marks the comment, so that a later run can find and replace it.
MARKER = "<!-- pudle-compare -->"

#: A comment has a largest length, and nobody reads hundreds of lines; all of them are in the CSV.
MOST_LINES = 30

METRICS = {
    "relative_error": "relative error",
    "absolute_error": "absolute error",
    "cosine_error": "cosine error",
    "code_error": "code error",
    "support_error": "support error",
    "seconds": "time",
    "memory_bytes": "memory",
}

#: Rules that concern a cell as a whole: metrics that fail by them for the same reason share one line.
WHOLE = ("vanished", "status", "redefined")

#: Of the errors, the one to show where several tell the same; the others follow from it or describe the codes.
LEADING = ("relative_error", "absolute_error", "cosine_error", "code_error", "support_error")


def lines(comparison: Comparison, verdict: str = "regression") -> list[dict[str, str]]:
    """Return one line per (case, estimator) and kind of finding, the worst of its cells shown.

    Returns
    -------
    list of dict
        With the keys ``what``, ``estimator``, ``case``, ``cells``, ``base``, ``head`` and ``reason``.
    """
    rows = comparison.frame[comparison.frame["verdict"] == verdict]
    return [_line(group) for group in _groups(rows)]


def _groups(rows: pd.DataFrame) -> Iterator[pd.DataFrame]:
    kind = rows["rule"].where(rows["rule"].isin((*WHOLE, "accuracy", "nan", "new")), rows["metric"])
    yield from (group for _, group in rows.assign(kind=kind).groupby(["kind", "estimator", "case"], sort=True))


def _line(group: pd.DataFrame) -> dict[str, str]:
    rule = group["rule"].iloc[0]
    worst = group.assign(size=group["change"].abs().fillna(math.inf))
    leading = next((name for name in LEADING if name in set(group["metric"])), None)
    if leading is not None:
        worst = worst[worst["metric"] == leading]
    row = worst.sort_values("size", kind="stable").iloc[-1]
    metrics = [METRICS[name] for name in METRICS if name in set(group["metric"])]
    what = "accuracy" if rule in ("accuracy", "nan") else METRICS[row["metric"]]
    if rule in WHOLE:
        what = {"vanished": "cell vanished", "status": "status", "redefined": "case redefined"}[rule]
    depth = "" if pd.isna(row["depth"]) else f" at depth {row['depth']}"
    detail = METRICS[row["metric"]] + depth if rule in ("accuracy", "nan") else depth.strip()
    reason = row["reason"]
    if rule in WHOLE and rule != "redefined":
        reason = f"{reason} ({text.listing(metrics)})"
    cells = group["depth"].nunique() or 1
    return {
        "what": what,
        "estimator": row["estimator"],
        "case": row["case"],
        "cells": f"{cells} {'depth' if cells == 1 else 'depths'}",
        "base": _value(row["metric"], row["base"]),
        "head": _value(row["metric"], row["head"]),
        "reason": ": ".join(filter(None, [detail, reason])),
    }


def _value(metric: str, value: float) -> str:
    show = {"seconds": text.seconds, "memory_bytes": text.memory}.get(metric, text.number)
    return show(value)


def verdict(comparison: Comparison) -> str:
    """Return the outcome in one sentence."""
    failed, cells = comparison.count("regression"), len(comparison.frame)
    others = [f"{comparison.count(name)} {name}" for name in ("improved", "new", "undecided") if comparison.count(name)]
    tail = f" ({', '.join(others)})" if others else ""
    if failed:
        return f"{failed} of {cells} cells regressed{tail}"
    return f"no regression in {cells} cells{tail}"


def plain(comparison: Comparison) -> str:
    """Return the outcome for a terminal or a log: a line for each regression, the verdict last."""
    shown = [
        f"regression: {line['what']} of {line['estimator']} on {line['case']} ({line['cells']}): "
        f"{line['base']} -> {line['head']}; {line['reason']}"
        for line in lines(comparison)
    ]
    for name, (base, head) in comparison.differences.items():
        shown.append(f"differs: {name}: {base} -> {head}")
    return "\n".join([*shown, *(f"note: {note}" for note in comparison.notes), verdict(comparison)])


def markdown(comparison: Comparison, base: str, head: str, profile: str) -> str:
    """Return a summary fit for a comment on a pull request.

    Parameters
    ----------
    comparison : Comparison
    base, head : str
        What to call the two sides.
    profile : str
    """
    failed = comparison.count("regression")
    mark = "❌" if failed else "✅"
    parts = [
        MARKER,
        f"### {mark} pudle compare: {verdict(comparison)}",
        f"{_code(base)} → {_code(head)}, profile {_code(profile)}",
    ]
    if failed:
        parts.append(_table(lines(comparison)))
    parts += [f"- {_escape(note)}" for note in comparison.notes]
    if comparison.differences:
        rows = [{"differs": name, "base": sides[0], "head": sides[1]} for name, sides in comparison.differences.items()]
        parts.append(_table(rows))
    for name, title in (("new", "New"), ("improved", "Improved"), ("undecided", "Undecided: beyond a threshold, not beyond "
                        "noise or not comparable")):  # fmt: skip
        found = lines(comparison, name)
        if found:
            parts.append(_folded(f"{title} ({comparison.count(name)} cells)", _table(found)))
    parts.append(_folded("Thresholds", _thresholds(comparison.limits)))
    return "\n\n".join(parts) + "\n"


def _folded(title: str, content: str) -> str:
    return f"<details><summary>{title}</summary>\n\n{content}\n</details>"


def _thresholds(limits: Limits) -> str:
    errors = ", ".join(f"{METRICS[name]} {getattr(limits, name).decades:g}" for name in LEADING)
    time, memory = limits.seconds, limits.memory_bytes
    return "\n".join([
        f"- Accuracy, in decades, for each seed: {errors}; errors below {limits.floor_multiple:g} times the certified bound "
        "of the reference count as equal.",
        f"- Time: median ratio {time.ratio:g}, at a false discovery rate of {time.significance:g} over all cells.",
        f"- Memory above the process that does nothing: ratio {memory.ratio:g} and {memory.mebibytes:g} MiB.",
        "- NaN, a cell that vanished and a cell that is no longer ok are regressions always.",
    ])  # fmt: skip


def _table(rows: list[dict[str, str]]) -> str:
    names = list(rows[0])
    table = [f"| {' | '.join(names)} |", f"|{' --- |' * len(names)}"]
    for row in rows[:MOST_LINES]:
        cells = [_code(row[name]) if name in ("estimator", "case") else _escape(row[name]) for name in names]
        table.append(f"| {' | '.join(cells)} |")
    if len(rows) > MOST_LINES:
        table.append(f"\n... and {len(rows) - MOST_LINES} more lines.")
    return "\n".join(table)


def _code(words: str) -> str:
    return f"`{_escape(words).replace('`', '')}`"


def _escape(words: str) -> str:
    """Keep text from ending a table's cell or line, or passing for a tag."""
    return " ".join(words.replace("|", "\\|").replace("<", "&lt;").split())
