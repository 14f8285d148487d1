"""The study of optimizers: how many steps each optimizer needs with each gradient, and whether acceleration helps."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from pudle import registry
from pudle.errors import PudleError
from pudle.reports import text
from pudle.reports.drawing import Picture, file_name
from pudle.reports.learning.curves import draw_curves, limits_of
from pudle.reports.learning.methods import Group, Method, dataset, groups, parse, quoted, whole, without_nan
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
#: Acceleration helps if the optimizer without it needs more than this many times the steps.
GAIN = 1.05


def reached(places: Sequence[float], errors: Sequence[float], goal: float) -> float:
    """Return where errors first fall to a goal, their logarithm interpolated linearly; infinite if they never do.

    Parameters
    ----------
    places : sequence of float
        Steps, or seconds, in order.
    errors : sequence of float
        NaN where there is none.
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
    """Return the median over the seeds of the steps (or ``seconds``) to a goal; infinite for a seed that failed."""
    costs = [reached(run.column(place).tolist(), run.column("relative_error").tolist(), goal) for run in method.good]
    # Sorted by hand, because the mean of two infinite middles would be NaN with a warning.
    costs = sorted(costs + [math.inf] * (len(method.runs) - len(costs)))
    return (costs[(len(costs) - 1) // 2] + costs[len(costs) // 2]) / 2 if costs else math.inf


@dataclass(frozen=True, eq=False)
class Matrix:
    """Trainings on one dataset at one depth, by optimizer and gradient.

    Attributes
    ----------
    title : str
    rows : tuple of str
        Optimizers without their learning rates.
    columns : mapping from str to str
        Gradients, and the estimator of each.
    cells : mapping
        At (row, column), the learning rates and their methods.
    """

    title: str
    rows: tuple[str, ...]
    columns: Mapping[str, str]
    cells: Mapping[tuple[str, str], list[tuple[str, Method]]]

    def goals(self) -> list[float]:
        """Return the goals to report: the smallest that are reached, of those below every error at the start."""
        methods = [method for members in self.cells.values() for _, method in members]
        start = min(without_nan(method.median("start_relative_error") for method in methods), default=math.inf)
        goals = [goal for goal in GOALS if goal < start]
        found = [goal for goal in goals if any(math.isfinite(steps_to(method, goal)) for method in methods)]
        return found[-MOST_GOALS:] or goals[:1]

    def best(self, row: str, column: str, goal: float) -> tuple[str, Method] | None:
        """Return the learning rate with the fewest steps to a goal, or the one that ends nearest if none reaches it."""

        def cost(member: tuple[str, Method]) -> tuple[float, float]:
            end = member[1].median("relative_error")
            return steps_to(member[1], goal), math.inf if math.isnan(end) else end

        return min((member for member in self.cells.get((row, column), []) if member[1].good), key=cost, default=None)


def matrices(results: Results) -> list[Matrix]:
    """Return the matrices of the study of optimizers: one per dataset, depth and algorithm."""
    trainings = [item for item in results.experiments if item.kind == "learning" and item.study == STUDY]
    made = []
    for group in groups(trainings, dataset):
        places: dict[tuple[int | None, str], list[Method]] = {}
        for method in group.methods:
            places.setdefault((method.depth, _option(method, "algorithm")), []).append(method)
        several = len({algorithm for _, algorithm in places}) > 1
        for (depth, algorithm), methods in places.items():
            made.append(_matrix(f"{group.title}, {depth} layers" + (f", {algorithm}" if several else ""), methods))
    return made


def _matrix(title: str, methods: Sequence[Method]) -> Matrix:
    columns: dict[str, str] = {}
    members: dict[tuple[str, str], list[tuple[str, Method]]] = {}
    for method in methods:
        optimizer, rate = _without_rate(_option(method, "optimizer"))
        # The loss is part of the gradient; other options are part of how an optimizer follows it.
        others = [
            f"{part} {value}" for part, value in method.parts.items() if part not in ("optimizer", "loss", "algorithm")
        ]
        row = ", ".join([optimizer, *others])
        column = method.estimator + (f", {method.parts['loss']} loss" if "loss" in method.parts else "")
        columns[column] = method.estimator
        members.setdefault((row, column), []).append((rate, method))
    return Matrix(title, tuple(dict.fromkeys(row for row, _ in members)), columns, members)


def _option(method: Method, name: str) -> str:
    return str(method.runs[0].options.get(name))


def _without_rate(optimizer: str) -> tuple[str, str]:
    """Split an optimizer's spec into the spec without its learning rate, and that rate."""
    name, arguments = parse(optimizer)
    rate = arguments.pop("learning_rate", None)
    if rate is None:
        try:
            rate = registry.make_optimizer(optimizer).learning_rate
        except PudleError:
            # It comes from a plug-in that is not installed here.
            rate = "its default"
    others = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return (f"{name}({others})" if others else name), f"{rate:g}" if isinstance(rate, (int, float)) else str(rate)


def goal_table(matrix: Matrix, goal: float) -> pd.DataFrame:
    """Return steps and seconds to a goal, with a row per optimizer and a column per gradient; each column's best is marked."""
    best = {place: found for place in matrix.cells if (found := matrix.best(*place, goal))}
    steps = {place: steps_to(method, goal) for place, (_, method) in best.items()}
    rows = []
    for row in matrix.rows:
        cells = {}
        for column in matrix.columns:
            least = min(cost for (_, other), cost in [*steps.items(), ((row, column), math.inf)] if other == column)
            mine, members = steps.get((row, column), math.inf), matrix.cells.get((row, column), [])
            if not members:
                shown = text.DASH
            elif (row, column) not in best:
                shown = text.listing(list(dict.fromkeys(method.status for _, method in members)))
            elif math.isinf(mine):
                shown = "not reached"
            else:
                rate, method = best[row, column]
                shown = f"{_steps(mine)}, {text.seconds(steps_to(method, goal, 'seconds'))}"
                shown += f", learning rate {rate}" if len(members) > 1 else ""
            cells[column] = Cell(shown, best=math.isfinite(mine) and mine <= least)
        rows.append({"optimizer": row, **cells})
    return pd.DataFrame(rows, dtype=object)


def _steps(steps: float) -> str:
    return f"{whole(steps)} step{'' if whole(steps) == '1' else 's'}"


@dataclass(frozen=True)
class Gain:
    """What acceleration gains with one gradient.

    Attributes
    ----------
    column : str
    goal : float
    optimizer : str
        The best of those with acceleration.
    fast, plain : tuple of float
        Steps and seconds to the goal with acceleration and without it, infinite if it is not reached.
    """

    column: str
    goal: float
    optimizer: str
    fast: tuple[float, float]
    plain: tuple[float, float]

    @property
    def factor(self) -> float:
        """Steps without acceleration over steps with it."""
        return self.plain[0] / max(self.fast[0], 1.0) if math.isfinite(self.fast[0]) else 0.0

    @property
    def helps(self) -> bool:
        return self.factor > GAIN

    def __str__(self) -> str:
        goal = f"a relative error of {self.goal:g}"
        if math.isinf(self.fast[0]):
            return f"only {PLAIN} reaches {goal}, in {_cost(*self.plain)}"
        sentence = f"{self.optimizer} reaches {goal} in {_cost(*self.fast)}"
        if math.isinf(self.plain[0]):
            return f"{sentence}, {PLAIN} does not reach it"
        times = f", {text.number(self.factor)} times as many" if self.helps else ""
        return f"{sentence}, {PLAIN} needs {_cost(*self.plain)}{times}"


def _cost(steps: float, seconds: float) -> str:
    return f"{_steps(steps)} ({text.seconds(seconds)})"


def gain(matrix: Matrix, column: str) -> Gain | None:
    """Return what acceleration gains with a gradient, None if no goal is reached.

    The goal is the smallest that is reached with and without acceleration, or else the smallest that is reached at all.
    """
    gains = []
    for goal in reversed(matrix.goals()):
        methods = {row: best[1] for row in matrix.rows if (best := matrix.best(row, column, goal))}
        costs = {row: (steps_to(method, goal), steps_to(method, goal, "seconds")) for row, method in methods.items()}
        plain = costs.pop(PLAIN, None)
        if plain is not None and costs:
            fast = min(costs, key=costs.__getitem__)
            gains.append(Gain(column, goal, fast, costs[fast], plain))
    both = [item for item in gains if math.isfinite(max(item.fast[0], item.plain[0]))]
    either = [item for item in gains if math.isfinite(min(item.fast[0], item.plain[0]))]
    return next(iter(both or either), None)


def optimizers_answer(matrix: Matrix) -> str:
    """Say with which gradients acceleration helps, and how much."""
    gains = [found for column in matrix.columns if (found := gain(matrix, column)) is not None]
    gains.sort(key=lambda item: -item.factor if item.helps else 0.0)
    helped = [item for item in gains if item.helps]
    # Factors of different goals are not compared.
    most = " most" if len(helped) > 1 and len({item.goal for item in helped}) == 1 else ""
    sentences = []
    for number, item in enumerate(gains):
        subject = "It" if number else "Acceleration"
        verb = "helps" if item.helps else "does not help"
        end = "" if number else most
        sentences.append(f"{subject} {verb} {quoted(item.column, matrix.columns[item.column])}{end}: {item}.")
    return " ".join(sentences)


def optimizers_pictures(matrix: Matrix, styles: Mapping[str, Look]) -> list[Picture]:
    """Draw the relative error against steps, one picture per optimizer, each gradient at its best learning rate."""
    goals = matrix.goals()
    goal = (goals or GOALS)[-1]
    curves = {row: _curves(matrix, row, goal) for row in matrix.rows}
    limits = limits_of(data for found in curves.values() for data in found.values())
    # Errors far below the last goal are cut off.
    limits = None if limits is None else (max(limits[0], goal / 10), limits[1])
    pictures = [
        draw_curves(
            found, "step", styles, y="relative error of the dictionary", column="relative_error", title=matrix.title,
            kind="Steps of an optimizer", name=file_name("optimizer", row, matrix.title), panel=row, limits=limits,
            goals=goals,
        )
        for row, found in curves.items()
    ]  # fmt: skip
    return [picture for picture in pictures if picture is not None]


def _curves(matrix: Matrix, row: str, goal: float) -> dict[Method, pd.DataFrame]:
    curves: dict[Method, pd.DataFrame] = {}
    variants: Counter[str] = Counter()
    for column, estimator in matrix.columns.items():
        best = matrix.best(row, column, goal)
        if best is not None:
            rate, method = best
            label = f"{column}, learning rate {rate}" if len(matrix.cells[row, column]) > 1 else column
            labeled = dataclasses.replace(method, label=label, variant=variants[estimator])
            curves[labeled] = method.curve("relative_error")
            variants[estimator] += 1
    return curves
