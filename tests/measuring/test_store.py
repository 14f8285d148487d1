"""The store keeps records whole, and says what was measured on what."""

import dataclasses
import json
import math
import shutil
from unittest import mock

import numpy as np
import pytest
import torch
from examples import TINY

from pudle.measuring.experiment import ExperimentResult, write_experiment
from pudle.measuring.measurement import measure, stored_reference
from pudle.measuring.store import Store
from pudle.names import list_experiments


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", "quick", commit="0123abc", dirty=True)


def test_a_record_comes_back_as_it_was_written(store):
    written = measure(TINY, "alternating", store)
    read = store.read("score", TINY, "alternating")
    assert (
        read.key == written.key and read.case == TINY and read.identity == ("tiny", "alternating")
    )
    errors = [row["relative_error"] for row in written.scores]
    assert [row["relative_error"] for row in read.scores] == errors
    places = {(row["seed"], row["depth"]) for row in read.scores}
    assert places == {(0, 1), (0, 5), (1, 1), (1, 5)}
    assert read.status == "ok" and read.computes == "direct" and read.consistent_for == ["lasso"]
    assert read.provenance["commit"] == "0123abc" and read.provenance["dirty"] is True
    assert read.provenance["profile"] == "quick"
    path = store.path(TINY, "alternating")
    assert path.name == f"alternating-{read.key}.json" and path.parent == store.folder / "tiny"


def test_references_are_shared_by_cases_that_differ_in_algorithm_only(store, monkeypatch):
    first = stored_reference(TINY, 0, "exact", store)
    monkeypatch.setattr("pudle.measuring.case.reference", lambda *_: pytest.fail("computed again"))
    other = dataclasses.replace(TINY, algorithm="fista", depths=(3,))
    again = stored_reference(other, 0, "exact", store)
    assert torch.equal(first.gradient, again.gradient) and torch.equal(first.codes, again.codes)
    assert first.certificate == again.certificate and first.bound == again.bound
    assert store.read_reference(TINY, 1, "exact") is None, "another seed"
    shutil.copy(store.reference_path(TINY, 0, "exact"), store.reference_path(TINY, 1, "exact"))
    assert store.read_reference(TINY, 1, "exact") is None, "a copy of another's file"


def test_an_experiment_that_has_a_record_has_its_arrays(store, monkeypatch):
    name, experiment = next(iter(list_experiments().items()))
    arrays = {"picture": np.eye(2), "filters": np.ones(3)}
    result = ExperimentResult([{"step": 0, "value": math.nan}], {"value": 2.0}, arrays)
    path = store.place("experiment", name).path
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        dies = mock.Mock(side_effect=KeyboardInterrupt)
        patch.setattr("pudle.measuring.experiment.write_atomically", dies)
        write_experiment(name, store, result, 1.5)
    assert store.read("experiment", name) is None
    write_experiment(name, store, result, 1.5)
    read = store.read("experiment", name)
    assert read.options == json.loads(json.dumps(dataclasses.asdict(experiment)))
    with np.load(path.with_suffix(".npz")) as kept:
        assert all(np.array_equal(kept[key], array) for key, array in arrays.items())
