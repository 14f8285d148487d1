"""Dictionaries that trainings recover: which gradient comes nearest to the dictionary that made the
data.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import pandas as pd

from pudle import text
from pudle.reports.figures.record import Figure
from pudle.reports.learning.methods import Method, cells, group, whole
from pudle.reports.learning.optimizers import STUDY
from pudle.reports.learning.pictures import charts
from pudle.reports.load import Results
from pudle.reports.looks import Look

ERROR, START = "dictionary_error", "start_dictionary_error"


def recovered(results: Results) -> dict[str, list[Method]]:
    """Return the trainings by dataset, and with them those of other packages; the study of
    optimizers is left out.
    """
    records = (
        item
        for item in results.experiments
        if item.kind in ("learning", "baseline") and item.study != STUDY
    )
    return group(records, lambda record: record.dataset)


def table(methods: Sequence[Method]) -> pd.DataFrame:
    """Return one row per method and depth: errors at the start and the end, support, steps and
    time.
    """
    columns = cells(
        methods,
        {
            "error at start": (START, text.number, None),
            "error at end": (ERROR, text.number, "min"),
            "relative error": ("relative_error", text.number, "min"),
            "support recovered": (
                "support_recovery",
                lambda share: text.fixed(100 * share, 0, "%"),
                "max",
            ),
            "steps": ("steps", whole, None),
            "time": ("seconds", text.seconds, None),
        },
    )
    columns["status"] = [method.status for method in methods]
    if max(len(method.runs) for method in methods) > 1:
        columns["seeds"] = [str(len(method.runs)) for method in methods]
    layers = [text.DASH if method.depth is None else str(method.depth) for method in methods]
    return pd.DataFrame(
        {"method": columns.pop("method"), "layers": layers, **columns}, dtype=object
    )


def answer(methods: Sequence[Method]) -> str:
    """Say which gradient recovers the dictionary best at each depth, and how certain that is."""
    sentences, overlapping, ends = [], [], []
    errors = {method: error for method in methods if not math.isnan(error := method.median(ERROR))}
    ranked = sorted(errors, key=errors.__getitem__)
    trained = [method for method in ranked if method.depth is not None]
    for depth in sorted({method.depth for method in trained if method.depth is not None}):
        best, *others = (method for method in trained if method.depth == depth)
        start, end = best.median(START), errors[best]
        ends.append(end)
        before, after = text.number(start), text.number(end)
        if end >= start:
            sentences.append(
                f"At {depth} layers no gradient recovers anything: all errors grow, from {before}; "
                f"the least is {after}, with {best.quoted}."
            )
            continue
        sentence = (
            f"At {depth} layers {best.quoted} recovers best: its error falls from {before} to"
            f" {after}"
        )
        if others:
            second = errors[others[0]]
            ratio = second / end if end > 0 else math.nan
            # Two that are as good as equal are not "1 times" apart.
            times = (
                f", {text.number(ratio, 2 if ratio >= 1.1 else 3)} times as much" if end > 0 else ""
            )
            sentence += f", that of {others[0].quoted} to {text.number(second)}{times}"
            if len(best.good) > 1 and others[0].spread(ERROR)[1] <= best.spread(ERROR)[2]:
                overlapping.append(str(depth))
        sentences.append(f"{sentence}.")
    if overlapping:
        depths = text.listing(overlapping)
        sentences.append(
            f"At {depths} layers the seeds of the two best overlap: their order may be chance."
        )
    if baselines := [method for method in ranked if not method.estimator]:
        end = errors[baselines[0]]
        nearest = "comes nearer still" if end < min(ends, default=0.0) else "comes nearest"
        sentences.append(
            f"Of the other packages {baselines[0].label} {nearest}, with an error of"
            f" {text.number(end)}."
        )
    if max(len(method.runs) for method in methods) == 1 and len(trained) > len(ends):
        sentences.append("Each training ran with one seed only: small differences may be chance.")
    return " ".join(sentences)


def curves(title: str, methods: Sequence[Method], styles: Mapping[str, Look]) -> list[Figure]:
    """Return the error of the dictionary against epochs and seconds, one chart per depth."""
    found = {method: method.curve(ERROR) for method in methods}
    depths = dict.fromkeys(method.depth for method in methods if method.depth is not None)
    panels = {
        f"{depth} layers": {
            method: curve for method, curve in found.items() if method.depth in (depth, None)
        }
        for depth in depths
    }
    return charts(
        title,
        panels or {"": found},
        ("epoch", "seconds"),
        styles,
        y="error of the dictionary",
        column=ERROR,
        kind="Error of the dictionary",
        name="recovery-{x}-{title}-{panel}",
    )
