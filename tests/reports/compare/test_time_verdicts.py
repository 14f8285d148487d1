"""Verdicts on times, measured in turns or in two separate runs, and on what a time limit left: what
is measured on both sides is judged, and the rest is no regression.
"""

import math

import pytest
from support.records import synthetic
from support.records.two_sides import (
    CASES,
    DEPTHS,
    ESTIMATORS,
    TIMED,
    blank,
    only,
    scores,
    turns,
    write,
)

from pudle.measuring.commits.turns import ROUNDS, time_in_turns
from pudle.measuring.scoring import ERRORS
from pudle.measuring.stored_files import CommitRounds
from pudle.reports.compare import summary
from pudle.reports.compare.judge import compare
from pudle.reports.compare.sides import load_folder

CELLS = len(CASES) * len(ESTIMATORS) * len(TIMED)
ONE = (CASES[1], "alternating", 100)


@pytest.mark.parametrize(
    "ratio, options, verdict, number",
    [
        (lambda cell: 1.5 if cell[1] == "backprop" else 1.0, {"noise": 0.2}, "regression", 4),
        (lambda cell: 1.6 if cell == ONE else 1.0, {"rounds": ROUNDS}, "regression", 1),
        (lambda cell: 1.8, {"noise": 0.01, "rounds": 1}, "undecided", CELLS),
        (lambda cell: 1.15, {"noise": 0.02}, "regression", 0),
        (lambda cell: 0.5, {"noise": 0.02}, "improved", CELLS),
    ],
)
def test_a_slower_estimator_is_distinguished_from_noise(judge, ratio, options, verdict, number):
    cells = judge(rounds=turns(ratio, **options)).cells(verdict)
    assert len(cells) == number and {row.metric for row in cells} <= {"seconds"}
    if verdict == "regression":
        assert all(ratio((row.case, row.estimator, row.depth)) > 1 for row in cells)


def test_a_time_that_could_not_be_measured_is_a_regression_unless_base_has_none(judge):
    rounds = turns(noise=0.0)
    cell = (CASES[0], "backprop", 10)
    broken = [row for row in rounds if (row.case, row.estimator, row.depth) == cell]
    for row in broken:
        row.head, row.reason = None, "ValueError: broken"
    assert "ValueError: broken" in only(judge(rounds=rounds)).reason
    for row in broken:
        row.base = None
    assert judge(rounds=rounds).cells() == []


def test_times_of_two_separate_runs_are_compared_by_their_repeats_and_decide_nothing(judge):
    def times(ratio, repeats=None):
        def plant(side):
            for cell, samples in side["samples"].items():
                factor = ratio if cell[1] == "backprop" else 1.0
                side["samples"][cell] = [factor * value for value in samples[:repeats]]

        return plant

    comparison = judge(times(1.5))
    assert comparison.cells() == []
    assert {line.estimator for line in summary.lines(comparison, "undecided")} == {"backprop"}
    (note,) = comparison.notes
    assert note.startswith(
        "Times decide nothing here, because the two sides were timed in separate"
    )
    assert "; 4 times are more than 1.3 times as long, most of all that of backprop on" in note
    assert "(1.5 times). `pudle compare --run` measures both in turns" in note
    # Nothing is called faster either, and what is within the threshold is the same.
    assert {row.verdict for row in judge(times(0.5)).rows} == {"same", "undecided"}
    (note,) = (same := judge(times(1.2))).notes
    assert {row.verdict for row in same.rows} == {"same"} and "most of all" not in note
    # One repeat cannot show it, whatever the ratio, but the cells are undecided and not the same.
    few = judge(times(2.0, 1), times(1.0, 1))
    assert len(few.cells("undecided")) == len(CASES) * len(TIMED)
    assert all("most of all" not in note for note in few.notes)


def test_a_time_that_broke_in_a_separate_run_is_a_regression_all_the_same(judge):
    def plant(side):
        del side["samples"][ONE]

    # Its memory is no longer there either.
    vanished = {(row.metric, row.rule) for row in judge(plant).cells()}
    assert vanished == {("seconds", "vanished"), ("memory_bytes", "vanished")}


@pytest.fixture
def sides(tmp_path):
    """Base, and a head that was ended before its last record and a memory: one of the other records
    got worse.
    """
    head = blank()
    for row in scores(head):
        row["relative_error"] *= 10
    folders = [
        write(tmp_path / name / "quick", side) for name, side in (("base", blank()), ("head", head))
    ]
    (last, *_) = sorted(folders[1].glob(f"store/{CASES[1]}/*.json"), reverse=True)
    last.unlink()
    (memory, *_) = sorted(
        folders[1].glob(f"store/{CASES[0]}/costs/memory_bytes-*.json"), reverse=True
    )
    memory.unlink()
    return [load_folder(folder) for folder in folders]


def test_what_the_limit_left_out_is_neither_judged_nor_hidden(sides):
    whole = compare(*sides)
    assert "vanished" in {row.rule for row in whole.cells()}
    judged = compare(*sides, together=CommitRounds(rounds=[], partial=True))
    regressions = {(row.rule, row.estimator) for row in judged.cells()}
    assert regressions == {("accuracy", "backprop")}
    # One record, and one more memory.
    left_out = len(DEPTHS) * len(ERRORS) + 1
    assert f"left out times, and {left_out} other cells" in judged.notes[0]
    timed = sum(row.metric == "seconds" for row in whole.rows)
    assert len(judged.rows) == len(whole.rows) - timed - left_out


def test_a_record_left_out_is_so_for_each_of_its_targets(tmp_path):
    two = synthetic.case(targets=["gstar", "gtilde"])
    rows = synthetic.scores(synthetic.CURVES["backprop"], targets=two["targets"])
    records = [synthetic.record(two, name, scores=rows) for name in ("analytic", "backprop")]
    homes = [synthetic.write(tmp_path / name, records) for name in ("base", "head")]
    (lost,) = homes[1].rglob(f"0-{records[0]['key']}.json")
    lost.unlink()
    judged = compare(
        *(load_folder(home / "quick") for home in homes),
        together=CommitRounds(rounds=[], partial=True),
    )
    assert not judged.cells()


def test_no_time_is_begun_after_the_limit():
    cells = [("case", "estimator", 1)]
    assert time_in_turns({}, cells, until=-math.inf) == []
