"""Reading stored experiments."""

from __future__ import annotations

import math

import numpy as np
import pytest
from stored_experiments import experiments
from synthetic import (
    denoising,
    experiment,
    interpretation,
    provenance,
    training,
    write_experiments,
    write_run,
)

from pudle.errors import UnreadableResult
from pudle.reports.learning.sections import sections
from pudle.reports.load import load


def test_only_what_the_run_lists_counts_whichever_is_newest(tmp_path):
    dates = {
        "2026-01-02T00:00:00+00:00": 0.2,
        "2026-03-01T00:00:00+00:00": 0.3,
        "2026-02-01T00:00:00+00:00": 0.4,
    }
    paths = write_experiments(
        tmp_path,
        [
            training("one", rate=rate, provenance=provenance(date=date))
            for date, rate in dates.items()
        ],
    )
    write_run(
        tmp_path / "quick",
        experiments={"one": f"experiments/{paths[0].name}", "gone": "experiments/gone.json"},
    )
    (item,) = load(tmp_path, "quick").experiments
    assert item.history("relative_error").iloc[1].item() == 0.5 * math.exp(-0.2)


def test_null_and_missing_values_are_nan(tmp_path):
    (item,) = experiments(
        tmp_path, training("one", summary={"steps": None, "seconds": 3.0})
    ).experiments
    history = item.history("loss", "relative_error", "nobody measured this")
    assert math.isnan(history["loss"][0]) and history["loss"][1] == 2 * history["relative_error"][1]
    assert history["nobody measured this"].isna().all() and len(history) == 51
    assert math.isnan(item.number("steps")) and item.number("seconds") == 3.0


def test_numbers_of_a_failed_experiment_do_not_count(tmp_path):
    (item,) = experiments(
        tmp_path, training("one", status="diverged", reason="the loss is not finite")
    ).experiments
    assert item.summary["relative_error"] > 0 and math.isnan(item.number("relative_error"))


def test_options_of_a_training_stand_beside_those_of_the_experiment(tmp_path):
    options = {
        "sigma": 25,
        "seed": 1,
        "training": {"estimator": "backprop", "seed": 0, "depth": 25},
    }
    (item,) = experiments(tmp_path, experiment("one", "denoising", options=options)).experiments
    assert item.options == {"sigma": 25, "seed": 1, "estimator": "backprop", "depth": 25}
    assert item.estimator == item.method == "backprop"


@pytest.mark.parametrize("damage", ["missing", "half", "empty", "shape", "dimensions", "text"])
def test_damaged_arrays_are_named_with_their_record(tmp_path, damage):
    record, arrays = denoising("one", "BM3D")
    if damage == "shape":
        arrays["denoised"] = arrays["denoised"][:10]
    if damage == "dimensions":
        arrays["clean"] = arrays["clean"].ravel()
    if damage == "text":
        arrays["denoised"] = np.full((64, 64), "x")
    path, _ = write_experiments(tmp_path, [(record, arrays), training("two")])
    stored = path.with_suffix(".npz")
    if damage == "missing":
        stored.unlink()
    if damage in ("half", "empty"):
        stored.write_bytes(
            stored.read_bytes()[: len(stored.read_bytes()) // 2] if damage == "half" else b""
        )
    results = load(tmp_path, "quick")
    (line,) = results.damaged
    assert str(stored) in line and f"delete {path} and run" in line and len(line.splitlines()) == 1
    assert [item.name for item in results.experiments] == ["two"] and sections(results)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"samples": np.zeros((2, 4, 8, 8)), "weights": np.zeros((2, 4))}, "array 'samples'"),
        ({"weights": np.zeros((3, 5))}, "array 'weights'"),
        ({"weights": None}, "lacks the arrays weights"),
    ],
)
def test_arrays_that_do_not_fit_each_other_are_refused(tmp_path, change, reason):
    record, arrays = interpretation(atoms=3, samples=4)
    arrays = {name: array for name, array in (arrays | change).items() if array is not None}
    (path,) = write_experiments(tmp_path, [(record | {"arrays": sorted(arrays)}, arrays)])
    with pytest.raises(UnreadableResult, match=reason) as error:
        load(tmp_path, "quick")
    assert str(path.with_suffix("")) in str(error.value) and "run `pudle run` again" in str(
        error.value
    )
