"""Trainings in a report: which gradient recovers best, and which optimizer gets there in the fewest steps."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from pudle import specs
from pudle.errors import PudleError
from pudle.reports import text
from pudle.reports.drawing import ESTIMATOR, INK, Picture, axes, curve, drawing, file_name, legend, table, ticks
from pudle.reports.learning.records import ExperimentRecord
from pudle.reports.load import Results
from pudle.reports.looks import Look, looks, looks_of
from pudle.reports.text import Cell

#: Parts of a setting that tell one training from another of the same dataset, estimator and depth, in the order in which
#: they are named. Trainings that differ in nothing but their seed are one method.
PARTS = ("loss", "algorithm", "optimizer", "schedule", "batch", "epochs", "dtype")
#: Study whose trainings are compared by the steps they need, not by where they end.
OPTIMIZERS = "optimizers"
#: Points of a curve that are drawn, at most.
POINTS = 120
#: An estimator's second, third and fourth method differ from its first in the marker's filling and the line.
VARIANTS: tuple[dict[str, Any], ...] = (
    {},
    {"markerfacecolor": "none", "markeredgewidth": 1.2, "markersize": 7},
    {"linestyle": (0, (1, 1)), "markersize": 4},
    {"linestyle": (0, (1, 1)), "markerfacecolor": "none", "markeredgewidth": 1.0, "markersize": 5},
)


@dataclass(frozen=True, eq=False)
class Method:
    """Trainings that differ in their seed only, or one of another package.

    Attributes
    ----------
    label : str
        The estimator and what tells the method from the others of its group.
    estimator : str
        Empty for another package's.
    parts : mapping
        What tells it from the others, in short, by the name of that part of the setting.
    variant : int
        How many methods of the same estimator stand before it in its group.
    depth : int or None
    runs : list of ExperimentRecord
        One per seed.
    """

    label: str
    estimator: str
    parts: Mapping[str, str]
    variant: int
    depth: int | None
    runs: list[ExperimentRecord] = field(default_factory=list)

    @property
    def good(self) -> list[ExperimentRecord]:
        """The runs whose numbers count."""
        return [run for run in self.runs if run.status == "ok"]

    @property
    def status(self) -> str:
        """``ok``, or what went wrong and in how many of the seeds."""
        bad = [run.status for run in self.runs if run.status != "ok"]
        if not bad:
            return "ok"
        return text.listing(list(dict.fromkeys(bad))) + (f" in {len(bad)} of {len(self.runs)} seeds" if self.good else "")

    def spread(self, name: str) -> tuple[float, float, float]:
        """Return median, least and greatest over the seeds of a number of the summary; NaN where no seed has it."""
        values = np.array([value for run in self.good if not math.isnan(value := run.number(name))])
        return (float(np.median(values)), float(values.min()), float(values.max())) if len(values) else (math.nan,) * 3

    def curve(self, name: str) -> pd.DataFrame:
        """Return median, least and greatest over the seeds of a column of the history, with step, epoch and seconds."""
        parts = []
        for run in self.good:
            place = run.column("step") if "step" in run.rows else pd.Series(range(len(run.rows)), run.rows.index)
            values = {key: run.column(key) for key in ("epoch", "seconds")} | {"step": place, "value": run.column(name)}
            parts.append(pd.DataFrame(values).dropna(subset=["value"]))
        columns = ["step", "epoch", "seconds", "median", "least", "greatest"]
        if not parts:
            return pd.DataFrame(columns=columns)
        grouped = pd.concat(parts).groupby("step")
        # Where a seed has no row, or ended earlier, the median would be one over other seeds.
        whole = grouped["value"].count() == len(parts)
        found = grouped[["epoch", "seconds"]].median()
        found = found.assign(**{new: getattr(grouped["value"], old)() for new, old in (
            ("median", "median"), ("least", "min"), ("greatest", "max"))})  # fmt: skip
        return found[whole].reset_index()[columns]


@dataclass(frozen=True, eq=False)
class Group:
    """Methods on the same data.

    Attributes
    ----------
    dataset : str
    methods : tuple of Method
    """

    dataset: str
    methods: tuple[Method, ...]

    @property
    def depths(self) -> list[int]:
        return sorted({method.depth for method in self.methods if method.depth is not None})

    @property
    def seeds(self) -> int:
        """Most seeds that a method has."""
        return max(len(method.runs) for method in self.methods)


def recovered(results: Results) -> list[Group]:
    """Return the trainings of all studies but that of the optimizers, and other packages' on the same data."""
    return groups([item for item in results.experiments
                   if item.kind in ("learning", "baseline") and item.study != OPTIMIZERS])  # fmt: skip


