"""Other packages' dictionary learning: each finds a minimum of the lasso loss near the generating
dictionary.
"""

import dataclasses
import sys

import numpy as np
import pytest
import torch

import pudle
from pudle.learning.recovery_baselines import RecoveryBaseline
from pudle.measuring.results.experiment import CarriedExperiment
from pudle.measuring.store import Store

DATASET = (
    "sparse_gaussian(n_samples=600, n_features=30, n_components=40, n_nonzero_coefs=2,"
    " perturbation=0.05)"
)
#: Each with enough passes for this dataset, and the module it needs.
BASELINES = {
    "sklearn": (RecoveryBaseline("scikit-learn", DATASET, epochs=15, batch=300), "sklearn"),
    "spams": (RecoveryBaseline("spams-bin", DATASET, epochs=60, batch=300), "spams"),
}
#: Share of the start's gradient along the sphere of unit atoms that is left at the end: 0.013 at
#: most, against 0.054 at half the penalty and 0.10 at twice the penalty.
STATIONARY = 0.03


@pytest.fixture(params=BASELINES)
def baseline(request):
    chosen, module = BASELINES[request.param]
    pytest.importorskip(module)
    return chosen


def slope(dictionary):
    """Norm of the certified gradient of the mean lasso loss, along the sphere of unit atoms."""
    made = pudle.make_dataset(DATASET).problem(loss="lasso")
    problem = dataclasses.replace(made, dictionary=torch.as_tensor(dictionary))
    reference = pudle.reference(problem)
    assert reference.status == "certified", reference.reason
    gradient = reference.gradient.numpy()
    return float(np.linalg.norm(gradient - dictionary * (dictionary * gradient).sum(0)))


def test_it_recovers_and_ends_at_a_minimum_of_the_lasso_loss(baseline, tmp_path):
    result = baseline.run(tmp_path)
    assert (result.status, result.reason) == ("ok", "")
    assert [row["epoch"] for row in result.rows] == list(range(baseline.epochs + 1))
    made = pudle.make_dataset(DATASET).problem(loss="lasso")
    start, generating = made.dictionary.numpy(), made.generating_dictionary.numpy()
    first, last = result.rows[0], result.rows[-1]
    assert first["dictionary_error"] == pytest.approx(np.linalg.norm(start - generating), rel=1e-9)
    assert last["relative_error"] < first["relative_error"] / 4
    assert result.summary["start_relative_error"] == first["relative_error"]
    assert result.summary["relative_error"] == last["relative_error"] > 0
    learned = result.arrays["dictionary"]
    np.testing.assert_allclose(np.linalg.norm(learned, axis=0), 1, rtol=1e-9)
    assert slope(learned) < STATIONARY * slope(start)


def test_without_its_package_it_is_skipped_with_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "spams", None)
    experiment = CarriedExperiment.registered("2b-small-s3-spams")
    record = experiment.measure(Store(tmp_path, "quick"))
    assert (record.status, record.rows) == ("skipped", [])
    assert record.reason == "install pudle[baselines]: spams is not installed"


@pytest.mark.parametrize("dataset, device", [(DATASET, "cuda"), ("digits", "cpu")])
def test_unsupported_devices_and_datasets_are_refused(dataset, device, tmp_path):
    baseline = dataclasses.replace(BASELINES["sklearn"][0], dataset=dataset)
    with pytest.raises(
        pudle.UnsupportedProblem, match="scikit-learn recovers generating dense dict"
    ):
        baseline.run(tmp_path, device)
