"""The figures about cases: one of the curves of each, and what was stored beside them."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from math import inf, nan

import numpy as np
import pandas as pd

from pudle import text
from pudle.answers import NO_CURVE, Curve
from pudle.paired import Array
from pudle.reports.figures.record import NO_GUIDES, Axis, Figure, file_name
from pudle.reports.glossary import in_words_of
from pudle.reports.load import SIGNS, TITLES, Results
from pudle.reports.looks import looks_of
from pudle.reports.summary import Summary, predicted_slopes

TIME = Axis("ms", "time of one gradient (ms)", "log")
MEMORY = Axis("mib", "added peak memory (MiB)")
#: A bound is drawn if some error is less than this many times as large: others would be squeezed.
NEAR = 1e3
#: The greatest relative error that a figure shows: that of zero is 1, and spikes would squeeze all
#: else.
MOST_ERROR = 10.0
#: Lines coincide whose medians differ by less than this share at every depth.
SAME_LINE = 0.02

#: Kinds of figures, in the order in which a report shows them, each with a sentence on how to read
#: it.
KINDS = {
    "Error against depth": (
        "Dashed gray lines are the slopes that theory predicts; the dotted line is the reference's"
        " own bound, below which no error is reported."
    ),
    "Error against time": (
        "Down and to the left is better. Between the timed depths time is taken as linear."
    ),
    "Error against memory": (
        "As for time, with the peak of memory above that of a process that only holds the problem."
    ),
    "Error over depth and window": (
        "Truncated backpropagation: lighter is more accurate. A window of at least as many layers "
        "as the depth is full backpropagation."
    ),
    "Direction against depth": (
        "1 - cosine of the angle to the reference: the error of the direction alone."
    ),
    "Memory against depth": "Peak above that of a process that only holds the problem.",
}
#: The files that show the curves of a case, by kind, with what is on their axes.
VIEWS = {
    "Error against depth": ("error", "depth", "relative_error"),
    "Error against time": ("time", "ms", "relative_error"),
    "Error against memory": ("memory", "mib", "relative_error"),
    "Direction against depth": ("cosine", "depth", "cosine_error"),
    "Memory against depth": ("memory-depth", "depth", "mib"),
}


def figures(results: Results, summary: Sequence[Summary]) -> list[Figure]:
    """Return every figure for a file that there are data for, in the order of `KINDS`; none is
    drawn yet.
    """
    drawable = []
    for case in results.cases:
        figure = curves(results, summary, case, results.metrics)
        for kind, (file, x, y) in VIEWS.items():
            if y in figure.rows:
                view = figure.view(x, y, kind=kind, name=file_name(file, case))
                if len(view.rows):
                    drawable.append(view)
        drawable += windows(results, case)
    return sorted(drawable, key=lambda figure: list(KINDS).index(figure.kind))


def overview(results: Results, summary: Sequence[Summary]) -> Figure:
    """Return error against depth for the first dataset and algorithm, one panel per loss, that of
    its first case, as the README shows it; there must be a case.
    """
    first, *_ = results.cases.values()
    case_of_loss: dict[str, str] = {}
    for name, case in results.cases.items():
        if (case.dataset, case.algorithm) == (first.dataset, first.algorithm):
            case_of_loss.setdefault(case.loss, name)
    panels = [
        curves(results, summary, name, results.metrics).view("depth", title=f"{loss} loss")
        for loss, name in case_of_loss.items()
    ]
    return replace(
        panels[0],
        name="overview",
        title=f"Error against depth on {first.dataset}",
        rows=pd.concat([panel.rows.assign(case=panel.case) for panel in panels]),
        panels=panels,
        case="",
        about=" ".join(panel.alt for panel in panels),
    )


@cache
def seeds(results: Results, case: str) -> pd.DataFrame:
    """Return the errors on a case against its first target, a row per estimator, depth and seed,
    and a column per metric, with the costs at that depth (ms, MiB); NaN where nothing is known.
    Computed once.
    """
    # Plain lists: pandas would take a hundred times as long for each of thousands of small tables.
    columns: dict[str, list[object]] = {
        name: [] for name in ("seed", "depth", *results.metrics, "estimator", "ms", "mib")
    }
    for measured in sorted(results.measured[case], key=lambda measured: measured.estimator):
        errors = {
            metric: _shown_curve(results, case, measured.estimator, metric).by_seed
            for metric in results.metrics
        }
        scored = {
            (depth, seed)
            for by_seed in errors.values()
            for seed, by_depth in by_seed.items()
            for depth in by_depth
        }
        for depth, seed in sorted(scored):
            columns["seed"].append(seed)
            columns["depth"].append(depth)
            for metric, by_seed in errors.items():
                columns[metric].append(by_seed.get(seed, {}).get(depth, nan))
            columns["estimator"].append(measured.estimator)
            columns["ms"].append(1e3 * measured.seconds.inside(depth))
            columns["mib"].append(measured.memory.inside(depth) / 2**20)
    numbers = {name: np.array(columns[name], float) for name in (*results.metrics, "ms", "mib")}
    return pd.DataFrame(columns | numbers)


def _shown_curve(results: Results, case: str, estimator: str, metric: str) -> Curve:
    """Return the numbers of a metric that a figure shows; none of signs where these mean
    nothing.
    """
    if metric == SIGNS and not results.has_signs(case):
        return NO_CURVE
    return results.curve(case, estimator, metric)


def over_seeds(results: Results, case: str, metrics: Sequence[str]) -> pd.DataFrame:
    """Return the median, the least and the greatest error over the seeds on a case, a row per
    estimator and depth, with the costs at that depth.
    """
    ends = [f"{metric}_{end}" for end in ("low", "high") for metric in metrics]
    names = ("estimator", "depth", *metrics, *ends, "ms", "mib")
    columns: dict[str, list[object]] = {name: [] for name in names}
    for measured in sorted(results.measured[case], key=lambda measured: measured.estimator):
        spreads = {}
        for metric in metrics:
            rows = _shown_curve(results, case, measured.estimator, metric).spread.tolist()
            spreads[metric] = {int(depth): ends for depth, *ends in rows}
        for depth in sorted({depth for spread in spreads.values() for depth in spread}):
            columns["estimator"].append(measured.estimator)
            columns["depth"].append(depth)
            for metric, spread in spreads.items():
                median, low, high = spread.get(depth, (nan, nan, nan))
                columns[metric].append(median)
                columns[f"{metric}_low"].append(low)
                columns[f"{metric}_high"].append(high)
            columns["ms"].append(1e3 * measured.seconds.inside(depth))
            columns["mib"].append(measured.memory.inside(depth) / 2**20)
    numbers = {name: np.array(columns[name], float) for name in (*metrics, *ends, "ms", "mib")}
    return pd.DataFrame(columns | numbers)


def curves(
    results: Results, summary: Sequence[Summary], case: str, metrics: Sequence[str]
) -> Figure:
    """Return the errors on a case by some metrics against depth, time and memory, with the slopes
    of theory, and the bound where an error comes near it; notes say which lines coincide against
    depth, of each quantity by itself, and what is cut off.
    """
    rows = over_seeds(results, case, metrics)
    bound = results.bound(case)
    bound_label = "estimated error of the limit" if results.badge(case) else "certified bound"
    least = min(
        (point.error for source in results.measured[case] for point in source.points), default=inf
    )
    slopes = predicted_slopes(row for row in summary if row.case == case)
    unit = "steps" if case in results.solvers else "layers"
    cut = rows["relative_error"].max() > MOST_ERROR
    depth = Axis("depth", f"depth ({unit})")
    titles = [in_words_of(results, TITLES[metric]) for metric in metrics]
    axes = zip(metrics, titles, strict=True)
    quantities = (*(Axis(metric, title, "log") for metric, title in axes), MEMORY)
    notes = {
        f"{depth.column} {axis.column}": coincidence
        for axis in quantities
        if len(rows) and (coincidence := _coincidence(rows, axis))
    }
    return Figure(
        file_name("curves", case),
        "Error against depth",
        results.labels[case],
        rows,
        (depth, TIME, MEMORY),
        quantities,
        looks_of(results),
        case=case,
        guides=pd.DataFrame(slopes, columns=[*NO_GUIDES]),
        levels=[(bound, f"{bound_label} {text.number(bound)}")] if least < NEAR * bound else [],
        notes=notes,
        most=(MOST_ERROR, f"Errors above {MOST_ERROR:g} are cut off.") if cut else None,
    )


def _coincidence(rows: pd.DataFrame, axis: Axis) -> str:
    """Say which estimators have the same line of a quantity against depth: the same depths, and
    medians that differ by 2% at most; an empty text if none. What the axis cannot show is no part
    of a line.
    """
    # Plain arrays: pandas would take a hundred times as long for each of thousands of figures.
    names, row_names = np.unique(rows["estimator"].to_numpy(str), return_inverse=True)
    depths, row_depths = np.unique(rows["depth"].to_numpy(int), return_inverse=True)
    medians = np.full((len(names), len(depths)), nan)
    medians[row_names, row_depths] = rows[axis.column]
    if axis.scale == "log":
        medians[~(medians > 0)] = nan
    coinciding: list[tuple[Array, list[str]]] = []
    for name, values in zip(names.tolist(), medians, strict=True):
        if np.isnan(values).all():
            continue
        for other, same_line in coinciding:
            near = np.abs(values - other) <= SAME_LINE * np.abs(other)
            # What has a value at other depths has another line.
            if (near | (np.isnan(values) & np.isnan(other))).all():
                same_line.append(name)
                break
        else:
            coinciding.append((values, [name]))
    listed = [text.listing(names) for _, names in coinciding if len(names) > 1]
    return " ".join(f"Against depth the lines of {names} coincide." for names in listed)


def windows(results: Results, case: str) -> Iterator[Figure]:
    """Yield one figure, truncated backpropagation's errors over depth and window; none where fewer
    than two windows were scored.
    """
    points = [
        (int(depth), int(spec_match[1]), median)
        for name in results.estimators
        if (spec_match := re.fullmatch(r"truncated\(window=(\d+)\)", name))
        for depth, median, *_ in results.curve(case, name).spread.tolist()
    ]
    if len({window for _, window, _ in points}) < 2:
        return
    last, *_ = max(points)
    words = "; ".join(
        f"window {window} {text.number(error)}"
        for depth, window, error in sorted(points)
        if depth == last
    )
    yield Figure(
        file_name("windows", case),
        "Error over depth and window",
        "Error over depth and window",
        pd.DataFrame(sorted(points), columns=["depth", "window", "relative_error"]),
        [Axis("depth", "depth (layers)", "ordinal")],
        [Axis("window", "window (layers differentiated)", "ordinal")],
        mark="cell",
        color=Axis("relative_error", "relative error"),
        case=case,
        about=f"{results.labels[case]}: error of truncated backpropagation at depth {last}: "
        f"{words}.",
    )
