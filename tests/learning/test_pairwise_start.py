"""A start from pairs of samples: what its theorem promises, at sizes that take seconds."""

import math
from dataclasses import replace

import numpy as np
import pytest
from support.oracles.comparisons import refusal

import pudle
from pudle.learning.pairwise_start import (
    PairwiseStartExperiment,
    distances_of_atoms,
    find_start,
)

SIZES = "n_samples=6000, n_features=128, n_components=40, n_nonzero_coefs=2"
EXPERIMENT = PairwiseStartExperiment(
    f"sparse_gaussian({SIZES})", "reconstruction", "backprop", "ista(step=0.2)", 25, epochs=0,
    n_nonzero_coefs=2,
)  # fmt: skip


def drawn(seed, **changes):
    problem = pudle.make_dataset(f"sparse_gaussian({SIZES}, seed={seed})").problem()
    return problem.observations.numpy(), problem.generating_dictionary.numpy()


@pytest.mark.parametrize("seed", range(3))
def test_every_atom_is_found_once_within_the_radius_of_the_theorem(seed):
    observations, generating = drawn(seed)
    found = find_start(observations, 40, 2, seed=seed).dictionary
    # By the cosines alone: every generating atom has one learned atom near it, and no two the same.
    cosines = np.abs(generating.T @ found)
    assert sorted(cosines.argmax(axis=1)) == list(range(40))
    distances = np.sqrt(2 - 2 * cosines.max(axis=1))
    assert distances.max() <= 1 / math.log(40)
    np.testing.assert_allclose(distances_of_atoms(found, generating), distances, atol=1e-7)
    np.testing.assert_allclose(np.linalg.norm(found, axis=0), 1, rtol=1e-12)
    # A random dictionary has no atom so near.
    random = np.random.default_rng(seed).standard_normal(found.shape)
    random /= np.linalg.norm(random, axis=0)
    assert np.sqrt(2 - 2 * np.abs(generating.T @ random).max()) > 1 / math.log(40)


def test_more_samples_bring_the_atoms_nearer():
    observations, generating = drawn(0)
    medians = [
        np.median(distances_of_atoms(find_start(part, 40, 2, n_paired=800).dictionary, generating))
        for part in (observations[:2500], observations)
    ]
    assert medians[1] < 0.85 * medians[0]


def test_neither_the_units_nor_the_generating_dictionary_matter():
    observations, _ = drawn(1)
    first, scaled = (
        find_start(values, 40, 2).dictionary for values in (observations, 7 * observations)
    )
    np.testing.assert_allclose(np.abs(first.T @ scaled).max(axis=0), 1, atol=1e-12)


def test_samples_that_do_not_tell_are_refused_with_what_to_do():
    observations, _ = drawn(0)
    message = refusal(lambda: find_start(observations[:400], 40, 2))
    assert "of 40 atoms were found" in message and "give more samples" in message
    # Sums of so many atoms share several.
    dense = pudle.make_dataset(
        "sparse_gaussian(n_samples=1500, n_features=30, n_components=40, n_nonzero_coefs=12)"
    ).problem()
    assert "atoms were found" in refusal(lambda: find_start(dense.observations.numpy(), 40, 12))


@pytest.mark.parametrize(
    ("numbers", "words"),
    [((40, 0), "n_nonzero_coefs"), ((2, 2), "n_components"), ((40, 2, 1), "n_paired=1")],
)
def test_numbers_out_of_range_are_refused(numbers, words):
    observations, _ = drawn(0)
    components, sparsity, *paired = numbers
    options = {"n_paired": paired[0]} if paired else {}
    assert words in refusal(lambda: find_start(observations, components, sparsity, **options))


def test_an_experiment_starts_there_and_says_how_near_it_is(tmp_path):
    result = EXPERIMENT.run(tmp_path / "start")
    _, generating = drawn(0)
    distances = distances_of_atoms(result.arrays["dictionary"], generating)
    assert result.summary["start_largest_distance"] == pytest.approx(distances.max())
    assert result.summary["start_atoms_near"] == 40 and result.summary["steps"] == 0
    # What it finds is a file that any training starts at.
    np.save(tmp_path / "start.npy", result.arrays["dictionary"])
    training = {"epochs": 2, "batch": 200, "optimizer": "adam(learning_rate=1e-2)"}
    own = replace(EXPERIMENT, **training).run(tmp_path / "own")
    values = {name: getattr(EXPERIMENT, name) for name in ("dataset", "loss", "algorithm", "depth")}
    other = pudle.LearningExperiment(**values, **training, start=str(tmp_path / "start.npy")).run(
        tmp_path / "other"
    )
    np.testing.assert_allclose(
        own.arrays["dictionary"], other.arrays["dictionary"], rtol=0, atol=1e-12
    )
    assert own.summary["relative_error"] < 0.6 * own.summary["start_relative_error"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"dataset": "convolutional(n_samples=1)"}, "not filters"),
        ({"start": "one.npy"}, "finds its own"),
    ],
)
def test_what_has_no_such_start_is_refused(changes, words, tmp_path):
    assert words in refusal(lambda: replace(EXPERIMENT, **changes).run(tmp_path))
