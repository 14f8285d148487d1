"""Denoising: closed forms, loops in numpy, and filters that learn to denoise."""

import dataclasses
import re
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from support.oracles.tolerances import CLOSED_FORM
from support.problems.learning import save_images, texture

import pudle
from pudle.errors import PudleError
from pudle.learning.denoising import METHODS, DenoisingBaseline, DenoisingExperiment, denoise
from pudle.learning.images import SAMPLES, add_noise, psnr

CROPS = "noisy_crops(n_samples=24, size=33{})"
TINY = DenoisingExperiment(
    CROPS.format(", start='random'"),
    "reconstruction",
    algorithm="ista(step=0.05)",
    depth=10,
    optimizer="adam(learning_rate=3e-3)",
    epochs=4,
    batch=4,
    record_every=12,
    dtype="float32",
    budget=None,
    training_images=SAMPLES,
    test_images=SAMPLES,
    shifts=False,
)
experiment = partial(dataclasses.replace, TINY)


def problem_of(filters, **options):
    return pudle.ConvolutionalSparseCoding(
        observations=torch.zeros(1, 1, 9, 9, dtype=torch.float64),
        dictionary=torch.as_tensor(filters),
        **options,
    )


def test_with_orthonormal_filters_one_step_is_soft_thresholding_of_the_transform():
    """Four filters of 2 x 2 that do not overlap, and a step of length 1."""
    transform = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    problem = problem_of(transform.reshape(4, 1, 2, 2), penalty=0.1, stride=2)
    image = np.random.default_rng(0).random((6, 8))
    blocks = (image - image.mean()).reshape(3, 2, 4, 2).swapaxes(1, 2).reshape(-1, 4)
    coefficients = blocks @ transform.T
    kept = np.sign(coefficients) * np.maximum(np.abs(coefficients) - 0.1, 0)
    expected = (kept @ transform).reshape(3, 4, 2, 2).swapaxes(1, 2).reshape(6, 8)
    denoised = denoise(image, problem, pudle.Ista(step=1.0), 1)
    assert np.abs(denoised - expected - image.mean()).max() < CLOSED_FORM


@pytest.mark.parametrize("shape", [(13, 17), (5, 9)])
def test_shifts_against_a_loop(shape):
    """Each shift on its own, the image continued by mirrored indices and cropped by hand."""
    random = np.random.default_rng(0)
    filters = random.standard_normal((6, 1, 5, 4))
    filters /= np.sqrt((filters**2).sum((1, 2, 3), keepdims=True))
    problem = problem_of(filters, penalty=0.05, stride=3, nonnegative=True)
    algorithm, image = pudle.Ista(step=0.1), random.random(shape)
    height, width = shape
    total = np.zeros(shape)
    for down, right in np.ndindex(3, 3):
        y, x = np.arange(height + 2) - down, np.arange(width + 2) - right
        y, x = (
            np.where(at < 0, -at - 1, np.minimum(at, 2 * side - 1 - at))
            for at, side in zip((y, x), shape, strict=True)
        )
        view = (image - image.mean())[np.ix_(y, x)]
        one = dataclasses.replace(problem, observations=torch.as_tensor(view[None, None]))
        image_part = one.synthesize(algorithm.run(one, 7).codes)[0, 0].numpy()
        total += image_part[down : down + height, right : right + width]
    denoised = denoise(image, problem, algorithm, 7, shifts=True)
    assert np.abs(denoised - total / 9 - image.mean()).max() < 1e-12
    assert np.abs(denoised - denoise(image, problem, algorithm, 7)).max() > 1e-3