def optimized(results: Results) -> list[Group]:
    """Return the trainings of the study of optimizers."""
    return groups([item for item in results.experiments if item.kind == "learning" and item.study == OPTIMIZERS])


def groups(records: Iterable[ExperimentRecord]) -> list[Group]:
    """Sort trainings into groups of the same dataset, and within these into methods."""
    found: dict[str, list[ExperimentRecord]] = {}
    for record in records:
        found.setdefault(str(record.setting.get("dataset", "unknown dataset")), []).append(record)
    return [Group(dataset, _methods(members)) for dataset, members in found.items()]


def _methods(records: list[ExperimentRecord]) -> tuple[Method, ...]:
    trained = [record for record in records if record.kind == "learning"]
    values = {part: list(dict.fromkeys(str(record.setting.get(part)) for record in trained)) for part in PARTS}
    short = {part: shortened(found) for part, found in values.items() if len(found) > 1}
    methods: dict[tuple[Any, ...], Method] = {}
    labels: dict[str, list[str]] = {}
    for record in records:
        setting = record.setting
        if record.kind == "learning":
            parts = {part: names[str(setting.get(part))] for part, names in short.items()}
            estimator, depth = str(setting.get("estimator")), setting.get("depth")
            label = ", ".join([estimator, *(_worded(part, value) for part, value in parts.items())])
        else:
            parts, estimator, depth = {}, "", None
            label = str(record.summary.get("method") or record.name)
        known = labels.setdefault(estimator, [])
        if label not in known:
            known.append(label)
        # Of another package no more is known than its method and its options, which are all but the seed.
        key = (label, depth, "" if record.kind == "learning" else record.alike)
        # Another package's method has a marker of its own.
        made = Method(label, estimator, parts, known.index(label) if estimator else 0, depth)
        methods.setdefault(key, made).runs.append(record)
    order = list(methods.values())
    return tuple(sorted(order, key=lambda method: math.inf if method.depth is None else method.depth))


def _worded(part: str, value: str) -> str:
    return (
        value if part in ("algorithm", "optimizer", "schedule") else f"{value} loss" if part == "loss" else f"{part} {value}"
    )


def shortened(values: Sequence[str]) -> dict[str, str]:
    """Return specs without the arguments that all of the same name share; the name goes too where all have the same."""
    parsed: dict[str, tuple[str, dict[str, Any]]] = {}
    for value in values:
        try:
            parsed[value] = specs.parse(value)
        except PudleError:
            parsed[value] = (value, {})
    names = {name for name, _ in parsed.values()}
    found = {}
    for value, (name, arguments) in parsed.items():
        others = [given for other, given in parsed.values() if other == name]
        kept = {key: item for key, item in arguments.items()
                if any(given.get(key, others) != item for given in others)}  # fmt: skip
        told = ", ".join(f"{key}={item}" for key, item in kept.items())
        found[value] = told if told and len(names) == 1 else f"{name}({told})" if told else name
    return found


# -- dictionaries recovered


def recovery_table(group: Group) -> pd.DataFrame:
    """Return one row per method and depth: the errors before and after, support, steps and time; the best are marked."""
    ends = {method: {name: method.spread(name) for name in (
        "start_dictionary_error", "dictionary_error", "relative_error", "support_recovery", "steps", "seconds")}
        for method in group.methods}  # fmt: skip
    best = {
        name: choose(values)
        for name, choose in (("dictionary_error", min), ("relative_error", min), ("support_recovery", max))
        if (values := [found[name][0] for found in ends.values() if not math.isnan(found[name][0])])
    }
    rows = []
    for method, found in ends.items():

        def shown(name: str, show: Callable[[float], str] = text.number, found: Any = found) -> Cell:
            return Cell(text.between(*found[name], show), best=name in best and found[name][0] == best[name])

        rows.append({
            "method": Cell(method.label, method.estimator),
            "layers": text.DASH if method.depth is None else str(method.depth),
            "error at start": shown("start_dictionary_error"), "error at end": shown("dictionary_error"),
            "relative error": shown("relative_error"), "support recovered": shown("support_recovery", _percent),
            "steps": shown("steps", whole), "time": shown("seconds", text.seconds), "status": method.status,
        })  # fmt: skip
        if group.seeds > 1:
            rows[-1]["seeds"] = str(len(method.runs))
    return pd.DataFrame(rows, dtype=object)


