"""A comparison that a time limit ends: what is measured on both sides is judged, and the rest is no
regression.
"""

from __future__ import annotations

import math
import sys
import time

import pytest
from two_sides import CASES, blank, scores, write

from pudle.measuring.commits.turns import TimeLimit, time_in_turns
from pudle.reports.compare.judge import compare
from pudle.reports.compare.sides import load_folder, on_both
from pudle.workers import TIMED_OUT, run


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
    assert "vanished" in set(compare(*sides).cells("regression")["rule"])
    both, left_out = on_both(sides)
    judged = compare(*both)
    regressions = judged.cells("regression")
    assert set(regressions["rule"]) == {"accuracy"} and set(regressions["estimator"]) == {
        "backprop"
    }
    # One record with its memories, and one more memory.
    assert left_out == 2
    assert len(judged.frame) < len(compare(*sides).frame)


def test_a_command_ends_at_its_limit_with_all_that_it_started():
    start = time.monotonic()
    done = run([sys.executable, "-c", "import subprocess; subprocess.run(['sleep', '60'])"], 1.0)
    assert done.returncode == TIMED_OUT and "not finished after 1 s" in done.stderr
    assert time.monotonic() - start < 30


def test_no_time_is_begun_after_the_limit():
    cells = [("case", "estimator", 1)]
    assert time_in_turns({}, cells, TimeLimit(), lambda line: None, until=-math.inf) == []
