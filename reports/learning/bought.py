"""What gradients buy: the outcome of each training beside the error of its gradient on the same
problem.
"""

import math
from typing import Any

import pandas as pd

from pudle import text
from pudle.reports.figures.record import Axis, Figure, file_name
from pudle.reports.learning.denoising import denoised
from pudle.reports.learning.methods import Method
from pudle.reports.learning.optimizers import optimized
from pudle.reports.learning.recovery import recovered
from pudle.reports.load import Results, parsed
from pudle.reports.looks import looks_of

ERROR = Axis("gradient_error", "relative error of the gradient", "log")


def bought(results: Results) -> list[Figure]:
    """Return one figure per dataset: for each training the error of its gradient, and what it led
    to.

    The error is the median scored at the training's depth, or at the next smaller one that was
    measured, on a case with the same kind of dataset, loss and algorithm; trainings without such a
    case are counted in the note.
    """
    error = Axis("relative_error", "relative error of the dictionary", "log")
    quality = Axis("psnr", "PSNR (dB)")
    groups = [(title, error, methods) for title, methods in recovered(results).items()]
    groups += [
        (title, error, [*each["method"].unique()]) for title, each in optimized(results).items()
    ]
    groups += [(title, quality, methods) for title, methods in denoised(results).items()]
    figures = []
    for title, outcome, methods in groups:
        trained = [method for method in methods if method.estimator and method.good]
        rows = pd.DataFrame([_row(results, method, outcome.column) for method in trained])
        rows = rows.dropna(subset=["gradient_error", outcome.column]) if trained else rows
        if rows.empty:
            continue
        listed = "; ".join(
            f"{row['method']} {text.number(row['gradient_error'])} led to"
            f" {text.number(row[outcome.column], 3)}"
            for row in rows.to_dict("records")
        )
        left = len(trained) - len(rows)
        note = f"{left} of {len(trained)} trainings have no case that scores their gradient."
        figures.append(
            Figure(
                file_name("bought", title),
                "What gradients buy",
                title,
                rows,
                [ERROR],
                [outcome],
                looks_of(results),
                mark="point",
                about=f"{title}: {listed}.",
                note=note if left else "",
                tips={"method": "method"},
            )
        )
    return figures


def _row(results: Results, method: Method, outcome: str) -> dict[str, Any]:
    options = method.good[0].options
    depth = method.depth or options.get("depth")
    errors = [
        gradient_error(results, name, method.estimator, depth)
        for name, case in results.cases.items()
        if _same(case, options)
    ]
    return {
        "method": method.label,
        "estimator": method.estimator,
        "depth": method.depth,
        outcome: method.median(outcome),
        "gradient_error": pd.Series(errors, dtype=float).median(),
    }


def _same(case: Any, options: Any) -> bool:
    """Return whether a case scores gradients of the problem that a training solves, whatever the
    number of samples.
    """
    return case["loss"] == options.get("loss") and all(
        parsed(str(case[key]))[0] == parsed(str(options.get(key)))[0]
        for key in ("dataset", "algorithm")
    )


def gradient_error(results: Results, case: str, estimator: str, depth: Any) -> float:
    """Return the median error at the greatest measured depth that is none above a training's; NaN
    where there is none, or none above it.
    """
    depths, errors = results.curve(case, estimator).spread[:, :2].T
    if depth is None or not len(depths) or not depths[0] <= depth <= depths[-1]:
        return math.nan
    return float(errors[depths <= depth][-1])
