"""Filling the store: whatever an estimator does, the others are measured and the reason is kept."""

from __future__ import annotations

import dataclasses
import math

import pytest
from plugin import NAMES, write_plugin

from pudle import names
from pudle.algorithms import kernels
from pudle.errors import ChangedSources
from pudle.files import read_json
from pudle.measuring import sources
from pudle.measuring.case import Case
from pudle.measuring.costs import Cell
from pudle.measuring.experiment import ExperimentResult
from pudle.measuring.measurement import measure
from pudle.measuring.run import begin
from pudle.measuring.runner import fill, plan, plan_costs
from pudle.measuring.selection import Selection
from pudle.measuring.store import Store
from pudle.reports.load import load

CASE = Case(
    name="tiny",
    dataset="sparse_gaussian(n_samples=20, n_features=10, n_components=15, n_nonzero_coefs=2)",
    algorithm="ista",
    loss="lasso",
    seeds=(0,),
    depths=(1, 2, 5),
)

TENSOR = "gradient is not a dense tensor of floats but "
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
    "stalls": ("timeout", "at depth 5: not finished after 6 s: allow more with --timeout", (1, 2)),
    "falls": ("error", "at depth 5: the process was ended by signal 11", (1, 2)),
    "nothing": ("error", f"{TENSOR}NoneType", (1, 5)),
    "array": ("error", f"{TENSOR}ndarray", (1, 5)),
    "sparse": ("error", f"{TENSOR}one of torch.float64, torch.sparse_coo", (1, 5)),
    "meta": ("error", "but one of torch.float64, torch.strided on meta", (1, 5)),
    "complex": ("error", f"{TENSOR}one of torch.complex128", (1, 5)),
    "whole": ("error", f"{TENSOR}one of torch.int64", (1, 5)),
    "unwritable": ("error", "diagnostics cannot be stored", (1, 5)),
    "listed": ("error", "diagnostics cannot be stored", (1, 5)),
}


