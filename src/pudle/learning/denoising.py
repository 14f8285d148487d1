"""Denoising of whole images, with filters that are learned from noisy crops of other images."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from .. import names
from ..algorithms import Algorithm
from ..errors import InvalidArgument
from ..measuring.experiment import Experiment, ExperimentResult, ProgressCallback, silent
from ..names import make_dataset
from ..problems import ConvolutionalSparseCoding
from ..validation import check_integer, check_positive
from .images import (
    SAMPLES,
    Images,
    add_noise,
    check_sizes,
    load_images,
    psnr,
    resolve,
    source,
    ssim,
    to_float,
)
from .training import LearningExperiment, TrainedExperiment, result_of

#: Side in pixels of the pictures of a test image that a result keeps.
PICTURE = 160


def denoise(
    image: np.ndarray,
    problem: ConvolutionalSparseCoding,
    algorithm: Algorithm,
    depth: int,
    *,
    shifts: bool = False,
) -> np.ndarray:
    """Denoise an image: remove its mean, code it, synthesize an image from the codes, and add the
    mean again.

    The image, shape (H, W), has finite gray values and is at least as large as the filters; the
    result, in float64, is not clipped. The problem's filters (of one channel) and options are used,
    its observations are not.

    With `shifts`, this is done for each of the ``stride**2`` positions of the image on the grid of
    the codes, and the results are averaged: pixels differ in how many filters reach them, which
    leaves a pattern with the stride's period. For the shifts the image is extended by ``stride -
    1`` pixels, mirrored at its borders.
    """
    image = np.asarray(image, dtype=float)
    if image.ndim != 2:
        raise InvalidArgument(
            f"image has shape {image.shape}: give a gray one, of shape (height, width)"
        )
    check_sizes({"image": image}, problem.dictionary.shape[2:], "filters")
    mean, surplus = image.mean(), problem.stride - 1 if shifts else 0
    (height, width), total = image.shape, np.zeros(image.shape)
    plain = dataclasses.replace(
        problem, targets=None, generating_dictionary=None, generating_codes=None
    )
    # One shift after the other: all at once would need more memory, and more time because they
    # would not fit in cache.
    for down, right in np.ndindex(surplus + 1, surplus + 1):
        view = np.pad(
            image - mean, ((down, surplus - down), (right, surplus - right)), mode="symmetric"
        )
        noisy = dataclasses.replace(
            plain, observations=problem.dictionary.new_tensor(view[None, None])
        )
        with torch.no_grad():
            synthesized = (
                noisy.synthesize(algorithm.run(noisy, depth).codes)[0, 0]
                .cpu()
                .numpy()
                .astype(float)
            )
        total += synthesized[down : down + height, right : right + width]
    return total / (surplus + 1) ** 2 + mean


class DenoisingTest(Experiment):
    """An experiment that denoises the images of a folder; its noise is the same for every method."""

    kind: ClassVar[str] = "denoising"

    test_images: str | None
    sigma: float
    noise_seed: int

    @property
    def test_folder(self) -> str:
        """Source of the test images."""
        return resolve(self.test_images, "PUDLE_TEST_IMAGES")

    def evaluate(
        self,
        methods: Mapping[str, Callable[[np.ndarray], np.ndarray]],
        images: Images,
        progress: ProgressCallback,
    ) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Denoise the test images, and return a summary and pictures of the first image.

        The methods are named ``denoised`` and, for an average over shifts, ``denoised_shifted``;
        the means of PSNR and SSIM are NaN for one that is not given.
        """
        rows: list[dict[str, float]] = []
        pictures: dict[str, np.ndarray] = {}
        for name, integers in images.items():
            clean = to_float(integers)
            noisy = add_noise(clean, name, self.sigma, self.noise_seed)
            denoised = {key: method(noisy) for key, method in methods.items()}
            row = {
                "noisy_psnr": psnr(clean, noisy, clip=False),
                "psnr_shifted": math.nan,
                "ssim_shifted": math.nan,
            }
            for key, image in denoised.items():
                suffix = key.removeprefix("denoised")
                row |= {f"psnr{suffix}": psnr(clean, image), f"ssim{suffix}": ssim(clean, image)}
            rows.append(row)
            if not pictures:
                top, left = ((side - min(side, PICTURE)) // 2 for side in clean.shape)
                pictures = {
                    key: image[top : top + PICTURE, left : left + PICTURE]
                    .clip(0, 1)
                    .astype(np.float32)
                    for key, image in ({"clean": clean, "noisy": noisy} | denoised).items()
                }
            progress(len(rows), len(images), "test images")
        summary: dict[str, Any] = {
            key: float(np.mean([row[key] for row in rows])) for key in rows[0]
        }
        owner = "scikit-learn's" if self.test_folder == SAMPLES else Path(self.test_folder).name
        summary |= {"sigma": self.sigma, "images": len(rows), "test_images": owner}
        return summary | {"per_image_psnr": [row["psnr"] for row in rows]}, pictures


@dataclass(frozen=True)
class DenoisingExperiment(DenoisingTest, TrainedExperiment):
    """Learn filters from noisy crops of training images, and denoise test images with them.

    The dataset of `training` is a spec of `noisy_crops`, without folder, noise and seed.
    `training_images` and `test_images` are folders, or ``"scikit-learn"`` for the photographs that
    ship inside it, one to learn from and one to test on; by default the folders in the environment
    variables ``PUDLE_TRAINING_IMAGES`` and ``PUDLE_TEST_IMAGES``, or else scikit-learn's
    photographs. No test image may be a training or validation image.

    `sigma` is the noise standard deviation in training and tests, on the 0-255 scale, and
    `noise_seed` the seed of the noise of validation and test images. `validation` is the number of
    images held out of the training images; any positive number holds out the right quarter of the
    sample photograph, and with zero, ``psnr`` in the history is NaN. `shifts` says whether to test
    with an average over all shifts of the grid too.

    The training stops after `budget` seconds, which are processor seconds on the CPU. The schedule
    follows the training's epochs: a cosine that the budget cuts off never reaches its small rates,
    so choose epochs that fit into the budget.
    """

    training: LearningExperiment
    training_images: str | None = None
    test_images: str | None = None
    sigma: float = 25.0
    budget: float | None = 900.0
    validation: int = 5
    noise_seed: int = 0
    shifts: bool = True

    @property
    def method(self) -> str:
        """Name of the method in tables."""
        dataset = self.crops
        traits = {"supervised": dataset.supervised, "learned penalties": dataset.learned_penalties}
        return ", ".join(
            [
                self.estimator,
                self.training.loss,
                *(name for name, present in traits.items() if present),
            ]
        )

    @property
    def crops(self) -> Any:
        """The dataset to learn from; others than noisy crops are refused."""
        dataset: Any = make_dataset(self.dataset)
        if dataset.name != "noisy_crops":
            raise InvalidArgument(
                f"dataset {self.dataset!r} holds no noisy images: give noisy_crops(...)"
            )
        return dataset

    @property
    def folders(self) -> tuple[str, str]:
        """Sources of the training and the test images."""
        return resolve(self.training_images, "PUDLE_TRAINING_IMAGES"), self.test_folder

    def fingerprint(self) -> str:
        return " ".join(source(folder).fingerprint() for folder in self.folders)

    def problem(self, device: str = "cpu") -> tuple[ConvolutionalSparseCoding, Images, Images]:
        """Draw the noisy crops to learn from, and return them with the validation and the test
        images.

        Datasets other than noisy crops, training and test images with an image in common, and
        images that cannot be read or are smaller than the filters are refused.
        """
        check_positive("sigma", self.sigma)
        check_integer("validation", self.validation, 0)
        dataset = self.crops
        if start := self.training.start:
            raise InvalidArgument(
                f"start={start!r} is not for denoising: filters start as the dataset's option says"
            )
        images, validation, tested = load_images(*self.folders, self.validation, dataset.kernel)
        noisy = dataclasses.replace(
            self.training, dataset=names.text(dataclasses.replace(dataset, sigma=self.sigma))
        )
        problem: Any = noisy.problem(device, images=images)
        return problem, validation, tested

    def run(
        self, folder: Path, device: str = "cpu", progress: ProgressCallback = silent
    ) -> ExperimentResult:
        """Learn the filters and test them.

        Rows are those of `Training.history`, with ``psnr``, the mean over the validation images in
        dB. The summary holds ``method``, ``sigma``, ``images`` (number of test images),
        ``test_images`` (their source), ``noisy_psnr``, ``psnr`` and ``ssim``, the same with an
        average over shifts (``..._shifted``), ``per_image_psnr``, ``steps`` and
        ``training_seconds``. Arrays are pictures of the first test image, the ``filters`` (p, k, k)
        and, where they are learned, the ``penalties`` (p,). The reason holds the warnings, if any.
        The filters of a training that diverged are not tested.
        """
        learner, (problem, validation, images) = self.training.learner(), self.problem(device)
        algorithm: Any = learner.algorithm
        clean = {name: to_float(image) for name, image in validation.items()}
        noisy = {
            name: add_noise(image, f"{name} held out", self.sigma, self.noise_seed)
            for name, image in clean.items()
        }

        def monitor(theta: Tensor) -> dict[str, float]:
            current = dataclasses.replace(problem, **problem.fields_at(theta))
            try:
                values = [
                    psnr(clean[name], denoise(noisy[name], current, algorithm, learner.depth))
                    for name in clean
                ]
            except InvalidArgument:
                # The algorithm's step is too long for these filters: the training is about to end
                # as diverged.
                values = []
            return {"psnr": float(np.mean(values)) if values else math.nan}

        training = self.training.train(
            problem, folder, device, progress, monitor=monitor, budget=self.budget
        )
        summary = {
            "method": self.method,
            "training_seconds": float(training.history.seconds.iloc[-1]),
        }
        arrays = {"filters": training.dictionary[:, 0].cpu().numpy()}
        if training.status == "diverged":
            return result_of(training, summary, arrays)
        learned = dataclasses.replace(problem, **problem.fields_at(training.theta))
        if isinstance(learned.penalty, Tensor):
            arrays["penalties"] = learned.penalty.flatten().cpu().numpy()
        methods = {"denoised": lambda image: denoise(image, learned, algorithm, learner.depth)}
        if self.shifts:
            methods["denoised_shifted"] = lambda image: denoise(
                image, learned, algorithm, learner.depth, shifts=True
            )
        tested, pictures = self.evaluate(methods, images, progress)
        return result_of(training, summary | tested, pictures | arrays)
