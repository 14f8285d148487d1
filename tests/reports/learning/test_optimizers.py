"""The study of optimizers: steps to a goal, the matrix of optimizers and gradients, and the gain by
acceleration.
"""

import math

import pandas as pd
import pytest
from living_page import html
from stored_experiments import experiments, headings
from synthetic import training

from pudle import text
from pudle.reports.learning import optimizers
from pudle.reports.report import Report


@pytest.mark.parametrize(
    "errors, expected",
    [
        ([0.5, 0.4, 0.3], math.inf),
        ([0.05, 0.04], 0.0),
        ([math.nan, math.nan], math.inf),
        ([0.5, 0.1, 0.5], 1.0),
        # Interpolated over the gap, and an error of zero.
        ([0.5, math.nan, 0.005], 2 * math.log(5) / math.log(100)),
        ([1.0, 0.0], math.log(10) / math.log(1e300)),
    ],
)
def test_a_goal_out_of_reach_is_infinite_and_the_first_crossing_counts(errors, expected):
    history = pd.DataFrame({"step": range(len(errors)), "error": errors})
    assert optimizers.reached(history, [0.1]) == [pytest.approx(expected, rel=1e-9)]


#: Plain and accelerated descent with two gradients; the rates say how fast.
RATES = {
    ("sgd(learning_rate=0.1)", "alternating"): 0.02,
    ("sgd(learning_rate=0.2)", "alternating"): 0.03,
    ("momentum(learning_rate=0.1)", "alternating"): 0.12,
    ("sgd(learning_rate=0.1)", "backprop"): 0.08,
    ("momentum(learning_rate=0.1)", "backprop"): 0.06,
    ("adam", "backprop"): 0.0001,
}


def test_the_matrix_has_the_best_learning_rates_and_the_answer_says_what_acceleration_gains(
    tmp_path,
):
    facts = {"steps": 200, "pace": 0.5, "study": "optimizers"}
    records = [
        training(optimizer + estimator, estimator, rate, options={"optimizer": optimizer}, **facts)
        for (optimizer, estimator), rate in RATES.items()
    ]
    results = experiments(tmp_path, *records)
    ((title, trainings),) = optimizers.optimized(results).items()
    assert title == "sparse_gaussian(n_samples=10), 25 layers, ista"
    goals = optimizers.goals(trainings)
    assert goals[-1] == 0.001 and len(goals) == optimizers.MOST_GOALS
    table = optimizers.table(trainings, 0.01).set_index("optimizer")
    slow, fast = (math.log(50) / rate for rate in (0.03, 0.12))
    shown = table["alternating"]
    assert shown["sgd"].startswith(f"{math.ceil(slow)} steps, {slow / 2:.3g} s")
    assert shown["sgd"].endswith("learning rate 0.2")
    assert shown["momentum"].startswith(f"{math.ceil(fast)} steps, {fast / 2:.3g} s")
    assert table.loc["adam", ["alternating", "backprop"]].tolist() == [text.DASH, "not reached"]
    assert shown["momentum"].best and table.loc["sgd", "backprop"].best
    assert not shown["sgd"].best and not table.loc["momentum", "backprop"].best
    # sgd needs log(500) / 0.03 = 207 steps from a half to 0.1 %, more than its 200: it reaches 1 %.
    for told in ("33 steps (16.3 s)", "131 steps (65.2 s), 4 times as many", "104 steps"):
        assert told in optimizers.answer(trainings)
    page = html(Report(results))
    assert headings(page)[0] == "optimizers" and "recovery" not in headings(page)


def test_failed_trainings_have_their_status_in_the_matrix(tmp_path):
    records = [training("good", study="optimizers", options={"optimizer": "sgd"})]
    for rate, status in ((0.1, "diverged"), (0.2, "timeout")):
        facts = {"status": status, "reason": "no", "study": "optimizers"}
        options = {"optimizer": f"adam(learning_rate={rate})"}
        records.append(training(status, options=options, **facts))
    (trainings,) = optimizers.optimized(experiments(tmp_path, *records)).values()
    shown = optimizers.table(trainings, 0.1).set_index("optimizer")["backprop"]
    assert shown["adam"] == "diverged and timeout" and shown["sgd"].startswith("17 steps")
    assert optimizers.answer(trainings) == ""
