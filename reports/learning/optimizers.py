"""The study of optimizers: how many steps each optimizer needs with each gradient, and whether
acceleration helps.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd

from pudle import text
from pudle.reports.figures.record import Figure
from pudle.reports.learning.methods import Method, group, relabeled
from pudle.reports.learning.pictures import Block, charts
from pudle.reports.load import Results, parsed
from pudle.reports.looks import Look
from pudle.text import Cell

NAME = "Optimizers"
READING = (
    "Steps and computing time until the relative error of the dictionary first falls to a goal;"
    " between rows of the history its logarithm is interpolated linearly. Of several learning rates"
    " the one with the fewest steps is shown and named. The fewest steps of a column are bold. A"
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
    crossings = []
    for goal in goals:
        first = next(iter(np.flatnonzero(errors <= goal)), None)
        around = slice(max((first or 0) - 1, 0), (first or 0) + 1)
        # An error of exactly zero has no logarithm.
        logs = -np.log(np.maximum(errors[around], 1e-300))
        crossings.append(
            math.inf if first is None else float(np.interp(-np.log(goal), logs, places[around]))
        )
    return crossings


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


def blocks(results: Results, styles: Mapping[str, Look]) -> Iterator[Block]:
    """Yield one block per dataset, depth and algorithm."""
    for title, trainings in optimized(results).items():
        tables = [
            (table(trainings, goal), f"Steps to a relative error of {goal:g}: {title}")
            for goal in goals(trainings)
        ]
        yield Block(title, answer(trainings), tables, curves(title, trainings, styles))


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
    rows = []
    # The loss is part of the gradient; other options are part of how an optimizer follows it.
    gradients = [
        f"{method.estimator}, {method.parts['loss']} loss"
        if "loss" in method.parts
        else method.estimator
        for method in methods
    ]
    for method in relabeled(methods, gradients):
        name, options = parsed(str(method.runs[0].options.get("optimizer")))
        options = dict(options)
        rate = options.pop("learning_rate", None)
        shown = ", ".join(f"{key}={value!r}" for key, value in options.items())
        others = (
            f"{part} {value}"
            for part, value in method.parts.items()
            if part not in ("optimizer", "loss")
        )
        rows.append(
            {
                "optimizer": ", ".join([f"{name}({shown})" if shown else name, *others]),
                "gradient": method.label,
                "rate": f"{'default ' if rate is None else ''}learning rate {rate or ''}".rstrip(),
                "method": method,
                "costs": costs(method),
            }
        )
    trainings = pd.DataFrame(rows)
    return trainings.assign(several=trainings.groupby(KEYS)["rate"].transform("size") > 1)


def table(trainings: pd.DataFrame, goal: float) -> pd.DataFrame:
    """Return steps and seconds to a goal by optimizer and gradient; the best of each gradient is
    marked.
    """
    best = best_trainings(trainings, goal)
    least = best.groupby("gradient")["steps"].min()
    shown = {
        place: text.listing(list(dict.fromkeys(method.status for method in methods)))
        for place, methods in trainings.groupby(KEYS)["method"]
    }
    for place, row in best.iterrows():
        shown[place] = Cell("not reached", key=math.inf)
        if math.isfinite(row.steps):
            details = [text.seconds(row.seconds), *([row.rate] if row.several else [])]
            steps = text.count(math.ceil(row.steps - 1e-9), "step")
            shown[place] = Cell(
                steps, best=row.steps == least[place[1]], key=row.steps, details=details
            )
    columns = {
        gradient: [
            shown.get((name, gradient), text.DASH) for name in trainings["optimizer"].unique()
        ]
        for gradient in trainings["gradient"].unique()
    }
    return pd.DataFrame({"optimizer": trainings["optimizer"].unique()} | columns, dtype=object)


def _reach(row: pd.Series) -> str:
    if math.isinf(row.steps):
        return "never"
    return f"in {text.count(math.ceil(row.steps - 1e-9), 'step')} ({text.seconds(row.seconds)})"


def answer(trainings: pd.DataFrame) -> str:
    """Say what acceleration gains with each gradient: at the smallest goal that is reached with and
    without it, or else at the smallest that is reached at all.
    """
    sentences = []
    for _, part in trainings.groupby("gradient", sort=False):
        pairs = []
        for goal in reversed(goals(trainings)):
            best = best_trainings(part, goal).droplevel("gradient")
            if PLAIN in best.index and len(best) > 1 and math.isfinite(best["steps"].min()):
                fast = best.drop(PLAIN).sort_values(["steps", "seconds"]).iloc[0]
                pairs.append((goal, fast, best.loc[PLAIN]))
        if not pairs:
            continue
        goal, fast, plain = max(
            pairs, key=lambda pair: math.isfinite(pair[1].steps + pair[2].steps)
        )
        factor = plain.steps / max(fast.steps, 1.0)
        both = math.isfinite(fast.steps + plain.steps)
        times = f", {text.number(factor)} times as many" if both else ""
        sentences.append(
            f"With {plain.method.quoted}, {fast.name} reaches a relative error of {goal:g}"
            f" {_reach(fast)}, {PLAIN} {_reach(plain)}{times}."
        )
    return " ".join(sentences)


def curves(title: str, trainings: pd.DataFrame, styles: Mapping[str, Look]) -> list[Figure]:
    """Return the relative error against steps, one chart per optimizer, each gradient at its best
    learning rate.
    """
    reported = goals(trainings)
    best = best_trainings(trainings, (reported or GOALS)[-1])
    panels: dict[str, dict[Method, pd.DataFrame]] = {
        optimizer: {} for optimizer in trainings["optimizer"].unique()
    }
    for gradient in trainings["gradient"].unique():
        for optimizer, curves_of in panels.items():
            if (optimizer, gradient) in best.index:
                row = best.loc[(optimizer, gradient)]
                label = f"{gradient}, {row.rate}" if row.several else row.method.label
                curves_of[replace(row.method, label=label)] = row.method.curve("relative_error")
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