def _percent(value: float) -> str:
    return text.DASH if math.isnan(value) else f"{100 * value:.0f}%"


def whole(value: float) -> str:
    """Return a number of steps, rounded up."""
    return text.DASH if math.isnan(value) else f"{math.ceil(value - 1e-9)}"


def recovery_answer(group: Group) -> str:
    """Say which gradient recovers the dictionary best, depth by depth, and how sure that is."""
    sentences, contested, compared = [], [], False
    ends: list[float] = []
    for depth in group.depths:
        rows = [(method, *method.spread("dictionary_error")) for method in group.methods if method.depth == depth]
        rows = sorted((row for row in rows if not math.isnan(row[1])), key=lambda row: row[1])
        if not rows:
            continue
        best, error, _, high = rows[0]
        ends.append(error)
        start = best.spread("start_dictionary_error")[0]
        before, after = text.number(start), text.number(error)
        if error >= start:
            sentences.append(
                f"At {depth} layers no gradient recovers anything: all end farther from the truth than the start, {before}, "
                f"{_named(best)} the least far at {after}."
            )
            continue
        line = f"At {depth} layers {_named(best)} recovers best: its error falls from {before} to {after}"
        if len(rows) > 1:
            compared = True
            second, other, low, _ = rows[1]
            line += f", that of {_named(second)} to {text.number(other)}" + (
                f", {text.number(other / error)} times as much" if error > 0 else "")  # fmt: skip
            if len(best.good) > 1 and low <= high:
                contested.append(str(depth))
        sentences.append(line + ".")
    if contested:
        sentences.append(
            f"At {text.listing(contested)} layers the seeds of these two overlap, so that their order may be chance."
        )
    others = [(method.spread("dictionary_error")[0], method.label) for method in group.methods if not method.estimator]
    others = sorted(found for found in others if not math.isnan(found[0]))
    if others:
        nearest, label = others[0]
        verb = "is nearer still" if nearest < min(ends, default=0.0) else "comes nearest"
        sentences.append(f"Of other packages {label} {verb}, {text.number(nearest)}.")
    if compared and group.seeds == 1:
        sentences.append("This is of one seed each: small differences may be chance.")
    return " ".join(sentences)


def _named(method: Method) -> str:
    if not method.estimator:
        return method.label
    loss = f" on the {method.parts['loss']} loss" if "loss" in method.parts else ""
    rest = ", ".join(_worded(part, value) for part, value in method.parts.items() if part != "loss")
    return f"`{method.estimator}`{loss}" + (f" with {rest}" if rest else "")


# -- curves


def recovery_pictures(results: Results) -> list[list[Picture]]:
    """Draw the error of the dictionary against epochs and seconds, one picture per depth; a list for each group."""
    found = recovered(results)
    style = styles(results, [method for group in found for method in group.methods])
    with drawing():
        return [
            [
                picture
                for depth in group.depths or [None]
                for x in ("epoch", "seconds")
                if (picture := _curves(group, depth, x, style)) is not None
            ]
            for group in found
        ]


def _curves(group: Group, depth: int | None, x: str, style: Mapping[str, Look]) -> Picture | None:
    methods = [method for method in group.methods if method.depth in (depth, None)]
    everything = [method.curve("dictionary_error") for method in group.methods]
    panel = "" if depth is None else f"{depth} layers"
    return draw_curves(
        {method: method.curve("dictionary_error") for method in methods}, x, style,
        what="error of the dictionary", column="dictionary_error", title=group.dataset, panel=panel,
        kind="Error of the dictionary", name=file_name("recovery", x, group.dataset, panel), reach=reach_of(everything),
    )  # fmt: skip


def reach_of(curves: Iterable[pd.DataFrame]) -> tuple[float, float] | None:
    """Return the least and the greatest value above zero of some curves, None where there is none."""
    parts = [data[data["least"] > 0] for data in curves]
    filled = [part for part in parts if len(part)]
    return (min(part["least"].min() for part in filled), max(part["greatest"].max() for part in filled)) if filled else None


