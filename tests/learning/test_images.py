"""Images: noise, quality, and images that are kept apart."""

from __future__ import annotations

import numpy as np
import pytest
from learning_helpers import refusal
from tolerances import CLOSED_FORM

import pudle
from pudle.learning.images import (
    SAMPLES,
    TEST_SAMPLE,
    TRAINING_SAMPLE,
    add_noise,
    images_to_test,
    psnr,
    split,
    ssim,
    training_images,
)


class TestMeasures:
    def test_psnr_of_a_known_error(self):
        clean = np.full((20, 20), 0.5)
        assert psnr(clean, clean + 0.1) == pytest.approx(20)
        assert psnr(clean, clean + 0.01) == pytest.approx(40)
        # 0.9 + 0.5 is clipped to 1, an error of 0.1.
        assert psnr(clean + 0.4, clean + 0.9) == pytest.approx(20)

    def test_psnr_of_the_noise(self):
        clean = np.full((400, 400), 0.5)
        # Far from 0 and 1, so that clipping takes nothing away.
        assert psnr(clean, add_noise(clean, "a.png", 25)) == pytest.approx(
            20 * np.log10(255 / 25), abs=0.05
        )

    def test_ssim_of_constant_images(self):
        """Without variance it is ``(2 a b + c) / (a^2 + b^2 + c)``, c being 0.01^2."""
        a, b = 0.3, 0.6
        expected = (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4)
        assert ssim(np.full((30, 30), a), np.full((30, 30), b)) == pytest.approx(
            expected, rel=CLOSED_FORM
        )


class TestNoise:
    def test_depends_on_seed_and_name_alone(self):
        image = np.zeros((64, 64))
        first = add_noise(image, "a.png", 25)
        add_noise(image, "b.png", 25)
        assert np.array_equal(first, add_noise(image, "a.png", 25))
        assert np.allclose(first * 2, add_noise(image, "a.png", 50), rtol=1e-12)
        for other in (add_noise(image, "b.png", 25), add_noise(image, "a.png", 25, seed=1)):
            # Of 4096 pairs; correlations scatter by 0.016.
            assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.08


class TestSources:
    def test_split_is_even_and_exact(self):
        images = {str(number): np.zeros(1) for number in range(10, 22)}
        kept, out = split(images, 3)
        assert (
            list(out) == ["12", "16", "20"]
            and {*kept} | {*out} == {*images}
            and not {*kept} & {*out}
        )
        assert split(images, 0) == (images, {})
        assert "validation=12 of 12 images" in refusal(lambda: split(images, 12))

    def test_sample_photographs(self):
        learned, held_out = training_images(SAMPLES, 5)
        (first,), (second,) = learned.values(), held_out.values()
        whole = pudle.make_dataset("noisy_crops").images()[TRAINING_SAMPLE]
        assert np.array_equal(np.hstack([first, second]), whole)
        (everything,), nothing = (
            training_images(SAMPLES, 0)[0].values(),
            training_images(SAMPLES, 0)[1],
        )
        assert np.array_equal(everything, whole) and nothing == {}
        assert list(images_to_test(SAMPLES)) == [TEST_SAMPLE] and TEST_SAMPLE != TRAINING_SAMPLE
