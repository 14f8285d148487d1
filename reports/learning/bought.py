"""What gradients buy: the outcome of each training beside the error of its gradient on the same
problem.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from pudle import text
from pudle.reports.figures.record import Axis, Figure, file_name
from pudle.reports.learning import denoising, recovery
from pudle.reports.learning.methods import Method
from pudle.reports.learning.optimizers import optimized
from pudle.reports.load import Results, parsed
from pudle.reports.looks import looks_of

#: Outcome, label and scale by group of trainings.
OUTCOMES = {
    "recovery": ("relative_error", "relative error of the dictionary", True),
    "denoising": ("psnr", "PSNR (dB)", False),
}


def bought(results: Results) -> list[Figure]:
    """Return one figure per dataset: for each training the error of its gradient, and what it led
    to.

    The error is the median scored at the training's depth on a case with the same kind of dataset,
    loss and algorithm; trainings without such a case are counted in the note.
    """
    optimizers = {
        title: list(trainings["method"]) for title, trainings in optimized(results).items()
    }
    groups = {
        ("recovery", title): methods
        for title, methods in (recovery.recovered(results) | optimizers).items()
    }
    groups |= {
        ("denoising", title): methods for title, methods in denoising.denoised(results).items()
    }
    figures = []
    for (kind, title), methods in groups.items():
        outcome, label, log = OUTCOMES[kind]
        trained = [method for method in methods if method.estimator and method.good]
        rows = [row for method in trained if (row := _row(results, method, outcome))]
        if not rows:
            continue
        left = len(trained) - len(rows)
        listed = "; ".join(
            f"{row['method']} {text.number(row['gradient_error'])} led to"
            f" {text.number(row['outcome'], 3)}"
            for row in rows
        )
        figures.append(
            Figure(
                file_name("bought", title),
                "What gradients buy",
                title,
                pd.DataFrame(rows),
                [Axis("gradient_error", "relative error of the gradient", "log")],
                [Axis("outcome", label, "log" if log else "linear")],
                looks_of(results),
                mark="point",
                about=f"{title}: {listed}.",
                note=f"{left} of {len(trained)} trainings have no case that scores their gradient."
                * bool(left),
                tips={"method": "method"},
            )
        )
    return figures


def _row(results: Results, method: Method, outcome: str) -> dict[str, Any] | None:
    options, value = method.good[0].options, method.median(outcome)
    errors = [
        gradient_error(results, name, method.estimator, method.depth or options.get("depth"))
        for name, case in results.cases.items()
        if _same(case, options)
    ]
    known = [error for error in errors if error > 0]
    if not known or math.isnan(value):
        return None
    return {
        "method": method.label,
        "estimator": method.estimator,
        "depth": method.depth,
        "outcome": value,
        "gradient_error": float(np.median(known)),
    }


def _same(case: Any, options: Any) -> bool:
    """Return whether a case scores gradients of the problem that a training solves, whatever the
    number of samples.
    """
    return case["loss"] == options.get("loss") and all(
        parsed(str(case[key]))[0] == parsed(str(options.get(key)))[0]
        for key in ("dataset", "algorithm")
    )


def gradient_error(results: Results, case: str, estimator: str, depth: int | None) -> float:
    """Return the median error at a depth, its logarithm linear between measured depths; NaN where
    it is not known.
    """
    spread = results.curve(case, estimator).spread
    if depth is None or not len(spread) or not spread[0, 0] <= depth <= spread[-1, 0]:
        return math.nan
    return float(np.exp(np.interp(depth, spread[:, 0], np.log(np.maximum(spread[:, 1], 1e-300)))))
