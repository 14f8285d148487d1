"""The study of optimizers: how many steps each optimizer needs with each gradient, and whether
acceleration helps.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pandas as pd

from pudle import text
from pudle.reports.figures.record import Figure
from pudle.reports.learning.methods import Method, group, relabeled, whole
from pudle.reports.learning.pictures import charts
from pudle.reports.load import Results, parsed
from pudle.reports.looks import Look
from pudle.text import Cell

#: Name of the study whose trainings are compared by the steps they need.
STUDY = "optimizers"
#: Relative errors of the dictionary to which steps and time may be reported.
GOALS = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001)
#: Number of goals that are reported: the smallest that are reached, because these distinguish
#: optimizers.
MOST_GOALS = 3
#: The optimizer without acceleration.
PLAIN = "sgd"
#: Columns of trainings that make the rows and columns of a table.
KEYS = ["optimizer", "gradient"]
#: Acceleration helps if the optimizer without it needs more than this many times the steps.
LEAST_GAIN = 1.05


def reached(history: pd.DataFrame, goals: Sequence[float]) -> list[float]:
    """Return where errors first fall to each goal, their logarithm interpolated linearly; infinite
    if they never do.

    The columns of `history` are steps or seconds, in order, and the error at each; rows with NaN
    are ignored.
    """
    places, errors = history.dropna().to_numpy(dtype=float).T
    return [_crossing(places, errors, goal) for goal in goals]


def _crossing(places: np.ndarray, errors: np.ndarray, goal: float) -> float:
    below = np.flatnonzero(errors <= goal)
    if not len(below):
        return math.inf
    around = slice(max(below[0] - 1, 0), below[0] + 1)
    # An error of exactly zero has no logarithm.
    return float(
        np.interp(-np.log(goal), -np.log(np.maximum(errors[around], 1e-300)), places[around])
    )


def costs(method: Method) -> pd.DataFrame:
    """Return the median over the seeds of ``step`` and ``seconds`` at each of `GOALS`, infinite for
    a seed that failed.
    """
    failed = [[math.inf] * len(GOALS)] * (len(method.runs) - len(method.good))
    medians = {}
    for place in ("step", "seconds"):
        found = [reached(run.history(place, "relative_error"), GOALS) for run in method.good]
        medians[place] = np.median(found + failed, axis=0)
    return pd.DataFrame(medians, index=pd.Index(GOALS))


def goals(trainings: pd.DataFrame) -> list[float]:
    """Return the goals to report: the smallest that are reached, of those below every error at the
    start.
    """
    start = trainings["method"].map(lambda method: method.median("start_relative_error")).min()
    # Without any error at the start, all goals are below it.
    below = [goal for goal in GOALS if not goal >= start]
    within_reach = [
        goal
        for goal in below
        if any(math.isfinite(cost.loc[goal, "step"]) for cost in trainings["costs"])
    ]
    return within_reach[-MOST_GOALS:] or below[:1]


def best_trainings(trainings: pd.DataFrame, goal: float) -> pd.DataFrame:
    """Return the training with the fewest steps to a goal, or that ends nearest to it, for each
    optimizer and gradient.

    These rows of the trainings have ``steps`` and ``seconds`` too. Trainings that failed are left
    out.
    """
    good = trainings[[bool(method.good) for method in trainings["method"]]]
    ends = good.assign(
        steps=[cost.loc[goal, "step"] for cost in good["costs"]],
        seconds=[cost.loc[goal, "seconds"] for cost in good["costs"]],
        end=[method.median("relative_error") for method in good["method"]],
    )
    return ends.sort_values(["steps", "end"], kind="stable").drop_duplicates(KEYS).set_index(KEYS)


def optimized(results: Results) -> dict[str, pd.DataFrame]:
    """Return the trainings of the study of optimizers, by dataset, depth and algorithm.

    Each table has one row per method: ``optimizer`` (without its learning rate), ``gradient``,
    ``rate``, ``method``, its ``costs``, and whether there are ``several`` rates for this optimizer
    and gradient.
    """
    records = [
        item for item in results.experiments if item.kind == "learning" and item.study == STUDY
    ]
    records.sort(key=lambda record: (record.dataset, record.options.get("depth") or 0))
    groups = group(
        records,
        lambda record: (
            f"{record.dataset}, {record.options.get('depth')} layers,"
            f" {record.options.get('algorithm')}"
        ),
    )
    return {title: _trainings(methods) for title, methods in groups.items()}


def _trainings(methods: Sequence[Method]) -> pd.DataFrame:
    # The loss is part of the gradient; other options are part of how an optimizer follows it.
    gradients = [
        (
            f"{method.estimator}, {method.parts['loss']} loss"
            if "loss" in method.parts
            else method.estimator
        )
        for method in methods
    ]
    rows = []
    for method in relabeled(methods, gradients):
        name, options = parsed(str(method.runs[0].options.get("optimizer")))
        rate = (
            f"learning rate {options['learning_rate']}"
            if "learning_rate" in options
            else "default learning rate"
        )
        shown = ", ".join(
            f"{key}={value!r}" for key, value in options.items() if key != "learning_rate"
        )
        others = (
            f"{part} {value}"
            for part, value in method.parts.items()
            if part not in ("optimizer", "loss")
        )
        optimizer = ", ".join([f"{name}({shown})" if shown else name, *others])
        rows.append(
            {"optimizer": optimizer, "gradient": method.label, "rate": rate, "method": method}
        )
    trainings = pd.DataFrame(rows)
    trainings["costs"] = trainings["method"].map(costs)
    return trainings.assign(several=trainings.groupby(KEYS)["rate"].transform("size") > 1)


def table(trainings: pd.DataFrame, goal: float) -> pd.DataFrame:
    """Return steps and seconds to a goal by optimizer and gradient; the best of each gradient is
    marked.
    """
    best = best_trainings(trainings, goal)
    least = best.groupby("gradient")["steps"].min()
    cells = {
        place: text.listing(list(dict.fromkeys(method.status for method in methods)))
        for place, methods in trainings.groupby(KEYS)["method"]
    }
    for place, row in best.iterrows():
        cells[place] = Cell("not reached", key=math.inf)
        if math.isfinite(row.steps):
            details = [text.seconds(row.seconds), *([row.rate] if row.several else [])]
            cells[place] = Cell(
                _steps(row.steps), "", row.steps == least[row.method.label], row.steps, details
            )
    optimizers, gradients = (trainings[key].unique() for key in KEYS)
    rows = [
        {"optimizer": name}
        | {gradient: cells.get((name, gradient), text.DASH) for gradient in gradients}
        for name in optimizers
    ]
    return pd.DataFrame(rows, dtype=object)


def _steps(steps: float) -> str:
    return f"{whole(steps)} step{'' if whole(steps) == '1' else 's'}"


def _cost(row: pd.Series) -> str:
    return f"{_steps(row.steps)} ({text.seconds(row.seconds)})"


class Gain(NamedTuple):
    """The rows of `best_trainings` with the best accelerated optimizer and without acceleration,
    and the ratio of steps.
    """

    goal: float
    fast: pd.Series
    plain: pd.Series
    factor: float

    def sentence(self) -> str:
        """Say in how many steps and seconds the goal is reached with acceleration and without it."""
        goal = f"a relative error of {self.goal:g}"
        if math.isinf(self.fast.steps):
            return f"only {PLAIN} reaches {goal}, in {_cost(self.plain)}"
        accelerated = f"{self.fast.name} reaches {goal} in {_cost(self.fast)}"
        if math.isinf(self.plain.steps):
            return f"{accelerated}, {PLAIN} does not reach it"
        times = f", {text.number(self.factor)} times as many" if self.factor > LEAST_GAIN else ""
        return f"{accelerated}, {PLAIN} needs {_cost(self.plain)}{times}"


def gain(trainings: pd.DataFrame, gradient: str) -> Gain | None:
    """Return what acceleration gains with a gradient, None if no goal is reached.

    The goal is the smallest that is reached with and without acceleration, or else the smallest
    that is reached at all.
    """
    gains = []
    for goal in reversed(goals(trainings)):
        best = best_trainings(trainings[trainings["gradient"] == gradient], goal).droplevel(
            "gradient"
        )
        if PLAIN in best.index and len(best) > 1 and math.isfinite(best["steps"].min()):
            fast, plain = (
                best.drop(PLAIN).sort_values(["steps", "seconds"]).iloc[0],
                best.loc[PLAIN],
            )
            factor = plain.steps / max(fast.steps, 1.0) if math.isfinite(fast.steps) else 0.0
            gains.append(Gain(goal, fast, plain, factor))
    return max(
        gains, key=lambda item: math.isfinite(max(item.fast.steps, item.plain.steps)), default=None
    )


def answer(trainings: pd.DataFrame) -> str:
    """Say with which gradients acceleration helps, and how much."""
    gains = [
        item
        for gradient in trainings["gradient"].unique()
        if (item := gain(trainings, gradient)) is not None
    ]
    helped = [item for item in gains if item.factor > LEAST_GAIN]
    # Factors of different goals are not compared.
    most = " most" if len(helped) > 1 and len({item.goal for item in helped}) == 1 else ""
    sentences: list[str] = []
    for item in sorted(gains, key=lambda item: -max(item.factor, LEAST_GAIN)):
        start, end = ("It", "") if sentences else ("Acceleration", most)
        verb = "helps" if item.factor > LEAST_GAIN else "does not help"
        sentences.append(f"{start} {verb} {item.plain.method.quoted}{end}: {item.sentence()}.")
    return " ".join(sentences)


def curves(title: str, trainings: pd.DataFrame, styles: Mapping[str, Look]) -> list[Figure]:
    """Return the relative error against steps, one chart per optimizer, each gradient at its best
    learning rate.
    """
    reported = goals(trainings)
    best = best_trainings(trainings, (reported or GOALS)[-1])
    optimizers, gradients = (trainings[key].unique() for key in KEYS)
    panels: dict[str, dict[Method, pd.DataFrame]] = {optimizer: {} for optimizer in optimizers}
    for gradient, optimizer in itertools.product(gradients, optimizers):
        if (optimizer, gradient) in best.index:
            row = best.loc[(optimizer, gradient)]
            method = (
                replace(row.method, label=f"{gradient}, {row.rate}") if row.several else row.method
            )
            panels[optimizer][method] = method.curve("relative_error")
    return charts(
        title,
        panels,
        ["step"],
        styles,
        y="relative error of the dictionary",
        column="relative_error",
        kind="Steps of an optimizer",
        name="optimizer-{panel}-{title}",
        goals=reported,
    )
