"""Grouping experiments into methods."""

import math

import pytest
from support.records.stored_experiments import experiments, only
from support.records.synthetic import baseline, training

from pudle.reports.learning.recovery import Recovery
from pudle.reports.learning.sections import sections


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


def test_trainings_are_compared_with_those_of_the_same_start(tmp_path):
    """Warm starts are named in every row, title and sentence, and stand beside no cold ones; a
    solver stands beside the layers of its own start.
    """
    solved = {"algorithm": "active_set", "depth": 100}
    records = [
        training(f"{name}-{warm}", name, options={"warm_start": warm} | options)
        for name, options in (("backprop", {}), ("analytic", solved))
        for warm in (False, True)
    ]
    results = experiments(tmp_path, *records)
    methods = only(Recovery(), results)
    assert [method.depth for method in methods] == [25, 25, None, None]
    panels = Recovery().panels(methods)
    assert {name: [method.label for method in part] for name, part in panels.items()} == {
        "25 layers": ["backprop, ista", "analytic, active_set"],
        "25 layers, from the last codes": ["backprop, ista", "analytic, active_set"],
    }
    (section,) = sections(results)
    (block,) = section.blocks
    starts = block.tables[0][0].columns["codes start at"]
    assert starts == ["zero", "last codes"] * 2
    assert "At 25 layers, from the last codes `" in block.answer
    titles = {figure.title.partition(", ")[2] for figure in block.charts}
    assert titles == {*panels}
