"""Denoising of whole images with learned filters, and with other packages' methods, on the very same noisy images."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ..errors import InvalidArgument
from ..measuring.experiment import Experiment, ExperimentResult, ProgressCallback, silent
from ..peers import require, versions
from ..registry import make_dataset
from ..streams import generator
from ..validation import check_choice, check_integer, check_positive
from .training import LearningExperiment

if TYPE_CHECKING:
    from torch import Tensor

    from ..algorithms import Algorithm
    from ..problems.convolutional import ConvolutionalSparseCoding

#: In place of a folder: the photographs that ship inside scikit-learn, one to learn from and one to test on.
SAMPLES = "scikit-learn"
#: Where folders are looked for that are not given.
TRAINING_VARIABLE, TEST_VARIABLE = "PUDLE_TRAINING_IMAGES", "PUDLE_TEST_IMAGES"
#: Of the photographs inside scikit-learn.
TRAINING_SAMPLE, TEST_SAMPLE = "china.jpg", "flower.jpg"
#: Side in pixels of the pictures that are kept of a test image.
PICTURE = 160
#: Side in pixels of the window of the structural similarity, 3.5 standard deviations to either side.
WINDOW = 11

Images = Mapping[str, np.ndarray]


# --- one image


def denoise(
    image: np.ndarray, problem: ConvolutionalSparseCoding, algorithm: Algorithm, depth: int, *, shifts: bool = False
) -> np.ndarray:
    """Denoise an image: its mean is removed, it is coded, and what the codes synthesize gets the mean back.

    With `shifts`, this is done for each of the ``stride**2`` positions that the image can have on the grid of the codes,
    and the results are averaged: pixels differ in how many filters reach them, which leaves a pattern of the stride's
    period. For that the image is continued by ``stride - 1`` pixels, mirrored at its borders.

    Parameters
    ----------
    image : array, shape (H, W)
        Gray values, with noise.
    problem : ConvolutionalSparseCoding
        Its filters (of one channel) and options are used, its observations are not.
    algorithm : Algorithm
    depth : int
        Layers, >= 0.
    shifts : bool

    Returns
    -------
    array, shape (H, W)
        In float64; not clipped.

    Raises
    ------
    InvalidArgument
        If the image is not a matrix of finite numbers, or is smaller than the filters.
    """
    import torch

    image = np.asarray(image, dtype=float)
    if image.ndim != 2:
        raise InvalidArgument(f"image has shape {image.shape}: give a gray one, of shape (height, width)")
    kernel: Any = tuple(problem.dictionary.shape[2:])
    _check_sizes({"image": image}, kernel, "filters")
    mean, surplus = image.mean(), problem.stride - 1 if shifts else 0
    (height, width), total = image.shape, np.zeros(image.shape)
    # One after the other: all at once would need more memory, and more time for want of cache.
    for down, right in np.ndindex(surplus + 1, surplus + 1):
        view = np.pad(image - mean, ((down, surplus - down), (right, surplus - right)), mode="symmetric")
        noisy = dataclasses.replace(
            problem,
            observations=torch.as_tensor(view[None, None]).to(problem.dictionary),
            targets=None,
            generating_dictionary=None,
            generating_codes=None,
        )
        with torch.no_grad():
            found = noisy.synthesize(algorithm.run(noisy, depth).codes)[0, 0].cpu().numpy().astype(float)
        total += found[down : down + height, right : right + width]
    return total / (surplus + 1) ** 2 + mean


def add_noise(image: np.ndarray, name: str, sigma: float, seed: int = 0) -> np.ndarray:
    """Add white Gaussian noise, which depends on the seed and the image's name alone; it is not clipped.

    Parameters
    ----------
    image : array
        Values in [0, 1].
    name : str
        The file's name.
    sigma : float
        Standard deviation, of 255.
    seed : int
    """
    return image + sigma / 255 * generator(seed, f"denoising noise {name}").standard_normal(image.shape)


def psnr(clean: np.ndarray, image: np.ndarray, *, clip: bool = True) -> float:
    """Peak signal-to-noise ratio in dB of an image with values in [0, 1], to which it is clipped first where `clip`."""
    from skimage.metrics import peak_signal_noise_ratio  # slow to import

    return float(peak_signal_noise_ratio(clean, image.clip(0, 1) if clip else image, data_range=1))


def ssim(clean: np.ndarray, image: np.ndarray) -> float:
    """Structural similarity of an image with values in [0, 1], to which it is clipped first.

    References
    ----------
    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment", IEEE Trans. Image Processing 2004 (a Gaussian window
    of standard deviation 1.5, variances that divide by n).
    """
    from skimage.metrics import structural_similarity

    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(clean, image.clip(0, 1), data_range=1, **options))


# --- images to learn from, to choose by, and to test on


def to_float(image: np.ndarray) -> np.ndarray:
    """Return gray values in [0, 1] of an image of unsigned integers."""
    return image / np.iinfo(image.dtype).max


def read_images(folder: str) -> dict[str, np.ndarray]:
    """Return the images of a folder, or `SAMPLES`, in gray as unsigned integers, by file name."""
    made: Any = make_dataset("noisy_crops")
    return dataclasses.replace(made, folder=None if folder == SAMPLES else folder).images()


def split(images: Images, held_out: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Split images into those to learn from and those held out, which are evenly spaced in the order of the names.

    Raises
    ------
    InvalidArgument
        If none is left to learn from.
    """
    names = sorted(images)
    if held_out >= len(names):
        raise InvalidArgument(f"validation={held_out} of {len(names)} images leaves none to learn from: give a smaller one")
    chosen = {names[(2 * place + 1) * len(names) // (2 * held_out)] for place in range(held_out)}
    return (
        {name: image for name, image in images.items() if name not in chosen},
        {name: images[name] for name in names if name in chosen},
    )


def training_images(folder: str, held_out: int) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return images to learn from and images held out of them; of the sample photograph the right quarter, or nothing."""
    images = read_images(folder)
    if folder != SAMPLES:
        return split(images, held_out)
    picture = images[TRAINING_SAMPLE]
    if not held_out:
        return {TRAINING_SAMPLE: picture}, {}
    edge = 3 * picture.shape[1] // 4
    return {TRAINING_SAMPLE: picture[:, :edge]}, {TRAINING_SAMPLE: picture[:, edge:]}


def test_images(folder: str) -> dict[str, np.ndarray]:
    """Return images to test on.

    Raises
    ------
    InvalidArgument
        If the folder cannot be read, or an image is smaller than the window of the structural similarity.
    """
    images = read_images(folder)
    chosen = {TEST_SAMPLE: images[TEST_SAMPLE]} if folder == SAMPLES else images
    _check_sizes(chosen, (WINDOW, WINDOW), "window of SSIM")
    return chosen


test_images.__test__ = False  # type: ignore[attr-defined]  # pytest would take it for a test where it is imported


def _check_sizes(images: Images, least: tuple[int, int], what: str) -> None:
    for name, image in images.items():
        (height, width), (rows, columns) = image.shape, least
        if height < rows or width < columns:
            raise InvalidArgument(
                f"{name} is {height} x {width} pixels, smaller than the {rows} x {columns} {what}: give a larger one"
            )


def resolve(folder: str | None, variable: str) -> str:
    """Return the folder, else that of an environment variable, else `SAMPLES`."""
    return folder or os.environ.get(variable) or SAMPLES


def _fingerprint(folders: Iterable[str]) -> str:
    made: Any = make_dataset("noisy_crops")
    states = (dataclasses.replace(made, folder=folder).fingerprint() if folder != SAMPLES else SAMPLES for folder in folders)
    return " ".join(states)


def _test(
    folder: str,
    images: Images,
    sigma: float,
    seed: int,
    method: Callable[[np.ndarray], np.ndarray],
    shifted: Callable[[np.ndarray], np.ndarray] | None,
    progress: Callable[[int, int], None],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return what a table says of a method on the images of a folder, and pictures of the first image."""
    rows: list[dict[str, float]] = []
    pictures: dict[str, np.ndarray] = {}
    for done, (name, integers) in enumerate(images.items()):
        clean = to_float(integers)
        made = {"noisy": add_noise(clean, name, sigma, seed)}
        made["denoised"] = method(made["noisy"])
        if shifted is not None:
            made["denoised_shifted"] = shifted(made["noisy"])
        row = {"noisy_psnr": psnr(clean, made["noisy"], clip=False)}
        for key, suffix in (("denoised", ""), ("denoised_shifted", "_shifted")):
            known = key in made
            row[f"psnr{suffix}"] = psnr(clean, made[key]) if known else float("nan")
            row[f"ssim{suffix}"] = ssim(clean, made[key]) if known else float("nan")
        rows.append(row)
        if not pictures:
            top, left = ((side - min(side, PICTURE)) // 2 for side in clean.shape)
            pictures = {
                key: image[top : top + PICTURE, left : left + PICTURE].clip(0, 1).astype(np.float32)
                for key, image in ({"clean": clean} | made).items()
            }
        progress(done + 1, len(images))
    summary: dict[str, Any] = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    summary |= {"sigma": sigma, "images": len(rows), "test_images": _source(folder)}
    return summary | {"per_image_psnr": [row["psnr"] for row in rows]}, pictures


def _source(folder: str) -> str:
    return "scikit-learn's" if folder == SAMPLES else _path(folder).name


def _path(folder: str) -> Path:
    return Path(folder).expanduser().resolve()


# --- experiments


@dataclass(frozen=True)
class DenoisingExperiment(Experiment):
    """Filters learned from noisy crops, and what they make of other noisy images.

    Validation images are held out of the training images; what is learned from is never tested on. The test images' noise
    is that of every other method.

    Attributes
    ----------
    training : LearningExperiment
        Its dataset is a spec of `noisy_crops`, without folder, noise and seed.
    training_images, test_images : str, optional
        Folders; or ``"scikit-learn"``, for the photographs that ship inside it, one to learn from and one to test on. Where
        not given, those that the environment variables ``PUDLE_TRAINING_IMAGES`` and ``PUDLE_TEST_IMAGES`` name, and
        scikit-learn's where there are none.
    sigma : float
        Standard deviation of the noise, of 255, in training as in tests.
    budget : float, optional
        Seconds of training, after which it stops: of the processor on the CPU, so that a machine busy with other things
        changes nothing. The schedule runs over the training's epochs and knows nothing of it: a cosine that it cuts off
        never falls to its small rates. Choose epochs that fit into it.
    validation : int
        Images held out; of the sample photograph it is the right quarter, however many this says. With zero nothing is held
        out, and ``psnr`` in the history is NaN.
    noise_seed : int
        Of the noise of validation and test images.
    shifts : bool
        Whether to test with an average over all shifts of the grid as well.
    """

    kind: ClassVar[str] = "denoising"

    training: LearningExperiment
    training_images: str | None = None
    test_images: str | None = None
    sigma: float = 25.0
    budget: float | None = 900.0
    validation: int = 5
    noise_seed: int = 0
    shifts: bool = True

    @property
    def dataset(self) -> str:
        """Spec of the dataset."""
        return self.training.dataset

    @property
    def estimator(self) -> str:
        """Spec of the estimator."""
        return self.training.estimator

    @property
    def method(self) -> str:
        """What a table calls it."""
        made: Any = make_dataset(self.dataset)
        parts = {"supervised": made.supervised, "learned penalties": made.learned_penalties}
        return ", ".join([self.estimator, self.training.loss, *(name for name, there in parts.items() if there)])

    @property
    def folders(self) -> tuple[str, str]:
        """Where the training and the test images come from."""
        return resolve(self.training_images, TRAINING_VARIABLE), resolve(self.test_images, TEST_VARIABLE)

    def fingerprint(self) -> str:
        return _fingerprint(self.folders)

    def problem(self, device: str = "cpu") -> tuple[ConvolutionalSparseCoding, dict[str, np.ndarray], dict[str, np.ndarray]]:
        """Draw the noisy crops to learn from, and return the validation and the test images beside them.

        Raises
        ------
        InvalidArgument
            If the dataset is not of noisy crops, training and test images are the same or have an image in common, or images
            cannot be read or are smaller than the filters.
        """
        from ..measuring.case import DTYPES

        training, test = self.folders
        if SAMPLES not in (training, test) and _path(training) == _path(test):
            raise InvalidArgument(f"training_images and test_images are both {training!r}: give two different folders")
        check_positive("sigma", self.sigma)
        check_integer("validation", self.validation, 0)
        check_choice("dtype", self.training.dtype, DTYPES)
        made: Any = make_dataset(self.dataset)
        if made.name != "noisy_crops":
            raise InvalidArgument(f"dataset {self.dataset!r} holds no noisy images: give noisy_crops(...)")
        check_choice("loss", self.training.loss, made.losses)
        if self.training.start is not None:
            raise InvalidArgument(
                f"start={self.training.start!r} is not for denoising: filters start as the dataset's option says"
            )
        images, validation = training_images(training, self.validation)
        tested = test_images(test)
        contents = {(image.shape, image.tobytes()) for part in (images, validation) for image in part.values()}
        for name, image in tested.items():
            if (image.shape, image.tobytes()) in contents:
                raise InvalidArgument(f"test image {name} is one of the training images as well: take it out of one folder")
        for part in (validation, tested):
            _check_sizes(part, (made.kernel, made.kernel), "filters")
        drawn = dataclasses.replace(made, sigma=self.sigma, seed=self.training.seed)
        dtype = DTYPES[self.training.dtype]
        return drawn.problem(self.training.loss, dtype=dtype, device=device, images=images), validation, tested

    def run(self, folder: Path, device: str = "cpu", progress: ProgressCallback = silent) -> ExperimentResult:
        """Learn the filters and test them.

        Rows are those of `Training.history`, with ``psnr``, the mean over the validation images in dB. The summary holds
        ``method``, ``sigma``, ``images`` (how many were tested), ``test_images`` (where they come from), ``noisy_psnr``,
        ``psnr`` and ``ssim``, the same with an average over shifts (``..._shifted``), ``per_image_psnr``, ``steps`` and
        ``training_seconds``. Arrays are pictures of the first test image, the ``filters`` (p, k, k) and, where they are
        learned, the ``penalties`` (p,). The reason holds the warnings, if there were any. Of a training that diverged
        nothing is tested.
        """
        from torch import Tensor

        learner, (problem, validation, images) = self.training.learner(), self.problem(device)
        algorithm: Any = learner.algorithm
        pairs = [
            (clean, add_noise(clean, f"{name} held out", self.sigma, self.noise_seed))
            for name, clean in ((name, to_float(image)) for name, image in validation.items())
        ]

        def monitor(theta: Tensor) -> dict[str, float]:
            current = dataclasses.replace(problem, **problem.fields_at(theta))
            try:
                found = [psnr(clean, denoise(noisy, current, algorithm, learner.depth)) for clean, noisy in pairs]
            except InvalidArgument:
                # The algorithm's step is too long for these filters: the training is about to end as diverged.
                found = []
            return {"psnr": float(np.mean(found)) if found else float("nan")}

        training, reason = self.training.train(problem, folder, device, progress, monitor=monitor, budget=self.budget)
        rows = training.history.to_dict("records")
        summary: dict[str, Any] = {"method": self.method, "steps": training.steps}
        summary["training_seconds"] = float(training.history.seconds.iloc[-1])
        arrays = {"filters": training.dictionary[:, 0].cpu().numpy()}
        if training.status == "diverged":
            return ExperimentResult(rows, summary, arrays, "diverged", reason)
        learned = dataclasses.replace(problem, **problem.fields_at(training.theta))
        if isinstance(learned.penalty, Tensor):
            arrays["penalties"] = learned.penalty.flatten().cpu().numpy()
        tested, pictures = _test(
            self.folders[1],
            images,
            self.sigma,
            self.noise_seed,
            lambda noisy: denoise(noisy, learned, algorithm, learner.depth),
            (lambda noisy: denoise(noisy, learned, algorithm, learner.depth, shifts=True)) if self.shifts else None,
            lambda done, total: progress(done, total, "test images"),
        )
        return ExperimentResult(rows, summary | tested, pictures | arrays, reason=reason)


def _bm3d(noisy: np.ndarray, deviation: float) -> np.ndarray:
    return require("bm3d", "baselines").bm3d(noisy, deviation)


def _non_local_means(noisy: np.ndarray, deviation: float) -> np.ndarray:
    from skimage.restoration import denoise_nl_means

    options = {"patch_size": 5, "patch_distance": 6, "h": 0.6 * deviation, "sigma": deviation}
    return denoise_nl_means(noisy, fast_mode=True, **options)


def _wavelet(noisy: np.ndarray, deviation: float) -> np.ndarray:
    require("pywt", "baselines")
    from skimage.restoration import denoise_wavelet

    return denoise_wavelet(noisy, sigma=deviation, wavelet="sym4", method="BayesShrink", mode="soft", rescale_sigma=False)


def _total_variation(noisy: np.ndarray, deviation: float) -> np.ndarray:
    from skimage.restoration import denoise_tv_chambolle

    return denoise_tv_chambolle(noisy, weight=deviation)


#: Other packages' methods: of an image with values in [0, 1] and the noise's standard deviation on that scale.
METHODS: dict[str, Callable[[np.ndarray, float], np.ndarray]] = {
    "BM3D": _bm3d,
    "non-local means": _non_local_means,
    "wavelet": _wavelet,
    "total variation": _total_variation,
}


@dataclass(frozen=True)
class DenoisingBaseline(Experiment):
    """What a method of another package makes of the same noisy images; it is told the noise's standard deviation.

    Attributes
    ----------
    baseline : str
        One of `METHODS`.
    test_images, sigma, noise_seed
        As in `DenoisingExperiment`.

    References
    ----------
    Dabov, Foi, Katkovnik and Egiazarian, "Image denoising by sparse 3-D transform-domain collaborative filtering", IEEE
    Trans. Image Processing 2007. Buades, Coll and Morel, "A non-local algorithm for image denoising", CVPR 2005. Chang, Yu
    and Vetterli, "Adaptive wavelet thresholding", IEEE Trans. Image Processing 2000. Chambolle, "An algorithm for total
    variation minimization", J. Mathematical Imaging and Vision 2004.
    """

    kind: ClassVar[str] = "denoising"

    baseline: str
    test_images: str | None = None
    sigma: float = 25.0
    noise_seed: int = 0

    @property
    def method(self) -> str:
        """What a table calls it."""
        return self.baseline

    @property
    def folder(self) -> str:
        """Where the test images come from."""
        return resolve(self.test_images, TEST_VARIABLE)

    def fingerprint(self) -> str:
        # A package that is installed or renewed may give another result, or one in place of none.
        return f"{_fingerprint([self.folder])} {versions('scikit-image', 'bm3d', 'PyWavelets')}"

    def run(self, folder: Path, device: str = "cpu", progress: ProgressCallback = silent) -> ExperimentResult:
        """Denoise the test images; summary and arrays are those of `DenoisingExperiment`, as far as there are such.

        Raises
        ------
        MissingDependency
            If the method's package is not installed.
        """
        method = METHODS[check_choice("baseline", self.baseline, METHODS)]
        deviation = check_positive("sigma", self.sigma) / 255
        summary, pictures = _test(
            self.folder,
            test_images(self.folder),
            self.sigma,
            self.noise_seed,
            lambda noisy: method(noisy, deviation),
            None,
            lambda done, total: progress(done, total, "test images"),
        )
        return ExperimentResult([], {"method": self.method} | summary, pictures)
