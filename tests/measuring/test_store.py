"""The store keeps records whole, and says what was measured on what."""

import dataclasses
import errno
import json
import math
import os
import re
from unittest import mock

import numpy as np
import pytest
import torch
from examples import TINY

from pudle.errors import UnwritableFile
from pudle.measuring.experiment import ExperimentResult, write_experiment
from pudle.measuring.measurement import measure, stored_reference
from pudle.measuring.store import Store
from pudle.names import list_experiments, list_studies


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
    assert path.read_text().count("\n") > 100, "records are read by people too"


def test_references_are_shared_by_cases_that_differ_in_algorithm_only(store, monkeypatch):
    first = stored_reference(TINY, 0, "exact", store)
    monkeypatch.setattr(
        "pudle.references.certified.reference", lambda *_: pytest.fail("computed again")
    )
    other = dataclasses.replace(TINY, algorithm="fista", depths=(3,))
    again = stored_reference(other, 0, "exact", store)
    assert torch.equal(first.gradient, again.gradient) and torch.equal(first.codes, again.codes)
    assert first.certificate == again.certificate and first.bound == again.bound


def test_nan_is_written_as_strict_json(store):
    rows = [{"relative_error": math.nan, "bound": np.float64(0.1)}]
    content = {"scores": rows, "references": [], "status": "diverged", "seconds": None}
    store.write("score", TINY, "backprop", computes="", consistent_for=None, **content)
    text = store.path(TINY, "backprop").read_text()
    scores = json.loads(text, parse_constant=lambda name: pytest.fail(name))["scores"]
    assert scores == [{"relative_error": None, "bound": 0.1}]


@pytest.mark.parametrize("name", ["../../x", "/etc/x", ".", "é\x00"])
def test_an_experiment_stays_in_the_store_whatever_its_name(store, monkeypatch, name):
    experiment = next(iter(list_experiments().values()))
    studies = {"any": {name: experiment}}
    monkeypatch.setattr("pudle.measuring.store.list_studies", lambda: studies)
    path = store.place("experiment", name).path
    assert path.resolve().parent == (store.folder / "experiments").resolve()


def test_a_cost_comes_back_with_what_it_is_of(store):
    cell = ("seconds", TINY, "truncated(window=3)", 5)
    assert store.read("cost", *cell) is None
    store.write("cost", *cell, value=0.5, samples=[0.4, 0.5, 0.6])
    read = store.read("cost", *cell)
    assert read.identity == ("seconds", "tiny", "truncated(window=3)", 5)
    assert (read.status, read.value, read.samples) == ("ok", 0.5, [0.4, 0.5, 0.6])
    path = store.place("cost", *cell).path
    assert path.parent == store.folder / "tiny" / "costs"
    assert path.name.startswith("seconds-truncated")


def test_an_experiment_comes_back_with_its_study_its_options_and_its_arrays(store, monkeypatch):
    study, members = next(iter(list_studies().items()))
    (name, experiment), (plain, _) = list(members.items())[:2]
    arrays = {"picture": np.eye(2), "filters": np.ones(3)}
    result = ExperimentResult([{"step": 0, "value": math.nan}], {"value": 2.0}, arrays)
    path = store.place("experiment", name).path
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        dies = mock.Mock(side_effect=KeyboardInterrupt)
        patch.setattr("pudle.measuring.experiment.write_atomically", dies)
        write_experiment(name, store, result, 1.5)
    # One that has a record has its arrays.
    assert store.read("experiment", name) is None
    write_experiment(name, store, result, 1.5)
    read = store.read("experiment", name)
    assert (read.study, read.name, read.kind) == (study, name, experiment.kind)
    assert (read.status, read.seconds, read.summary) == ("ok", 1.5, {"value": 2.0})
    assert read.rows == [{"step": 0, "value": None}] and read.arrays == ["filters", "picture"]
    assert read.options == json.loads(json.dumps(dataclasses.asdict(experiment)))
    with np.load(path.with_suffix(".npz")) as kept:
        assert all(np.array_equal(kept[key], array) for key, array in arrays.items())
    store.write("experiment", plain, status="error", reason="because")
    assert store.read("experiment", plain).reason == "because"


def test_an_artifact_is_replaced_when_its_case_or_its_windows_change(store):
    def there(*what):
        return store.read("surface", *what) is not None

    assert not there("curve", TINY, (1, 5))
    rows = [{"depth": 1, "error": 0.5}]
    store.write("surface", "curve", TINY, (1, 5), rows=rows)
    assert store.place("surface", "curve", TINY, (1, 5)).path.name == "tiny-curve.json"
    assert store.read("surface", "curve", TINY, (1, 5)).rows == rows
    other = dataclasses.replace(TINY, depths=(1,))
    places = (("curve", TINY, (1,)), ("curve", other, (1, 5)), ("surface", TINY, (1, 5)))
    assert not any(there(*place) for place in places)
    store.write("surface", "curve", other, (1, 5), reason="none of this case")
    assert there("curve", other, (1, 5)) and not there("curve", TINY, (1, 5))


def test_what_the_system_refuses_to_write_is_one_line(store, monkeypatch):
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    monkeypatch.setattr("pathlib.Path.write_bytes", mock.Mock(side_effect=full))
    with pytest.raises(UnwritableFile, match=re.escape(os.strerror(errno.ENOSPC))) as caught:
        measure(TINY, "alternating", store)
    assert str(store.folder) in str(caught.value) and "\n" not in str(caught.value)


def test_an_interrupted_write_leaves_the_old_record(store, monkeypatch):
    measure(TINY, "alternating", store)
    before = store.path(TINY, "alternating").read_text()
    monkeypatch.setattr("pathlib.Path.replace", mock.Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        measure(TINY, "alternating", store)
    assert store.path(TINY, "alternating").read_text() == before
    assert [path.suffix for path in store.path(TINY, "alternating").parent.iterdir()] == [".json"]
