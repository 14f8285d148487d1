"""Times and memory: a cost is measured once, in a process of its own, and again when something it
depends on changes.
"""

import dataclasses
import json
import os
import warnings
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from support.estimators.plugin import write_plugin
from support.problems.small_problems import TINY, filled, selected
from support.processes.repositories import git, repository

import pudle
from pudle.errors import InvalidArgument, UnwritableFile
from pudle.measuring import history, sources
from pudle.measuring.execution import execute
from pudle.measuring.meters import Timing, touch
from pudle.measuring.options import Options
from pudle.measuring.results import cost
from pudle.measuring.results.cost import EstimateCost, MeasuredTime, Timer, Turns
from pudle.measuring.results.score import ScoreRow, Scores
from pudle.measuring.run import Run
from pudle.measuring.store import Store
from pudle.reports.load import load
from pudle.reports.report import Report
from pudle.reports.tables import provenance_table
from pudle.workers import InProcess, Pool

METRICS = ("memory_bytes", "seconds", "seconds_torch")


def scored(folder, *estimators, cases=(TINY,), **changes):
    """Return a selection, and a store with its scores."""
    selection = selected(*estimators, cases=cases, depths=(5,), **changes)
    store = Store(folder / "store", "quick")
    filled(selection, store, costs=False)
    return selection, store


def measured(selection, store, **options):
    """Measure what is missing as a run does, and return the records of the costs."""
    with Pool(1) as pool:
        run = filled(selection, store, pool, **options)
    return [run.records[each] for each in run.costs]


def pretend(store, estimator, case=TINY):
    """Store a score that is well, of an estimator that may break or take long."""
    row = ScoreRow(seed=0, depth=5, target="exact", status="ok", reason="")
    content = {"computes": "direct", "consistent_for": None, "references": []}
    Scores(case, estimator).write(store, scores=[row], **content)


def planned(selection, store, **options):
    return [each for stage in Run(selection, store).missing(**options) for each in stage.tasks]


def seconds(*estimators):
    return [EstimateCost("seconds", TINY, name, 5) for name in estimators]


def timed(seconds):
    """Return a time of one processor, whose result is not compared with the scored path."""
    return MeasuredTime(Timing(seconds, seconds, 1.0), seed=0, returned=None)


def test_a_time_that_is_measured_by_itself_is_no_memory(tmp_path):
    selection, store = scored(tmp_path, "alternating")
    (cost,) = seconds("alternating")
    record = cost.measure(store)
    assert record.status == "ok" and 0 < record.value < 10 and len(record.samples) >= 10
    # A run takes all times of a problem in turns.
    assert record.turns and record == cost.read(store)


@pytest.mark.slow
def test_a_cost_is_measured_once_and_again_on_request(tmp_path):
    selection, store = scored(tmp_path, "alternating", "backprop", torch_depths=(5,))
    wanted = Run(selection, store).costs
    assert [each.metric for each in wanted] == [*METRICS] * 2
    # An interrupted run has measured some of them.
    wanted[0].measure(store)
    tasks = planned(selection, store)
    assert [len(task.results) for task in tasks] == [1, 4]
    records = measured(selection, store)
    assert planned(selection, store) == []
    assert len(planned(selection, store, remeasure=True)) == 3
    for each, record in zip(wanted, records, strict=True):
        assert each.read(store) == record and record.status == "ok"
        assert record.identity == (each.metric, "tiny", each.estimator, 5)
        if each.metric == "memory_bytes":
            # The process alone, with torch in it, is some 200 MB; an estimate of twenty samples
            # needs next to nothing.
            assert record.value < 50e6 < record.baseline
        else:
            assert record.value == pytest.approx(float(np.median(record.samples)))
            assert min(record.samples) > 0


def test_costs_in_several_threads_are_others_and_named_on_the_page(tmp_path):
    store, costs = Store(tmp_path / "quick" / "store", "quick"), {}
    for threads in (1, 2, 1, 2):
        run = Run(selected("alternating", cases=(TINY,), depths=(5,), threads=threads), store)
        run.begin()
        assert bool(run.fill(InProcess())) == (threads not in costs)
        records = [run.records[cost] for cost in run.costs]
        assert costs.setdefault(threads, records) == records
        assert {(record.status, record.provenance.threads) for record in records} == {
            ("ok", threads)
        }
        results = load(tmp_path, "quick")
        told = "Times and memories are those in 2 threads." in results.notes
        assert told == (threads == 2) and provenance_table(results)["Threads"] == str(threads)


@pytest.mark.parametrize("threads", [0, 10**6])
def test_more_threads_than_cores_are_refused(threads):
    with pytest.raises(InvalidArgument, match=f"threads {threads}"):
        Options(threads=threads)


