"""Times and memory: a cell is measured once, in a process of its own, and again when something it
depends on changes.
"""

import dataclasses
import json
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from examples import TINY, selected
from plugin import write_plugin

from pudle.errors import MissingResults, UnwritableFile
from pudle.measuring import costs, history, provenance, run, sources
from pudle.measuring.contents import ScoreRecord
from pudle.measuring.costs import cells, measure_memory, measure_times
from pudle.measuring.measurement import measure
from pudle.measuring.run import begin, execute, fill, plan_costs, survey, take_part
from pudle.measuring.store import Store
from pudle.reports.load import load

METRICS = ("memory_bytes", "seconds", "seconds_torch")


def scored(folder, *estimators, cases=(TINY,), **changes):
    """Return a selection, and a store with its scores."""
    selection = selected(*estimators, cases=cases, depths=(5,), **changes)
    store = Store(folder / "store", "quick")
    for case, estimator in selection.pairs:
        measure(case, estimator, store)
    return selection, store


def pretend(store, estimator):
    """Store a score that is well, of an estimator that may break."""
    row = {"seed": 0, "depth": 5, "target": "exact", "status": "ok", "reason": ""}
    content = {"computes": "direct", "consistent_for": None, "references": [], "seconds": 1.0}
    store.write("score", TINY, estimator, scores=[row], **content)


def planned(selection, store, **options):
    return sum(plan_costs(survey(selection, store), **options), [])


@pytest.mark.slow
def test_a_cell_is_measured_once_and_again_on_request(tmp_path):
    selection, store = scored(tmp_path, "alternating", "backprop", torch_depths=(5,))
    wanted = cells(selection)
    assert [cell[0] for cell in wanted] == [*METRICS] * 2
    # An interrupted run has measured some of them.
    measure_memory(*wanted[0], store)
    assert [task.kind for task in planned(selection, store)] == ["cost", "times"]
    fill(plan_costs(survey(selection, store)))
    assert planned(selection, store) == []
    assert len(planned(selection, store, again=True)) == 3
    for cell in wanted:
        record = store.read("cost", *cell)
        assert record.status == "ok" and record.identity == (cell[0], "tiny", *cell[2:])
        if cell[0] == "memory_bytes":
            # The process alone, with torch in it, is some 200 MB; an estimate of twenty samples
            # needs next to nothing.
            assert record.value < 50e6 < record.baseline
        else:
            assert record.value == pytest.approx(float(np.median(record.samples)))
            assert min(record.samples) > 0


@pytest.mark.slow
def test_memory_is_that_of_the_estimate_and_not_of_the_code_that_computes_it(tmp_path):
    """At the first gradient torch uses pages of its libraries and imports sympy: 20 MB for one
    estimator, 68 for another.
    """
    estimators = ("analytic", "backprop", "forward", "conjugate_gradient")
    selection, store = scored(tmp_path, *estimators, costs=("memory_bytes",))
    fill(plan_costs(survey(selection, store)))
    needed = {cell[2]: store.read("cost", *cell).value / 1e6 for cell in cells(selection)}
    # Twenty samples of ten numbers; forward carries a Jacobian of 150 x 300 numbers.
    assert len(needed) == 4 and max(needed.values()) < 4, needed


