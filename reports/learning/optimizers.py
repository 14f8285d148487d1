"""The study of optimizers: how many steps each optimizer needs with each gradient, and whether acceleration helps."""

from __future__ import annotations

import dataclasses
import itertools
import math
import statistics
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from pudle.reports import text
from pudle.reports.drawing import Picture, file_name
from pudle.reports.learning.curves import draw_curves, limits_of
from pudle.reports.learning.methods import Method, group, parse, whole, without_nan
from pudle.reports.load import Results
from pudle.reports.looks import Look
from pudle.reports.text import Cell

#: Name of the study whose trainings are compared by the steps they need.
STUDY = "optimizers"
#: Relative errors of the dictionary to which steps and time may be reported.
GOALS = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001)
#: Number of goals that are reported: the smallest that are reached, because these distinguish optimizers.
MOST_GOALS = 3
#: The optimizer without acceleration.
PLAIN = "sgd"
#: Columns of trainings that make the rows and columns of a table.
KEYS = ["optimizer", "gradient"]
#: Acceleration helps if the optimizer without it needs more than this many times the steps.
LEAST_GAIN = 1.05


def reached(places: Sequence[float], errors: Sequence[float], goal: float) -> float:
    """Return where errors first fall to a goal, their logarithm interpolated linearly; infinite if they never do.

    Parameters
    ----------
    places, errors : sequence of float
        Steps or seconds in order, and the error at each; entries with NaN are ignored.
    goal : float
    """
    at, error = np.asarray(places, dtype=float), np.asarray(errors, dtype=float)
    both = ~(np.isnan(at) | np.isnan(error))
    at, error = at[both], error[both]
    below = np.flatnonzero(error <= goal)
    if not len(below):
        return math.inf
    first = below[0]
    if first == 0:
        return float(at[0])
    # An error of exactly zero has no logarithm.
    before, after = math.log(error[first - 1]), math.log(max(error[first], 1e-300))
    return float(at[first - 1] + (at[first] - at[first - 1]) * (before - math.log(goal)) / (before - after))


def steps_to(method: Method, goal: float, place: str = "step") -> float:
    """Return the median over the seeds of the steps (or ``seconds``) to a goal, infinite for a seed that failed."""
    costs = [reached(run.column(place).tolist(), run.column("relative_error").tolist(), goal) for run in method.good]
    return statistics.median(costs + [math.inf] * (len(method.runs) - len(costs)))


def goals(trainings: pd.DataFrame) -> list[float]:
    """Return the goals to report: the smallest that are reached, of those below every error at the start."""
    methods = list(trainings["method"])
    start = min(without_nan(method.median("start_relative_error") for method in methods), default=math.inf)
    below = [goal for goal in GOALS if goal < start]
    within_reach = [goal for goal in below if any(math.isfinite(steps_to(method, goal)) for method in methods)]
    return within_reach[-MOST_GOALS:] or below[:1]


def best_trainings(trainings: pd.DataFrame, goal: float) -> pd.DataFrame:
    """Return the training with the fewest steps to a goal, or that ends nearest to it, for each optimizer and gradient.

    Returns
    -------
    DataFrame
        Rows of the trainings with ``steps`` and ``seconds``, by optimizer and gradient; those that failed are left out.
    """
    good = trainings[[bool(method.good) for method in trainings["method"]]]
    costs = good.assign(
        steps=[steps_to(method, goal) for method in good["method"]],
        seconds=[steps_to(method, goal, "seconds") for method in good["method"]],
        end=[method.median("relative_error") for method in good["method"]],
    )
    return costs.sort_values(["steps", "end"], kind="stable").drop_duplicates(KEYS).set_index(KEYS)


def optimized(results: Results) -> dict[str, pd.DataFrame]:
    """Return the trainings of the study of optimizers, by dataset, depth and algorithm.

    Returns
    -------
    dict of DataFrame
        With one row per method: ``optimizer`` (without its learning rate), ``gradient``, ``rate``, ``method``, and whether
        there are ``several`` rates for this optimizer and gradient.
    """
    records = [item for item in results.experiments if item.kind == "learning" and item.study == STUDY]
    records.sort(key=lambda record: (record.dataset, record.options.get("depth") or 0))
    groups = group(
        records, lambda record: f"{record.dataset}, {record.options.get('depth')} layers, {record.options.get('algorithm')}"
    )
    return {title: _trainings(methods) for title, methods in groups.items()}


def _trainings(methods: Sequence[Method]) -> pd.DataFrame:
    rows = []
    gradients: dict[str, list[str]] = {}
    for method in methods:
        name, rate = _without_rate(str(method.runs[0].options.get("optimizer")))
        # The loss is part of the gradient; other options are part of how an optimizer follows it.
        others = (f"{part} {value}" for part, value in method.parts.items() if part not in ("optimizer", "loss"))
        gradient = method.estimator + (f", {method.parts['loss']} loss" if "loss" in method.parts else "")
        same_estimator = gradients.setdefault(method.estimator, [])
        if gradient not in same_estimator:
            same_estimator.append(gradient)
        method = dataclasses.replace(method, label=gradient, variant=same_estimator.index(gradient))
        rows.append({"optimizer": ", ".join([name, *others]), "gradient": gradient, "rate": rate, "method": method})
    trainings = pd.DataFrame(rows)
    return trainings.assign(several=trainings.groupby(KEYS)["rate"].transform("size") > 1)


