"""Grouping experiments into methods."""

from __future__ import annotations

import itertools
import math

import pytest
from stored_experiments import experiments, only
from synthetic import baseline, training

from pudle.reports.learning import methods
from pudle.reports.learning.recovery import recovered


def test_trainings_that_differ_in_their_seed_are_one_method(tmp_path):
    rates = {0: 0.02, 1: 0.05, 2: 0.03}
    slow = [
        training(f"a-{seed}", "alternating", rate / 10, options={"seed": seed})
        for seed, rate in rates.items()
    ]
    records = [
        training(f"b-{seed}", rate=rate, options={"seed": seed}) for seed, rate in rates.items()
    ]
    found = only(recovered(experiments(tmp_path, *slow, *records)))
    assert [(method.label, len(method.runs)) for method in found] == [
        ("alternating", 3),
        ("backprop", 3),
    ]
    ends = [5 * math.exp(-rate * 50) for rate in (0.03, 0.05, 0.02)]
    assert found[1].spread("dictionary_error") == pytest.approx(tuple(ends), abs=1e-12)
    curve = found[1].curve("dictionary_error").set_index("step")
    assert curve.loc[10, ["median", "least", "greatest"]].tolist() == pytest.approx(
        [5 * math.exp(-10 * rate) for rate in (0.03, 0.05, 0.02)], abs=1e-12
    )


def test_curve_has_the_steps_that_all_seeds_have(tmp_path):
    long, short = (
        training("a", steps=20),
        training("b", steps=10, options={"seed": 1, "epochs": 20}),
    )
    (method,) = only(recovered(experiments(tmp_path, long, short)))
    assert method.curve("relative_error")["step"].tolist() == list(range(11))


def test_methods_are_labeled_by_what_distinguishes_them(tmp_path):
    rules = [
        "ista(step=0.2, thresholding='soft')",
        "ista(step=0.2, thresholding='hard(threshold=0.1)')",
    ]
    records = [
        training(f"r{number}", options={"algorithm": rule, "loss": loss})
        for number, (rule, loss) in enumerate(itertools.product(rules, ("lasso", "ridge")))
    ]
    found = only(recovered(experiments(tmp_path, *records, baseline("sk", "scikit-learn"))))
    assert [method.label for method in found] == [
        "backprop, lasso loss, thresholding=soft",
        "backprop, ridge loss, thresholding=soft",
        "backprop, lasso loss, thresholding=hard(threshold=0.1)",
        "backprop, ridge loss, thresholding=hard(threshold=0.1)",
        "scikit-learn",
    ]
    assert [method.variant for method in found] == [0, 1, 2, 3, 0]
    assert (
        found[0].quoted == "`backprop` (lasso loss, thresholding=soft)"
        and found[4].quoted == "scikit-learn"
    )


def test_methods_with_one_label_are_distinguished_by_their_names(tmp_path):
    records = [
        training("start", options={"start": "near.npy"}),
        training("scratch"),
        training("deep", options={"depth": 50}),
    ]
    found = only(recovered(experiments(tmp_path, *records)))
    assert [(method.label, method.depth) for method in found] == [
        ("backprop, scratch", 25),
        ("backprop, start", 25),
        ("backprop", 50),
    ]


@pytest.mark.parametrize(
    ("specs", "expected"),
    [
        (
            ["adam(learning_rate=0.1)", "adam(learning_rate=0.2)"],
            ["learning_rate=0.1", "learning_rate=0.2"],
        ),
        (["adam(learning_rate=0.1)", "sgd(learning_rate=0.1)"], ["adam", "sgd"]),
        (["adam(a=1, b=2)", "adam(a=1, b=3)", "sgd"], ["adam(b=2)", "adam(b=3)", "sgd"]),
        (["adam", "adam(b=3)"], ["adam", "b=3"]),
        (["not a spec", "sgd"], ["not a spec", "sgd"]),
    ],
)
def test_specs_are_shortened_to_what_differs(specs, expected):
    assert list(methods.shortened(specs).values()) == expected