@pytest.mark.slow
def test_memory_does_not_depend_on_the_case_measured_before(tmp_path):
    """What the process freed of a problem before must not serve the estimate, which would seem to
    need a tenth.
    """
    small, large = (
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
    for cases in ((small,), (large, small)):
        folder = tmp_path / f"{len(cases)}"
        selection, store = scored(folder, "backprop", cases=cases, costs=("memory_bytes",))
        # In this order, whichever name comes first, and in one process.
        tasks = sorted(planned(selection, store), key=lambda task: -len(task.label))
        measured.append(fill([tasks])["cost"][-1].value)
    # Eight times as many samples take eight times as much; the rest is noise.
    assert measured[1] == pytest.approx(measured[0], rel=0.1)


@pytest.mark.parametrize(
    "estimator, status, reason",
    [
        ("dies", "out-of-memory", "signal 9"),
        ("raises", "error", "ZeroDivisionError: planted"),
    ],
)
def test_a_cell_that_breaks_costs_itself_alone(
    tmp_path, store, installed, estimator, status, reason
):
    installed(write_plugin(tmp_path / "plugin", [estimator]))
    selection = selected(estimator, depths=(5,), costs=("seconds",))
    pretend(store, estimator)
    (record,) = measure_times(cells(selection), 60.0, store)
    assert record.status == status and reason in record.reason and record.value is None
    # It is tried again.
    assert len(planned(selection, store)) == 1


@pytest.mark.slow
def test_times_of_a_problem_are_those_of_the_same_rounds(tmp_path, installed):
    """With all algorithms and estimators, also those measured before; what dies, or hangs, costs
    itself alone.
    """
    installed(write_plugin(tmp_path / "plugin", ["dies", "sleeps"]))
    fista = dataclasses.replace(TINY, name="tiny-fista", algorithm="fista")
    other = dataclasses.replace(TINY, name="other", loss="reconstruction")
    selection, store = scored(
        tmp_path, "alternating", cases=(TINY, fista, other), costs=("seconds",)
    )
    fill(plan_costs(survey(selection, store)))
    first = store.read("cost", *cells(selection)[0])
    assert len(first.samples) >= costs.ROUNDS
    turns = [store.read("cost", *cell).turns for cell in cells(selection)]
    assert turns[0] == turns[1] != turns[2]
    selection = dataclasses.replace(selection, estimators=("alternating", "backprop"))
    for estimator in ("backprop", "dies", "sleeps"):
        pretend(store, estimator)
    fill(plan_costs(survey(selection, store)))
    old, new, *_ = (store.read("cost", *cell) for cell in cells(selection))
    assert old.turns == new.turns != first.turns
    wanted = [("seconds", TINY, name, 5) for name in ("dies", "sleeps", "alternating")]
    dead, hung, well = measure_times(wanted, 1.0, store)
    assert (dead.status, hung.status, well.status) == ("out-of-memory", "timeout", "ok")
    assert len(well.samples) >= costs.ROUNDS
    # A selection of times from several rounds is measured as a whole.
    assert len(planned(selection, store)) == 1


def test_what_is_slower_beyond_doubt_is_measured_in_few_rounds(tmp_path, store, monkeypatch):
    taken = {"alternating": 0.001, "backprop": 0.0029, "one_step": 0.0031}
    timer = lambda device: lambda metric, case, spec, depth: taken[spec]  # noqa: E731
    monkeypatch.setattr(costs, "timer", timer)
    monkeypatch.setattr(costs, "SECONDS", 0.0)
    records = measure_times([("seconds", TINY, name, 5) for name in taken], 60.0, store)
    rounds = [len(record.samples) for record in records]
    assert rounds == [costs.ROUNDS, costs.ROUNDS, costs.FEWEST_ROUNDS]


def test_a_record_that_cannot_be_written_ends_the_run(tmp_path):
    selection, store = scored(tmp_path, "alternating", costs=("seconds",))
    (store.folder / TINY.name / "costs").touch()
    with pytest.raises(UnwritableFile, match="cannot write to .*costs.*: choose another folder"):
        fill(plan_costs(survey(selection, store)))


def test_the_report_shows_the_sources_that_the_run_matched(tmp_path, store, monkeypatch):
    """A first version, a second, and the first again: its record is the older one, and the clock
    may be wrong as well.
    """
    selection = selected("backprop")

    def shown(version, error):
        """Carry a run out, whose version of the estimator has this error at depth 5."""
        monkeypatch.setattr(sources, "digest", lambda *_: version)
        begin(store, selection)
        record = store.read("score", TINY, "backprop") or measure(TINY, "backprop", store)
        for row in record.scores:
            row["relative_error"] = error
        record.write(store.path(TINY, "backprop"))
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
    commit = provenance.git(Path.cwd(), "rev-parse", "HEAD")
    monkeypatch.setattr(run, "installed_commit", lambda root: (commit, False))

    def written(*estimators):
        selection = selected(*estimators, costs=("seconds",))
        execute(selection, home=tmp_path, workers=1)
        (path,) = tmp_path.glob(f"quick/results/*/{commit[:8]}-*.json")
        results = json.loads(path.read_text())["results"]
        values, (_, names, _), *_ = results["timing.Time.time_estimate"]
        return path, dict(zip(names, values, strict=True))

    path, first = written("alternating", "one_step")
    assert set(first) == {"'alternating'", "'one_step'"}
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(history, "run_in_copy", mock.Mock(side_effect=KeyboardInterrupt))
        written("backprop")
    assert set(written("backprop")[1]) == {"'backprop'"}
    # It is not written again for nothing, and is once it is damaged.
    with monkeypatch.context() as patch:
        patch.setattr(history, "run_in_copy", mock.Mock(side_effect=AssertionError))
        written("backprop")
        path.write_text("damaged")
        with pytest.raises(AssertionError):
            written("backprop")


def test_what_a_plain_asv_run_measures_is_a_run(tmp_path, store, monkeypatch):
    """Each cell begins the run unless it has begun; a report shows it, and a run goes on."""
    folder, selection = tmp_path / "quick", selected("backprop")
    take_part(store, selection, TINY, "backprop")
    measure(TINY, "backprop", store)
    begun = (folder / "run.json").stat().st_mtime_ns
    take_part(store, selection, TINY, "backprop")
    assert (folder / "run.json").stat().st_mtime_ns == begun
    frame = load(tmp_path, "quick").frame
    assert set(frame["estimator"]) == {"backprop"} and "ok" in set(frame["status"])
    assert not survey(selection, store)[0].missing
    # Of other sources it is another run.
    monkeypatch.setattr(sources, "digest", lambda *_: "changed")
    take_part(store, selection, TINY, "backprop")
    assert (folder / "run.json").stat().st_mtime_ns != begun
    with pytest.raises(MissingResults):
        load(tmp_path, "quick")
