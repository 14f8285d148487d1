"""Denoising: closed forms, loops in numpy, and images that are kept apart."""

from __future__ import annotations

import dataclasses
import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from tolerances import CLOSED_FORM

import pudle
from pudle import cli
from pudle.errors import InvalidArgument, MissingDependency, PudleError
from pudle.learning import denoising
from pudle.learning.denoising import (
    METHODS,
    SAMPLES,
    TEST_SAMPLE,
    TRAINING_SAMPLE,
    DenoisingBaseline,
    DenoisingExperiment,
    add_noise,
    denoise,
    psnr,
    split,
    ssim,
    to_float,
    training_images,
)
from pudle.learning.denoising import test_images as images_to_test_on
from pudle.learning.training import LearningExperiment

TINY = LearningExperiment(
    dataset="noisy_crops(n_samples=24, size=33, start='random')",
    loss="reconstruction",
    algorithm="ista(step=0.05)",
    depth=10,
    optimizer="adam(learning_rate=3e-3)",
    epochs=4,
    batch=4,
    record_every=12,
    dtype="float32",
)


def setting(**changes) -> DenoisingExperiment:
    return DenoisingExperiment(
        **{"training": TINY, "training_images": SAMPLES, "test_images": SAMPLES, "budget": None, "shifts": False} | changes
    )


def haar(size: int = 6, penalty: float = 0.1, **options) -> tuple[np.ndarray, pudle.ConvolutionalSparseCoding]:
    """Four orthonormal filters of 2 x 2 that do not overlap: coding is one transform per block of the image."""
    transform = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]) / 2
    return transform, pudle.ConvolutionalSparseCoding(
        observations=torch.zeros(1, 1, size, size, dtype=torch.float64),
        dictionary=torch.as_tensor(transform.reshape(4, 1, 2, 2)),
        penalty=penalty,
        stride=2,
        **options,
    )