def draw_curves(
    curves: Mapping[Method, pd.DataFrame], x: str, style: Mapping[str, Look], *, what: str, column: str, title: str,
    panel: str, kind: str, name: str, reach: tuple[float, float] | None = None, goals: Sequence[float] = (),
    logarithmic: bool = True,
) -> Picture | None:  # fmt: skip
    """Draw one curve per method; None where there is nothing to draw.

    Parameters
    ----------
    curves : mapping from Method to DataFrame
        From `Method.curve`.
    x : {"epoch", "step", "seconds"}
    what : str
        Name of what is drawn.
    column : str
        Its name in the data.
    title, panel : str
        What the picture is about: its block of the page, and which of the block's pictures it is.
    reach : pair of float, optional
        Least and greatest value of all pictures that are compared, so that they share their scale.
    goals : sequence of float
        Values to mark.
    """
    label = {"epoch": "epochs", "step": "steps", "seconds": "seconds of computing"}[x]
    drawn: dict[Method, pd.DataFrame] = {}
    for method, data in curves.items():
        data = data[data["least"] > 0] if logarithmic else data
        if len(data) > 1:
            data = data.dropna(subset=[x])
        if len(data):
            drawn[method] = data.iloc[np.unique(np.linspace(0, len(data) - 1, min(len(data), POINTS)).round().astype(int))]
    if not any(len(data) > 1 for data in drawn.values()):
        return None
    lasts = [data[x].max() for data in drawn.values() if data[x].max() > 0]
    # A method of seconds beside one of hours.
    spread = x == "seconds" and max(lasts) > 20 * min(lasts)
    figure, at = axes()
    for number, (method, data) in enumerate(drawn.items()):
        look = style[method.estimator or method.label]
        options = VARIANTS[method.variant % len(VARIANTS)] | {"label": method.label}
        owner = method.estimator or method.label
        if len(data) == 1 and not data[x].notna().all():
            at.axhline(data["median"].iloc[0], color=look.color, linewidth=1.2, linestyle=(0, (1, 2)), gid=ESTIMATOR + owner,
                       label=method.label)  # fmt: skip
            continue
        shown = data[data[x] > 0] if spread else data
        gap = max(len(shown) // 8, 1)
        # Markers of curves that lie on each other stand side by side.
        curve(at, shown, x, owner, look, markevery=(number * gap // max(len(drawn), 1), gap), **options)
    for goal in goals:
        at.axhline(goal, color=INK, alpha=0.45, linewidth=1, linestyle=(0, (4, 3)), zorder=1)
    if logarithmic:
        at.set_yscale("log")
    at.set(xlabel=label, ylabel=what)
    if spread:
        at.set_xscale("log")
        ticks(at.xaxis, *at.get_xlim(), text.seconds)
    if logarithmic:
        low, high = reach or at.get_ylim()
        at.set_ylim(low / 1.3, high * 1.3)
        ticks(at.yaxis, *at.get_ylim())
    longest = max(len(method.label) for method in drawn)
    legend(figure, at, 2 if longest < 34 else 1, {method.label: method.estimator or method.label for method in drawn})
    lasts_told = "; ".join(f"{method.label} {text.number(data['median'].iloc[-1], 3)}" for method, data in drawn.items())
    seeds = max(len(method.runs) for method in drawn)
    band = f" Median over {seeds} seeds, band from least to greatest." if seeds > 1 else ""
    scale = " on a log scale" if logarithmic else ""
    alt = f"{', '.join(filter(None, (title, panel)))}: {what} against {label}{scale}.{band} Last values: {lasts_told}."
    tidy = pd.concat([data.assign(method=method.label, estimator=method.estimator) for method, data in drawn.items()])
    tidy = tidy[["method", "estimator", "step", "epoch", "seconds", "median", "least", "greatest"]]
    return Picture(
        name, kind, "", figure, alt, table(tidy, {"median": column}), ", ".join(filter(None, (panel, f"against {label}")))
    )


def styles(results: Results, methods: Iterable[Method]) -> dict[str, Look]:
    """Return the looks of all estimators, and of other packages' methods, which are gray."""
    others = dict.fromkeys(method.label for method in methods if not method.estimator)
    return looks(others, {}) | looks_of(results)