class TestImages:
    def test_held_out_images_are_not_learned_from(self, tmp_path):
        """Every image is a checkerboard of its own contrast, which tells where a crop is from."""
        board = np.indices((40, 40)).sum(0) % 2
        images = {
            f"{number}.png": (10 * number * board).astype(np.uint8) for number in range(1, 11)
        }
        folder = save_images(tmp_path / "training", images)
        test = save_images(tmp_path / "test", {"1.png": texture(40, 40)})
        one = experiment(
            training_images=folder,
            test_images=test,
            validation=3,
            dataset="noisy_crops(n_samples=200, size=32)",
        )
        problem, (_, held_out, tested) = one.problem(), one.image_sets
        assert len(held_out) == 3 and list(tested) == ["1.png"]
        contrasts = (problem.targets.amax((1, 2, 3)) - problem.targets.amin((1, 2, 3))) * 255
        names = {f"{round(float(contrast) / 10)}.png" for contrast in contrasts}
        assert names == images.keys() - held_out.keys()

    def test_folders_come_from_the_environment_where_not_given(self, tmp_path, monkeypatch):
        mine = experiment(training_images=None, test_images=None)
        monkeypatch.delenv("PUDLE_TRAINING_IMAGES", raising=False)
        monkeypatch.delenv("PUDLE_TEST_IMAGES", raising=False)
        assert mine.folders == (SAMPLES, SAMPLES)
        before = mine.fingerprint()
        folder = save_images(tmp_path / "images", {"a.png": texture(40, 40)})
        monkeypatch.setenv("PUDLE_TEST_IMAGES", folder)
        assert mine.folders == (SAMPLES, folder) and mine.fingerprint() != before

    def test_images_are_checked_before_the_training(self, tmp_path):
        images = {"a.png": texture(40, 40), "b.png": texture(40, 40)}
        folder = save_images(tmp_path / "images", images)
        copy = save_images(tmp_path / "copy", {"z.png": texture(40, 40)})
        small = save_images(tmp_path / "small", {"a.png": texture(10, 40)})
        less = save_images(tmp_path / "less", {"b.png": texture(14, 40)})
        broken = save_images(tmp_path / "broken", {})
        (tmp_path / "broken" / "c.png").write_bytes(b"no image")
        large = CROPS.format(", kernel=15")
        learned = partial(dataclasses.replace, experiment(training_images=folder, validation=1))
        for refused, text in (
            (learned(test_images=f"{folder}/../images"), "is one of the training images"),
            (learned(test_images=copy), "test image z.png is one of the training images"),
            (experiment(dataset="convolutional(n_samples=2)"), "holds no noisy images"),
            (experiment(test_images=small), "a.png is 10 x 40 pixels, smaller than the 11 x 11"),
            (experiment(test_images=broken), "c.png"),
            (experiment(test_images=less, dataset=large), "14 x 40 pixels, smaller than the 15 x"),
        ):
            with pytest.raises(PudleError, match=re.escape(text)):
                refused.run(tmp_path / "out")
        assert not (tmp_path / "out").exists()


@pytest.fixture
def test_image(tmp_path):
    return save_images(tmp_path / "test", {"a.png": texture(180, 170)})


def test_a_tiny_training_denoises_better(tmp_path, test_image):
    result = experiment(test_images=test_image, shifts=True).run(tmp_path / "out")
    other = DenoisingBaseline(test_image, baseline="total variation").run(tmp_path)
    history = pd.DataFrame(result.rows)
    assert result.status == "ok" and list(history.step) == [0, 12, 24]
    assert history.psnr.iloc[-1] > history.psnr.iloc[0] + 1
    summary, arrays = result.summary, result.arrays
    assert summary["psnr"] > summary["noisy_psnr"] + 2
    assert summary["psnr_shifted"] > summary["psnr"] + 0.3
    assert summary["ssim_shifted"] > summary["ssim"]
    assert summary["steps"] == 24 and summary["test_images"] == "test"
    assert arrays["filters"].shape == (64, 9, 9)
    assert arrays["clean"].shape == arrays["denoised"].shape == (160, 160)
    # Every method gets the same noise.
    assert summary["noisy_psnr"] == other.summary["noisy_psnr"]
    assert np.array_equal(arrays["noisy"], other.arrays["noisy"])


def test_a_training_that_diverges_is_not_tested(tmp_path, test_image):
    """With a step of almost 2/L at the start, a large learning rate soon makes the algorithm refuse
    its step.
    """
    result = experiment(
        test_images=test_image,
        dataset=CROPS.format(""),
        algorithm="ista(step=0.1)",
        optimizer="adam(learning_rate=0.3)",
    ).run(tmp_path / "out")
    assert result.status == "diverged" and "step=0.1 is above 2/L" in result.reason
    assert "psnr" not in result.summary and result.rows[0]["psnr"] > 15


def test_penalties_are_learned(tmp_path):
    test = save_images(tmp_path / "test", {"a.png": texture(60, 70)})

    def run(options):
        dataset = CROPS.format(f", penalty=0.02{options}")
        return experiment(test_images=test, dataset=dataset, record_every=24).run(
            tmp_path / f"out{options}"
        )

    result, fixed = run(", learned_penalties=True"), run("")
    penalties = result.arrays["penalties"]
    assert result.summary["method"] == "backprop, reconstruction, supervised, learned penalties"
    # The start is far too small for the noise: the penalties grow, except those of filters that
    # carry much.
    assert penalties.shape == (64,) and np.ptp(penalties) > 1e-4 and np.median(penalties) > 0.02
    norms = np.linalg.norm(result.arrays["filters"].reshape(64, -1), axis=1)
    assert np.allclose(norms, 1, atol=1e-5)
    assert result.rows[0]["psnr"] == fixed.rows[0]["psnr"]
    assert result.summary["psnr"] > fixed.summary["psnr"]


@pytest.mark.parametrize("method", METHODS)
def test_other_packages_methods_use_the_noise_deviation(method):
    clean = texture(60, 70) / 255
    noisy = add_noise(clean, "a", 50)
    good, bad = (psnr(clean, METHODS[method](noisy, deviation / 255)) for deviation in (50, 5))
    assert good > bad + 1 and good > psnr(clean, noisy) + 4
