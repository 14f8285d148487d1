"""The benchmarks that asv finds, and what each of their cells gives, over a small selection."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
from support.estimators.plugin import write_plugin
from support.paths import ROOT
from support.problems.small_problems import TINY, selected

from pudle.bench.store import _Cells
from pudle.files import write_record
from pudle.measuring.results.score import Scores
from pudle.measuring.run import Run
from pudle.measuring.store import Store
from pudle.reports.load import load

CASE = dataclasses.replace(TINY, seeds=(0, 1, 2), depths=(1, 5))
#: A case with the name of a class of the other one.
ALIKE = dataclasses.replace(CASE, name="tiny-torch")
METRICS = ("relative_error", "cosine_error", "code_error")
#: What works, what is a finding, what is not known here, and what breaks at depth 5.
ESTIMATORS = ("alternating", "refuses", "absent", "raises")
ACCURACY, TIME = "accuracy.tiny.track_{}", "timing.tiny.time_estimate"
MEMORY = "memory.tiny.peakmem_estimate"

#: Fills the store and calls every cell as asv does, and prints what it returns or raises.
SCRIPT = """
import itertools, json
from asv_runner.discovery import disc_benchmarks
import pudle.bench

cells, benchmarks = {}, list(disc_benchmarks(pudle.bench.__path__[0]))
assert len({benchmark.setup_cache_key for benchmark in benchmarks}) == 1
assert benchmarks[0].do_setup_cache() is None
for benchmark in benchmarks:
    instance = benchmark.func.__self__
    for parameters in itertools.product(*instance.params):
        try:
            instance.setup(*parameters)
            result = benchmark.func(*parameters)
            for teardown in benchmark._teardowns:
                teardown(*parameters)
        except (NotImplementedError, RuntimeError) as error:
            result = f"{type(error).__name__}: {error}"
        name = benchmark.name.removeprefix("bench.")
        cells[" ".join(map(str, (name, *parameters)))] = result
print(json.dumps(cells))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def cells(home):
    far = "it would take long"
    only = (("one_step", "large-*", far), *((name, "tiny", far) for name in ESTIMATORS[1:]))
    selection = selected(
        *ESTIMATORS,
        "one_step",
        cases=(CASE, ALIKE),
        depths=(5, 7),
        torch_depths=(5,),
        limited=only,
    )
    write_record(home / "quick" / "selection.json", selection)
    site = write_plugin(home / "plugin", ["refuses", "raises"])
    environment = {
        "PUDLE_SELECTION": str(home / "quick" / "selection.json"),
        "PYTHONPATH": str(site),
    }
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=os.environ | environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_asv_finds_the_cells_that_are_asked_for_and_no_others(cells):
    """A class for each case, and a cell for each estimator and depth that are measured on it."""
    expected = set()
    for name, torch, estimators in (
        ("tiny", "tiny_torch_", ESTIMATORS),
        ("tiny_torch", "tiny_torch_torch", ESTIMATORS[:1]),
    ):
        functions = [f"timing.{each}.time_estimate" for each in (name, torch)]
        functions += [f"accuracy.{name}.track_{metric}" for metric in (*METRICS, "status")]
        functions.append(f"memory.{name}.peakmem_estimate")
        expected |= {f"{function} {spec} 5" for function in functions for spec in estimators}
    assert cells.keys() == expected


@pytest.mark.parametrize("metric", METRICS)
def test_accuracy_is_the_median_over_seeds(cells, home, metric):
    record = Scores(CASE, "alternating").read(Store(home / "quick" / "store", "quick"))
    values = sorted(getattr(row, metric) for row in record.scores if row.depth == 5)
    assert cells[f"{ACCURACY.format(metric)} alternating 5"] == values[1] > 0


def test_statuses_are_codes(cells):
    codes = [cells[f"{ACCURACY.format('status')} {name} 5"] for name in ESTIMATORS]
    assert codes[:2] == [0.0, 2.0] and codes[3] == 8.0


@pytest.mark.parametrize("name", [ACCURACY.format("relative_error"), TIME, MEMORY])
def test_a_finding_is_skipped_and_what_broke_fails(cells, name):
    assert (name in (TIME, MEMORY)) == (cells[f"{name} alternating 5"] is None)
    for estimator, reason in (
        ("refuses", "NotImplementedError: unsupported: refuses: needs a smooth"),
        ("absent", "NotImplementedError: unknown estimator 'absent'"),
        ("raises", "RuntimeError: error: at depth 5: ZeroDivisionError: planted"),
    ):
        assert cells[f"{name} {estimator} 5"].startswith(reason)


def test_what_a_plain_asv_run_measures_is_a_run(tmp_path, store, monkeypatch):
    """A report shows it, `pudle run` goes on with it, and `asv publish` finds its configuration."""
    chosen = selected("backprop", costs=("seconds",))
    for name, value in (("selection", chosen), ("store", store)):
        monkeypatch.setattr(f"pudle.bench.store.{name}", lambda value=value: value)
    _Cells().setup_cache()
    frame = load(tmp_path, "quick").frame
    assert set(frame["estimator"]) == {"backprop"} and set(frame["status"]) == {"ok"}
    run = Run(chosen, store)
    assert not any(map(run.is_missing, run.results))
    # asv says which function it waits for by its module and line.
    assert _Cells.setup_cache.__module__ == "pudle.bench.store"
    configuration = json.loads((run.folder / "asv.conf.json").read_text())
    places = {
        name: (run.folder / configuration[name]).resolve() for name in ("repo", "benchmark_dir")
    }
    assert places == {"repo": ROOT, "benchmark_dir": ROOT / "bench"}
