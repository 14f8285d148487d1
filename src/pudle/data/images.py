"""Gray images, from scikit-learn or from a user's folder, and patches of them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from ..errors import InvalidArgument, first_line
from ..files import content_digest, located
from .atoms import normalize_rows, split_atoms
from .dataset import Dataset

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".pgm", ".ppm")
#: Patches that are normalized at a time.
BLOCK = 2048


class ImageDataset(Dataset):
    """A dataset of gray images: those in `folder`, or else the two photographs that ship inside scikit-learn.

    Its draw raises `InvalidArgument` if the folder does not exist or holds no image, an image is unreadable or smaller than
    a crop or patch, or there are too few distinct ones.
    """

    folder: str | None

    def files(self) -> list[Path]:
        return [] if self.folder is None else image_files(self.folder)

    def fingerprint(self) -> str:
        """Return the names and digests of the folder's images; an empty text for the sample images."""
        return "" if self.folder is None else folder_state(self.folder)

    def images(self) -> dict[str, np.ndarray]:
        """Return the images in gray, by file name, as unsigned integers of 8 or 16 bits."""
        return sample_images() if self.folder is None else read_folder(self.folder)

    def split_patches(
        self, size: int, n_components: int, n_samples: int, random: np.random.Generator, images: Mapping[str, np.ndarray]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Split random patches with side `size` into atoms and observations, as `pudle.data.atoms.split_atoms` does."""
        total = count_patches(images, size)
        # A permutation of every position in a folder of large photographs would not fit into memory.
        limit = 1_000_000 + 20 * (n_samples + n_components)
        positions = random.choice(total, min(total, limit), replace=False)
        blocks = np.split(positions, range(BLOCK, len(positions), BLOCK))
        patches = (normalize_rows(patches_at(images, size, block)) for block in blocks)
        source = "the patches of " + ("the sample images" if self.folder is None else f"folder={self.folder!r}")
        return split_atoms(patches, n_components, n_samples, random, source)


def sample_images() -> dict[str, np.ndarray]:
    """Return the two photographs that ship inside scikit-learn in gray, by file name."""
    from sklearn.datasets import load_sample_images  # slow to import, and only needed here

    samples = load_sample_images()
    names = (Path(name).name for name in samples.filenames)
    return {name: to_gray(Image.fromarray(values)) for name, values in zip(names, samples.images, strict=True)}


def to_gray(picture: Image.Image) -> np.ndarray:
    """Return the gray values as unsigned integers of 8 or 16 bits; white is the largest value of the type."""
    if picture.mode.startswith("I"):
        return np.asarray(picture).clip(0, 65535).astype(np.uint16)
    return np.asarray(picture.convert("L"))


def image_files(folder: str) -> list[Path]:
    """Return the image files of a folder (not of its subfolders), sorted by name, or refuse a folder without any."""
    path = located(folder)
    if not path.is_dir():
        raise InvalidArgument(f"folder={folder!r} is not an existing folder: give the path of a folder of images")
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    if not files:
        raise InvalidArgument(f"folder={folder!r} is an empty image folder: put images in it ({' '.join(SUFFIXES)})")
    return files


def folder_state(folder: str) -> str:
    """Return the names of a folder's images and digests of their contents."""
    return repr([(file.name, content_digest(file)) for file in image_files(folder)])


def read_folder(folder: str) -> dict[str, np.ndarray]:
    """Return the images of a folder in gray, by file name and sorted by it, or refuse an image that cannot be read."""
    images = {}
    for file in image_files(folder):
        try:
            with Image.open(file) as picture:
                images[file.name] = to_gray(picture)
        except Exception as error:
            image = f"{file.name} ({type(error).__name__}: {first_line(error)})"
            raise InvalidArgument(f"folder={folder!r} holds an unreadable image, {image}: repair or remove it") from error
    return images


def count_patches(images: Mapping[str, np.ndarray], size: int) -> int:
    """Return the number of positions of a patch with side `size`, overlapping ones included; refuse a smaller image."""
    total = 0
    for name, image in images.items():
        height, width = image.shape
        if min(height, width) < size:
            pixels = f"{name} ({width} x {height} pixels)"
            advice = f"give size <= {min(height, width)} or remove that image"
            raise InvalidArgument(f"size={size} does not fit into {pixels}: {advice}")
        total += (height - size + 1) * (width - size + 1)
    return total


def patches_at(images: Mapping[str, np.ndarray], size: int, positions: np.ndarray) -> np.ndarray:
    """Return the patches at some positions, as rows of shape (size**2,) with values in [0, 1].

    Positions are numbers below `count_patches`, counted row by row through one image after another.
    """
    patches = np.empty((len(positions), size * size))
    start = 0
    for image in images.values():
        windows = sliding_window_view(image, (size, size))
        stop = start + math.prod(windows.shape[:2])
        here = (start <= positions) & (positions < stop)
        places = np.unravel_index(positions[here] - start, windows.shape[:2])
        patches[here] = windows[places].reshape(-1, size * size) / np.iinfo(image.dtype).max
        start = stop
    return patches


def random_patches(images: Mapping[str, np.ndarray], size: int, n_samples: int, random: np.random.Generator) -> np.ndarray:
    """Draw patches uniformly over all positions in all images, without replacement, shape (n_samples, size**2)."""
    total = count_patches(images, size)
    if n_samples > total:
        raise InvalidArgument(f"n_samples={n_samples} is above the {total} possible crops: lower it or give more data")
    return patches_at(images, size, random.choice(total, n_samples, replace=False))