def _without_rate(optimizer: str) -> tuple[str, str]:
    """Split an optimizer's spec into the spec without its learning rate, and that rate in words."""
    name, arguments = parse(optimizer)
    rate = f"learning rate {arguments.pop('learning_rate')}" if "learning_rate" in arguments else "default learning rate"
    others = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return f"{name}({others})" if others else name, rate


def goal_table(trainings: pd.DataFrame, goal: float) -> pd.DataFrame:
    """Return steps and seconds to a goal by optimizer and gradient; the best of each gradient is marked."""
    best = best_trainings(trainings, goal)
    least = best.groupby("gradient")["steps"].min()
    cells = {place: text.listing(list(dict.fromkeys(method.status for method in methods)))
             for place, methods in trainings.groupby(KEYS)["method"]}  # fmt: skip
    for place, row in best.iterrows():
        cells[place] = Cell("not reached", key=math.inf)
        if math.isfinite(row.steps):
            details = [text.seconds(row.seconds), *([row.rate] if row.several else [])]
            cells[place] = Cell(_steps(row.steps), "", row.steps == least[row.method.label], row.steps, details)
    optimizers, gradients = (trainings[key].unique() for key in KEYS)
    rows = [{"optimizer": name} | {gradient: cells.get((name, gradient), text.DASH) for gradient in gradients}
            for name in optimizers]  # fmt: skip
    return pd.DataFrame(rows, dtype=object)


def _steps(steps: float) -> str:
    return f"{whole(steps)} step{'' if whole(steps) == '1' else 's'}"


def _cost(row: pd.Series) -> str:
    return f"{_steps(row.steps)} ({text.seconds(row.seconds)})"


class Gain(NamedTuple):
    """The rows of `best_trainings` with the best accelerated optimizer and without acceleration."""

    goal: float
    fast: pd.Series
    plain: pd.Series

    @property
    def factor(self) -> float:
        """Steps without acceleration over steps with it."""
        return self.plain.steps / max(self.fast.steps, 1.0) if math.isfinite(self.fast.steps) else 0.0

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

    The goal is the smallest that is reached with and without acceleration, or else the smallest that is reached at all.
    """
    gains = []
    for goal in reversed(goals(trainings)):
        best = best_trainings(trainings, goal).reset_index("gradient").sort_values(["steps", "seconds"])
        best = best[best["gradient"] == gradient]
        if PLAIN in best.index and len(best) > 1:
            gains.append(Gain(goal, best.drop(PLAIN).iloc[0], best.loc[PLAIN]))
    gains.sort(key=lambda item: math.isinf(item.fast.steps) + math.isinf(item.plain.steps))
    return gains[0] if gains and math.isfinite(min(gains[0].fast.steps, gains[0].plain.steps)) else None


def optimizers_answer(trainings: pd.DataFrame) -> str:
    """Say with which gradients acceleration helps, and how much."""
    gains = [item for gradient in trainings["gradient"].unique() if (item := gain(trainings, gradient)) is not None]
    helped = sorted((item for item in gains if item.factor > LEAST_GAIN), key=lambda item: -item.factor)
    others = [item for item in gains if item.factor <= LEAST_GAIN]
    # Factors of different goals are not compared.
    most = " most" if len(helped) > 1 and len({item.goal for item in helped}) == 1 else ""
    sentences: list[str] = []
    for item in helped + others:
        start, end = ("It", "") if sentences else ("Acceleration", most)
        verb = "helps" if item.factor > LEAST_GAIN else "does not help"
        sentences.append(f"{start} {verb} {item.plain.method.quoted}{end}: {item.sentence()}.")
    return " ".join(sentences)


def optimizers_pictures(title: str, trainings: pd.DataFrame, styles: Mapping[str, Look]) -> list[Picture]:
    """Draw the relative error against steps, one picture per optimizer, each gradient at its best learning rate."""
    reported = goals(trainings)
    goal = (reported or GOALS)[-1]
    best = best_trainings(trainings, goal)
    optimizers, gradients = (trainings[key].unique() for key in KEYS)
    curves: dict[str, dict[Method, pd.DataFrame]] = {optimizer: {} for optimizer in optimizers}
    for gradient, optimizer in itertools.product(gradients, optimizers):
        if (optimizer, gradient) in best.index:
            row = best.loc[(optimizer, gradient)]
            label = f"{gradient}, {row.rate}" if row.several else gradient
            curves[optimizer][dataclasses.replace(row.method, label=label)] = row.method.curve("relative_error")
    limits = limits_of(data for same_optimizer in curves.values() for data in same_optimizer.values())
    # Errors far below the last goal are cut off.
    limits = None if limits is None else (max(limits[0], goal / 10), limits[1])
    return list(filter(None, (
        draw_curves(
            same_optimizer, "step", styles, y="relative error of the dictionary", column="relative_error", title=title,
            kind="Steps of an optimizer", name=file_name("optimizer", optimizer, title), panel=optimizer,
            limits=limits, goals=reported,
        )
        for optimizer, same_optimizer in curves.items()
    )))  # fmt: skip
