"""The study of optimizers in a report: how many steps each needs with each gradient, and whether acceleration helps."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from pudle import registry, specs
from pudle.errors import PudleError
from pudle.reports import text
from pudle.reports.drawing import Picture, drawing, file_name
from pudle.reports.learning import recovery as learning
from pudle.reports.learning.recovery import Group, Method
from pudle.reports.load import Results
from pudle.reports.looks import looks_of
from pudle.reports.text import Cell

#: Relative errors of the dictionary that steps and time are reported for, where some training gets there.
GOALS = (0.5, 0.2, 0.1, 0.05, 0.02, 0.01, 0.001)
#: Only the smallest that are reached: they tell optimizers apart.
MOST_GOALS = 3
#: The optimizer without acceleration.
PLAIN = "sgd"
#: Steps that differ by less than this factor are the same to a reader.
SAME = 1.05


def reached(places: Sequence[float], errors: Sequence[float], goal: float) -> float:
    """Return where errors first fall to a goal, their logarithm taken as linear between rows.

    Infinite where they never do; rows without an error are passed over.

    Parameters
    ----------
    places : sequence of float
        Steps, or seconds, in order.
    errors : sequence of float
    goal : float
    """
    at, found = np.asarray(places, dtype=float), np.asarray(errors, dtype=float)
    known = ~(np.isnan(at) | np.isnan(found))
    at, found = at[known], found[known]
    below = np.flatnonzero(found <= goal)
    if not len(below):
        return math.inf
    last = below[0]
    if last == 0:
        return float(at[0])
    # An error of exactly zero has no logarithm.
    before, after = math.log(found[last - 1]), math.log(max(found[last], 1e-300))
    return float(at[last - 1] + (at[last] - at[last - 1]) * (before - math.log(goal)) / (before - after))


@dataclass(frozen=True, eq=False)
class Matrix:
    """Trainings on one dataset at one depth, by optimizer and gradient.

    Attributes
    ----------
    title : str
    rows, columns : tuple of str
        Optimizers without their learning rates, and gradients.
    cells : mapping
        The methods at (row, column), which differ in their learning rates, each with that rate.
    """

    title: str
    rows: tuple[str, ...]
    columns: tuple[str, ...]
    cells: dict[tuple[str, str], list[tuple[str, Method]]]

    @property
    def methods(self) -> list[Method]:
        return [method for members in self.cells.values() for _, method in members]

    def goals(self) -> list[float]:
        """Return the goals to report: the smallest that are reached, and not by the start already."""
        starts = [value for method in self.methods if not math.isnan(value := method.spread("start_relative_error")[0])]
        some = [goal for goal in GOALS if not starts or goal < min(starts)]
        found = [goal for goal in some if any(math.isfinite(steps_to(method, goal)) for method in self.methods)]
        return found[-MOST_GOALS:] or some[:1]

    def best(self, row: str, column: str, goal: float) -> tuple[str, Method] | None:
        """Return the learning rate with the fewest steps to a goal; where none gets there, the one that ends nearest."""
        members = [(rate, method) for rate, method in self.cells.get((row, column), []) if method.good]
        return min(members, key=lambda pair: (steps_to(pair[1], goal), _end(pair[1])), default=None)


def matrices(results: Results) -> list[Matrix]:
    """Return the matrices of the study of optimizers."""
    found = []
    for group in learning.optimized(results):
        places = dict.fromkeys((method.depth, _setting(method, "algorithm")) for method in group.methods)
        for depth, algorithm in places:
            members = tuple(method for method in group.methods
                            if (method.depth, _setting(method, "algorithm")) == (depth, algorithm))  # fmt: skip
            several = len({place for _, place in places}) > 1
            title = f"{group.dataset}, {depth} layers" + (f", {algorithm}" if several else "")
            found.append(_matrix(title, Group(group.dataset, members)))
    return found


def _matrix(title: str, group: Group) -> Matrix:
    kept = {method: {part: value for part, value in method.parts.items() if part not in ("optimizer", "loss", "algorithm")}
            for method in group.methods}  # fmt: skip
    cells: dict[tuple[str, str], list[tuple[str, Method]]] = {}
    for method in group.methods:
        name, rate = _without_rate(_setting(method, "optimizer"))
        # The loss is part of the gradient; what else differs is part of how it is followed.
        row = ", ".join([name, *(f"{part} {value}" for part, value in kept[method].items())])
        column = ", ".join([method.estimator, *([f"{method.parts['loss']} loss"] if "loss" in method.parts else [])])
        cells.setdefault((row, column), []).append((rate, method))
    rows = tuple(dict.fromkeys(row for row, _ in cells))
    return Matrix(title, rows, tuple(dict.fromkeys(column for _, column in cells)), cells)


def _setting(method: Method, name: str) -> str:
    return str(method.runs[0].setting.get(name))


def _without_rate(optimizer: str) -> tuple[str, str]:
    """Split an optimizer's spec into what it is without its learning rate, and that rate."""
    try:
        name, arguments = specs.parse(optimizer)
    except PudleError:
        return optimizer, ""
    rate = arguments.pop("learning_rate", None)
    if rate is None:
        try:
            rate = registry.make_optimizer(optimizer).learning_rate
        except PudleError:
            # A plug-in's that is not installed here.
            rate = "its default"
    told = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
    return (f"{name}({told})" if told else name), f"{rate:g}" if isinstance(rate, (int, float)) else str(rate)


