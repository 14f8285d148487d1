"""A dictionary as a combination of samples: weights against closed forms, and an experiment that
learns and explains one.
"""

import dataclasses

import numpy as np
import pytest
import torch

import pudle
from pudle.errors import InvalidArgument
from pudle.learning.interpretation import (
    ExplanationExperiment,
    InterpretationExperiment,
    contributions,
    multipliers,
    similarity,
)


def test_weights_with_a_ridge_for_each_atom_are_least_squares_with_further_rows():
    random = np.random.default_rng(3)
    z = random.standard_normal((30, 6)) * (random.random((30, 6)) < 0.5)
    z[4] = 0
    x, ridge = random.standard_normal((30, 9)), random.uniform(0.1, 3.0, 6)
    rows = np.vstack([z, np.diag(np.sqrt(ridge))])
    expected = np.linalg.lstsq(rows, np.vstack([x, np.zeros((6, 9))]))[0].T
    weights = contributions(z, ridge)
    np.testing.assert_allclose(x.T @ weights, expected, rtol=0, atol=1e-11)
    # A sample without codes has no weight, and an atom that no sample uses has none.
    z[:, 2] = 0
    assert not weights[4].any() and not contributions(z, 1e-6)[:, 2].any()


def test_at_the_solution_of_the_lasso_multipliers_are_the_penalty_times_the_codes():
    problem = pudle.make_dataset("digits(n_samples=60, n_components=20)").problem()
    with torch.no_grad():
        codes = pudle.Fista().run(problem, 4000).codes.numpy()
    values = multipliers(problem.observations.numpy(), problem.dictionary.numpy(), codes)
    np.testing.assert_allclose(values, problem.penalty * np.abs(codes).sum(0), rtol=1e-6, atol=1e-9)


SMALL = InterpretationExperiment(
    "digits(n_samples=200, n_components=12)",
    estimator="alternating",
    algorithm="fista",
    depth=40,
    optimizer="lbfgs",
    epochs=40,
    atoms=5,
    samples=4,
)


def explained(folder, samples=4, **changes):
    return dataclasses.replace(SMALL, samples=samples, **changes).run(folder)


def test_digits(tmp_path):
    result = explained(tmp_path)
    arrays, summary = result.arrays, result.summary
    assert result.status == "ok", result.reason
    # Heaviest first, and every sample has unit norm.
    assert (np.diff(np.abs(arrays["weights"]), axis=1) <= 0).all()
    np.testing.assert_allclose(np.linalg.norm(arrays["samples"], axis=(2, 3)), 1, rtol=1e-12)
    # Where alternation converges, the explanation is exact up to the gradient that is left.
    assert summary["residual"] < 0.01
    assert 0 < summary["share"] < 1 and 0 < summary["cosine"] <= 1
    # All samples together make the atom; the training in the folder is resumed at its end.
    whole = explained(tmp_path, samples=200)
    observations = SMALL.problem().observations.numpy()
    first = whole.arrays["samples"][0].reshape(200, 64)
    np.testing.assert_array_equal(
        first[np.lexsort(first.T)], observations[np.lexsort(observations.T)]
    )
    made = np.einsum("ar,arhw->ahw", whole.arrays["weights"], whole.arrays["samples"])
    assert np.linalg.norm(made - arrays["atoms"]) / np.linalg.norm(arrays["atoms"]) < 0.01
    assert whole.summary["share"] == pytest.approx(1) and whole.summary["cosine"] > 0.9999


def test_the_reason_holds_the_warnings(tmp_path):
    result = explained(tmp_path, dataset="image_patches(n_samples=20, n_components=24)", epochs=1)
    assert "20 samples are fewer than the 24 atoms" in result.reason


@pytest.mark.parametrize("dataset", ["convolutional(n_samples=1)", "sparse_gaussian(n_samples=9)"])
def test_datasets_without_small_images_are_refused(dataset, tmp_path):
    with pytest.raises(InvalidArgument, match="which are no square images: give one"):
        explained(tmp_path, dataset=dataset)


def test_numbers_of_what_is_shown_are_refused_before_the_training(tmp_path):
    with pytest.raises(InvalidArgument, match="samples=0"):
        explained(tmp_path, samples=0)


IMAGES = ExplanationExperiment(
    **{field.name: getattr(SMALL, field.name) for field in dataclasses.fields(SMALL)},
    new_images=3,
)


def test_similarity_is_the_cosine_and_zero_for_a_code_of_zeros():
    codes, others = np.array([[3.0, 4], [0, 0]]), np.array([[4.0, 3], [0, 2]])
    np.testing.assert_allclose(similarity(codes, others), [[24 / 25, 0.8], [0, 0]])


def test_a_new_image_is_a_combination_of_training_images(tmp_path):
    whole = dataclasses.replace(IMAGES, samples=197).run(tmp_path)
    observations = SMALL.problem().observations.numpy()
    new = whole.arrays["atoms"].reshape(3, 64)
    # The last images of the dataset, which are none of the training's.
    np.testing.assert_array_equal(new, observations[-3:])
    first = whole.arrays["samples"][0].reshape(197, 64)
    np.testing.assert_array_equal(
        first[np.lexsort(first.T)], observations[:-3][np.lexsort(observations[:-3].T)]
    )
    # All training images together make what the layers make of the image: D z.
    learned = np.load(tmp_path / "dictionary.npy")
    problem = pudle.SparseCoding(
        observations=torch.as_tensor(new),
        dictionary=torch.as_tensor(learned),
        penalty=SMALL.problem().penalty,
        loss="lasso",
    )
    with torch.no_grad():
        synthesis = pudle.Fista().run(problem, 40).codes.numpy() @ learned.T
    made = np.einsum(
        "ar,arm->am", whole.arrays["weights"], whole.arrays["samples"].reshape(3, 197, 64)
    )
    assert np.linalg.norm(made - synthesis) < 0.01 * np.linalg.norm(synthesis)
    assert whole.summary["residual"] < 0.01 and whole.summary["share"] == pytest.approx(1)
    # The heaviest first.
    assert (np.diff(np.abs(whole.arrays["weights"]), axis=1) <= 0).all()


@pytest.mark.parametrize("explains", ["similarity", "training"])
def test_similar_images_are_those_with_the_largest_cosines(explains, tmp_path):
    result = dataclasses.replace(IMAGES, explains=explains, epochs=3).run(tmp_path)
    cosines = result.arrays["weights"]
    assert (np.diff(cosines, axis=1) <= 0).all() and (abs(cosines) <= 1 + 1e-12).all()
    # No image is shown beside itself, and similar codes are similar images.
    for image, similar in zip(result.arrays["atoms"], result.arrays["samples"], strict=True):
        assert not any(np.array_equal(image, other) for other in similar)
    assert result.summary["cosine"] > 0.7


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"explains": "nothing"}, "explains"),
        ({"new_images": 0}, "new_images"),
        ({"new_images": 200}, "leaves none to learn from"),
    ],
)
def test_what_cannot_be_explained_is_refused(changes, words, tmp_path):
    with pytest.raises(InvalidArgument, match=words):
        dataclasses.replace(IMAGES, **changes).run(tmp_path)
