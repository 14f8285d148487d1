"""Images to learn from and to test on: where they come from, their noise, and the quality of denoised ones."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ..data.images import folder_state, read_folder, sample_images
from ..errors import InvalidArgument
from ..streams import generator

#: Used like a folder: the photographs that ship inside scikit-learn, one to learn from and one to test on.
SAMPLES = "scikit-learn"
TRAINING_SAMPLE, TEST_SAMPLE = "china.jpg", "flower.jpg"
#: Environment variables that name the folders where options do not.
TRAINING_VARIABLE, TEST_VARIABLE = "PUDLE_TRAINING_IMAGES", "PUDLE_TEST_IMAGES"
#: Side in pixels of the pictures of a test image that a result keeps.
PICTURE = 160
#: Side in pixels of the window of the structural similarity, 3.5 standard deviations in each direction.
WINDOW = 11

Images = Mapping[str, np.ndarray]


def add_noise(image: np.ndarray, name: str, sigma: float, seed: int = 0) -> np.ndarray:
    """Add white Gaussian noise to an image with values in [0, 1], without clipping.

    The noise depends on the seed and the image's file name alone; `sigma` is its standard deviation on the 0-255 scale.
    """
    return image + sigma / 255 * generator(seed, f"denoising noise {name}").standard_normal(image.shape)


def psnr(clean: np.ndarray, image: np.ndarray, *, clip: bool = True) -> float:
    """Return the peak signal-to-noise ratio in dB of an image with values in [0, 1], clipped to them by default."""
    from skimage.metrics import peak_signal_noise_ratio  # slow to import

    return float(peak_signal_noise_ratio(clean, image.clip(0, 1) if clip else image, data_range=1))


def ssim(clean: np.ndarray, image: np.ndarray) -> float:
    """Return the structural similarity of an image, clipped to values in [0, 1], with the options of its authors.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment", IEEE Trans. Image Processing 2004.
    """
    from skimage.metrics import structural_similarity

    options = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    return float(structural_similarity(clean, image.clip(0, 1), data_range=1, **options))


def to_float(image: np.ndarray) -> np.ndarray:
    """Return gray values in [0, 1] of an image of unsigned integers."""
    return image / np.iinfo(image.dtype).max


def resolve(folder: str | None, variable: str) -> str:
    """Return the folder, or else that of an environment variable, or else `SAMPLES`."""
    return folder or os.environ.get(variable) or SAMPLES


def fingerprint(folders: Iterable[str]) -> str:
    """Return the state of the images in folders."""
    return " ".join(SAMPLES if folder == SAMPLES else folder_state(folder) for folder in folders)


def same_folder(one: str, other: str) -> bool:
    """Return whether two paths name one folder of the user's."""
    return SAMPLES not in (one, other) and _path(one) == _path(other)


def _path(folder: str) -> Path:
    return Path(folder).expanduser().resolve()


def split(images: Images, held_out: int) -> tuple[Images, Images]:
    """Split images into training images and held-out ones, which are evenly spaced in the order of the names."""
    names = sorted(images)
    if held_out >= len(names):
        raise InvalidArgument(f"validation={held_out} of {len(names)} images leaves none to learn from: give a smaller one")
    chosen = {names[(2 * place + 1) * len(names) // (2 * held_out)] for place in range(held_out)}
    kept = {name: image for name, image in images.items() if name not in chosen}
    return kept, {name: images[name] for name in names if name in chosen}


def training_images(folder: str, held_out: int) -> tuple[Images, Images]:
    """Return training images and held-out images: of the sample photograph the right quarter is held out, or nothing."""
    if folder != SAMPLES:
        return split(read_folder(folder), held_out)
    picture = sample_images()[TRAINING_SAMPLE]
    edge = 3 * picture.shape[1] // 4 if held_out else picture.shape[1]
    return {TRAINING_SAMPLE: picture[:, :edge]}, {TRAINING_SAMPLE: picture[:, edge:]} if held_out else {}


def images_to_test(folder: str) -> dict[str, np.ndarray]:
    """Return the test images of a folder, or refuse one that is smaller than the window of the structural similarity."""
    images = {TEST_SAMPLE: sample_images()[TEST_SAMPLE]} if folder == SAMPLES else read_folder(folder)
    check_sizes(images, WINDOW, WINDOW, "window of SSIM")
    return images


def check_sizes(images: Images, rows: int, columns: int, owner: str) -> None:
    """Refuse images with fewer rows or columns than their `owner`, the filters or the window, has."""
    for name, image in images.items():
        height, width = image.shape
        if height < rows or width < columns:
            raise InvalidArgument(
                f"{name} is {height} x {width} pixels, smaller than the {rows} x {columns} {owner}: give a larger one"
            )


def evaluate(
    methods: Mapping[str, Callable[[np.ndarray], np.ndarray]],
    images: Images,
    folder: str,
    sigma: float,
    seed: int,
    progress: Callable[[int, int, str], None],
) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Denoise the test images of a folder, and return a summary and pictures of the first image.

    The methods are named ``denoised`` and, for an average over shifts, ``denoised_shifted``; the means of PSNR and SSIM are
    NaN for one that is not given.
    """
    rows: list[dict[str, float]] = []
    pictures: dict[str, np.ndarray] = {}
    for name, integers in images.items():
        clean = to_float(integers)
        noisy = add_noise(clean, name, sigma, seed)
        denoised = {key: method(noisy) for key, method in methods.items()}
        row = {"noisy_psnr": psnr(clean, noisy, clip=False)}
        for key, suffix in (("denoised", ""), ("denoised_shifted", "_shifted")):
            for quality, measure in (("psnr", psnr), ("ssim", ssim)):
                row[f"{quality}{suffix}"] = measure(clean, denoised[key]) if key in denoised else math.nan
        rows.append(row)
        if not pictures:
            top, left = ((side - min(side, PICTURE)) // 2 for side in clean.shape)
            pictures = {
                key: image[top : top + PICTURE, left : left + PICTURE].clip(0, 1).astype(np.float32)
                for key, image in ({"clean": clean, "noisy": noisy} | denoised).items()
            }
        progress(len(rows), len(images), "test images")
    summary: dict[str, Any] = {key: float(np.mean([row[key] for row in rows])) for key in rows[0]}
    source = "scikit-learn's" if folder == SAMPLES else _path(folder).name
    summary |= {"sigma": sigma, "images": len(rows), "test_images": source}
    return summary | {"per_image_psnr": [row["psnr"] for row in rows]}, pictures
