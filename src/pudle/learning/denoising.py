"""Denoising of whole images, with filters that are learned from noisy crops of other images, and
with other packages' methods on the same noisy images.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from .. import names
from ..algorithms import Algorithm
from ..errors import InvalidArgument
from ..measuring.experiment import (
    Experiment,
    ExperimentResult,
    Outcome,
    Plain,
    ProgressCallback,
    Stored,
    silent,
)
from ..peers import require, versions
from ..problems import ConvolutionalSparseCoding
from ..problems.l1 import DictionaryProblem
from ..validation import check_choice, check_integer, check_positive
from . import images
from .learner import Training
from .learning_experiment import LearningExperiment
from .matching import Array
from .run import LearningRun, Measure

#: Side in pixels of the pictures of a test image that a result keeps.
PICTURE = 160

#: Returns an image without its noise.
Denoiser = Callable[[Array], Array]


def denoise(
    image: Array,
    problem: DictionaryProblem,
    algorithm: Algorithm,
    depth: int,
    *,
    shifts: bool = False,
) -> Array:
    """Return an image without its noise: its mean is removed, it is coded, and the mean is added to
    what the codes synthesize.

    The image, shape (H, W), has finite gray values and is at least as large as the filters; the
    result, in float64, is not clipped. The filters (of one channel) and options of a convolutional
    problem are used, its observations are not.

    With `shifts`, this is done for each of the ``stride**2`` positions of the image on the grid of
    the codes, and the results are averaged: pixels differ in how many filters reach them, which
    leaves a pattern with the stride's period. For the shifts the image is extended by ``stride -
    1`` pixels, mirrored at its borders.
    """
    assert isinstance(problem, ConvolutionalSparseCoding)
    mean, surplus = float(image.mean()), problem.stride - 1 if shifts else 0
    (height, width), total = image.shape, np.zeros(image.shape)
    # One shift after the other: all at once would need more memory, and more time because they
    # would not fit in cache.
    for down, right in itertools.product(range(surplus + 1), repeat=2):
        margins = (down, surplus - down), (right, surplus - right)
        view = np.pad(image - mean, margins, mode="symmetric")[None, None]
        noisy = replace(problem, observations=problem.dictionary.new_tensor(view), targets=None)
        with torch.no_grad():
            synthesis = noisy.synthesize(algorithm.run(noisy, depth).codes)[0, 0].cpu().numpy()
        total += synthesis.astype(float)[down : down + height, right : right + width]
    denoise_image: Array = total / (surplus + 1) ** 2 + mean
    return denoise_image


@dataclass(frozen=True, eq=False)
class ValidationPsnr(Measure):
    """The mean PSNR in dB of held-out images, each given without and with noise."""

    held_out: Sequence[tuple[Array, Array]]

    def at(self, run: LearningRun) -> dict[str, float]:
        """Return the mean as ``psnr``; NaN without held-out images, and where the algorithm refuses
        the filters.
        """
        algorithm, depth = run.options.parts.algorithm, run.options.depth
        try:
            values = [
                images.psnr(clean, denoise(noisy, run.learned, algorithm, depth))
                for clean, noisy in self.held_out
            ]
        except InvalidArgument:
            # The algorithm's step is too long for these filters: the training is about to end as
            # diverged.
            values = []
        return {"psnr": float(np.mean(values)) if values else math.nan}


@dataclass(frozen=True)
class DenoisingTest(Experiment):
    """Denoise the images of a folder, with the same noise for every method.

    Attributes
    ----------
    test_images : str, optional
        Folder of images to test on [default: $PUDLE_TEST_IMAGES]. Where neither is given, it is one
        of the photographs that ship inside scikit-learn, as with ``"scikit-learn"``.
    sigma : float
        Noise standard deviation, on the 0-255 scale [default: 25].
    """

    kind: ClassVar[str] = "denoising"

    test_images: str | None = None
    sigma: float = 25.0

    @property
    def test_folder(self) -> str:
        """Source of the test images."""
        return images.image_folder(self.test_images, "PUDLE_TEST_IMAGES")

    def pairs(self, clean: images.Images, note: str = "") -> Iterator[tuple[Array, Array]]:
        """Yield images with values in [0, 1] without and with noise, which depends on `sigma`, the
        name and the note alone.
        """
        for name, integers in clean.items():
            image = integers / np.iinfo(integers.dtype).max
            yield image, images.add_noise(image, name + note, self.sigma)

    def evaluate(
        self, methods: Mapping[str, Denoiser], tested: images.Images, progress: ProgressCallback
    ) -> Outcome:
        """Denoise the test images, and return a summary and pictures of the first image; nothing is
        written.

        The methods are named by the end of their columns: ``""`` and, for an average over shifts,
        ``_shifted``; the means of PSNR and SSIM are NaN for one that is not given. `progress` is
        called after each image.
        """
        rows: list[dict[str, float]] = []
        first: dict[str, Array] = {}
        for clean, noisy in self.pairs(tested):
            row = {
                "noisy_psnr": images.psnr(clean, noisy, clip=False),
                "psnr_shifted": math.nan,
                "ssim_shifted": math.nan,
            }
            pictures = {"clean": clean, "noisy": noisy}
            for end, method in methods.items():
                image = pictures[f"denoised{end}"] = method(noisy)
                row[f"psnr{end}"] = images.psnr(clean, image)
                row[f"ssim{end}"] = images.ssim(clean, image)
            rows.append(row)
            first = first or pictures
            progress(len(rows), len(tested), "test images")
        folder = self.test_folder
        summary: dict[str, Plain] = {
            key: float(np.mean([row[key] for row in rows])) for key in rows[0]
        }
        summary |= {
            "sigma": self.sigma,
            "images": len(rows),
            "test_images": "scikit-learn's" if folder == images.SAMPLES else Path(folder).name,
        }
        return summary, {name: _picture(image) for name, image in first.items()}


def _picture(image: Array) -> Stored:
    """Return the middle of an image, `PICTURE` pixels wide and high at most, clipped to values in
    [0, 1], in float32.
    """
    row, column = (max(side - PICTURE, 0) // 2 for side in image.shape)
    return image[row : row + PICTURE, column : column + PICTURE].clip(0, 1).astype(np.float32)


@dataclass(frozen=True)
class DenoisingExperiment(DenoisingTest, LearningExperiment):
    """Learn filters from noisy crops of training images, and denoise test images with them.

    The dataset is a spec of `noisy_crops`, without folder, noise and seed. The schedule follows the
    training's epochs: a cosine that the budget cuts off never reaches its small rates, so choose
    epochs that fit into the budget. No test image may be a training or validation image.

    Attributes
    ----------
    training_images : str, optional
        Folder of images to learn from [default: $PUDLE_TRAINING_IMAGES]. Where neither is given, it
        is one of the photographs that ship inside scikit-learn, as with ``"scikit-learn"``.
    validation : int
        Images held out of the training images [default: 5]. Any positive number holds out the right
        quarter of the sample photograph, and with zero, ``psnr`` in the history is NaN.
    shifts : bool
        Average over all shifts of the grid as well [default: yes].
    """

    budget: float | None = 900.0
    training_images: str | None = None
    validation: int = 5
    shifts: bool = True

    @property
    def title(self) -> str:
        traits = ("supervised", "learned_penalties")
        present = [trait.replace("_", " ") for trait in traits if getattr(self.data, trait)]
        return ", ".join([f"{self.estimator}", self.loss, *present])

    @property
    def data(self) -> Any:
        """The dataset of noisy crops, with the noise of `sigma`; InvalidArgument refuses any other
        kind of dataset.
        """
        dataset: Any = names.make_dataset(self.dataset)
        if dataset.name != "noisy_crops":
            raise InvalidArgument(
                f"dataset {self.dataset!r} holds no noisy images: give noisy_crops(...)"
            )
        return replace(dataset, sigma=check_positive("sigma", self.sigma))

    @property
    def folders(self) -> tuple[str, str]:
        """Sources of the training and the test images."""
        return images.image_folder(self.training_images, "PUDLE_TRAINING_IMAGES"), self.test_folder

    def fingerprint(self) -> str:
        return " ".join(images.image_dataset(folder).fingerprint() for folder in self.folders)

    @cached_property
    def image_sets(self) -> tuple[images.Images, images.Images, images.Images]:
        """The images to learn from, those held out of them, and those to test on, read once."""
        training, test = self.folders
        held_out = check_integer("validation", self.validation, 0)
        return *images.training_images(training, held_out), images.images_to_test(test)

    def problem(self, device: str = "cpu", **options: images.Images) -> DictionaryProblem:
        """Draw the noisy crops to learn from, on a device; `options` are not used.

        InvalidArgument refuses a `start`, datasets other than noisy crops, training and test images
        with an image in common, and images that cannot be read or are smaller than the filters.
        """
        if self.start:
            raise InvalidArgument(
                f"start={self.start!r} is not for denoising: filters start as the dataset's option"
                " says"
            )
        kernel = self.data.kernel
        learned, validation, tested = self.image_sets
        used_in_training = [*learned.values(), *validation.values()]
        for name, image in tested.items():
            if any(np.array_equal(image, training_image) for training_image in used_in_training):
                raise InvalidArgument(
                    f"test image {name} is one of the training images as well: take it out of one"
                    " folder"
                )
        for part in (validation, tested):
            images.check_sizes(part, kernel, "filters")
        return super().problem(device, images=learned)

    def measures(self) -> list[Measure]:
        return [ValidationPsnr([*self.pairs(self.image_sets[1], " held out")]), *super().measures()]

    def outcome(
        self, problem: DictionaryProblem, training: Training, progress: ProgressCallback
    ) -> Outcome:
        """Return summary and arrays, after a test of the filters unless the training diverged.

        The summary holds ``method``, ``sigma``, ``images`` (number of test images),
        ``test_images`` (their source), ``noisy_psnr``, ``psnr`` and ``ssim``, the same with an
        average over shifts (``..._shifted``), and ``training_seconds``. Arrays are pictures of the
        first test image, the ``filters`` (p, k, k) and, where they are learned, the ``penalties``
        (p,).
        """
        summary: dict[str, Plain] = {
            "method": self.title,
            "training_seconds": training.rows[-1]["seconds"],
        }
        arrays: dict[str, Stored] = {"filters": training.dictionary[:, 0].cpu().numpy()}
        fields = problem.fields_at(training.theta)
        if "penalty" in fields:
            arrays["penalties"] = fields["penalty"].flatten().cpu().numpy()
        if training.status == "diverged":
            return summary, arrays
        with_filters = partial(
            denoise,
            problem=replace(problem, **fields),
            algorithm=self.parts.algorithm,
            depth=self.depth,
        )
        methods: dict[str, Denoiser] = {"": with_filters}
        if self.shifts:
            methods["_shifted"] = partial(with_filters, shifts=True)
        results, pictures = self.evaluate(methods, self.image_sets[2], progress)
        return summary | results, pictures | arrays


def _wavelet(noisy: Array, deviation: float) -> Array:
    """Denoise an image by wavelets with BayesShrink's thresholds; MissingDependency says that
    PyWavelets is not installed.
    """
    require("pywt", "baselines")
    denoise_image: Array = images.SKIMAGE.restoration.denoise_wavelet(
        noisy, deviation, "sym4", method="BayesShrink", rescale_sigma=False
    )
    return denoise_image


#: Functions of an image with values in [0, 1] and of the noise's standard deviation on that scale.
METHODS: dict[str, Callable[[Array, float], Array]] = {
    "BM3D": lambda noisy, deviation: require("bm3d", "baselines").bm3d(noisy, deviation),
    "non-local means": lambda noisy, deviation: images.SKIMAGE.restoration.denoise_nl_means(
        noisy, patch_size=5, patch_distance=6, h=0.6 * deviation, sigma=deviation
    ),
    "wavelet": _wavelet,
    "total variation": lambda noisy, deviation: images.SKIMAGE.restoration.denoise_tv_chambolle(
        noisy, weight=deviation
    ),
}


@dataclass(frozen=True)
class DenoisingBaseline(DenoisingTest):
    """Denoise the test images with a method of another package, which is given the noise's standard
    deviation.

    Sources: Dabov, Foi, Katkovnik and Egiazarian, "Image denoising by sparse 3-D transform-domain
    collaborative filtering", IEEE Trans. Image Processing 2007. Buades, Coll and Morel, "A
    non-local algorithm for image denoising", CVPR 2005. Chang, Yu and Vetterli, "Adaptive wavelet
    thresholding", IEEE Trans. Image Processing 2000. Chambolle, "An algorithm for total variation
    minimization", J. Mathematical Imaging and Vision 2004.

    Attributes
    ----------
    baseline : str
        One of `METHODS`.
    """

    baseline: str = field(kw_only=True)

    def __post_init__(self) -> None:
        check_choice("baseline", self.baseline, METHODS)

    def fingerprint(self) -> str:
        """Return a text of the test images' state, and of the versions of the packages that methods
        come from.
        """
        # A package that is installed or upgraded may give another result, or one instead of none.
        return (
            f"{images.image_dataset(self.test_folder).fingerprint()}"
            f" {versions('scikit-image', 'bm3d', 'PyWavelets')}"
        )

    def run(
        self, folder: Path, device: str = "cpu", progress: ProgressCallback = silent
    ) -> ExperimentResult:
        """Denoise the test images; summary and arrays are those of `DenoisingExperiment` that need
        no training, and there are no rows.

        Nothing is written into the folder. MissingDependency says that the method's package is not
        installed.
        """
        deviation = check_positive("sigma", self.sigma) / 255

        def denoise_image(noisy: Array) -> Array:
            return METHODS[self.baseline](noisy, deviation)

        tested = images.images_to_test(self.test_folder)
        summary, pictures = self.evaluate({"": denoise_image}, tested, progress)
        return ExperimentResult([], {"method": self.baseline} | summary, pictures)
