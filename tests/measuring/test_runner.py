"""Filling the store: whatever an estimator does, the others are measured and the reason is kept;
what does not fit is unsupported and never broken; and a run with nothing to do stays fast.
"""

import contextlib
import dataclasses
import functools
import itertools
import math
import time

import msgspec
import pytest
from support.estimators.plugin import NAMES, write_plugin
from support.problems import small_problems
from support.problems.small_problems import TINY, filled

from pudle import names
from pudle.algorithms import kernels
from pudle.errors import ChangedSources
from pudle.measuring import sources
from pudle.measuring.case import Case
from pudle.measuring.execution import execute
from pudle.measuring.experiment import ExperimentResult
from pudle.measuring.results.cost import PRELOADED, EstimateCost
from pudle.measuring.results.experiment import CarriedExperiment
from pudle.measuring.results.reference import CaseReference
from pudle.measuring.results.score import Scores
from pudle.measuring.run import Run
from pudle.measuring.store import Store
from pudle.measuring.stored_files import BROKEN
from pudle.references.certified import MINIMIZER_TARGETS
from pudle.reports.load import load
from pudle.reports.tables import problems_table
from pudle.workers import InProcess, Outcome, Pool

CASE = dataclasses.replace(TINY, seeds=(0,), depths=(1, 2, 5))
LIMIT = 4.0

#: The status of each broken estimator, a text that its reason contains, and the depths that are
#: scored in spite of the failure at another.
EXPECTED = {
    "sleeps": ("timeout", "not finished after", ()),
    "dies": ("error", "killed (out of memory?)", ()),
    "exits": ("error", "exit code 3", ()),
    "raises": ("error", "at depth 5: ZeroDivisionError: planted", (1, 2)),
    "refuses": ("unsupported", "needs a smooth problem: use backprop", ()),
    "not_finite": ("diverged", "NaN or infinite", ()),
    "transposed": ("error", "gradient has shape (15, 10) where (10, 15) is due", ()),
    "hungry": ("out-of-memory", "memory", ()),
    "short": ("error", "sweep ended before depth 2", (1,)),
    "quits": ("error", "at depth 1: it tried to end the program with sys.exit(0)", ()),
    "leaves": ("error", "at depth 5: the process ended with exit code 0", (1, 2)),
    "stalls": ("timeout", "at depth 5: not finished after 4 s: give a larger timeout", (1, 2)),
    "falls": ("error", "at depth 5: the process was ended by signal 11", (1, 2)),
    "nothing": ("error", "gradient is not a dense tensor of floats but NoneType", (1, 5)),
    "unwritable": ("error", "diagnostics cannot be stored", (1, 5)),
    "listed": ("error", "diagnostics cannot be stored", (1, 5)),
}


selected = functools.partial(small_problems.selected, cases=(CASE,))


@pytest.mark.slow
def test_every_failure_is_a_status_with_a_reason_and_costs_no_one_else(tmp_path, store, installed):
    assert set(EXPECTED) == set(NAMES)
    installed(write_plugin(tmp_path / "plugin", list(NAMES)))
    # Compiled now, because the first worker that needs the kernels would compile them within its
    # time limit.
    kernels.prepare()
    steps = []
    chosen = selected(*EXPECTED, "alternating", timeout=LIMIT)
    with Pool(2) as pool:
        run = filled(chosen, store, pool, costs=False, progress=lambda *step: steps.append(step))
    records = {each.estimator: each.read(store) for each in run.scores}
    for name, (status, reason, kept) in EXPECTED.items():
        record = records[name]
        assert record.status == status and reason in record.reason, record.reason
        assert "\n" not in record.reason
        by_depth = {row.depth: row for row in record.scores}
        assert set(by_depth) == set(CASE.depths)
        assert {depth for depth, row in by_depth.items() if row.status == "ok"} == set(kept)
        for row in by_depth.values():
            number = row.relative_error
            failed = row.reason and (number is None or math.isnan(number))
            assert row.status == "ok" or failed
    assert records["alternating"].status == "ok"
    # Kernels and references come first.
    assert {step[2] for step in steps[:2]} == {
        "references: kernels",
        "references: reference of tiny, seed 0",
    }
    counts = [(done, total) for total in (2, len(records)) for done in range(1, total + 1)]
    assert [step[:2] for step in steps] == counts
    # What broke is tried again, and what was found is kept.
    some = Run(selected("raises", "refuses", "alternating", "dies", costs=()), store)
    labels = [[task.label for task in stage.tasks] for stage in some.missing()]
    assert labels == [["kernels"], ["raises on tiny", "dies on tiny"], [], [], []]


