"""The study of optimizers: steps to a goal, the matrix of optimizers and gradients, and the gain by
acceleration.
"""

from __future__ import annotations

import math

import pandas as pd
import pytest
from living_page import data, html
from stored_experiments import experiments, headings
from synthetic import training

from pudle import text
from pudle.reports.learning import optimizers
from pudle.reports.report import Report


@pytest.mark.parametrize(("rate", "goal"), [(0.02, 0.3), (0.1, 0.1), (0.5, 0.01)])
def test_steps_to_a_goal_are_those_of_an_exponential(rate, goal):
    # log error is linear in the step, so that the interpolation is exact however far the rows are
    # apart.
    steps = [0, 3, 10, 50, 400]
    history = pd.DataFrame(
        {"step": steps, "error": [0.5 * math.exp(-rate * step) for step in steps]}
    )
    assert optimizers.reached(history, [goal])[0] == pytest.approx(
        math.log(0.5 / goal) / rate, rel=1e-9
    )


@pytest.mark.parametrize(
    ("errors", "expected"),
    [
        ([0.5, 0.4, 0.3], math.inf),
        ([0.05, 0.04], 0.0),
        ([0.5, math.nan, 0.005], None),
        ([], math.inf),
        ([math.nan, math.nan], math.inf),
        ([0.5, 0.1, 0.5], 1.0),
        ([1.0, 0.0], None),
    ],
)
def test_goal_out_of_reach_is_infinite_and_the_first_crossing_counts(errors, expected):
    (found,) = optimizers.reached(
        pd.DataFrame({"step": range(len(errors)), "error": errors}), [0.1]
    )
    if expected is None:
        # Interpolated over the gap.
        after = max(errors[-1], 1e-300)
        assert found == pytest.approx(
            (len(errors) - 1) * math.log(errors[0] / 0.1) / math.log(errors[0] / after), rel=1e-9
        )
    else:
        assert found == expected


@pytest.fixture
def results(tmp_path):
    """Plain and accelerated descent with two gradients; the rates say how fast."""
    rates = {
        ("sgd(learning_rate=0.1)", "alternating"): 0.02,
        ("sgd(learning_rate=0.2)", "alternating"): 0.03,
        ("momentum(learning_rate=0.1)", "alternating"): 0.12,
        ("sgd(learning_rate=0.1)", "backprop"): 0.08,
        ("momentum(learning_rate=0.1)", "backprop"): 0.06,
        ("adam", "backprop"): 0.0001,
    }
    return experiments(
        tmp_path,
        *(
            training(
                f"o{number}",
                estimator,
                rate,
                steps=200,
                pace=0.5,
                study="optimizers",
                options={"optimizer": optimizer},
            )
            for number, ((optimizer, estimator), rate) in enumerate(rates.items())
        ),
    )


@pytest.fixture
def trainings(results):
    """The only table of trainings."""
    ((title, found),) = optimizers.optimized(results).items()
    assert title == "sparse_gaussian(n_samples=10), 25 layers, ista"
    return found


def test_matrix_has_the_best_learning_rate_and_says_what_is_not_reached(results, trainings):
    goals = optimizers.goals(trainings)
    assert goals[-1] == 0.001 and len(goals) == optimizers.MOST_GOALS
    table = optimizers.table(trainings, 0.01).set_index("optimizer")
    steps = {rate: math.log(50) / rate for rate in (0.03, 0.12, 0.08, 0.06)}
    assert (
        table.loc["sgd", "alternating"]
        == f"{math.ceil(steps[0.03])} steps, {steps[0.03] / 2:.3g} s, learning rate 0.2"
    )
    assert (
        table.loc["momentum", "alternating"]
        == f"{math.ceil(steps[0.12])} steps, {steps[0.12] / 2:.3g} s"
    )
    assert (
        table.loc["adam", "backprop"] == "not reached"
        and table.loc["adam", "alternating"] == text.DASH
    )
    best = {
        (row, column)
        for column in table
        for row in table.index
        if getattr(table.loc[row, column], "best", False)
    }
    assert best == {("momentum", "alternating"), ("sgd", "backprop")}
    page = html(Report.of(results))
    assert headings(page)[0] == "optimizers" and "recovery" not in headings(page)
    assert {"text": "not reached", "key": "Infinity"} in data(page)["tables"]["optimizers-0-0"][
        "rows"
    ][2]


def test_failed_trainings_have_their_status_in_the_matrix(tmp_path):
    records = [
        training("good", study="optimizers", options={"optimizer": "sgd"}),
        training(
            "bad",
            study="optimizers",
            options={"optimizer": "adam(learning_rate=0.1)"},
            status="diverged",
            reason="no",
        ),
        training(
            "late",
            study="optimizers",
            options={"optimizer": "adam(learning_rate=0.2)"},
            status="timeout",
            reason="no",
        ),
    ]
    (trainings,) = optimizers.optimized(experiments(tmp_path, *records)).values()
    table = optimizers.table(trainings, 0.1).set_index("optimizer")
    assert table.loc["adam", "backprop"] == "diverged and timeout" and table.loc[
        "sgd", "backprop"
    ].startswith("17 steps")
    assert optimizers.answer(trainings) == ""


def test_answer_says_what_acceleration_gains(trainings):
    answer = optimizers.answer(trainings)
    # sgd needs log(500) / 0.03 = 207 steps from a half to 0.1 %, more than its 200: it reaches 1 %.
    assert (
        "With `alternating`, momentum reaches a relative error of 0.01 in 33 steps (16.3 s), sgd in"
        " 131 steps (65.2 s), 4 times as many." in answer
    )
    assert "With `backprop`, momentum reaches a relative error of 0.001 in 104 steps" in answer


@pytest.mark.parametrize(
    ("plain", "fast", "expected"),
    [
        (0.0001, 0.1, "momentum reaches a relative error of 0.001 in 63 steps (31.1 s), sgd never"),
        (0.1, 0.0001, "momentum reaches a relative error of 0.001 never, sgd in 63 steps (31.1 s)"),
        (0.0001, 0.0001, ""),
    ],
)
def test_answer_when_a_goal_is_not_reached(tmp_path, plain, fast, expected):
    rates = {"sgd": plain, "momentum": fast}
    records = [
        training(
            name, rate=rate, steps=200, pace=0.5, study="optimizers", options={"optimizer": name}
        )
        for name, rate in rates.items()
    ]
    (trainings,) = optimizers.optimized(experiments(tmp_path, *records)).values()
    assert optimizers.answer(trainings) == (f"With `backprop`, {expected}." if expected else "")


def test_matrices_are_in_the_order_of_datasets_and_depths(tmp_path):
    names = ("dataset", "depth", "algorithm")
    places = [("b", 25, "ista"), ("a", 100, "ista"), ("a", 25, "ista"), ("a", 25, "fista")]
    records = [
        training(str(number), study="optimizers", options=dict(zip(names, place, strict=True)))
        for number, place in enumerate(places)
    ]
    assert list(optimizers.optimized(experiments(tmp_path, *records))) == [
        "a, 25 layers, ista",
        "a, 25 layers, fista",
        "a, 100 layers, ista",
        "b, 25 layers, ista",
    ]
