"""What a store holds of a selection is found once: a run with nothing to do stays fast, whatever
its size.
"""

from __future__ import annotations

import dataclasses
import time

import msgspec
from examples import TINY

from pudle.measuring import store
from pudle.measuring.measurement import measure
from pudle.measuring.run import execute
from pudle.measuring.selection import Selection
from pudle.measuring.store import Store
from pudle.measuring.survey import survey

#: Records of the synthetic selection, and the processor seconds that a run with nothing to do may
#: take.
RECORDS, SECONDS = 1_920, 2.0


def test_a_damaged_file_and_one_that_broke_count_as_missing(tmp_path):
    kept = Store(tmp_path / "store", "quick")
    selection = Selection(
        "quick", (TINY,), ("backprop", "alternating", "one_step"), (1,), (1,), costs=()
    )
    for _, estimator in selection.pairs[:2]:
        measure(TINY, estimator, kept)
    path = kept.path(TINY, "backprop")
    path.write_text(path.read_text()[:-100])
    found = survey(selection, kept).scores
    assert [each.status for each in found.values()] == ["", "ok", ""]
    assert [each.missing for each in found.values()] == [True, False, True]
    assert found["tiny", "alternating"].at(5) == "ok"
    broken = kept.read(TINY, "alternating")
    broken.status = broken.scores[-1]["status"] = "error"
    broken.write(kept.path(TINY, "alternating"))
    each = survey(selection, kept).scores["tiny", "alternating"]
    worst = broken.scores[-1]["depth"]
    assert each.missing and {depth: each.at(depth) for depth in (1, 5)} == {1: "ok", 5: "ok"} | {
        worst: "error"
    }
    assert each.at(99) == "error"


def test_a_run_with_nothing_to_do_reads_each_record_and_finds_each_key_once(tmp_path, monkeypatch):
    """A store of 120 scores, each with 15 costs."""
    kept = Store(tmp_path / "quick" / "store", "quick")
    cases = [dataclasses.replace(TINY, name=f"case{number}") for number in range(12)]
    estimators = [f"truncated(window={window})" for window in range(1, 11)]
    depths = (1, 2, 5, 10, 20)
    cases = [dataclasses.replace(case, depths=depths) for case in cases]
    selection = Selection(
        "quick", tuple(cases), tuple(estimators), (1,), depths, torch_depths=depths
    )
    known = survey(selection, kept)
    score = measure(cases[0], estimators[0], kept)
    cost = kept.write_cost(next(iter(known.costs)), value=1.0)
    assert len(known.scores) + len(known.costs) == RECORDS
    by_name = {case.name: case for case in cases}
    for (case, estimator), result in known.scores.items():
        copied = msgspec.structs.replace(score, case=by_name[case], estimator=estimator)
        copied.write(result.path)
    for cell, result in known.costs.items():
        label = dict(zip(("metric", "case", "estimator", "depth"), cell.label, strict=True))
        msgspec.structs.replace(cost, **label).write(result.path)
    digests = []
    original = store._hash
    monkeypatch.setattr(store, "_hash", lambda **parts: digests.append(parts) or original(**parts))
    monkeypatch.setattr("pudle.measuring.run.installed_commit", lambda root: ("0" * 40, True))
    monkeypatch.setattr("pudle.measuring.run.repository", lambda folder: tmp_path)
    monkeypatch.chdir(tmp_path)
    begun = time.process_time()
    options = {"workers": 1, "scores_only": False, "again": False, "progress": lambda *step: None}
    summary = execute(selection, home=tmp_path, **options)
    taken = time.process_time() - begun
    assert not any(summary.records.values()) and not summary.broken
    # What the costs of an estimator on a case share is found once as well.
    assert len(digests) == RECORDS + len(known.scores)
    assert taken < SECONDS
    print(f"{taken:.2f} s for {RECORDS} records")
