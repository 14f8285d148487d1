"""The benchmarks that asv finds, and what each of their cells gives, over a small selection."""

import dataclasses
import json
import os
import subprocess
import sys

import pytest
from examples import TINY

from pudle.files import write_record
from pudle.measuring.measurement import write_scores
from pudle.measuring.selection import Selection
from pudle.measuring.store import Store

CASE = dataclasses.replace(TINY, seeds=(0, 1, 2), depths=(1, 5))
ESTIMATORS = ("alternating", "finite_difference", "backprop")

#: Calls every cell as asv does, and prints what it returns or raises.
SCRIPT = """
import itertools, json
from asv_runner.discovery import disc_benchmarks
import pudle.bench

cells = {}
for benchmark in disc_benchmarks(pudle.bench.__path__[0]):
    instance = benchmark.func.__self__
    for parameters in itertools.product(*instance.params):
        try:
            instance.setup(*parameters)
            result = benchmark.func(*parameters)
        except (NotImplementedError, RuntimeError) as error:
            result = f"{type(error).__name__}: {error}"
        name = benchmark.name.removeprefix("bench.")
        cells[" ".join(map(str, (name, *parameters)))] = result
print(json.dumps(cells))
"""


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quick")
    limited = (("one_step", "large-*", "it would take long"),)
    options = {"limited": limited, "torch_depths": (1,)}
    selection = Selection("quick", (CASE,), (*ESTIMATORS, "one_step"), (5, 7), (1,), **options)
    write_record(folder / "selection.json", selection)
    store = Store(folder / "store", "quick")
    write_scores(CASE, "backprop", store, "timeout", "late")
    write_scores(CASE, "finite_difference", store, "unsupported", "nothing to differ")
    environment = os.environ | {"PUDLE_SELECTION": str(folder / "selection.json")}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert store.read("score", CASE, "alternating").status == "ok"
    return json.loads(done.stdout.splitlines()[-1]) | {
        "record": store.read("score", CASE, "alternating")
    }


def test_asv_finds_these_benchmarks_and_no_others(cells):
    metrics = ("relative_error", "cosine_error", "code_error", "status")
    expected = {f"accuracy.Accuracy.track_{metric}" for metric in metrics}
    expected |= {"memory.Memory.peakmem_estimate", "memory.ProblemAlone.peakmem_problem"}
    expected |= {"timing.Time.time_estimate", "timing.TorchTime.time_estimate"}
    assert {name.partition(" ")[0] for name in cells} == expected | {"record"}


@pytest.mark.parametrize("metric", ["relative_error", "cosine_error", "code_error"])
def test_accuracy_is_the_median_over_seeds(cells, metric):
    values = sorted(row[metric] for row in cells["record"].scores if row["depth"] == 5)
    assert cells[f"accuracy.Accuracy.track_{metric} tiny alternating 5"] == values[1] > 0
    assert (
        "is not scored at depth 7" in cells[f"accuracy.Accuracy.track_{metric} tiny alternating 7"]
    )


def test_a_case_that_an_estimator_is_not_measured_on_is_skipped(cells):
    skipped = [result for name, result in cells.items() if " one_step " in name]
    assert len(skipped) == 11
    assert set(skipped) == {
        "NotImplementedError: one_step is not measured on tiny: it would take long"
    }


def test_statuses_are_codes(cells):
    codes = [cells[f"accuracy.Accuracy.track_status tiny {name} 5"] for name in ESTIMATORS]
    assert codes == [0.0, 2.0, 6.0]


def test_a_finding_is_skipped_and_what_broke_fails(cells):
    names = (
        "accuracy.Accuracy.track_relative_error tiny {} 5",
        "timing.Time.time_estimate tiny {} 1",
        "memory.Memory.peakmem_estimate tiny {} 1",
    )
    for name in names:
        assert (
            cells[name.format("finite_difference")]
            == "NotImplementedError: unsupported: nothing to differ"
        )
        assert cells[name.format("backprop")] == "RuntimeError: timeout: late"
    for name in (
        *names[1:],
        "timing.TorchTime.time_estimate tiny {} 1",
        "memory.ProblemAlone.peakmem_problem tiny",
    ):
        assert cells[name.format("alternating")] is None
