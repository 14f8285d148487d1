"""Verdicts on times, measured in turns or in two separate runs."""

from __future__ import annotations

import math

from two_sides import CASES, ESTIMATORS, TIMED, only, turns

from pudle.measuring.commits.turns import TimeLimit, rounds_needed
from pudle.reports.compare import summary


def test_a_slower_estimator_is_distinguished_from_noise(judge):
    planted = turns(lambda cell: 1.5 if cell[1] == "backprop" else 1.0, noise=0.2)
    lines = summary.lines(judge(rounds=planted))
    assert [(line["what"], line["estimator"], line["cells"]) for line in lines] == [
        ("time", "backprop", "2 depths")
    ] * 2
    assert "1." in lines[0]["reason"] and "times the time" in lines[0]["reason"]


def test_one_slower_cell_among_many_is_found(judge):
    cell = (CASES[1], "alternating", 100)
    # A cell that seems slower is timed again for twice as many rounds, and these decide.
    rounds = 2 * rounds_needed(len(CASES) * len(ESTIMATORS) * len(TIMED), TimeLimit().significance)
    row = judge(rounds=turns(lambda each: 1.6 if each == cell else 1.0, rounds=rounds)).cells()
    assert row[["case", "estimator", "depth"]].to_numpy().tolist() == [list(cell)]


def test_a_ratio_within_the_noise_is_undecided(judge):
    frame = judge(rounds=turns(lambda cell: 1.5, noise=0.2, rounds=4)).frame
    times = frame[frame["metric"] == "seconds"]
    assert "regression" not in set(times["verdict"])
    assert "undecided" in set(times["verdict"])
    assert any("within the noise" in reason for reason in times["reason"])


def test_a_slow_down_within_the_threshold_passes(judge):
    assert judge(rounds=turns(lambda cell: 1.15, noise=0.02)).cells().empty


def test_a_faster_estimator_is_improved(judge):
    assert len(judge(rounds=turns(lambda cell: 0.5, noise=0.02)).cells("improved")) == len(
        CASES
    ) * len(ESTIMATORS) * len(TIMED)


def test_a_time_that_could_not_be_measured_is_a_regression_unless_base_has_none(judge):
    rounds = turns(noise=0.0)
    first = (
        (rounds["case"] == CASES[0]) & (rounds["estimator"] == "backprop") & (rounds["depth"] == 10)
    )
    rounds.loc[first, "head"] = math.nan
    rounds.loc[first, "reason"] = "ValueError: broken"
    assert "ValueError: broken" in only(judge(rounds=rounds))["reason"]
    rounds.loc[first, "base"] = math.nan
    assert judge(rounds=rounds).cells().empty


def test_two_separate_runs_are_judged_by_their_repeats(judge):
    def plant(head, ratio):
        for cell in head["samples"]:
            if cell[1] == "backprop":
                head["samples"][cell] = [ratio * value for value in head["samples"][cell]]

    comparison = judge(lambda head: plant(head, 1.5))
    assert {line["estimator"] for line in summary.lines(comparison)} == {"backprop"}
    assert any("separate runs" in note for note in comparison.notes)
    assert judge(lambda head: plant(head, 1.2)).cells().empty

    def few(side):
        side["samples"] = {cell: values[:2] for cell, values in side["samples"].items()}

    def few_and_slow(head):
        plant(head, 2.0)
        few(head)

    # Two repeats cannot show it, whatever the ratio, but the cells are undecided and not the same.
    assert len(judge(few_and_slow, few).cells("undecided")) == len(CASES) * len(TIMED)