def steps_to(method: Method, goal: float, place: str = "step") -> float:
    """Return the steps (or seconds) to a goal, the median over the seeds; infinite where the median seed has none."""
    found = [reached(run.column(place).tolist(), run.column("relative_error").tolist(), goal) for run in method.good]
    # A seed that failed did not get there.
    found += [math.inf] * (len(method.runs) - len(found))
    with np.errstate(invalid="ignore"):
        middle = float(np.median(found)) if found else math.inf
    return math.inf if math.isnan(middle) else middle


def _end(method: Method) -> float:
    last = method.spread("relative_error")[0]
    return math.inf if math.isnan(last) else last


def goal_table(matrix: Matrix, goal: float) -> pd.DataFrame:
    """Return steps and seconds to a goal, a row per optimizer and a column per gradient; each column's best is marked."""
    steps = {place: steps_to(best[1], goal) for place in matrix.cells if (best := matrix.best(*place, goal))}
    rows = []
    for row in matrix.rows:
        cells = {}
        for column in matrix.columns:
            least = min((value for (_, other), value in steps.items() if other == column), default=math.inf)
            mine = steps.get((row, column), math.inf)
            cells[column] = Cell(_cell(matrix, row, column, goal), best=math.isfinite(mine) and mine <= least)
        rows.append({"optimizer": row, **cells})
    return pd.DataFrame(rows, dtype=object)


