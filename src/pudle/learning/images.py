"""Images to learn from and to test on: where they come from, their noise, and how their quality is
measured.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import skimage

from ..errors import InvalidArgument
from ..names import make_dataset
from ..streams import generator

#: Used like a folder: the photographs that ship inside scikit-learn, one to learn from and one to
#: test on.
SAMPLES = "scikit-learn"
TRAINING_SAMPLE, TEST_SAMPLE = "china.jpg", "flower.jpg"
#: Side in pixels of the window of the structural similarity, 3.5 standard deviations in each
#: direction.
WINDOW = 11

Images = Mapping[str, np.ndarray]


def add_noise(image: np.ndarray, name: str, sigma: float, seed: int = 0) -> np.ndarray:
    """Add white Gaussian noise to an image with values in [0, 1], without clipping.

    The noise depends on the seed and the image's file name alone; `sigma` is its standard deviation
    on the 0-255 scale.
    """
    return image + sigma / 255 * generator(seed, f"denoising noise {name}").standard_normal(
        image.shape
    )


def psnr(clean: np.ndarray, image: np.ndarray, *, clip: bool = True) -> float:
    """Return the peak signal-to-noise ratio in dB of an image with values in [0, 1], clipped to
    them by default.
    """
    return float(
        skimage.metrics.peak_signal_noise_ratio(
            clean, image.clip(0, 1) if clip else image, data_range=1
        )
    )


def ssim(clean: np.ndarray, image: np.ndarray) -> float:
    """Return the structural similarity of an image, clipped to values in [0, 1], with the options
    of its authors.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment", IEEE Trans. Image Processing
    2004.
    """
    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(
        skimage.metrics.structural_similarity(clean, image.clip(0, 1), data_range=1, **options)
    )


def to_float(image: np.ndarray) -> np.ndarray:
    """Return gray values in [0, 1] of an image of unsigned integers."""
    return image / np.iinfo(image.dtype).max


def resolve(folder: str | None, variable: str) -> str:
    """Return the absolute path of the folder, or else of the one in an environment variable, or
    else `SAMPLES`.
    """
    given = folder or os.environ.get(variable) or SAMPLES
    return given if given == SAMPLES else str(Path(given).expanduser().resolve())


def source(folder: str) -> Any:
    """Return a dataset whose `images` and `fingerprint` are those of a folder, or of the sample
    photographs.
    """
    dataset: Any = make_dataset("noisy_crops")
    return dataset if folder == SAMPLES else dataclasses.replace(dataset, folder=folder)


def split(images: Images, held_out: int) -> tuple[Images, Images]:
    """Split images into training images and held-out ones, which are evenly spaced in the order of
    the names.
    """
    names = sorted(images)
    if held_out >= len(names):
        raise InvalidArgument(
            f"validation={held_out} of {len(names)} images leaves none to learn from: give a"
            " smaller one"
        )
    chosen = {names[(2 * place + 1) * len(names) // (2 * held_out)] for place in range(held_out)}
    kept = {name: image for name, image in images.items() if name not in chosen}
    return kept, {name: images[name] for name in names if name in chosen}


def training_images(folder: str, held_out: int) -> tuple[Images, Images]:
    """Return training images and held-out images: of the sample photograph the right quarter is
    held out, or nothing.
    """
    if folder != SAMPLES:
        return split(source(folder).images(), held_out)
    picture = source(folder).images()[TRAINING_SAMPLE]
    edge = 3 * picture.shape[1] // 4 if held_out else picture.shape[1]
    return {TRAINING_SAMPLE: picture[:, :edge]}, (
        {TRAINING_SAMPLE: picture[:, edge:]} if held_out else {}
    )


def images_to_test(folder: str) -> dict[str, np.ndarray]:
    """Return the test images of a folder, or refuse one that is smaller than the window of the
    structural similarity.
    """
    images = source(folder).images()
    if folder == SAMPLES:
        images = {TEST_SAMPLE: images[TEST_SAMPLE]}
    check_sizes(images, (WINDOW, WINDOW), "window of SSIM")
    return images


def load_images(
    training: str, test: str, held_out: int, side: int
) -> tuple[Images, Images, Images]:
    """Return the images to learn from, the held-out ones and the test images, for square filters of
    this side.

    An image that is learned from (or held out) and tested on is refused, and so is one that is
    smaller than the filters.
    """
    if training == test != SAMPLES:
        raise InvalidArgument(
            f"training_images and test_images are both {training!r}: give two different folders"
        )
    learned, validation = training_images(training, held_out)
    tested = images_to_test(test)
    contents = {
        (image.shape, image.tobytes()) for part in (learned, validation) for image in part.values()
    }
    for name, image in tested.items():
        if (image.shape, image.tobytes()) in contents:
            raise InvalidArgument(
                f"test image {name} is one of the training images as well: take it out of one"
                " folder"
            )
    for part in (validation, tested):
        check_sizes(part, (side, side), "filters")
    return learned, validation, tested


def check_sizes(images: Images, smallest: Sequence[int], owner: str) -> None:
    """Refuse images with fewer rows or columns than their `owner`, the filters or the window, has."""
    for name, image in images.items():
        height, width = image.shape
        if height < smallest[0] or width < smallest[1]:
            least = f"{smallest[0]} x {smallest[1]} {owner}"
            raise InvalidArgument(
                f"{name} is {height} x {width} pixels, smaller than the {least}: give a larger one"
            )