@pytest.mark.parametrize("module", ["sympy", "numba.cpython.randomimpl"])
def test_workers_begin_with_what_torch_and_numba_import_at_their_first_use(module):
    with Pool(1, module=PRELOADED) as pool:
        assert pool.call(60.0, eval, f"{module!r} in __import__('sys').modules").result


def test_stages_follow_what_they_need(store):
    """Cases share references, costs wait for scores, and times of a problem are one task."""
    fista = dataclasses.replace(CASE, name="fista", algorithm="fista")
    run = Run(selected("alternating", cases=(CASE, fista)), store)

    def labels(**options):
        return [[task.label for task in stage.tasks] for stage in run.missing(**options)]

    scores = ["alternating on tiny", "alternating on fista"]
    assert labels() == [["kernels", "reference of tiny, seed 0"], scores, [], [], []]
    run.records.update({score: score.measure(store) for score in run.scores})
    memories = [f"memory of {score} at depth 1" for score in scores]
    assert labels() == [[], [], memories, ["times on tiny and fista"], []]
    assert labels(costs=False) == [[], [], []]


#: An estimator in a file that changes the file, as its author may while a run goes on.
CHANGING = """
from dataclasses import dataclass
from pathlib import Path

import pudle


@dataclass(frozen=True)
class Changing(pudle.GradientEstimator):
    name, computes = "changing", "heuristic"

    def estimate(self, problem, algorithm, depth):
        if not FILE.read_text().endswith("# changed"):
            FILE.write_text(f"{FILE.read_text()}# changed")
        return pudle.Estimate(problem.theta, problem.initial_codes())
"""


def test_a_result_whose_sources_change_meanwhile_is_not_kept(tmp_path, store):
    """Whether it is of the old sources or of the new, its key would be that of others."""
    file = tmp_path / "changing.py"
    file.write_text(f"{CHANGING}\nFILE = Path({str(file)!r})\n")
    chosen = selected(f"{file}:Changing", "alternating")
    with pytest.raises(ChangedSources, match="finished results are kept; run again"):
        filled(chosen, store, costs=False)
    assert not list(store.folder.glob("tiny/*changing*.json"))
    # Again, now that nothing changes.
    run = filled(chosen, store, costs=False)
    assert [run.records[each].status for each in run.scores] == ["ok", "ok"]


def test_every_kind_of_result_is_refused_under_another_key_than_planned(tmp_path):
    store = Store(tmp_path, "quick", planned=frozenset({"of another result"}))
    experiment = CarriedExperiment.registered(next(iter(names.list_experiments())))
    late, reference = Outcome(None, "timeout", "late"), CaseReference(CASE, 0, "exact")
    for write in (
        lambda: Scores(CASE, "alternating").write_failure(store, late),
        lambda: EstimateCost("seconds", CASE, "alternating", 5).write_failure(store, late),
        lambda: reference.measure(store),
        lambda: experiment.write_result(store, ExperimentResult([], arrays={"one": [1]})),
        lambda: experiment.write_failure(store, late),
    ):
        with pytest.raises(ChangedSources):
            write()
    assert not list(tmp_path.iterdir())


def test_whatever_broke_is_told_by_the_run_and_the_report(tmp_path, store, monkeypatch):
    run, late = Run(selected("alternating"), store), Outcome(None, "timeout", "planted")
    for each in run.results:
        each.write_failure(store, late)
    monkeypatch.setattr(Run, "missing", lambda run, **_: ())
    summary = execute(run.selection, home=tmp_path)
    labels = map(run.label, run.results)
    assert dict(summary.broken) == dict.fromkeys(labels, "timeout: planted")
    assert problems_table(load(tmp_path, "quick")).columns["reason"] == ["planted"] * 3


def break_references(monkeypatch, is_broken):
    """Let the references of the cases and seeds that are named fail; return the list of all that
    are asked for, which grows.
    """
    asked, make_reference = [], Case.make_reference

    def make(case, seed, target):
        asked.append((seed, target))
        if is_broken(seed, target):
            raise ZeroDivisionError("planted")
        return make_reference(case, seed, target)

    monkeypatch.setattr(Case, "make_reference", make)
    return asked


