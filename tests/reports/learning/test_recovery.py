"""Dictionaries recovered: tables, conclusions and curves."""

from __future__ import annotations

import math

import numpy as np
import pytest
from living_page import data, html
from stored_experiments import experiments, only
from synthetic import baseline, training

from pudle import text
from pudle.reports.learning import recovery
from pudle.reports.learning.pictures import POINTS
from pudle.reports.learning.sections import sections
from pudle.reports.report import Report


def answer(home, *records):
    """Return the conclusion on experiments of one dataset."""
    return recovery.answer(only(recovery.recovered(experiments(home, *records))))


def pictures(home, *records):
    """Return the pictures of the only block about experiments."""
    (section,) = sections(experiments(home, *records))
    return section.blocks[0].pictures


def test_best_of_each_column_is_that_of_the_data(tmp_path):
    rates = {
        ("alternating", 25): 0.02,
        ("backprop", 25): 0.05,
        ("alternating", 50): 0.03,
        ("backprop", 50): 0.09,
    }
    records = [
        training(f"{name}-{depth}", name, rate, options={"depth": depth})
        for (name, depth), rate in rates.items()
    ]
    results = experiments(
        tmp_path, *records, training("dead", "analytic", 9.0, status="diverged", reason="no")
    )
    methods = only(recovery.recovered(results))
    table = recovery.table(methods)
    for column in ("error at end", "relative error", "support recovered"):
        marked = [
            (str(row["method"]), row["layers"])
            for row in table.to_dict("records")
            if row[column].best
        ]
        assert marked == [("backprop", "50")], column
    assert table["error at end"].tolist()[:2] == [
        text.number(5 * math.exp(-0.02 * 50)),
        text.number(5 * math.exp(-0.05 * 50)),
    ]
    report = Report.of(results)
    shown = text.number(5 * math.exp(-0.09 * 50))
    assert f"**{shown}**" in report.markdown()
    rows = data(html(report))["tables"]["recovery-0-0"]["rows"]
    cells = [
        cell for row in rows for cell in row if isinstance(cell, dict) and cell["text"] == shown
    ]
    assert cells and all(cell["best"] for cell in cells)
    assert f"\\textbf{{{shown}}}" in report.latex()
    found = recovery.answer(methods)
    assert (
        "At 25 layers `backprop` recovers best: its error falls from 5 to"
        f" {text.number(5 * math.exp(-2.5))}" in found
    )
    # exp(0.03 * 50) and exp(0.06 * 50).
    assert "4.5 times as much" in found and "20 times as much" in found and "one seed only" in found


def test_answer_over_seeds_that_do_not_overlap_is_without_doubt(tmp_path):
    records = [
        training(f"{name}-{seed}", name, rate + seed / 1000, options={"seed": seed})
        for name, rate in (("backprop", 0.05), ("alternating", 0.005))
        for seed in range(3)
    ]
    methods = only(recovery.recovered(experiments(tmp_path, *records)))
    found = recovery.answer(methods)
    assert "recovers best" in found and "one seed" not in found and "overlap" not in found
    assert recovery.table(methods)["seeds"].tolist() == ["3", "3"]


def test_answer_names_depths_at_which_seeds_overlap(tmp_path):
    records = [
        training(f"{name}-{seed}", name, rate + seed / 100, options={"seed": seed})
        for name, rate in (("backprop", 0.05), ("alternating", 0.045))
        for seed in range(3)
    ]
    assert "their seeds overlap" in answer(tmp_path, *records)


def test_answer_says_when_nothing_is_recovered(tmp_path):
    assert "no gradient recovers anything" in answer(tmp_path, training("one", rate=-0.01))


def test_answer_names_the_best_other_package(tmp_path):
    packages = [baseline("sk", "scikit-learn"), baseline("slow", "spams", rate=0.01)]
    found = answer(tmp_path, training("one", options={"loss": "ridge"}), training("two"), *packages)
    assert "Of the other packages scikit-learn comes nearest, with an error of 1.5e-6." in found
    assert "`backprop` (lasso loss)" in found


def test_curves_hold_the_history(tmp_path):
    records = [
        training(f"T{depth}-{name}", name, depth / 1000, options={"depth": depth}, steps=400)
        for depth in (25, 50)
        for name in ("alternating", "backprop")
    ]
    first, second, *others = pictures(tmp_path, *records)
    assert (
        len(others) == 2
        and first.title.endswith("25 layers, against epochs")
        and "seconds" in second.title
    )
    data = first.rows
    assert len(data) == 2 * POINTS and data["step"].max() == 400 and data["step"].min() == 0
    assert data["dictionary_error"].to_numpy() == pytest.approx(
        5 * np.exp(-0.025 * data["step"].to_numpy()), rel=1e-5
    )
    assert "Last values: alternating" in first.alt


def test_curves_are_drawn_where_no_time_passed(tmp_path):
    against_epochs, against_seconds = pictures(tmp_path, training("one", pace=0.0))
    assert "against epochs" in against_epochs.alt and against_seconds.rows["seconds"].eq(0).all()
    for picture in (against_epochs, against_seconds):
        assert next(picture.files(("png",)))[1].startswith(b"\x89PNG")
