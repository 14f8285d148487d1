"""The study of optimizers: how many steps each optimizer needs with each gradient, and whether
acceleration helps.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from pudle import text
from pudle.reports.figures.record import Axis, Figure
from pudle.reports.learning.methods import Block, Method, charts, group, whole
from pudle.reports.load import Results, parsed
from pudle.reports.looks import Looks
from pudle.text import Cell

NAME = "Optimizers"
READING = (
    "Steps and computing time until the relative error of the dictionary first falls to a goal;"
    " between rows of the history its logarithm is interpolated linearly. Of several learning rates"
    " the one with the fewest steps is shown. The fewest steps of a column are bold. A"
    " step of an optimizer with a line search computes several gradients. Dotted lines in the"
    " figures mark the goals."
)
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


def reached(history: pd.DataFrame, goals: Sequence[float]) -> list[float]:
    """Return where errors first fall to each goal, their logarithm interpolated linearly; infinite
    if they never do.

    The columns of `history` are steps or seconds, in order, and the error at each; rows with NaN
    are ignored.
    """
    places, errors = history.dropna().to_numpy(dtype=float).T
    # An error of exactly zero has no logarithm.
    logs = -np.log(np.maximum(errors, 1e-300))
    crossings = []
    for goal in goals:
        first = np.append(errors <= goal, True).argmax()
        around = slice(max(first - 1, 0), first + 1)
        crossings.append(
            np.interp(-np.log(goal), logs[around], places[around])
            if first < len(logs)
            else math.inf
        )
    return crossings


def optimized(results: Results) -> dict[str, pd.DataFrame]:
    """Return the trainings of the study of optimizers, by dataset, depth and algorithm.

    Each table has one row per method and goal: ``optimizer`` (without its learning rate),
    ``gradient``, ``rate``, ``method``, its ``status``, whether all its seeds ``failed``, its errors
    at the ``start`` and the ``end``, and the ``step`` and the ``seconds`` at which it reaches the
    ``goal``: the median over the seeds, infinite for a seed that failed.
    """
    records = [
        item for item in results.experiments if item.kind == "learning" and item.study == STUDY
    ]
    records.sort(key=lambda record: (record.dataset, record.options["depth"]))
    title = "{dataset}, {depth} layers, {algorithm}"
    groups = group(records, lambda record: title.format(**record.options))
    return {title: pd.concat(map(_training, methods)) for title, methods in groups.items()}


def _training(method: Method) -> pd.DataFrame:
    name, options = parsed(str(method.runs[0].options.get("optimizer")))
    rate = options.get("learning_rate")
    others = [f"{key}={value!r}" for key, value in options.items() if key != "learning_rate"]
    # The loss is part of the gradient; other options are part of how an optimizer follows it.
    loss, parts = method.parts.get("loss"), [f"{name}({', '.join(others)})" if others else name]
    parts += [
        f"{part} {value}"
        for part, value in method.parts.items()
        if part not in ("loss", "optimizer")
    ]
    failed = [[math.inf] * len(GOALS)] * (len(method.runs) - len(method.good))
    costs = {
        place: np.median(
            failed + [reached(run.history(place, "relative_error"), GOALS) for run in method.good],
            axis=0,
        )
        for place in ("step", "seconds")
    }
    gradient = f"{method.estimator}, {loss} loss" if loss else method.estimator
    return pd.DataFrame({"goal": GOALS, **costs}).assign(
        optimizer=", ".join(parts),
        gradient=gradient,
        rate=f"learning rate {rate}" if rate else "default learning rate",
        method=replace(method, label=gradient),
        status=method.status,
        failed=not method.good,
        start=method.median("start_relative_error"),
        end=method.median("relative_error"),
    )


def goals(trainings: pd.DataFrame) -> list[float]:
    """Return the goals to report: the smallest that are reached, of those below every error at the
    start.
    """
    # Without any error at the start, all goals are below it.
    below = trainings[~(trainings.goal >= trainings.start.min())]
    within_reach = sorted({*below.goal[np.isfinite(below.step)]}, reverse=True)
    return within_reach[-MOST_GOALS:] or [*below.goal[:1]]


def best_trainings(trainings: pd.DataFrame, goal: float) -> pd.DataFrame:
    """Return the training with the fewest steps to a goal, or that ends nearest to it, for each
    optimizer and gradient in the order of their appearance; one that failed where there is no
    other.
    """
    rows = trainings[trainings.goal == goal]
    best = rows.sort_values(["failed", "step", "end"]).drop_duplicates(KEYS)
    return rows[KEYS].merge(best).drop_duplicates(KEYS).set_index(KEYS)


def blocks(results: Results, styles: Looks) -> Iterator[Block]:
    """Yield one block per dataset, depth and algorithm."""
    for title, trainings in optimized(results).items():
        tables = [
            (table(trainings, goal), f"Steps to a relative error of {goal:g}: {title}")
            for goal in goals(trainings)
        ]
        yield Block(title, answer(trainings), tables, curves(title, trainings, styles))


def table(trainings: pd.DataFrame, goal: float) -> pd.DataFrame:
    """Return steps and seconds to a goal by optimizer and gradient; the best of each gradient is
    marked.
    """
    best = best_trainings(trainings, goal)
    least = best.step.groupby("gradient").min()
    statuses = trainings.groupby(KEYS)["status"].unique()
    names, gradients = (best.index.unique(key) for key in KEYS)
    shown = pd.DataFrame(text.DASH, names, gradients, dtype=object)
    for place, row in best.iterrows():
        if row.failed:
            shown.loc[place] = text.listing([*statuses[place]])
        elif math.isinf(row.step):
            shown.loc[place] = Cell("not reached", key=math.inf)
        else:
            shown.loc[place] = Cell(
                _steps(row),
                best=row.step == least[place[1]],
                key=row.step,
                details=[text.seconds(row.seconds), row.rate],
            )
    return shown.rename_axis(columns=None).reset_index()


def _steps(row: Any) -> str:
    return text.count(int(whole(row.step)), "step")


def _reach(row: Any) -> str:
    return "never" if math.isinf(row.step) else f"in {_steps(row)} ({text.seconds(row.seconds)})"


def answer(trainings: pd.DataFrame) -> str:
    """Say what acceleration gains with each gradient: at the smallest goal that is reached with and
    without it, or else at the smallest that is reached at all.
    """
    sentences = []
    for _, part in trainings[~trainings.failed].groupby("gradient", sort=False):
        pairs = []
        for goal in reversed(goals(trainings)):
            best = best_trainings(part, goal).droplevel("gradient")
            if PLAIN in best.index and len(best) > 1 and math.isfinite(best.step.min()):
                fast = best.drop(PLAIN).sort_values(["step", "seconds"]).iloc[0]
                plain = best.loc[PLAIN]
                pairs.append((math.isfinite(fast.step + plain.step), goal, fast, plain))
        if pairs:
            both, goal, fast, plain = max(pairs, key=lambda pair: pair[0])
            times = (
                f", {text.number(plain.step / max(fast.step, 1.0))} times as many" if both else ""
            )
            sentences.append(
                f"With {plain.method.quoted}, {fast.name} reaches a relative error of {goal:g}"
                f" {_reach(fast)}, {PLAIN} {_reach(plain)}{times}."
            )
    return " ".join(sentences)


def curves(title: str, trainings: pd.DataFrame, styles: Looks) -> list[Figure]:
    """Return the relative error against steps, one chart per optimizer, each gradient at its best
    learning rate.
    """
    reported = goals(trainings)
    panels = defaultdict(dict)
    for (optimizer, gradient), row in best_trainings(trainings, (reported or GOALS)[-1]).iterrows():
        panels[optimizer][f"{gradient}, {row.rate}"] = row.method
    return charts(
        title,
        panels,
        styles,
        x=["step"],
        y=Axis("relative_error", "relative error of the dictionary", "log"),
        kind="Steps of an optimizer",
        goals=reported,
    )
