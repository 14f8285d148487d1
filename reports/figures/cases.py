"""The figures about cases: one of the curves of each, and what was stored beside them."""

import math
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from pudle import text
from pudle.reports.figures.record import NO_GUIDES, Axis, Figure, file_name
from pudle.reports.load import TITLES, Results
from pudle.reports.looks import looks_of
from pudle.reports.summary import predicted_slopes

#: Columns of costs, each with its metric and its unit.
COSTS = {"ms": ("seconds", 1e-3), "mib": ("memory_bytes", 2.0**20)}
TIME = Axis("ms", "time of one gradient (ms)", "log")
MEMORY = Axis("mib", "added peak memory (MiB)")
#: A bound is drawn if some error is less than this many times as large: others would be squeezed.
NEAR = 1e3

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
        "Truncated backpropagation: darker is more accurate. A window of at least as many layers "
        "as the depth is full backpropagation."
    ),
    "Fitted against predicted rates": (
        "On the diagonal a rate is as theory predicts. Bars reach from the least to the "
        "greatest seed; hollow markers belong to curves that are not straight."
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


def figures(results: Results, summary: pd.DataFrame) -> list[Figure]:
    """Return every figure for a file that there are data for, in the order of `KINDS`."""
    made = [*across(results, summary)]
    for name, figure in curves(results, summary, seeds(results)).items():
        for kind, (file, x, y) in VIEWS.items():
            if y in figure.rows:
                # Guides and levels are those of the axes that come first.
                plain = {} if file == "error" else {"guides": NO_GUIDES, "levels": ()}
                view = figure.view(x, y, kind=kind, name=file_name(file, name), **plain)
                made += [view] * bool(len(view.rows))
        made += windows(results, name, figure.rows)
    return sorted(made, key=lambda figure: list(KINDS).index(figure.kind))


def overview(results: Results, summary: pd.DataFrame) -> Figure:
    """Return error against depth for the first dataset and algorithm, one panel per loss, as the
    README shows it.
    """
    first, *_ = results.cases.values()
    panels = [
        figure.view("depth", title=f"{results.cases[name]['loss']} loss")
        for name, figure in curves(results, summary, seeds(results)).items()
        if all(results.cases[name][key] == first[key] for key in ("dataset", "algorithm"))
    ]
    return replace(
        panels[0],
        name="overview",
        title=f"Error against depth on {first['dataset']}",
        rows=pd.concat([panel.rows.assign(case=panel.case) for panel in panels]),
        panels=panels,
        case="",
        about=" ".join(panel.alt for panel in panels),
    )


def seeds(results: Results) -> pd.DataFrame:
    """Return the errors of all cases against their first targets, a row per case, estimator, depth
    and seed, and a column per metric, with the costs at that depth.
    """
    rows = results.numbers
    targets = rows["case"].map({case: results.target(case) for case in results.cases})
    chosen = rows[rows["metric"].isin(TITLES) & (rows["target"] == targets)]
    keys = ["case", "estimator", "depth", "seed"]
    table = chosen.pivot_table("value", keys, "metric", aggfunc="last").reset_index()
    table = table.rename_axis(columns=None).astype({"depth": int, "seed": int})
    if table.empty:
        table["relative_error"] = math.nan
    for column, (metric, unit) in COSTS.items():
        cells = table.groupby(keys[:3]).indices
        costs = {key: results.line(*key[:2], metric).inside(key[2]) / unit for key in cells}
        table[column] = pd.MultiIndex.from_frame(table[keys[:3]]).map(costs)
    return table


def curves(results: Results, summary: pd.DataFrame, scores: pd.DataFrame) -> dict[str, Figure]:
    """Return, per case, the errors in `scores` (see `seeds`) against depth, time and memory, with
    the slopes of theory and the bound.
    """
    axes = [Axis(metric, title, "log") for metric, title in TITLES.items() if metric in scores]
    groups = scores.groupby(["case", "estimator", "depth"], sort=False)
    errors = groups[[axis.column for axis in axes]]
    ends = errors.min().add_suffix("_low"), errors.max().add_suffix("_high")
    rows = pd.concat([errors.median(), *ends, groups[[*COSTS]].first()], axis=1).reset_index()
    made, looks = {}, looks_of(results)
    for case in results.cases:
        part = rows[rows["case"] == case].drop(columns="case")
        bound = results.bounds.get((case, results.target(case)), 0.0)
        what = "estimated error of the limit" if results.badge(case) else "certified bound"
        near = part["relative_error"].min() < NEAR * bound
        laws = predicted_slopes(summary[summary["case"] == case])
        slopes = pd.DataFrame(laws, columns=[*NO_GUIDES])
        unit = "layers" if results.cases[case]["differentiable"] else "steps"
        made[case] = Figure(
            file_name("curves", case),
            "Error against depth",
            results.labels[case],
            part,
            (Axis("depth", f"depth ({unit})"), TIME, MEMORY),
            (*axes, MEMORY),
            looks,
            case=case,
            guides=slopes.explode(["x", "y"], ignore_index=True),
            levels=[(bound, f"{what} {text.number(bound)}")] * bool(near),
        )
    return made


def windows(results: Results, case: str, rows: pd.DataFrame) -> Iterator[Figure]:
    """Yield truncated backpropagation's errors over depth and window, where at least two windows
    were scored.
    """
    sizes = rows["estimator"].str.extract(r"^truncated\(window=(\d+)\)$", expand=False)
    scored = rows.assign(window=pd.to_numeric(sizes)).dropna(subset=["window", "relative_error"])
    if scored["window"].nunique() < 2:
        return
    scored = scored.astype({"window": int}).sort_values(["depth", "window"])
    data = scored[["depth", "window", "relative_error"]]
    last = data["depth"].max()
    words = "; ".join(
        f"window {row.window} {text.number(row.relative_error)}"
        for row in data[data["depth"] == last].itertuples()
    )
    yield Figure(
        file_name("windows", case),
        "Error over depth and window",
        "Error over depth and window",
        data,
        [Axis("depth", "depth (layers)", "ordinal")],
        [Axis("window", "window (layers differentiated)", "ordinal")],
        mark="cell",
        color=Axis("relative_error", "relative error"),
        case=case,
        about=f"{results.labels[case]}: error of truncated backpropagation at depth {last}: "
        f"{words}.",
    )


def across(results: Results, summary: pd.DataFrame) -> Iterator[Figure]:
    """Yield the percentage of the error that each layer removes, fitted against predicted."""
    data = summary.dropna(subset=["rate", "predicted_rate"])
    if data.empty:
        return
    # The greater the factor that remains, the less a layer removes.
    shares = {
        f"{new}{end}": 100 * (1 - data[f"{old}{other}"])
        for new, old in (("predicted", "predicted_rate"), ("fitted", "rate"))
        for end, other in (("", ""), ("_low", "_high"), ("_high", "_low"))
    }
    rows = data[["case", "estimator"]].assign(**shares, hollow=data["crooked"])
    rows["label"] = rows["case"].map(results.labels)
    values = rows[["predicted", "fitted"]]
    limits = [values.min(axis=None), values.max(axis=None)]
    pairs = "; ".join(
        f"{row.estimator} on {row.label} fitted {row.fitted:.2f}, predicted {row.predicted:.2f}"
        for row in rows.itertuples()
    )
    yield Figure(
        "rates",
        "Fitted against predicted rates",
        "Fitted against predicted rates",
        rows,
        [Axis("predicted", "predicted: error lost per layer (%)")],
        [Axis("fitted", "fitted: error lost per layer (%)")],
        looks_of(results),
        mark="point",
        guides=pd.DataFrame({"label": "as predicted", "estimator": "", "x": limits, "y": limits}),
        note=KINDS["Fitted against predicted rates"],
        about=f"All cases: error lost per layer in percent. {pairs}.",
        tips={"label": "case"},
    )