@pytest.fixture
def broken(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(write_plugin(tmp_path / "plugin", list(NAMES)))
    names.entries.cache_clear()
    yield
    names.entries.cache_clear()


@pytest.mark.slow
def test_every_failure_is_a_status_with_a_reason_and_costs_no_one_else(tmp_path, broken):
    assert set(EXPECTED) == set(NAMES)
    # Compiled now, because the first worker that needs the kernels would compile them within its
    # time limit.
    kernels.prepare()
    store, steps = Store(tmp_path / "store", "quick"), []
    selection = Selection("quick", (CASE,), (*EXPECTED, "alternating"), (1,), (1,), timeout=6.0)
    fill(plan(selection, store), workers=2, progress=lambda *step: steps.append(step))
    for name, (status, reason, kept) in EXPECTED.items():
        record = store.read(CASE, name)
        assert record.status == status and reason in record.reason, record.reason
        assert "\n" not in record.reason
        by_depth = {row["depth"]: row for row in record.scores}
        assert set(by_depth) == set(CASE.depths)
        assert {depth for depth, row in by_depth.items() if row["status"] == "ok"} == set(kept)
        for row in by_depth.values():
            assert row["status"] == "ok" or (row["reason"] and math.isnan(number(row)))
    assert store.read(CASE, "alternating").status == "ok"
    assert [step[:2] for step in steps] == [(done, len(steps)) for done in range(1, len(steps) + 1)]
    # Kernels and references come first.
    assert {step[2] for step in steps[:2]} == {"kernels", "reference of tiny, seed 0"}
    # What broke is tried again, and what was found is kept.
    again = {"raises", "dies"}
    some = dataclasses.replace(selection, estimators=("raises", "refuses", "alternating", "dies"))
    labels = [[task.label for task in stage] for stage in plan(some, store)]
    assert labels[0] == ["kernels"] and set(labels[1]) == {f"{name} on tiny" for name in again}


def number(row):
    return math.nan if row["relative_error"] is None else row["relative_error"]


def test_an_uncertified_reference_is_not_scored_against(tmp_path, monkeypatch):
    class Duplicated(names.entries("datasets")["sparse_gaussian"]):
        def draw(self):
            draw = super().draw()
            draw.dictionary[:, 1] = draw.dictionary[:, 0]
            return draw

    known = names.Entries(names.entries("datasets") | {"sparse_gaussian": Duplicated}, {}, {})
    original = names.entries
    monkeypatch.setattr(
        names, "entries", lambda group: known if group == "datasets" else original(group)
    )
    record = measure(CASE, "alternating", Store(tmp_path, "quick"))
    assert record.status == "uncertified"
    assert "of 20 samples are not certified" in record.reason
    assert all(row["relative_error"] != row["relative_error"] for row in record.scores)


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


@pytest.mark.parametrize("costs", [False, True])
def test_a_result_whose_sources_change_meanwhile_is_not_kept(tmp_path, costs):
    """Whether it is of the old sources or of the new, its key would be that of others."""
    file = tmp_path / "changing.py"
    text = f"{CHANGING}\nFILE = Path({str(file)!r})\n"
    file.write_text(f"{text}# changed")
    selection, store = (
        Selection("quick", (CASE,), (f"{file}:Changing", "alternating"), (1,), (5,)),
        Store(tmp_path, "quick"),
    )
    selection.write(tmp_path / "selection.json")
    if costs:
        fill(plan(selection, store), workers=1)
    file.write_text(text)
    if costs:
        good = store.read(CASE, "alternating")
        fields = ("status", "reason", "scores", "references", "seconds")
        content = {name: getattr(good, name) for name in fields}
        store.write(CASE, f"{file}:Changing", **content)
    stages = plan_costs(selection, store) if costs else plan(selection, store)
    before = set(tmp_path.glob("tiny/**/*changing*.json"))
    with pytest.raises(
        ChangedSources, match="changed during the run: finished results are kept; run again"
    ):
        fill(stages, workers=1)
    assert set(tmp_path.glob("tiny/**/*changing*.json")) == before
    # Again, now that nothing changes.
    fill(plan(selection, store), workers=1)
    assert store.read(CASE, f"{file}:Changing").status == "ok"


def test_every_kind_of_result_is_refused_under_another_key_than_planned(tmp_path):
    store = Store(tmp_path, "quick", planned=frozenset({"of another result"}))
    cell, result = Cell("seconds", CASE, "alternating", 5), ExperimentResult([])
    reference = CASE.make_reference(0, "exact")
    for write in (
        lambda: store.write(CASE, "alternating"),
        lambda: store.write_cost(cell),
        lambda: store.write_reference(CASE, 0, reference),
        lambda: store.write_artifact("curve", CASE, ()),
        lambda: store.write_experiment(next(iter(names.list_experiments())), result, None),
    ):
        with pytest.raises(ChangedSources):
            write()
    assert not list(tmp_path.iterdir())


def test_surfaces_are_stored_once_and_say_why_there_are_none(tmp_path):
    store = Store(tmp_path, "quick")
    hard = dataclasses.replace(
        CASE, name="hard", algorithm="ista(thresholding='hard(threshold=0.1)')", targets=("gstar",)
    )
    selection = Selection(
        "quick", (CASE, hard), (), (1,), (1,), windows=(1, 5), jacobian_error=True
    )
    fill(plan(selection, store), workers=1)
    found = {path.stem: read_json(path) for path in (tmp_path / "artifacts").iterdir()}
    assert set(found) == {
        f"{name}-{kind}"
        for name in ("tiny", "hard")
        for kind in ("window_surface", "jacobian_error")
    }
    surface = {
        (row["depth"], row["window"]): row["relative_error"]
        for row in found["tiny-window_surface"]["rows"]
    }
    assert set(surface) == {(depth, window) for depth in CASE.depths for window in (1, 5)}
    # A window of the depth or more is full backpropagation.
    full = {row["depth"]: row["relative_error"] for row in measure(CASE, "backprop", store).scores}
    assert surface[5, 5] == pytest.approx(full[5], rel=1e-9)
    assert [row["depth"] for row in found["tiny-jacobian_error"]["rows"]] == list(CASE.depths)
    assert (
        found["hard-jacobian_error"]["rows"] == []
        and "soft thresholding" in found["hard-jacobian_error"]["reason"]
    )
    assert plan(selection, store) == [[], []]
    # Other windows outdate the surfaces over windows, and the errors of the Jacobian stay.
    labels = [task.label for task in plan(dataclasses.replace(selection, windows=(2,)), store)[1]]
    assert labels == ["window_surface of tiny", "window_surface of hard"]


def test_a_surface_of_other_sources_is_not_shown(tmp_path, monkeypatch):
    store = Store(tmp_path / "quick" / "store", "quick")
    selection = Selection(
        "quick", (CASE,), ("alternating",), (1,), (1,), windows=(1, 5), jacobian_error=True
    )

    def shown():
        """Interrupt a run after its scores, and return the kinds of surfaces that are shown."""
        begin(tmp_path / "quick", store, selection)
        measure(CASE, "alternating", store)
        results = load(tmp_path, "quick")
        return {artifact.kind for artifact in results.artifacts}, any(
            "not measured yet" in note for note in results.notes
        )

    fill(plan(selection, store), workers=1)
    assert shown() == ({"window_surface", "jacobian_error"}, False)
    with monkeypatch.context() as patch:
        patch.setattr(sources, "digest", lambda *_: "changed")
        assert shown() == (set(), True)
    assert shown() == ({"window_surface", "jacobian_error"}, False)


def test_each_surface_is_measured_where_the_selection_says_so_and_what_is_short_comes_last(
    tmp_path,
):
    def kinds(**options):
        selection = Selection("quick", (CASE,), ("alternating",), (1,), (1,), **options)
        stages = plan(selection, Store(tmp_path, "quick"))
        return [[task.kind for task in stage] for stage in stages]

    assert kinds() == [["kernels", "reference"], ["score"]]
    assert kinds(windows=(1,)) == [["kernels", "reference"], ["score", "surface"]]
    assert kinds(jacobian_error=True) == [["kernels", "surface", "reference"], ["score"]]
