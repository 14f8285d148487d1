"""The study of optimizers: where each optimizer ends, and the gain by acceleration."""

import math

from living_page import html
from stored_experiments import experiments, framed, headings
from synthetic import training

from pudle import text
from pudle.reports.learning.recovery import Optimizers
from pudle.reports.learning.sections import sections
from pudle.reports.report import Report

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
    assert [name for name, cell in table.items() if cell.best] == [
        "alternating, momentum(learning_rate=0.1)"
    ]
    assert "alternating, sgd(learning_rate=0.2)" in table
    assert "alternating, sgd(learning_rate=0.1)" not in table
    fast, slow = (text.number(5 * math.exp(-50 * rate)) for rate in (0.12, 0.06))
    told = "With momentum `alternating` (momentum(learning_rate=0.1)) recovers best: its error"
    assert f"{told} falls from 5 to {fast}, that of `backprop`" in shown.answer
    assert f" to {slow}, " in shown.answer and "With sgd `backprop`" in shown.answer
    drawn = {figure.title.removeprefix(f"{title}, ") for figure in shown.charts}
    assert drawn == {"sgd", "momentum"}
    page = html(Report(results))
    assert headings(page)[0] == "optimizers" and "recovery" not in headings(page)
