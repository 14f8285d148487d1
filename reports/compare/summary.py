"""A comparison as lines for a terminal, and as Markdown for a pull request."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import inf, log
from typing import NamedTuple

from pudle import text
from pudle.measuring.grouping import grouped
from pudle.measuring.scoring import ERRORS
from pudle.reports import markup
from pudle.reports.compare.judge import METRICS, Comparison, Judged

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


class ChangeLine(NamedTuple):
    """What is said of the cells of one rule, estimator and case that have a verdict: the worst of
    them.
    """

    what: str
    estimator: str
    case: str
    cells: str
    base: str
    head: str
    reason: str


def lines(comparison: Comparison, verdict: str = "regression") -> list[ChangeLine]:
    """Return a line for each rule, estimator and case, sorted, which shows the worst of the cells
    that have the verdict, in the first of the metrics.
    """
    labels = comparison.labels
    groups = grouped(
        comparison.cells(verdict), lambda row: (row.rule, row.estimator, labels[row.case])
    )
    return [_line(key[-1], group) for key, group in sorted(groups.items())]


def _line(case: str, group: Sequence[Judged]) -> ChangeLine:
    """Return the line of cells that have one rule, estimator and case: the numbers of the worst,
    and how many depths there are.
    """
    group = sorted(group, key=_rank)
    row, metrics = group[0], [*dict.fromkeys(WORDS[row.metric] for row in group)]
    # Of several errors that grow together, one is enough.
    where = metrics[0] if row.rule == "accuracy" else text.listing(metrics)
    where += "" if row.depth is None else f" at depth {row.depth}"
    where += "" if row.seed is None else f", seed {row.seed}"
    show = {"seconds": text.seconds, "memory_bytes": text.memory}.get(row.metric, text.number)
    depths = {row.depth for row in group} - {None}
    return ChangeLine(
        WORDS.get(row.rule, row.rule),
        row.estimator,
        case,
        text.count(len(depths) or 1, "depth"),
        show(row.base),
        show(row.head),
        ": ".join(filter(None, [where, row.reason])),
    )


def _rank(row: Judged) -> tuple[int, float]:
    # A change is a factor: half and double are equally large.
    size = abs(log(row.change)) if row.change > 0 else inf
    return METRICS.index(row.metric), -size


def verdict(comparison: Comparison) -> str:
    """Return the result of the comparison in one sentence."""
    cells, counts = len(comparison.rows), Counter(row.verdict for row in comparison.rows)
    failed = counts["regression"]
    other_counts = ", ".join(f"{counts[name]} {name}" for name in TITLES if counts[name])
    start = f"{failed} of {cells} cells regressed" if failed else f"no regression in {cells} cells"
    return f"{start} ({other_counts})" if other_counts else start


def plain(comparison: Comparison) -> str:
    """Return the comparison for a terminal or a log: regressions first, the verdict last."""
    said = [
        f"regression: {line.what} of {line.estimator} on {line.case} ({line.cells}): "
        f"{line.base} -> {line.head}; {line.reason}"
        for line in lines(comparison)
    ]
    said += [
        f"differs: {name}: {' -> '.join(values)}" for name, values in comparison.differences.items()
    ]
    said += [f"note: {note}" for note in comparison.notes]
    return "\n".join([*said, verdict(comparison)])


def markdown(comparison: Comparison, base: str, head: str, profile: str) -> str:
    """Return a summary for a comment on a pull request, which calls the two sides `base` and
    `head`; its tables have `MOST_LINES` lines at most.
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
        lines={
            name: [line._asdict() for line in lines(comparison, name)]
            for name in ("regression", *TITLES)
        },
        titles=TITLES,
        differences=differences,
        errors={WORDS[name]: comparison.limits.of_error(name) for name in ERRORS},
    ).removesuffix("\n")


def _table(rows: Sequence[Mapping[str, str]]) -> markup.Markdown:
    """Return rows as a table in Markdown, the first `MOST_LINES`, and how many more there are."""
    first_lines = markup.Table.of(rows[:MOST_LINES])
    more = len(rows) - MOST_LINES
    return markup.Markdown(
        markup.markdown_table(first_lines, ("estimator", "case"))
        + (f"\n\n... and {more} more lines." if more > 0 else "")
    )