def refusal(call) -> str:
    with pytest.raises(InvalidArgument) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def texture(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A smooth random image of 8 bits with full contrast."""
    spectrum = np.fft.rfft2(np.random.default_rng(seed).standard_normal((height, width)))
    down, across = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    smooth = np.fft.irfft2(spectrum * np.exp(-200 * (down**2 + across**2)), s=(height, width))
    return np.interp(smooth, (smooth.min(), smooth.max()), (0, 255)).astype(np.uint8)


def save(folder, images) -> str:
    folder.mkdir(exist_ok=True)
    for name, values in images.items():
        Image.fromarray(values).save(folder / name)
    return str(folder)


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
        assert psnr(clean, add_noise(clean, "a.png", 25)) == pytest.approx(20 * np.log10(255 / 25), abs=0.05)

    def test_ssim_of_constant_images(self):
        """Without variance it is ``(2 a b + c) / (a^2 + b^2 + c)``, c being 0.01^2."""
        a, b = 0.3, 0.6
        expected = (2 * a * b + 1e-4) / (a**2 + b**2 + 1e-4)
        assert ssim(np.full((30, 30), a), np.full((30, 30), b)) == pytest.approx(expected, rel=CLOSED_FORM)


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

    def test_is_the_same_for_every_method_whatever_the_order(self, tmp_path):
        names = {f"{name}.png": texture(40, 50, seed) for seed, name in enumerate("abc")}
        folder = save(tmp_path / "test", names)
        alone = save(tmp_path / "alone", {"b.png": names["b.png"]})
        learned = setting(training=dataclasses.replace(TINY, epochs=0), test_images=folder).run(tmp_path / "out")
        other = DenoisingBaseline("total variation", test_images=folder).run(tmp_path)
        assert learned.summary["noisy_psnr"] == other.summary["noisy_psnr"]
        assert np.array_equal(learned.arrays["noisy"], other.arrays["noisy"])
        single = DenoisingBaseline("total variation", test_images=alone).run(tmp_path)
        assert single.summary["per_image_psnr"] == [other.summary["per_image_psnr"][1]]


class TestDenoise:
    def test_closed_form(self):
        """With orthonormal filters that do not overlap, one step of length 1 is soft thresholding of the transform."""
        transform, problem = haar()
        image = np.random.default_rng(0).random((6, 8))
        centered = image - image.mean()
        expected = np.empty_like(image)
        for row in range(0, 6, 2):
            for column in range(0, 8, 2):
                found = transform @ centered[row : row + 2, column : column + 2].ravel()
                kept = np.sign(found) * np.maximum(np.abs(found) - 0.1, 0)
                expected[row : row + 2, column : column + 2] = (transform.T @ kept).reshape(2, 2)
        found = denoise(image, problem, pudle.Ista(step=1.0), 1)
        assert np.abs(found - expected - image.mean()).max() < CLOSED_FORM

    def test_identity_where_nothing_is_penalized(self):
        _, problem = haar(penalty=1e-14)
        image = np.random.default_rng(0).random((6, 6))
        for shifts in (False, True):
            assert np.abs(denoise(image, problem, pudle.Ista(step=1.0), 1, shifts=shifts) - image).max() < 1e-12

    def test_the_mean_is_nothing_to_it(self):
        _, problem = haar(nonnegative=True)
        image = np.random.default_rng(0).random((6, 6))
        shifted = denoise(image + 3, problem, pudle.Ista(step=1.0), 4)
        assert np.abs(shifted - 3 - denoise(image, problem, pudle.Ista(step=1.0), 4)).max() < CLOSED_FORM
        # An image without contrast has codes of zero, and its mean is all that is left.
        assert np.abs(denoise(np.full((6, 6), 0.7), problem, pudle.Ista(step=1.0), 4) - 0.7).max() < CLOSED_FORM

    @pytest.mark.parametrize("shape", [(13, 17), (12, 12), (5, 9)])
    def test_shifts_against_a_loop(self, shape):
        """Each shift on its own, the image continued pixel by pixel and cropped by hand."""
        random = np.random.default_rng(0)
        filters = random.standard_normal((6, 1, 5, 4))
        filters /= np.sqrt((filters**2).sum((1, 2, 3), keepdims=True))
        problem = pudle.ConvolutionalSparseCoding(
            observations=torch.zeros(1, 1, 9, 9, dtype=torch.float64),
            dictionary=torch.as_tensor(filters),
            penalty=0.05,
            stride=3,
            nonnegative=True,
        )
        algorithm, image = pudle.Ista(step=0.1), random.random(shape)
        height, width = shape
        total = np.zeros(shape)
        for down in range(3):
            for right in range(3):
                view = np.empty((height + 2, width + 2))
                for row in range(height + 2):
                    for column in range(width + 2):
                        y, x = row - down, column - right
                        y = -y - 1 if y < 0 else 2 * height - 1 - y if y >= height else y
                        x = -x - 1 if x < 0 else 2 * width - 1 - x if x >= width else x
                        view[row, column] = image[y, x] - image.mean()
                one = dataclasses.replace(problem, observations=torch.as_tensor(view[None, None]))
                found = one.synthesize(algorithm.run(one, 7).codes)[0, 0].numpy()
                total += found[down : down + height, right : right + width]
        found = denoise(image, problem, algorithm, 7, shifts=True)
        assert np.abs(found - total / 9 - image.mean()).max() < 1e-12
        plain = denoise(image, problem, algorithm, 7)
        assert np.abs(found - plain).max() > 1e-3

    def test_refusals(self):
        _, problem = haar()
        algorithm = pudle.Ista(step=1.0)
        assert "1 x 6 pixels, smaller than the 2 x 2 filters" in refusal(
            lambda: denoise(np.zeros((1, 6)), problem, algorithm, 1)
        )
        assert "give a gray one" in refusal(lambda: denoise(np.zeros((6, 6, 3)), problem, algorithm, 1))
        assert "NaN" in refusal(lambda: denoise(np.full((6, 6), np.nan), problem, algorithm, 1))


class TestDataset:
    def test_noise_and_targets(self):
        dataset = pudle.make_dataset("noisy_crops(n_samples=30, size=40, sigma=20)")
        problem = dataset.problem("reconstruction")
        noise = problem.observations - problem.targets
        # Of 48000 draws: the sample deviation scatters by 0.3 percent.
        assert float(noise.std()) * 255 == pytest.approx(20, rel=0.02)
        assert torch.allclose(problem.observations.mean((2, 3)), torch.zeros(30, 1).double(), atol=1e-12)
        again = dataclasses.replace(dataset, sigma=10.0).problem()
        ratio = (again.observations - again.targets) / noise
        assert torch.allclose(ratio, torch.full_like(ratio, 0.5), rtol=1e-6)
        unsupervised = dataclasses.replace(dataset, supervised=False).problem()
        assert unsupervised.targets is None and torch.equal(unsupervised.observations, problem.observations)
        assert torch.equal(torch.as_tensor(dataset.draw().observations), problem.observations)

    def test_the_loss_compares_with_the_clean_crops(self):
        problem = pudle.make_dataset("noisy_crops(n_samples=2, size=20)").problem("reconstruction")
        codes = torch.zeros(problem.code_shape, dtype=torch.float64)
        assert float(problem.outer_loss(codes)) == pytest.approx(float(0.5 * problem.targets.square().sum() / 2))

    def test_first_filters(self):
        filters = pudle.make_dataset("noisy_crops").filters()[:, 0].reshape(64, 81)
        expected = np.kron(np.eye(32), [[1, -1], [-1, 1]])
        assert np.abs(filters @ filters.T - expected).max() < CLOSED_FORM
        assert np.allclose(filters[0], 1 / 9)
        both = pudle.make_dataset("noisy_crops(nonnegative=False, n_components=81)").filters()[:, 0].reshape(81, 81)
        assert np.abs(both @ both.T - np.eye(81)).max() < CLOSED_FORM
        random = pudle.make_dataset("noisy_crops(start='random', n_components=7)").filters()[:, 0].reshape(7, 81)
        assert np.allclose(np.linalg.norm(random, axis=1), 1) and np.allclose(random[:2], [[1 / 9] * 81, [-1 / 9] * 81])
        assert np.abs(random[2:].sum(1)).max() < CLOSED_FORM

    def test_same_seed_same_bits(self):
        first, again = (pudle.make_dataset("noisy_crops(n_samples=3, seed=2)").problem() for _ in range(2))
        other = pudle.make_dataset("noisy_crops(n_samples=3, seed=3)").problem()
        assert torch.equal(first.observations, again.observations) and torch.equal(first.targets, again.targets)
        assert not torch.equal(first.targets, other.targets)

    @pytest.mark.parametrize(
        ("spec", "text"),
        [
            ("kernel=40, size=32", "kernel=40 is above size=32"),
            ("stride=10", "stride=10 is above kernel=9"),
            ("n_components=163", "n_components=163 is above the 162 cosines"),
            ("sigma=-1", "sigma=-1"),
            ("supervised=1", "supervised=1"),
            ("start='patches'", "start='patches' is unknown"),
            ("folder=3", "folder=3"),
        ],
    )
    def test_bad_options_are_refused(self, spec, text):
        assert text in refusal(lambda: pudle.make_dataset(f"noisy_crops({spec})"))


class TestImages:
    def test_held_out_images_are_not_learned_from(self, tmp_path):
        """Every image is a checkerboard of its own contrast, which tells where a crop comes from."""
        board = np.indices((40, 40)).sum(0) % 2
        images = {f"{number}.png": (10 * number * board).astype(np.uint8) for number in range(1, 11)}
        folder = save(tmp_path / "training", images)
        test = save(tmp_path / "test", {"1.png": texture(40, 40)})
        training = dataclasses.replace(TINY, dataset="noisy_crops(n_samples=200, size=32)")
        problem, held_out, tested = setting(
            training=training, training_images=folder, test_images=test, validation=3
        ).problem()
        assert len(held_out) == 3 and list(tested) == ["1.png"]
        contrasts = (problem.targets.amax((1, 2, 3)) - problem.targets.amin((1, 2, 3))) * 255
        numbers = {round(float(contrast) / 10) for contrast in contrasts}
        assert numbers == {number for number in range(1, 11) if f"{number}.png" not in held_out}

    def test_split_is_even_and_exact(self):
        images = {str(number): np.zeros(1) for number in range(10, 22)}
        kept, out = split(images, 3)
        assert list(out) == ["12", "16", "20"] and {*kept} | {*out} == {*images} and not {*kept} & {*out}
        assert split(images, 0) == (images, {})
        assert "validation=12 of 12 images" in refusal(lambda: split(images, 12))

    def test_sample_photographs(self):
        learned, held_out = training_images(SAMPLES, 5)
        (first,), (second,) = learned.values(), held_out.values()
        whole = pudle.make_dataset("noisy_crops").images()[TRAINING_SAMPLE]
        assert np.array_equal(np.hstack([first, second]), whole)
        (everything,), nothing = training_images(SAMPLES, 0)[0].values(), training_images(SAMPLES, 0)[1]
        assert np.array_equal(everything, whole) and nothing == {}
        assert list(images_to_test_on(SAMPLES)) == [TEST_SAMPLE] and TEST_SAMPLE != TRAINING_SAMPLE

    def test_folders_come_from_the_environment_where_not_given(self, tmp_path, monkeypatch):
        mine = setting(training_images=None, test_images=None)
        for variable in ("PUDLE_TRAINING_IMAGES", "PUDLE_TEST_IMAGES"):
            monkeypatch.delenv(variable, raising=False)
        assert mine.folders == (SAMPLES, SAMPLES)
        before = mine.fingerprint()
        folder = save(tmp_path / "images", {"a.png": texture(40, 40)})
        monkeypatch.setenv("PUDLE_TEST_IMAGES", folder)
        assert mine.folders == (SAMPLES, folder) and mine.fingerprint() != before
        assert dataclasses.replace(mine, test_images=SAMPLES).folders == (SAMPLES, SAMPLES)

    def test_refusals(self, tmp_path):
        folder = save(tmp_path / "images", {"a.png": texture(40, 40), "b.png": texture(40, 40)})
        for same in (folder, f"{folder}/", f"{folder}/../images"):
            assert "two different folders" in refusal(setting(training_images=folder, test_images=same).problem)
        copy = save(tmp_path / "copy", {"z.png": texture(40, 40)})
        assert "test image z.png is one of the training images" in refusal(
            setting(training_images=folder, test_images=copy, validation=1).problem
        )
        other = dataclasses.replace(TINY, dataset="image_crops(n_samples=2)")
        assert "holds no noisy images" in refusal(setting(training=other).problem)

    def test_test_images_are_looked_at_before_the_training(self, tmp_path):
        broken = tmp_path / "broken"
        broken.mkdir()
        (broken / "a.png").write_bytes(b"no image")
        wide = dataclasses.replace(TINY, dataset="noisy_crops(n_samples=24, size=33, kernel=15, start='random')")
        for training, test, text in (
            (
                TINY,
                save(tmp_path / "small", {"a.png": texture(10, 40)}),
                "a.png is 10 x 40 pixels, smaller than the 11 x 11",
            ),
            (
                wide,
                save(tmp_path / "less", {"b.png": texture(14, 40)}),
                "b.png is 14 x 40 pixels, smaller than the 15 x 15 f",
            ),
            (TINY, str(tmp_path / "absent"), "absent"),
            (TINY, str(broken), "a.png"),
        ):
            with pytest.raises(PudleError, match=text):
                setting(training=training, test_images=test).run(tmp_path / "out")
            assert not (tmp_path / "out").exists()


class TestLearner:
    """What denoising needs of the learner."""

    @staticmethod
    def problem():
        return pudle.make_dataset(
            "sparse_gaussian(n_samples=40, n_features=10, n_components=12, n_nonzero_coefs=2)"
        ).problem()

    def test_monitor_adds_columns_and_sees_the_dictionary(self):
        seen = []

        def monitor(dictionary):
            seen.append(dictionary.clone())
            return {"first": float(dictionary[0, 0])}

        training = pudle.Learner(depth=3, epochs=3).fit(self.problem(), monitor=monitor)
        assert list(training.history["first"]) == [float(dictionary[0, 0]) for dictionary in seen] and len(seen) == 4
        assert torch.equal(seen[-1], training.dictionary)

    def test_budget_of_a_clock_and_its_resumption(self, tmp_path):
        ticks = iter(range(10**6))
        options = {"clock": lambda: float(next(ticks)), "monitor": lambda dictionary: {"one": 1.0}, "folder": tmp_path}
        learner = pudle.Learner(depth=3, epochs=9, batch=10)
        # The clock is read before and after a step, which therefore takes one tick.
        stopped = learner.fit(self.problem(), budget=5, **options)
        assert stopped.steps == 5 and list(stopped.history.step) == [0, 4, 5] and stopped.history.seconds.iloc[-1] == 5
        assert learner.fit(self.problem(), budget=5, resume=True, **options).steps == 5
        whole = learner.fit(self.problem(), resume=True, **options)
        assert whole.steps == 36 and whole.history.one.eq(1).all()
        never = learner.fit(self.problem())
        assert torch.equal(whole.dictionary, never.dictionary)


class TestExperiments:
    @pytest.mark.parametrize(
        ("estimator", "loss", "margin"), [("backprop", "reconstruction", 1.0), ("alternating", "lasso", 0.5)]
    )
    def test_a_tiny_training_denoises_better(self, tmp_path, estimator, loss, margin):
        made = setting(training=dataclasses.replace(TINY, estimator=estimator, loss=loss))
        outcome = made.run(tmp_path / "out")
        history = pd.DataFrame(outcome.rows)
        assert outcome.status == "ok" and list(history.step) == [0, 12, 24]
        assert history.psnr.iloc[-1] > history.psnr.iloc[0] + margin
        summary = outcome.summary
        assert summary["psnr"] > summary["noisy_psnr"] + 2 and summary["psnr"] == summary["per_image_psnr"][0]
        assert np.isnan(summary["psnr_shifted"]) and summary["method"] == f"{estimator}, {loss}, supervised"
        assert summary["steps"] == 24 and summary["test_images"] == "scikit-learn's"
        assert outcome.arrays["filters"].shape == (64, 9, 9)
        assert outcome.arrays["clean"].shape == outcome.arrays["denoised"].shape == (160, 160)

    def test_a_training_that_diverges_is_told_and_not_tested(self, tmp_path):
        """With a step of almost 2/L at the start, a large learning rate leads where the algorithm refuses its step."""
        training = dataclasses.replace(
            TINY,
            dataset="noisy_crops(n_samples=24, size=33)",
            algorithm="ista(step=0.1)",
            optimizer="adam(learning_rate=0.3)",
        )
        outcome = setting(training=training).run(tmp_path / "out")
        assert outcome.status == "diverged" and "step=0.1 is above 2/L" in outcome.reason
        assert "psnr" not in outcome.summary and [row["psnr"] > 15 for row in outcome.rows][0]

    def test_penalties_are_learned(self, tmp_path):
        start = "noisy_crops(n_samples=24, size=33, penalty=0.02"
        made = setting(training=dataclasses.replace(TINY, dataset=f"{start}, learned_penalties=True)"))
        outcome = made.run(tmp_path / "one")
        penalties, history = outcome.arrays["penalties"], pd.DataFrame(outcome.rows)
        assert outcome.summary["method"] == "backprop, reconstruction, supervised, learned penalties"
        # Far too small for the noise: all but those of filters that carry much grow.
        assert penalties.shape == (64,) and np.ptp(penalties) > 1e-4 and np.median(penalties) > 0.02
        assert np.allclose(np.linalg.norm(outcome.arrays["filters"].reshape(64, -1), axis=1), 1, atol=1e-5)
        fixed = setting(training=dataclasses.replace(TINY, dataset=f"{start})")).run(tmp_path / "two")
        assert history.psnr.iloc[0] == fixed.rows[0]["psnr"]
        assert outcome.summary["psnr"] > fixed.summary["psnr"]

    def test_shifts_help(self, tmp_path):
        folder = save(tmp_path / "test", {"a.png": texture(60, 70)})
        untrained = dataclasses.replace(TINY, epochs=0, dataset="noisy_crops(n_samples=24, size=33)")
        summary = setting(training=untrained, test_images=folder, shifts=True).run(tmp_path / "out").summary
        assert summary["psnr_shifted"] > summary["psnr"] + 0.3 and summary["ssim_shifted"] > summary["ssim"]

    @pytest.mark.parametrize("method", METHODS)
    def test_baselines(self, tmp_path, method):
        folder = save(tmp_path / "test", {"a.png": texture(60, 70)})
        outcome = DenoisingBaseline(method, test_images=folder).run(tmp_path)
        summary = outcome.summary
        assert outcome.rows == [] and summary["method"] == method and "filters" not in outcome.arrays
        assert summary["psnr"] > summary["noisy_psnr"] + 4

    @pytest.mark.parametrize("method", METHODS)
    def test_baselines_are_told_the_noise(self, method):
        clean = to_float(texture(60, 70))
        noisy = add_noise(clean, "a", 50)
        assert psnr(clean, METHODS[method](noisy, 50 / 255)) > psnr(clean, METHODS[method](noisy, 5 / 255)) + 1

    @pytest.mark.parametrize("name", ["scikit-image", "bm3d", "PyWavelets"])
    def test_a_package_that_appears_or_is_renewed_outdates_a_baseline(self, monkeypatch, name):
        """A method that was left out for want of a package is tried again once it is there."""
        experiment, found = DenoisingBaseline("BM3D", test_images=SAMPLES), set()
        for number in ("", "1.0", "2.0"):
            monkeypatch.setattr(
                denoising, "versions", lambda *names, number=number: dict.fromkeys(names, "1") | {name: number}
            )
            found.add(experiment.fingerprint())
        assert len(found) == 3

    def test_without_images_held_out_there_is_no_psnr_on_the_way(self, tmp_path):
        made = setting(training=dataclasses.replace(TINY, epochs=1, record_every=6), validation=0)
        outcome = made.run(tmp_path / "out")
        assert [np.isnan(row["psnr"]) for row in outcome.rows] == [True, True] and outcome.summary["psnr"] > 0

    @pytest.mark.parametrize(("method", "package"), [("BM3D", "bm3d"), ("wavelet", "pywt")])
    def test_a_missing_package_is_told(self, tmp_path, monkeypatch, method, package):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingDependency, match=r"install pudle\[baselines\]"):
            DenoisingBaseline(method, test_images=SAMPLES).run(tmp_path)

    def test_named_settings(self):
        known = {name: found for name, found in pudle.list_experiments().items() if found.kind == "denoising"}
        for name, found in known.items():
            if "-small-" in name:
                assert found.test_images == SAMPLES
            if isinstance(found, DenoisingExperiment):
                found.training.learner()
                assert (
                    pudle.make_dataset(found.dataset).n_components == 64 and found.sigma == 25 and found.training.depth == 15
                )
        methods = {found.method for found in known.values()}
        assert {*METHODS, "backprop, reconstruction, supervised", "alternating, lasso, supervised"} <= methods


class TestCommand:
    @staticmethod
    def run(monkeypatch, capsys, *arguments):
        monkeypatch.setattr(sys, "argv", ["pudle", "denoise", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            cli.main()
        printed = capsys.readouterr()
        return end.value.code or 0, printed.out, printed.err

    def test_table_and_files(self, tmp_path, monkeypatch, capsys):
        folder, out = save(tmp_path / "test", {"a.png": texture(60, 70)}), tmp_path / "out"
        arguments = (
            "--setting",
            "denoising-small-backprop",
            "--dataset",
            "noisy_crops(n_samples=8, size=33)",
            "--epochs",
            1,
        )
        arguments += ("--test-images", folder, "--baseline", "total variation", "--baseline", "BM3D", "--out", out)
        monkeypatch.setitem(sys.modules, "bm3d", None)
        code, printed, err = self.run(monkeypatch, capsys, *arguments)
        assert code == 0 and "BM3D is left out: install pudle[baselines]" in err
        results = json.loads((out / "denoising.json").read_text())["results"]
        assert list(results) == ["backprop, reconstruction, supervised", "total variation"]
        lines = printed.splitlines()
        assert "1 images of test, sigma 25" in lines[0]
        for name, result in {"noisy": {"psnr": results["total variation"]["noisy_psnr"]}, **results}.items():
            (line,) = (line for line in lines if f" {name} " in line)
            for key in ("psnr", "psnr_shifted"):
                if result.get(key) is not None:
                    assert f" {result[key]:.2f} " in line
        assert list(pd.read_csv(out / "history.csv").step) == [0, 8]
        with np.load(out / "pictures.npz") as pictures:
            assert pictures["total variation: denoised"].shape == (60, 70)
        code, _, err = self.run(monkeypatch, capsys, *arguments)
        assert code == 2 and "holds results already" in err

    def test_resume(self, tmp_path, monkeypatch, capsys):
        """A training that was interrupted goes on with the flag and not without; without one the flag is refused."""
        folder, out = save(tmp_path / "test", {"a.png": texture(60, 70)}), tmp_path / "out"
        arguments = (
            "--setting",
            "denoising-small-backprop",
            "--dataset",
            "noisy_crops(n_samples=8, size=33)",
            "--epochs",
            2,
        )
        arguments += ("--test-images", folder, "--no-shifts", "--record-every", 8, "--out", out)
        code, _, err = self.run(monkeypatch, capsys, *arguments, "--resume")
        assert code == 2 and "holds no checkpoint to resume" in err and not out.exists()
        assert self.run(monkeypatch, capsys, *arguments, "--budget", "1e-6")[0] == 0
        (out / "denoising.json").unlink()
        code, _, err = self.run(monkeypatch, capsys, *arguments)
        assert code == 2 and "holds results already" in err
        assert list(pd.read_csv(out / "history.csv").step) == [0, 1]
        assert self.run(monkeypatch, capsys, *arguments, "--resume")[0] == 0
        assert list(pd.read_csv(out / "history.csv").step) == [0, 1, 8, 16]

    def test_wrong_usage(self, tmp_path, monkeypatch, capsys):
        for arguments, text in (
            (("--setting", "denoising-small-bacprop"), "did you mean 'denoising-small-backprop'"),
            ((), "--out is missing"),
            (("--setting", "denoising-wavelet", "--epochs", 3, "--out", tmp_path), "it has no --epochs"),
        ):
            code, _, err = self.run(monkeypatch, capsys, *arguments)
            assert code == 2 and text in err and len(err.strip().splitlines()) == 1
        code, printed, _ = self.run(monkeypatch, capsys, "--settings")
        assert code == 0 and "denoising-bm3d: BM3D" in printed