def test_times_are_taken_at_the_depths_that_answers_name_as_well(tmp_path):
    """In the same rounds, and listed with the others."""
    case = dataclasses.replace(TINY, depths=(1, 50, 200, 400), seeds=(0,))
    selection = selected(
        "backprop", cases=(case,), depths=(1,), timed_errors=(1e-1, 1e-8), costs=("seconds",)
    )
    run = Run(selection, Store(tmp_path / "quick" / "store", "quick"), rounds=3)
    run.begin()
    assert {each.depth for each in run.costs} == {1}
    run.fill(InProcess())
    (known,) = run.measured()["tiny"]
    named = {int(known.reach(error).depth) for error in selection.timed_errors}
    assert named <= {50, 200, 400} and {each.depth for each in run.costs} == {1, *named}
    (timed,) = Report(load(tmp_path, "quick")).results.measured["tiny"]
    assert timed.rounds.samples.keys() == {1, *named} == timed.seconds.measured.keys()
    # Answers are timed, and there is nothing left to do.
    assert not any(timed.reach(error).seconds.estimated for error in selection.timed_errors)
    assert not any(stage.tasks for stage in Run(selection, run.store).missing())


@pytest.mark.slow
def test_memory_is_that_of_the_estimate_and_not_of_the_code_that_computes_it(tmp_path):
    """At the first gradient torch uses pages of its libraries and imports sympy: 20 MB for one
    estimator, 68 for another.
    """
    estimators = ("analytic", "backprop", "forward", "conjugate_gradient")
    records = measured(*scored(tmp_path, *estimators, costs=("memory_bytes",)))
    required_objects = {record.estimator: record.value / 1e6 for record in records}
    # Twenty samples of ten numbers; forward carries a Jacobian of 150 x 300 numbers.
    assert len(required_objects) == 4 and max(required_objects.values()) < 4, required_objects


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
    peaks = []
    for cases in ((small,), (large, small)):
        store = Store(tmp_path / str(len(cases)), "quick")
        for case in cases:
            pretend(store, "backprop", case)
        chosen = selected("backprop", cases=cases, depths=(5,), costs=("memory_bytes",))
        # In this order, and in one process.
        peaks.append(measured(chosen, store, workers=1)[-1].value)
    # Eight times as many samples take eight times as much; the rest is noise.
    assert peaks[1] == pytest.approx(peaks[0], rel=0.1)


@pytest.mark.parametrize(
    "estimator, status, reason",
    [
        ("dies", "error", "killed (out of memory?)"),
        ("raises", "error", "ZeroDivisionError: planted"),
    ],
)
def test_a_cost_that_breaks_costs_itself_alone(
    tmp_path, store, installed, estimator, status, reason
):
    installed(write_plugin(tmp_path / "plugin", [estimator]))
    pretend(store, estimator)
    run = filled(selected(estimator, depths=(5,), costs=("seconds",)), store)
    # On both paths.
    for record in (run.records[each] for each in run.costs):
        assert record.status == status and reason in record.reason and record.value is None
    # It is tried again.
    assert len(planned(run.selection, store)) == 1


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
    first, same, apart = measured(selection, store)
    assert len(first.samples) >= cost.ROUNDS
    assert first.turns == same.turns != apart.turns
    selection = dataclasses.replace(selection, estimators=("alternating", "backprop"))
    for estimator in ("backprop", "dies", "sleeps"):
        pretend(store, estimator)
    old, new, *_ = measured(selection, store)
    assert old.turns == new.turns != first.turns
    dead, hung, well = Turns(seconds("dies", "sleeps", "alternating"), 1.0).measure(store)
    assert (dead.status, hung.status, well.status) == ("error", "timeout", "ok")
    assert len(well.samples) >= cost.ROUNDS
    # A selection of times from several rounds is measured as a whole.
    assert len(planned(selection, store)) == 1


def test_what_is_slower_beyond_doubt_is_measured_in_few_rounds(store, monkeypatch):
    taken = {"alternating": 0.001, "backprop": 0.0029, "one_step": 0.0031}
    timer = mock.Mock(time=lambda cost, keep: timed(taken[cost.estimator]))
    monkeypatch.setattr(cost, "Timer", lambda device: timer)
    monkeypatch.setattr(cost, "SECONDS", 0.0)
    records = Turns(seconds(*taken), 60.0).measure(store)
    rounds = [len(record.samples) for record in records]
    assert rounds == [cost.ROUNDS, cost.ROUNDS, cost.FEWEST_ROUNDS]


