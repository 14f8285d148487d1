"""Grouping experiments into methods."""

import math

import pytest
from stored_experiments import experiments, only
from synthetic import baseline, training

from pudle.reports.learning.recovery import Recovery


def grouped(home, *records):
    return only(Recovery(), experiments(home, *records))


def test_trainings_that_differ_in_their_seed_are_one_method(tmp_path):
    rates = {0: 0.02, 1: 0.05, 2: 0.03}
    records = [
        training(f"{name}-{seed}", name, rate / slower, options={"seed": seed})
        for name, slower in (("alternating", 10), ("backprop", 1))
        for seed, rate in rates.items()
    ]
    slow, fast = grouped(tmp_path, *records)
    assert (slow.label, len(slow.runs), fast.label) == ("alternating", 3, "backprop")
    spreads = {50: fast.spread("dictionary_error"), 10: fast.curve("dictionary_error").iloc[10, 3:]}
    for step, values in spreads.items():
        expected = [5 * math.exp(-rate * step) for rate in (0.03, 0.05, 0.02)]
        assert list(values) == pytest.approx(expected, abs=1e-12)


def test_curve_has_the_steps_that_all_seeds_have(tmp_path):
    short = training("b", steps=10, options={"seed": 1, "epochs": 20})
    (method,) = grouped(tmp_path, training("a", steps=20), short)
    assert method.curve("relative_error")["step"].tolist() == list(range(11))


def test_methods_are_labeled_by_what_distinguishes_them(tmp_path):
    records = [
        training(f"{rule}-{loss}", options={"algorithm": f"ista(step=0.2, a={rule})", "loss": loss})
        for rule in (1, 2)
        for loss in ("lasso", "ridge")
    ]
    first, *others = grouped(tmp_path, *records, baseline("sk", "scikit-learn"))
    assert [method.label for method in others] == [
        "backprop, ridge loss, ista(step=0.2, a=1)",
        "backprop, lasso loss, ista(step=0.2, a=2)",
        "backprop, ridge loss, ista(step=0.2, a=2)",
        "scikit-learn",
    ]
    assert (
        first.quoted == "`backprop` (lasso loss, ista(step=0.2, a=1))"
        and others[3].quoted == "scikit-learn"
    )
