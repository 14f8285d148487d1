"""The store keeps records whole, and says what was measured on what; what an error of memory is."""

import dataclasses
import math
from unittest import mock

import numpy as np
import pytest
import torch
from support.problems.small_problems import TINY
from support.processes.repositories import git, repository

import pudle
from pudle.measuring.experiment import ExperimentResult
from pudle.measuring.results.experiment import CarriedExperiment
from pudle.measuring.results.reference import CaseReference
from pudle.measuring.results.score import Scores
from pudle.measuring.store import Store, locked
from pudle.workers import failure


@pytest.fixture
def store(tmp_path):
    return Store(tmp_path / "store", "quick", commit="0123abc", dirty=True)


def test_a_record_comes_back_as_it_was_written(store):
    scores = Scores(TINY, "alternating")
    files_at, read = scores.measure(store), scores.read(store)
    assert read.scores == files_at.scores and read.references == files_at.references
    assert (read.case, read.identity) == (TINY, ("tiny", "alternating"))
    places = {(row.seed, row.depth) for row in read.scores}
    assert places == {(0, 1), (0, 5), (1, 1), (1, 5)}
    assert read.status == "ok" and read.computes == "direct" and read.consistent_for == ["lasso"]
    origin = read.provenance
    assert (origin.commit, origin.dirty, origin.profile) == ("0123abc", True, "quick")
    assert store.path(TINY, "alternating") == store.folder / "tiny" / f"alternating-{read.key}.json"


def test_a_reference_is_computed_once_for_cases_that_differ_in_the_algorithm(store, monkeypatch):
    first = CaseReference(TINY, 0, "exact").measure(store)
    monkeypatch.setattr("pudle.measuring.case.reference", lambda *_: pytest.fail("computed again"))
    again = CaseReference(dataclasses.replace(TINY, algorithm="fista"), 0, "exact").measure(store)
    assert torch.equal(first.gradient, again.gradient) and torch.equal(first.codes, again.codes)
    assert first.certificate == again.certificate and first.bound == again.bound


def test_an_experiment_that_has_a_record_has_its_arrays(store, monkeypatch):
    options = pudle.LearningExperiment(TINY.dataset, epochs=3)
    carried = CarriedExperiment("one", "of some", options)
    arrays = {"picture": np.eye(2), "filters": np.ones(3)}
    result = ExperimentResult([{"step": 0, "value": math.nan}], {"value": 2.0}, arrays)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        dies = mock.Mock(side_effect=KeyboardInterrupt)
        patch.setattr("pudle.measuring.results.experiment.write_atomically", dies)
        carried.write_result(store, result)
    assert carried.read(store) is None
    carried.write_result(store, result)
    assert carried.read(store).options["dataset"] == TINY.dataset
    with np.load(store.place(carried).path.with_suffix(".npz")) as kept:
        assert all(np.array_equal(kept[key], array) for key, array in arrays.items())


def test_results_are_not_untracked_files_of_a_repository(tmp_path):
    place = repository(tmp_path / "repository")
    with locked(place / ".asv" / "compare" / "pair", "comparison"):
        (place / ".asv" / "compare" / "pair" / "file").touch()
    assert git(place, "status", "--porcelain", "--untracked-files=all") == ""
    # Who deletes the file wants to commit results.
    (place / ".asv" / ".gitignore").unlink()
    with locked(place / ".asv" / "quick", "run"):
        assert git(place, "status", "--porcelain") == "?? .asv/"
    # A folder that the user named is the user's.
    with locked(place / "results" / "quick", "run"):
        assert "results/" in git(place, "status", "--porcelain")


def test_an_error_of_memory_is_a_status():
    full = [
        MemoryError(),
        torch.OutOfMemoryError("of 80 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory"),
    ]
    assert {failure(error)[0] for error in full} == {"out-of-memory"}