def _cell(matrix: Matrix, row: str, column: str, goal: float) -> str:
    members = matrix.cells.get((row, column), [])
    best = matrix.best(row, column, goal)
    if not members:
        return text.DASH
    if best is None:
        return text.listing(list(dict.fromkeys(method.status for _, method in members)))
    rate, method = best
    steps = steps_to(method, goal)
    if not math.isfinite(steps):
        return Cell("not reached", key=math.inf)
    shown = Cell(_steps(steps), key=steps, details=[text.seconds(steps_to(method, goal, "seconds"))])
    return Cell(shown, details=[f"learning rate {rate}"]) if len(members) > 1 else shown


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
        Steps and seconds to the goal with it, and without acceleration; infinite where it is not reached.
    """

    column: str
    goal: float
    optimizer: str
    fast: tuple[float, float]
    plain: tuple[float, float]

    @property
    def factor(self) -> float:
        """How many times as many steps are needed without it."""
        return self.plain[0] / max(self.fast[0], 1.0) if math.isfinite(self.fast[0]) else 0.0


def optimizers_answer(matrix: Matrix) -> str:
    """Say whether acceleration helps, and whom."""
    gains = [found for column in matrix.columns if (found := gain(matrix, column)) is not None]
    helped = sorted((found for found in gains if found.factor > SAME), key=lambda found: -found.factor)
    others = [f"{_gradient(found.column)} ({_told(found)})" for found in gains if found.factor <= SAME]
    # The most only among what is of one goal.
    most = " most" if len(helped) > 1 and len({found.goal for found in helped}) == 1 else ""
    starts = [("Acceleration helps", most), *[("It helps", "")] * len(helped)]
    sentences = [
        f"{start} {_gradient(found.column)}{end}: {_told(found)}."
        for (start, end), found in zip(starts, helped, strict=False)
    ]
    if others:
        sentences.append(f"{'It' if helped else 'Acceleration'} does not help {text.listing(others)}.")
    return " ".join(sentences)


def gain(matrix: Matrix, column: str) -> Gain | None:
    """Return what acceleration gains with a gradient, None where nothing gets to a goal.

    It is of the smallest goal that is reached with and without it; where there is none, of the smallest that is reached.
    """
    found = []
    for goal in reversed(matrix.goals()):
        chosen = {row: best[1] for row in matrix.rows if (best := matrix.best(row, column, goal))}
        costs = {row: (steps_to(method, goal), steps_to(method, goal, "seconds")) for row, method in chosen.items()}
        plain = costs.pop(PLAIN, None)
        if plain is None or not costs:
            continue
        fast = min(costs, key=lambda row: costs[row])
        found.append(Gain(column, goal, fast, costs[fast], plain))
    both = [item for item in found if math.isfinite(max(item.fast[0], item.plain[0]))]
    some = [item for item in found if math.isfinite(min(item.fast[0], item.plain[0]))]
    return next(iter(both or some), None)


def _told(found: Gain) -> str:
    goal = f"a relative error of {found.goal:g}"
    if math.isinf(found.fast[0]):
        return f"only {PLAIN} gets to {goal}, in {_cost(*found.plain)}"
    rest = f"needs {_cost(*found.plain)}" if math.isfinite(found.plain[0]) else "does not get there"
    times = f", {text.number(found.factor)} times as many" if math.isfinite(found.factor) and found.factor > SAME else ""
    return f"{found.optimizer} gets to {goal} in {_cost(*found.fast)}, {PLAIN} {rest}{times}"


def _cost(steps: float, seconds: float) -> str:
    return f"{_steps(steps)} ({text.seconds(seconds)})"


def _steps(steps: float) -> str:
    # A step is a whole one: rounding must not turn one into the next.
    count = math.ceil(steps - 1e-9)
    return f"{count} step{'' if count == 1 else 's'}"


def _gradient(column: str) -> str:
    name, comma, loss = column.rpartition(", ")
    return f"`{name}` on the {loss}" if comma and loss.endswith(" loss") else f"`{column}`"


def optimizers_pictures(results: Results) -> list[list[Picture]]:
    """Draw the relative error against steps, a picture per optimizer at its best learning rates; a list for each matrix."""
    style: Any = looks_of(results)
    made = []
    with drawing():
        for matrix in matrices(results):
            goals = matrix.goals()
            goal = (goals or GOALS)[-1]
            chosen = {row: _curves(matrix, row, goal) for row in matrix.rows}
            reach = learning.reach_of(data for curves in chosen.values() for data in curves.values())
            # What lies far below the last goal tells no more.
            reach = None if reach is None else (max(reach[0], goal / 10), reach[1])
            drawn = [
                learning.draw_curves(
                    curves, "step", style, what="relative error of the dictionary", column="relative_error",
                    title=matrix.title, panel=row, kind="Steps of an optimizer",
                    name=file_name("optimizer", row, matrix.title), reach=reach, goals=goals,
                )
                for row, curves in chosen.items()
            ]  # fmt: skip
            made.append([picture for picture in drawn if picture is not None])
    return made


def _curves(matrix: Matrix, row: str, goal: float) -> dict[Method, pd.DataFrame]:
    found: dict[Method, pd.DataFrame] = {}
    places: dict[str, int] = {}
    for column in matrix.columns:
        best = matrix.best(row, column, goal)
        if best is None:
            continue
        rate, method = best
        several = len(matrix.cells[row, column]) > 1
        label = f"{column}, learning rate {rate}" if several else column
        variant = places.setdefault(method.estimator, -1) + 1
        places[method.estimator] = variant
        found[dataclasses.replace(method, label=label, variant=variant)] = method.curve("relative_error")
    return found
