"""A comparison that a time limit ends: what is measured on both sides is judged, and the rest is no
regression.
"""

import math

import pytest
from two_sides import CASES, DEPTHS, blank, scores, write

from pudle.measuring.commits.turns import time_in_turns
from pudle.measuring.contents import Rounds
from pudle.measuring.scoring import ERRORS
from pudle.reports.compare.judge import compare
from pudle.reports.compare.sides import load_folder


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
    judged = compare(*sides, together=Rounds(rounds=[], partial=True))
    regressions = {(row.rule, row.estimator) for row in judged.cells()}
    assert regressions == {("accuracy", "backprop")}
    # One record, and one more memory.
    left_out = len(DEPTHS) * len(ERRORS) + 1
    assert f"left out times, and {left_out} other cells" in judged.notes[0]
    timed = sum(row.metric == "seconds" for row in whole.rows)
    assert len(judged.rows) == len(whole.rows) - timed - left_out


def test_no_time_is_begun_after_the_limit():
    cells = [("case", "estimator", 1)]
    assert time_in_turns({}, cells, until=-math.inf) == []
