"""Dictionaries recovered, and where each optimizer ends: tables, conclusions and curves."""

import math

import numpy as np
import pytest
from support.page.living_page import html
from support.records.stored_experiments import best_marks, experiments, framed, headings
from support.records.synthetic import baseline, training

from pudle import text
from pudle.reports.learning.recovery import COLUMNS, Optimizers, Recovery
from pudle.reports.learning.sections import sections
from pudle.reports.learning.study import POINTS
from pudle.reports.report import Report


def answer(home, *records):
    """Return the conclusion on experiments of one dataset."""
    (section,) = sections(experiments(home, *records))
    return section.blocks[0].answer


def pictures(home, *records):
    """Return the pictures of the only block about experiments."""
    (section,) = sections(experiments(home, *records))
    return section.blocks[0].pictures


def seeds(**rates):
    """Return three trainings of each estimator, whose rates rise by a hundredth."""
    return [
        training(f"{name}-{seed}", name, rate + seed / 100, options={"seed": seed})
        for name, rate in rates.items()
        for seed in range(3)
    ]


def test_the_columns_that_are_said_to_have_a_bold_cell_are_those_that_have_one():
    """The fastest training may be the worst: no time is bold."""
    *_, said = Recovery.reading.split("Bold is the best ")
    assert said == "error at end, relative error and support recovered, of no other column."
    assert [
        column.heading for column in COLUMNS if column.heading in said and not column.best
    ] == []


def test_the_best_of_each_column_is_that_of_the_data(tmp_path):
    rates = {("alternating", 25): 0.02, ("backprop", 25): 0.05, ("backprop", 50): 0.09}
    # What is printed as the best is marked as such.
    rates["analytic", 50] = 0.0899
    records = [
        training(f"{name}-{depth}", name, rate, options={"depth": depth})
        for (name, depth), rate in rates.items()
    ]
    dead = training("dead", "analytic", 9.0, status="diverged", reason="no")
    results = experiments(tmp_path, *records, dead)
    (section,) = sections(results)
    (block,) = section.blocks
    table = framed(block.tables[0][0]).set_index(["method", "layers"])
    marks = best_marks(block.tables[0][0]).set_axis(table.index)
    for column in ("error at end", "relative error", "support recovered"):
        assert {*marks.index[marks[column]]} == {("backprop", "50"), ("analytic", "50")}
    slow, fast, shown, _ = (text.number(5 * np.exp(-50 * rate)) for rate in rates.values())
    assert table.loc[("alternating", "25"), "error at end"] == slow
    report = Report(results)
    assert f"**{shown}**" in report.markdown() and f"\\textbf{{{shown}}}" in report.latex()
    # One seed decides nothing.
    nearest = "At 25 layers `backprop` ends nearest"
    for words in (nearest, fast, slow, "4.5 times", "on one seed, so that the order may be chance"):
        assert words in block.answer
    assert "recovers best" not in block.answer


def test_an_answer_says_whether_seeds_overlap_and_names_the_best_other_package(tmp_path):
    clear = answer(tmp_path / "a", *seeds(backprop=0.05, alternating=0.005))
    assert "recovers best" in clear and "overlap" not in clear
    packages = [baseline("sk", "scikit-learn"), baseline("slow", "spams", rate=0.01)]
    close = answer(tmp_path / "b", *seeds(backprop=0.05, alternating=0.045), *packages)
    assert "their seeds overlap" in close and "scikit-learn comes nearest" in close
    equal = [training(name, name, rate=0.05) for name in ("backprop", "alternating")]
    assert "recover alike" in answer(tmp_path / "d", *equal)
    assert "recovers best" not in close
    # Seeds that do not overlap, by 4 %.
    near = [
        training(f"{name}{seed}", name, rate=rate, options={"seed": seed})
        for name, rate in (("backprop", 0.05), ("alternating", 0.0492))
        for seed in range(2)
    ]
    # The percent sign stands on the line of its number.
    assert "recover alike" in (said := answer(tmp_path / "e", *near)) and said.endswith("below 5%.")
    assert "no gradient recovers anything" in answer(tmp_path / "c", training("one", rate=-0.01))


def test_curves_hold_the_history_and_are_drawn_where_no_time_passed(tmp_path):
    records = [
        training(name, name, 0.025, steps=400, pace=0.0) for name in ("alternating", "backprop")
    ]
    first, second = pictures(tmp_path, *records)
    assert first.title.endswith("25 layers, against epochs") and "seconds" in second.title
    rows = first.rows
    assert len(rows) == 2 * POINTS and (rows["step"].min(), rows["step"].max()) == (0, 400)
    expected = 5 * np.exp(-0.025 * rows["step"].to_numpy())
    assert rows["dictionary_error"].to_numpy() == pytest.approx(expected, rel=1e-5)
    assert second.rows["seconds"].eq(0).all()
    for picture in (first, second):
        assert next(picture.files(("png",)))[1].startswith(b"\x89PNG")


#: Plain and accelerated descent with two gradients; the rates say how fast.
RATES = {
    ("sgd(learning_rate=0.1)", "alternating"): 0.02,
    ("sgd(learning_rate=0.2)", "alternating"): 0.03,
    ("momentum(learning_rate=0.1)", "alternating"): 0.12,
    ("sgd(learning_rate=0.1)", "backprop"): 0.08,
    ("momentum(learning_rate=0.1)", "backprop"): 0.06,
}


def block(results):
    (section,) = sections(results)
    return section.blocks[0]


def test_the_best_learning_rates_are_shown_and_the_answer_says_what_acceleration_gains(tmp_path):
    records = [
        training(optimizer + name, name, rate, options={"optimizer": optimizer}, study="optimizers")
        for (optimizer, name), rate in RATES.items()
    ]
    batches = {"optimizer": "adam(learning_rate=0.3)", "batch": 50}
    records.append(training("with batches", options=batches, study="optimizers"))
    results = experiments(tmp_path, *records)
    title, other = Optimizers().groups(results)
    assert title == "sparse_gaussian(n_samples=10), 25 layers, ista"
    assert other == f"{title}, batches of 50"
    shown = block(results)
    table = framed(shown.tables[0][0]).set_index("method")["relative error"]
    marks = best_marks(shown.tables[0][0])["relative error"]
    assert [*marks.index[marks]] == ["alternating, momentum(learning_rate=0.1)"]
    assert "alternating, sgd(learning_rate=0.2)" in table
    assert "alternating, sgd(learning_rate=0.1)" not in table
    fast, slow = (text.number(5 * math.exp(-50 * rate)) for rate in (0.12, 0.06))
    told = "With momentum `alternating` (momentum(learning_rate=0.1)) ends nearest: its error"
    assert f"{told} falls from 5 to {fast}, that of `backprop`" in shown.answer
    assert f" to {slow}, " in shown.answer and "With sgd `backprop`" in shown.answer
    drawn = {figure.title.removeprefix(f"{title}, ") for figure in shown.charts}
    assert drawn == {"sgd", "momentum"}
    page = html(Report(results))
    assert headings(page)[0] == "optimizers" and "recovery" not in headings(page)
