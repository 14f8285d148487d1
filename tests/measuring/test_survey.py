"""What a store holds of a selection is found once: a run with nothing to do stays fast, whatever
its size.
"""

import dataclasses
import time

import msgspec
from examples import TINY, selected

from pudle.measuring import sources
from pudle.measuring.results.score import Scores
from pudle.measuring.run import Run, execute

#: Records of the synthetic selection, and the processor seconds that a run with nothing to do may
#: take.
RECORDS, SECONDS = 1_920, 2.0


def test_a_run_with_nothing_to_do_reads_each_record_and_finds_each_key_once(
    tmp_path, store, monkeypatch
):
    """A store of 120 scores, each with 15 costs."""
    depths = (1, 2, 5, 10, 20)
    cases = [dataclasses.replace(TINY, name=f"case{number}", depths=depths) for number in range(12)]
    estimators = tuple(f"truncated(window={window})" for window in range(1, 11))
    selection = selected(*estimators, cases=tuple(cases), depths=depths, torch_depths=depths)
    run = Run(selection, store)
    assert len(run.results) == RECORDS
    score, cost = run.scores[0].measure(store), run.costs[-1].write(store, value=1.0)
    for each in run.results:
        record, place = score if isinstance(each, Scores) else cost, run.place(each)
        msgspec.structs.replace(record, key=place.key, **each.identity).write(place.path)
    digests = []
    original = sources.digest
    monkeypatch.setattr(sources, "digest", lambda *of: digests.append(of) or original(*of))
    monkeypatch.chdir(tmp_path)
    begun = time.process_time()
    summary = execute(selection, home=tmp_path, workers=1)
    assert time.process_time() - begun < SECONDS
    assert summary.counts == ["0 of 120 scores computed now"] and not summary.broken
    assert len(digests) == RECORDS