@pytest.mark.parametrize("broken", [{"exact"}, {"exact", "limit"}])
def test_a_reference_that_fails_is_tried_once_and_costs_its_own_scores(broken, store, monkeypatch):
    asked = break_references(monkeypatch, lambda seed, target: seed == 1 and target in broken)
    case = dataclasses.replace(TINY, targets=("exact", "limit"))
    chosen = selected("alternating", "backprop", cases=(case,), costs=())
    run = filled(chosen, store)
    assert sorted(asked) == sorted(itertools.product(case.seeds, case.targets))
    for score in run.scores:
        for row in run.record(score).scores:
            fails = row.seed == 1 and row.target in broken
            assert row.status == ("error" if fails else "ok"), row
            if fails:
                assert row.reason == ("the reference of seed 1 failed: ZeroDivisionError: planted")
    # A later run tries them again.
    references, scores, *_ = Run(chosen, store).missing()
    assert len(references.tasks) == 1 + len(broken) and len(scores.tasks) == 2


def test_what_breaks_without_a_record_is_told_by_the_run(tmp_path, monkeypatch):
    break_references(monkeypatch, lambda seed, target: True)

    def compile_kernels(dtypes, store):
        raise MemoryError("of the compiler")

    monkeypatch.setattr("pudle.measuring.stages._compile", compile_kernels)
    executor = contextlib.nullcontext(InProcess())
    chosen = selected("alternating", costs=())
    summary = execute(chosen, home=tmp_path, cluster=executor)
    # The score that lacks the reference would say the same once more.
    assert dict(summary.broken) == {
        "kernels": "out-of-memory: MemoryError: of the compiler",
        "reference of tiny, seed 0": "error: ZeroDivisionError: planted",
    }


HARD = "ista(thresholding='hard')"
#: Changes of a case that does not fit then, and the reason.
UNFIT = {
    "loss": (
        {"loss": "linear"},
        "sparse_gaussian has no loss 'linear': use lasso or reconstruction",
    ),
    "algorithm": (
        {"algorithm": "iteration"},
        "iteration needs a FixedPoint, which brings its step, not SparseCoding: use ista or fista",
    ),
    "threshold": (
        {"algorithm": HARD, "targets": ("ghat", "exact")},
        "hard thresholding leads to no minimizer of the inner problem, which target='exact' rests"
        " on: use the target gstar, gtilde or limit",
    ),
    "target": (
        {"dataset": "ridge(n_samples=3)", "loss": "linear", "targets": ("gstar",)},
        "target='gstar' is defined for sparse coding only",
    ),
    "data": (
        {"dataset": "digits(n_samples=9, n_components=9)", "targets": ("gtilde",)},
        "target='gtilde' needs generating_codes, which this problem lacks",
    ),
    "step": ({"dataset": "equilibrium", "loss": "cross_entropy"}, "FixedPoint"),
}


def unfit(name):
    changes, reason = UNFIT[name]
    return dataclasses.replace(TINY, **changes), reason


@pytest.mark.parametrize("name", UNFIT)
def test_what_does_not_fit_is_unsupported_with_the_reason(name, store):
    """A run breaks nothing, and leaves nothing to do."""
    case, reason = unfit(name)
    run = filled(selected("backprop", cases=(case,)), store)
    record = run.records[run.scores[0]]
    assert record.status not in BROKEN
    assert {row.status for row in record.scores} == {"unsupported"}
    assert reason in record.reason and "\n" not in record.reason
    assert len(record.scores) == len(case.seeds) * len(case.depths) * len(case.targets)
    assert not any(stage.tasks for stage in run.missing())


def test_a_target_that_fits_is_scored_beside_one_that_does_not(store):
    targets = ("exact", "gstar", "gtilde")
    case = dataclasses.replace(TINY, targets=targets, algorithm=HARD)
    record = Scores(case, "alternating").measure(store)
    statuses = {(row.target, row.status) for row in record.scores}
    assert statuses == {("exact", "unsupported"), ("gstar", "ok"), ("gtilde", "ok")}


def test_a_reference_that_another_algorithm_left_does_not_make_a_case_fit(store):
    assert Scores(TINY, "alternating").measure(store).status == "ok"
    case, reason = unfit("threshold")
    assert CaseReference(case, 0, "exact").read(store) is not None
    record = Scores(case, "alternating").measure(store)
    assert record.status == "unsupported" and reason in record.reason


def test_every_case_of_the_profiles_fits():
    for profile in names.list_profiles().values():
        for case in profile.cases:
            assert case.loss in names.make_dataset(case.dataset).losses, case
            assert case.make_algorithm().thresholding.proximal or not set(case.targets) & set(
                MINIMIZER_TARGETS
            ), case


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
