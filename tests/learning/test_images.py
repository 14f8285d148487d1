"""Images: noise, quality, images that are kept apart, and the dataset of noisy crops."""

import dataclasses

import numpy as np
import pytest
import torch
from support.oracles.comparisons import refusal
from support.oracles.tolerances import CLOSED_FORM
from support.problems.learning import save_images, texture

import pudle
from pudle.learning.images import (
    SAMPLES,
    TEST_SAMPLE,
    TRAINING_SAMPLE,
    add_noise,
    images_to_test,
    mosaic,
    psnr,
    ssim,
    training_images,
)


def test_psnr_of_a_known_error_and_of_the_noise():
    clean = np.full((400, 400), 0.5)
    assert psnr(clean, clean + 0.1) == pytest.approx(20)
    # 0.9 + 0.5 is clipped to 1, an error of 0.1.
    assert psnr(clean + 0.4, clean + 0.9) == pytest.approx(20)
    # Far from 0 and 1, so that clipping takes nothing away.
    noisy = psnr(clean, add_noise(clean, "a.png", 25))
    assert noisy == pytest.approx(20 * np.log10(255 / 25), abs=0.05)


def test_ssim_of_constant_images():
    """Without variance it is ``(2 a b + c) / (a^2 + b^2 + c)``, c being 0.01^2."""
    a, b = 0.3, 0.6
    expected = (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4)
    similarity = ssim(np.full((30, 30), a), np.full((30, 30), b))
    assert similarity == pytest.approx(expected, rel=CLOSED_FORM)


def test_noise_depends_on_the_name_alone():
    image = np.zeros((64, 64))
    first, other = (add_noise(image, name, 25) for name in ("a.png", "b.png"))
    assert np.array_equal(first, add_noise(image, "a.png", 25))
    assert np.allclose(first * 2, add_noise(image, "a.png", 50), rtol=1e-12)
    # Of 4096 pairs; correlations scatter by 0.016.
    assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.08


def test_a_split_is_even_and_exact(tmp_path):
    names = [f"{number}.png" for number in range(10, 22)]
    folder = save_images(tmp_path / "some", dict.fromkeys(names, texture(20, 20)))
    kept, out = training_images(folder, 3)
    assert list(out) == ["12.png", "16.png", "20.png"]
    assert kept.keys() == {*names} - out.keys()
    assert "validation=12 of 12 images" in refusal(lambda: training_images(folder, 12))


def test_sample_photographs():
    (first,), (second,) = (part.values() for part in training_images(SAMPLES, 5))
    whole = pudle.make_dataset("noisy_crops").images()[TRAINING_SAMPLE]
    assert np.array_equal(np.hstack([first, second]), whole)
    (everything,), nothing = (part.values() for part in training_images(SAMPLES, 0))
    assert np.array_equal(everything, whole) and not nothing
    assert list(images_to_test(SAMPLES)) == [TEST_SAMPLE] and TEST_SAMPLE != TRAINING_SAMPLE


def test_filters_are_scaled_each_by_itself():
    flat, wave = np.ones((4, 4)), np.tile([1.0, 1, -1, -1], (4, 1))
    checks = np.indices((4, 4)).sum(0) % 2 * 2.0 - 1
    sheet = mosaic(np.array([100 * checks, np.zeros((4, 4)), 1e-3 * wave, flat]))
    tiles = [sheet[down : down + 4, right : right + 4] for down in (0, 5) for right in (0, 5)]
    # Checks, zeros, wave and flat.
    assert [set(tile.ravel()) for tile in tiles] == [{1, 255}, {128}, {1, 255}, {255}]
    assert len({*tiles[2][0]}) == 2 and (tiles[2] == tiles[2][0]).all()


def test_noise_and_targets():
    dataset = pudle.make_dataset("noisy_crops(n_samples=30, size=40, sigma=20)")
    problem = dataset.problem("reconstruction")
    noise = problem.observations - problem.targets
    # Of 48000 draws: the sample deviation scatters by 0.3 percent.
    assert float(noise.std()) * 255 == pytest.approx(20, rel=0.02)
    assert float(problem.observations.mean((2, 3)).abs().max()) < 1e-12
    again = dataclasses.replace(dataset, sigma=10.0).problem()
    torch.testing.assert_close(again.observations - again.targets, noise / 2, rtol=1e-6, atol=1e-9)
    unsupervised = dataclasses.replace(dataset, supervised=False).problem()
    assert unsupervised.targets is None
    assert torch.equal(unsupervised.observations, problem.observations)
    # The loss compares with the clean crops.
    codes = torch.zeros(problem.code_shape, dtype=torch.float64)
    expected = 0.5 * float(problem.targets.square().sum()) / 30
    assert float(problem.outer_loss(codes)) == pytest.approx(expected)


def test_first_filters():
    def filters(options):
        drawn = pudle.make_dataset(f"noisy_crops({options})").filters()
        return drawn.reshape(len(drawn), 81)

    cosines = filters("")
    expected = np.kron(np.eye(32), [[1, -1], [-1, 1]])
    assert np.abs(cosines @ cosines.T - expected).max() < CLOSED_FORM
    assert np.allclose(cosines[0], 1 / 9)
    both = filters("nonnegative=False, n_components=81")
    assert np.abs(both @ both.T - np.eye(81)).max() < CLOSED_FORM
