"""Times and memory: a cell is measured once, in a process of its own, and again when something it
depends on changes.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from examples import TINY
from plugin import write_plugin

from pudle import names
from pudle.errors import MissingResults, UnwritableFile
from pudle.measuring import meter, provenance, run, sources
from pudle.measuring.contents import ScoreRecord
from pudle.measuring.costs import cells, measure_cost
from pudle.measuring.measurement import measure
from pudle.measuring.run import begin, execute, take_part
from pudle.measuring.runner import fill, plan_costs
from pudle.measuring.selection import Selection
from pudle.measuring.store import Store
from pudle.measuring.survey import survey
from pudle.reports.load import load
from pudle.workers import Pool

METRICS = ("memory_bytes", "seconds", "seconds_torch")


def selected(folder, *estimators, **changes):
    """Return a selection, which is written as a run does, and its store with the scores."""
    selection = Selection(
        "quick", (TINY,), estimators, (1,), (1, 5), **{"torch_depths": (1, 5)} | changes
    )
    selection.write(folder / "selection.json")
    kept = Store(folder / "store", "quick")
    for case, estimator in selection.pairs:
        measure(case, estimator, kept)
    return selection, kept


def labels(selection, kept, folder, **options):
    return [task.label for stage in plan_costs(selection, kept, **options) for task in stage]


@pytest.mark.slow
def test_a_cell_is_measured_once_and_again_on_request(tmp_path):
    selection, kept = selected(tmp_path, "alternating", "backprop")
    assert len(labels(selection, kept, tmp_path)) == 2 * 2 * len(METRICS)
    # An interrupted run has measured some of them.
    first = cells(selection)[0]
    measure_cost(first, kept)
    stages = plan_costs(selection, kept)
    assert sum(map(len, stages)) == 2 * 2 * len(METRICS) - 1
    fill(stages, workers=1)
    assert labels(selection, kept, tmp_path) == []
    assert len(labels(selection, kept, tmp_path, again=True)) == 2 * 2 * len(METRICS)
    records = [kept.read_cost(cell) for cell in cells(selection)]
    assert {record.status for record in records} == {"ok"}
    for cell, record in zip(cells(selection), records, strict=True):
        assert record.identity == cell.label
        if cell.metric == "memory_bytes":
            # The process alone, with torch in it, is some 200 MB; an estimate of twenty samples
            # needs next to nothing.
            assert record.value < 50e6 < record.baseline
        else:
            assert (
                record.value == pytest.approx(float(np.median(record.samples)))
                and min(record.samples) > 0
            )


@pytest.mark.slow
def test_memory_is_that_of_the_estimate_and_not_of_the_code_that_computes_it(tmp_path):
    """At the first gradient torch uses pages of its libraries and imports sympy: 20 MB for one
    estimator, 68 for another.
    """
    estimators = ("analytic", "backprop", "forward", "conjugate_gradient", "truncated(window=2)")
    selection, kept = selected(tmp_path, *estimators, costs=("memory_bytes",))
    assert {cell.metric for cell in cells(selection)} == {"memory_bytes"}
    fill(plan_costs(selection, kept), workers=1)
    needed = {
        (cell.estimator, cell.depth): kept.read_cost(cell).value / 1e6 for cell in cells(selection)
    }
    # Twenty samples of ten numbers; forward carries a Jacobian of 150 x 300 numbers.
    assert max(needed.values()) < 4, needed


@pytest.mark.slow
def test_memory_does_not_depend_on_the_case_measured_before(tmp_path):
    """What the process freed of a problem before must not serve the estimate, which would seem to
    need a tenth.
    """
    one, other = (
        dataclasses.replace(
            TINY,
            name=f"{size}",
            dataset=f"sparse_gaussian(n_samples={size})",
            seeds=(0,),
            depths=(5,),
        )
        for size in (1500, 12000)
    )
    measured = []
    for cases in ((one,), (other, one)):
        folder = tmp_path / f"{len(cases)}"
        selection = Selection("quick", cases, ("backprop",), (1,), (5,), costs=("memory_bytes",))
        selection.write(folder / "selection.json")
        kept = Store(folder / "store", "quick")
        for case in cases:
            measure(case, "backprop", kept)
        # In this order, whichever name comes first.
        tasks = sorted(
            plan_costs(selection, kept)[0],
            key=lambda task: -len(task.label),
        )
        with Pool(1) as processes:
            measured.append(fill([tasks], executor=processes)["memory"][-1].value)
    # Eight times as many samples take eight times as much; the rest is noise.
    assert measured[1] == pytest.approx(measured[0], rel=0.1)


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(write_plugin(tmp_path / "plugin", ["dies", "exits", "raises"]))
    names.entries.cache_clear()
    yield
    names.entries.cache_clear()


@pytest.mark.parametrize(
    ("estimator", "status", "reason"),
    [
        ("dies", "out-of-memory", "signal 9"),
        ("exits", "error", "exit code 3"),
        ("raises", "error", "ZeroDivisionError: planted"),
    ],
)
def test_a_cell_that_breaks_costs_itself_alone(
    tmp_path, plugin, estimator, status, reason, monkeypatch
):
    selection = Selection("quick", (TINY,), (estimator,), (1,), (5,), costs=("seconds",))
    selection.write(tmp_path / "selection.json")
    kept = Store(tmp_path / "store", "quick")
    scores = [
        {
            "seed": 0,
            "depth": 5,
            "target": "exact",
            "status": "ok",
            "reason": "",
            "relative_error": 0.1,
        }
    ]
    kept.write(TINY, estimator, scores=scores, references=[], seconds=1.0)
    monkeypatch.syspath_prepend(tmp_path)
    (cell,) = cells(selection)
    record = measure_cost(cell, kept)
    assert record.status == status and reason in record.reason and record.value is None
    # It is tried again.
    assert len(labels(selection, kept, tmp_path)) == 1


@pytest.mark.parametrize("metric", ["memory_bytes", "seconds"])
def test_a_record_that_cannot_be_written_ends_the_run(tmp_path, metric):
    selection, kept = selected(
        tmp_path, "alternating", "backprop", costs=(metric,), torch_depths=()
    )
    (kept.folder / TINY.name / "costs").touch()
    steps = []
    with pytest.raises(UnwritableFile, match="cannot write to .*costs.*: choose another folder"):
        fill(
            plan_costs(selection, kept),
            progress=lambda *step: steps.append(step),
        )
    assert steps == []


@pytest.mark.parametrize(
    ("taken", "count"),
    [
        ([0.01], 3),  # no spread: the least number of samples
        ([0.5], 3),  # quartiles need so many, although they take longer than more of them may take
        ([2.0], 1),  # one sample takes longer than these may take
        ([0.06, 0.05], 3),
        ([0.02, 0.03], 4),  # a wide spread: until the time is up
        ([0.0010, 0.0011], 20),  # until the median is known to 2 %
    ],
)
def test_a_time_is_repeated_as_often_as_its_spread_needs(monkeypatch, taken, count):
    rest = itertools.cycle(taken)
    monkeypatch.setattr(meter, "WARMUP", 0.0)
    monkeypatch.setattr(meter, "seconds", lambda call, clock: next(rest))
    assert len(meter.samples(lambda: None)) == count


def test_the_report_shows_the_sources_that_the_run_matched(tmp_path, monkeypatch):
    """A first version, a second, and the first again: its record is the older one, and the clock
    may be wrong as well.
    """
    folder = tmp_path / "quick"
    selection = Selection("quick", (TINY,), ("backprop",), (1,), (5,))
    kept = Store(folder / "store", "quick")

    def shown(version, error):
        """Carry a run out, whose version of the estimator has this error at depth 5."""
        monkeypatch.setattr(sources, "digest", lambda *_: version)
        begin(folder, kept, selection)
        record = kept.read(TINY, "backprop") or measure(TINY, "backprop", kept)
        for row in record.scores:
            row["relative_error"] = error
        record.write(kept.path(TINY, "backprop"))
        frame = load(tmp_path, "quick").frame
        return set(frame[(frame.metric == "relative_error")]["value"])

    assert shown("first", 0.1) == {0.1}
    assert shown("second", 0.2) == {0.2}
    monkeypatch.setattr(ScoreRecord, "write", lambda *_: None)
    assert shown("first", 0.3) == {0.1}
    assert shown("second", 0.3) == {0.2}


@pytest.mark.slow
def test_the_history_of_a_commit_holds_what_the_last_run_lists(tmp_path, monkeypatch):
    """After a run of other estimators, and after one that was interrupted before it wrote the
    history.
    """
    commit, _ = provenance.commit_of(provenance.repository(Path.cwd()))
    monkeypatch.setattr(run, "installed_commit", lambda root: (commit, False))

    def held(*estimators):
        selection = Selection("quick", (TINY,), estimators, (1,), (1,), costs=("seconds",))
        execute(
            selection,
            home=tmp_path,
            workers=1,
            scores_only=False,
            again=False,
            progress=lambda *step: None,
        )
        (path,) = tmp_path.glob(f"quick/results/*/{commit[:8]}-*.json")
        values, (_, names, _), *_ = json.loads(path.read_text())["results"][
            "timing.Time.time_estimate"
        ]
        return dict(zip(names, values, strict=True))

    first = held("alternating", "one_step")
    assert set(first) == {"'alternating'", "'one_step'"}
    assert set(held("backprop")) == {"'backprop'"}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run, "run_command", mock.Mock(side_effect=KeyboardInterrupt))
        held("alternating", "one_step")
    assert held("alternating", "one_step") == first
    # And it is not written again for nothing.
    monkeypatch.setattr(run, "run_command", mock.Mock(side_effect=AssertionError))
    assert held("alternating", "one_step") == first


@pytest.mark.slow
def test_no_second_time_where_no_kernel_applies_is_no_finding(tmp_path):
    case = dataclasses.replace(
        TINY, name="ridge", dataset="ridge(kappa=10)", loss="linear", seeds=(0,), depths=(1,)
    )
    selection = Selection(
        "quick", (case,), ("backprop",), (1,), (1,), costs=("seconds",), torch_depths=(1,)
    )
    summary = execute(
        selection,
        home=tmp_path,
        workers=1,
        scores_only=False,
        again=False,
        progress=lambda *step: None,
    )
    statuses = {record.metric: record.status for record in summary.records["time"]}
    assert statuses == {"seconds": "ok", "seconds_torch": "skipped"}
    assert not summary.broken and not any("time of" in line for line in summary.findings)


def test_what_a_plain_asv_run_measures_is_a_run(tmp_path, monkeypatch):
    """Each cell begins the run unless it has begun; a report shows it, and a run goes on."""
    folder, selection = tmp_path / "quick", Selection("quick", (TINY,), ("backprop",), (1,), (5,))
    kept = Store(folder / "store", "quick")
    take_part(folder, kept, selection, TINY, "backprop")
    measure(TINY, "backprop", kept)
    begun = (folder / "run.json").stat().st_mtime_ns
    take_part(folder, kept, selection, TINY, "backprop")
    assert (folder / "run.json").stat().st_mtime_ns == begun
    frame = load(tmp_path, "quick").frame
    assert set(frame["estimator"]) == {"backprop"} and "ok" in set(frame["status"])
    assert not survey(selection, kept).scores["tiny", "backprop"].missing
    # Of other sources it is another run.
    monkeypatch.setattr(sources, "digest", lambda *_: "changed")
    take_part(folder, kept, selection, TINY, "backprop")
    assert (folder / "run.json").stat().st_mtime_ns != begun
    with pytest.raises(MissingResults):
        load(tmp_path, "quick")
