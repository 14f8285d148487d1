"""The study of optimizers: where each optimizer ends, and the gain by acceleration."""

import math

from living_page import html
from stored_experiments import experiments, framed, headings
from synthetic import training

from pudle import text
from pudle.reports.learning.optimizers import Optimizers
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
    fast, slow = (text.number(0.5 * math.exp(-50 * rate)) for rate in (0.12, 0.03))
    assert table["alternating, sgd(learning_rate=0.2)"] == slow
    assert "alternating, sgd(learning_rate=0.1)" not in table
    assert table["alternating, momentum(learning_rate=0.1)"].best
    told = f"`alternating` on the lasso loss, momentum ends at a relative error of {fast}, sgd at"
    assert f"{told} {slow}." in shown.answer
    assert [figure.title.removeprefix(f"{title}, ") for figure in shown.charts] == [
        "momentum",
        "sgd",
    ]
    page = html(Report(results))
    assert headings(page)[0] == "optimizers" and "recovery" not in headings(page)


def test_failed_trainings_have_their_status_in_the_table(tmp_path):
    options = {"optimizer": "adam"}
    records = [
        training("good", study="optimizers", options={"optimizer": "sgd"}),
        training("bad", study="optimizers", options=options, status="diverged", reason="no"),
    ]
    shown = block(experiments(tmp_path, *records))
    assert shown.tables[0][0].columns["status"] == ["diverged", "ok"] and shown.answer == ""
