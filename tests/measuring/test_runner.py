"""Filling the store: whatever an estimator does, the others are measured and the reason is kept."""

import collections
import dataclasses
import functools
import math

import examples
import pytest
from examples import TINY
from plugin import NAMES, write_plugin

from pudle import names
from pudle.algorithms import kernels
from pudle.errors import ChangedSources
from pudle.measuring import sources
from pudle.measuring.experiment import ExperimentResult, write_experiment
from pudle.measuring.measurement import measure
from pudle.measuring.run import begin, execute, fill, plan, survey
from pudle.measuring.store import Store
from pudle.reports.load import load
from pudle.reports.tables import problems_table
from pudle.workers import Outcome

CASE = dataclasses.replace(TINY, seeds=(0,), depths=(1, 2, 5))
LIMIT = 4.0

#: The status of each broken estimator, a text that its reason contains, and the depths that are
#: scored in spite of the failure at another.
EXPECTED = {
    "sleeps": ("timeout", "not finished after", ()),
    "dies": ("out-of-memory", "signal 9", ()),
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


selected = functools.partial(examples.selected, cases=(CASE,))


@pytest.mark.slow
def test_every_failure_is_a_status_with_a_reason_and_costs_no_one_else(tmp_path, store, installed):
    assert set(EXPECTED) == set(NAMES)
    installed(write_plugin(tmp_path / "plugin", list(NAMES)))
    # Compiled now, because the first worker that needs the kernels would compile them within its
    # time limit.
    kernels.prepare()
    steps = []
    tasks = survey(selected(*EXPECTED, "alternating", timeout=LIMIT), store)
    fill(plan(tasks), workers=2, progress=lambda *step: steps.append(step))
    for name, (status, reason, kept) in EXPECTED.items():
        record = store.read("score", CASE, name)
        assert record.status == status and reason in record.reason, record.reason
        assert "\n" not in record.reason
        by_depth = {row["depth"]: row for row in record.scores}
        assert set(by_depth) == set(CASE.depths)
        assert {depth for depth, row in by_depth.items() if row["status"] == "ok"} == set(kept)
        for row in by_depth.values():
            number = row["relative_error"]
            failed = row["reason"] and (number is None or math.isnan(number))
            assert row["status"] == "ok" or failed
    assert store.read("score", CASE, "alternating").status == "ok"
    assert [step[:2] for step in steps] == [(done, len(steps)) for done in range(1, len(steps) + 1)]
    # Kernels and references come first.
    assert {step[2] for step in steps[:2]} == {"kernels", "reference of tiny, seed 0"}
    # What broke is tried again, and what was found is kept.
    some = survey(selected("raises", "refuses", "alternating", "dies"), store)
    labels = [[task.label for task in stage] for stage in plan(some)]
    assert labels == [["kernels"], ["raises on tiny", "dies on tiny"]]


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
        fill(plan(survey(chosen, store)))
    assert not list(store.folder.glob("tiny/*changing*.json"))
    # Again, now that nothing changes.
    fill(plan(survey(chosen, store)))
    assert store.read("score", CASE, f"{file}:Changing").status == "ok"


def test_every_kind_of_result_is_refused_under_another_key_than_planned(tmp_path):
    store = Store(tmp_path, "quick", planned=frozenset({"of another result"}))
    name, result = next(iter(names.list_experiments())), ExperimentResult([], arrays={"one": [1]})
    for write in (
        lambda: store.write("score", CASE, "alternating"),
        lambda: store.write("cost", "seconds", CASE, "alternating", 5),
        lambda: store.write_reference(CASE, 0, CASE.make_reference(0, "exact")),
        lambda: store.write("surface", "jacobian_error", CASE, ()),
        lambda: write_experiment(name, store, result, 1.0),
    ):
        with pytest.raises(ChangedSources):
            write()
    assert not list(tmp_path.iterdir())


def test_surfaces_are_stored_once_and_say_why_there_are_none(store):
    thresholding = "ista(thresholding='hard(threshold=0.1)')"
    hard = dataclasses.replace(CASE, name="hard", algorithm=thresholding, targets=("gstar",))
    chosen = selected(cases=(CASE, hard), windows=(1, 5), jacobian_error=True)
    fill(plan(survey(chosen, store)))
    surface = store.read("surface", "window_surface", CASE, (1, 5)).rows
    errors = {(row["depth"], row["window"]): row["relative_error"] for row in surface}
    assert set(errors) == {(depth, window) for depth in CASE.depths for window in (1, 5)}
    # A window of the depth or more is full backpropagation.
    full = {row["depth"]: row["relative_error"] for row in measure(CASE, "backprop", store).scores}
    assert errors[5, 5] == pytest.approx(full[5], rel=1e-9)
    curve = store.read("surface", "jacobian_error", CASE, ()).rows
    assert [row["depth"] for row in curve] == list(CASE.depths)
    none = store.read("surface", "jacobian_error", hard, ())
    assert none.rows == [] and "soft thresholding" in none.reason
    assert plan(survey(chosen, store)) == [[], []]
    # Other windows outdate the surfaces over windows, and the errors of the Jacobian stay.
    _, others = plan(survey(dataclasses.replace(chosen, windows=(2,)), store))
    assert [task.label for task in others] == [
        f"window_surface of {name}" for name in ("tiny", "hard")
    ]


def test_whatever_breaks_is_told_by_the_run_and_the_report_and_tried_again(
    tmp_path, store, monkeypatch
):
    chosen = selected("alternating", windows=(1,), jacobian_error=True)
    tasks = survey(chosen, store)
    assert {task.kind for task in tasks} == {"score", "surface", "cost"}
    for task in tasks:
        task.concluded(Outcome(None, "timeout", "planted"))
    tried = []

    def fill_nothing(stages, *_, **__):
        tried.extend(task.label for stage in stages for task in stage)
        return collections.defaultdict(list)

    monkeypatch.setattr("pudle.measuring.run.fill", fill_nothing)
    summary = execute(chosen, home=tmp_path)
    assert dict(summary.broken) == {task.label: "timeout: planted" for task in tasks}
    # A cost waits for its score.
    assert {task.label for task in tasks if task.kind != "cost"} <= set(tried)
    told = problems_table(load(tmp_path, "quick"))
    told = told[told["reason"].str.contains("planted")].to_string()
    assert "window_surface" in told and "jacobian_error" in told


def test_a_surface_of_other_sources_is_not_shown(tmp_path, store, monkeypatch):
    chosen = selected("alternating", windows=(1, 5), jacobian_error=True)

    def shown():
        """Interrupt a run after its scores, and return the kinds of surfaces that are shown."""
        begin(store, chosen)
        measure(CASE, "alternating", store)
        results = load(tmp_path, "quick")
        unmeasured = any("not measured yet" in note for note in results.notes)
        return {artifact.kind for artifact in results.artifacts}, unmeasured

    fill(plan(survey(chosen, store)))
    assert shown() == ({"window_surface", "jacobian_error"}, False)
    monkeypatch.setattr(sources, "digest", lambda *_: "changed")
    assert shown() == (set(), True)