@pytest.mark.parametrize("rounds, bound", [(12, False), (0, True)], ids=["asked", "gpu"])
def test_times_are_of_this_process_where_it_is_asked_or_uses_a_gpu(
    store, monkeypatch, rounds, bound
):
    timer = mock.Mock(time=lambda cost, keep: timed(float(os.getpid())))
    monkeypatch.setattr(cost, "Timer", lambda device: timer)
    monkeypatch.setattr(cost, "has_used_gpu", lambda device: bound)
    monkeypatch.setattr(cost, "SECONDS", 0.0)
    (record,) = Turns(seconds("alternating"), 60.0, rounds).measure(store)
    assert record.samples == [os.getpid()] * (rounds or cost.ROUNDS)


@pytest.mark.parametrize("former", [None, "numba"])
@pytest.mark.parametrize("metric", ["seconds", "seconds_torch"])
def test_a_time_leaves_the_choices_of_its_process_as_they_were(metric, former, monkeypatch):
    if former is None:
        monkeypatch.delenv("PUDLE_KERNELS", raising=False)
    else:
        monkeypatch.setenv("PUDLE_KERNELS", former)
    filters = [*warnings.filters]
    assert Timer("cpu").seconds(EstimateCost(metric, TINY, "alternating", 5)) > 0
    assert (os.environ.get("PUDLE_KERNELS"), [*warnings.filters]) == (former, filters)


def test_a_record_that_cannot_be_written_ends_the_run(tmp_path):
    selection, store = scored(tmp_path, "alternating", costs=("seconds",))
    (store.folder / TINY.name / "costs").touch()
    with pytest.raises(UnwritableFile, match="cannot write to .*costs.*: choose another folder"):
        filled(selection, store)


def test_the_report_shows_the_sources_that_the_run_matched(tmp_path, store, monkeypatch):
    """A first version, a second, and the first again: its record is the older one, and the clock
    may be wrong as well.
    """
    result, errors = Scores(TINY, "backprop"), {"first": 0.1, "second": 0.2}
    for version in [*errors] * 2:
        monkeypatch.setattr(sources, "digest", lambda *_, version=version: version)
        Run(selected("backprop"), store).begin()
        if result.read(store) is None:
            record = result.measure(store)
            for row in record.scores:
                row.relative_error = errors[version]
            record.write(store.place(result).path)
        frame = load(tmp_path, "quick").frame
        assert set(frame[frame.metric == "relative_error"]["value"]) == {errors[version]}


@pytest.mark.slow
def test_the_history_of_a_commit_holds_what_its_runs_measured(tmp_path, monkeypatch):
    """Of a run of other estimators too, and of one that was interrupted before it wrote the
    history.
    """
    monkeypatch.chdir(repository(tmp_path / "repository"))
    commit = git(Path.cwd(), "rev-parse", "HEAD")
    monkeypatch.setattr("pudle.measuring.execution.installed_commit", lambda root: (commit, False))

    def files_at(*estimators):
        selection = selected(*estimators, costs=("seconds",))
        execute(selection, home=tmp_path, workers=1)
        (path,) = tmp_path.glob(f"quick/results/*/{commit[:8]}-*.json")
        results = json.loads(path.read_text())["results"]
        values, (names, _), *_ = results["timing.tiny.time_estimate"]
        return path, dict(zip(names, values, strict=True))

    path, first = files_at("alternating", "one_step")
    assert set(first) == {"'alternating'", "'one_step'"} and min(first.values()) > 0
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(history, "run_in_copy", mock.Mock(side_effect=KeyboardInterrupt))
        files_at("backprop")
    _, second = files_at("backprop")
    assert second.pop("'backprop'") > 0 and second == first
    # It is not written again for nothing, and is once it is damaged.
    with monkeypatch.context() as patch:
        patch.setattr(history, "run_in_copy", mock.Mock(side_effect=AssertionError))
        files_at("backprop")
        path.write_text("damaged")
        with pytest.raises(AssertionError):
            files_at("backprop")


@pytest.mark.parametrize("dataset", ["sparse_gaussian(n_samples=9)", "logistic"])
def test_the_code_of_an_estimate_is_in_memory_before_it_is_measured(dataset):
    """With samples and without them, an estimate on the smallest problem goes before."""
    problem = pudle.make_dataset(dataset).problem()
    estimated = []

    class Noting(pudle.GradientEstimator):
        name, computes = "noting", "approximate"

        def estimate(self, problem, algorithm, depth):
            estimated.append((problem, depth))
            raise ValueError("ignored, because it will be raised again where it is kept")

    touch(Noting(), problem, pudle.make_algorithm(problem.default_algorithm), 7)
    ((smallest, depth),) = estimated
    assert depth == 2
    assert smallest is problem if not problem.per_sample else len(smallest.observations) == 1
