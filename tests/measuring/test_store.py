"""The store keeps records whole, and says what was measured on what."""

import dataclasses
import json
import math
from unittest import mock

import numpy as np
import pytest
import torch
from examples import TINY

from pudle.measuring.experiment import ExperimentResult
from pudle.measuring.results.experiment import CarriedExperiment
from pudle.measuring.results.reference import CaseReference
from pudle.measuring.results.score import Scores
from pudle.measuring.store import Store
from pudle.names import list_experiments


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", "quick", commit="0123abc", dirty=True)


def test_a_record_comes_back_as_it_was_written(store):
    scores = Scores(TINY, "alternating")
    written, read = scores.measure(store), scores.read(store)
    assert (
        read.key == written.key and read.case == TINY and read.identity == ("tiny", "alternating")
    )
    assert read.scores == written.scores and read.references == written.references
    places = {(row.seed, row.depth) for row in read.scores}
    assert places == {(0, 1), (0, 5), (1, 1), (1, 5)}
    assert read.status == "ok" and read.computes == "direct" and read.consistent_for == ["lasso"]
    origin = read.provenance
    assert (origin.commit, origin.dirty, origin.profile) == ("0123abc", True, "quick")
    path = store.path(TINY, "alternating")
    assert path.name == f"alternating-{read.key}.json" and path.parent == store.folder / "tiny"


def test_a_reference_is_computed_once_for_cases_that_differ_in_the_algorithm(store, monkeypatch):
    first = CaseReference(TINY, 0, "exact").measure(store)
    monkeypatch.setattr("pudle.measuring.case.reference", lambda *_: pytest.fail("computed again"))
    again = CaseReference(dataclasses.replace(TINY, algorithm="fista"), 0, "exact").measure(store)
    assert torch.equal(first.gradient, again.gradient) and torch.equal(first.codes, again.codes)
    assert first.certificate == again.certificate and first.bound == again.bound


def test_an_experiment_that_has_a_record_has_its_arrays(store, monkeypatch):
    name, experiment = next(iter(list_experiments().items()))
    carried = CarriedExperiment.registered(name)
    arrays = {"picture": np.eye(2), "filters": np.ones(3)}
    result = ExperimentResult([{"step": 0, "value": math.nan}], {"value": 2.0}, arrays)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        dies = mock.Mock(side_effect=KeyboardInterrupt)
        patch.setattr("pudle.measuring.results.experiment.write_atomically", dies)
        carried.conclude(store, result, 1.5)
    assert carried.read(store) is None
    carried.conclude(store, result, 1.5)
    read = carried.read(store)
    assert read.options == json.loads(json.dumps(dataclasses.asdict(experiment)))
    with np.load(store.place(carried).path.with_suffix(".npz")) as kept:
        assert all(np.array_equal(kept[key], array) for key, array in arrays.items())
