"""Images to learn from and to test on: where they come from, their noise, how their quality is
measured, and how filters and other small images are shown.
"""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import skimage

from ..data.images import ImageDataset
from ..errors import InvalidArgument
from ..names import make_dataset
from ..streams import generator
from .matching import Array

#: Used like a folder: the photographs that ship inside scikit-learn, one to learn from and one to
#: test on.
SAMPLES = "scikit-learn"
TRAINING_SAMPLE, TEST_SAMPLE = "china.jpg", "flower.jpg"
#: Side in pixels of the window of the structural similarity, 3.5 standard deviations in each
#: direction.
WINDOW = 11

#: An image as integers, and images by file name.
Pixels = np.ndarray[tuple[int, ...], np.dtype[np.unsignedinteger]]
Images = Mapping[str, Pixels]


#: scikit-image, whose functions have no types.
SKIMAGE: Any = skimage


def add_noise(image: Array, name: str, sigma: float) -> Array:
    """Return an image with values in [0, 1] with white Gaussian noise added, without clipping.

    The noise depends on the image's file name (and shape) alone; `sigma` is its standard deviation
    on the 0-255 scale.
    """
    noise = generator(0, f"denoising noise {name}").standard_normal(image.shape)
    return image + sigma / 255 * noise


def psnr(clean: Array, image: Array, *, clip: bool = True) -> float:
    """Return the peak signal-to-noise ratio in dB of an image with values in [0, 1]; infinite for
    equal images.

    The image, not the clean one, is clipped to these values unless `clip` is false.
    """
    image = image.clip(0, 1) if clip else image
    with np.errstate(divide="ignore"):
        return float(SKIMAGE.metrics.peak_signal_noise_ratio(clean, image, data_range=1))


def ssim(clean: Array, image: Array) -> float:
    """Return the structural similarity of an image, clipped to values in [0, 1], with the options
    of its authors: one for equal images.

    Wang, Bovik, Sheikh and Simoncelli, "Image quality assessment", IEEE Trans. Image Processing
    2004.
    """
    return float(
        SKIMAGE.metrics.structural_similarity(
            clean,
            image.clip(0, 1),
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )


# -- where images come from


def image_folder(folder: str | None, variable: str) -> str:
    """Return the absolute path of the folder or, without one, of that in an environment variable
    or, if it is not set, `SAMPLES`, which stands for scikit-learn's photographs; no folder is
    looked for.
    """
    chosen = folder or os.environ.get(variable) or SAMPLES
    return chosen if chosen == SAMPLES else str(Path(chosen).expanduser().resolve())


def image_dataset(folder: str) -> ImageDataset:
    """Return a dataset whose `images` and `fingerprint` are those of a folder, or of the sample
    photographs for `SAMPLES`; nothing is read yet.
    """
    option = "" if folder == SAMPLES else f"(folder={folder!r})"
    dataset: Any = make_dataset(f"noisy_crops{option}")
    images: ImageDataset = dataset
    return images


def training_images(folder: str, held_out: int) -> tuple[Images, Images]:
    """Read the images of a folder; return those to learn from, and so many held out, evenly spaced
    in the order of the names.

    Of the sample photograph the right quarter is held out for any positive number, or nothing for
    zero. InvalidArgument refuses to hold out all images.
    """
    images: Images = image_dataset(folder).images()
    if folder == SAMPLES:
        picture = images[TRAINING_SAMPLE]
        if not held_out:
            return {TRAINING_SAMPLE: picture}, {}
        edge = 3 * picture.shape[1] // 4
        return {TRAINING_SAMPLE: picture[:, :edge]}, {TRAINING_SAMPLE: picture[:, edge:]}
    names = sorted(images)
    if held_out >= len(names):
        raise InvalidArgument(
            f"validation={held_out} of {len(names)} images leaves none to learn from: give a"
            " smaller one"
        )
    chosen = [names[(2 * place + 1) * len(names) // (2 * held_out)] for place in range(held_out)]
    return (
        {name: images[name] for name in names if name not in chosen},
        {name: images[name] for name in chosen},
    )


def images_to_test(folder: str) -> Images:
    """Read and return the test images of a folder, of the sample photographs one; InvalidArgument
    refuses one that is smaller than the window of the structural similarity.
    """
    images: Images = image_dataset(folder).images()
    if folder == SAMPLES:
        images = {TEST_SAMPLE: images[TEST_SAMPLE]}
    check_sizes(images, WINDOW, "window of SSIM")
    return images


def check_sizes(images: Images, least: int, owner: str) -> None:
    """Refuse, by InvalidArgument, images with a side of less than `least` pixels, that of their
    `owner`, the filters or the window.
    """
    for name, image in images.items():
        if min(image.shape) < least:
            raise InvalidArgument(
                f"{name} is {image.shape[0]} x {image.shape[1]} pixels, smaller than the {least} x"
                f" {least} {owner}: give a larger one"
            )


# -- how they are shown


def gray(image: Array) -> Pixels:
    """Return an image with values in [0, 1] as uint8."""
    return np.round(255 * np.clip(np.nan_to_num(image), 0, 1)).astype(np.uint8)


def signed_to_gray(image: Array) -> Pixels:
    """Return an image as uint8, scaled to its own greatest magnitude; zero, and NaN, become the
    gray level 128.
    """
    image = np.nan_to_num(image)
    return np.round(128 + 127 * (image / (np.abs(image).max(initial=0.0) or 1.0))).astype(np.uint8)


def mosaic(filters: Array) -> Pixels:
    """Return filters (p, k, k) side by side as uint8, the first 256 at most, in rows that make
    about a square.

    Each is scaled to its own greatest magnitude; zero is gray in all of them.
    """
    tiles = [*map(signed_to_gray, filters[:256])]
    columns = math.ceil(math.sqrt(len(tiles)))
    sheet: Pixels = SKIMAGE.util.montage(
        tiles,
        fill=255,
        grid_shape=(math.ceil(len(tiles) / columns), columns),
        padding_width=1,
    )
    # Without the padding around the whole sheet.
    return sheet[1:-1, 1:-1]
