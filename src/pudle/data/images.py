"""Gray images, from scikit-learn or from a user's folder, and patches of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from ..errors import InvalidArgument, first_line
from .atoms import normalize_rows, split_atoms
from .dataset import Dataset

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".pgm", ".ppm")
#: Patches that are normalized at a time.
BLOCK = 2048
#: Bytes of a folder's images that are kept in memory.
CACHE = 1 << 26


class ImageDataset(Dataset):
    """A dataset of gray images: those in `folder`, or else the two photographs that ship inside
    scikit-learn.

    Its draw raises `InvalidArgument` if the folder does not exist or holds no image, an image is
    unreadable or smaller than a crop or patch, or there are too few distinct ones.
    """

    folder: str | None

    def images(self) -> Mapping[str, np.ndarray]:
        """Return the images in gray, by file name, as unsigned integers of 8 or 16 bits; those of a
        folder are read late.
        """
        return sample_images() if self.folder is None else Folder(self.folder)

    def split_patches(
        self,
        size: int,
        n_components: int,
        n_samples: int,
        random: np.random.Generator,
        images: Mapping[str, np.ndarray],
    ) -> tuple[np.ndarray, np.ndarray]:
        """Split random patches with side `size` into atoms and observations, as
        `pudle.data.atoms.split_atoms` does.
        """
        total = count_patches(images, size)
        # A permutation of every position in a folder of large photographs would not fit into
        # memory.
        limit = 1_000_000 + 20 * (n_samples + n_components)
        positions = (
            random.choice(total, total, replace=False)
            if total <= limit
            else distinct(random, total, limit)
        )
        blocks = np.split(positions, range(BLOCK, len(positions), BLOCK))
        patches = (normalize_rows(patches_at(images, size, block)) for block in blocks)
        source = "the patches of " + (
            "the sample images" if self.folder is None else f"folder={self.folder!r}"
        )
        return split_atoms(patches, n_components, n_samples, random, source)


def sample_images() -> dict[str, np.ndarray]:
    """Return the two photographs that ship inside scikit-learn in gray, by file name."""
    from sklearn.datasets import load_sample_images  # slow to import, and only needed here

    samples = load_sample_images()
    names = (Path(name).name for name in samples.filenames)
    return {
        name: to_gray(Image.fromarray(values))
        for name, values in zip(names, samples.images, strict=True)
    }


def to_gray(picture: Image.Image) -> np.ndarray:
    """Return the gray values as unsigned integers of 8 or 16 bits; white is the largest value of
    the type.
    """
    if picture.mode.startswith("I"):
        return np.asarray(picture).clip(0, 65535).astype(np.uint16)
    return np.asarray(picture.convert("L"))


class Folder(Mapping[str, np.ndarray]):
    """The images of a folder (not of its subfolders) in gray, by file name and sorted by it; of
    those that were read, as many as `CACHE` are kept.

    Making it looks at the size of every image, and refuses one that cannot be read.
    """

    def __init__(self, folder: str) -> None:
        self.folder, path = folder, Path(folder).expanduser()
        if not path.is_dir():
            raise InvalidArgument(
                f"folder={folder!r} is not an existing folder: give the path of a folder of images"
            )
        self.files = {
            file.name: file
            for file in sorted(path.iterdir())
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
        }
        if not self.files:
            raise InvalidArgument(
                f"folder={folder!r} is an empty image folder: put images in it"
                f" ({' '.join(SUFFIXES)})"
            )
        self.shapes = {
            name: self._open(name, lambda picture: picture.size[::-1]) for name in self.files
        }
        self._kept: dict[str, np.ndarray] = {}

    def __getitem__(self, name: str) -> np.ndarray:
        image = self._kept.pop(name, None)
        if image is None:
            image = self._open(name, to_gray)
        self._kept[name] = image
        while len(self._kept) > 1 and sum(each.nbytes for each in self._kept.values()) > CACHE:
            del self._kept[next(iter(self._kept))]
        return image

    def __iter__(self) -> Iterator[str]:
        return iter(self.files)

    def __len__(self) -> int:
        return len(self.files)

    def _open(self, name: str, read: Callable[[Image.Image], Any]) -> Any:
        try:
            with Image.open(self.files[name]) as picture:
                return read(picture)
        except Exception as error:
            image = f"{name} ({type(error).__name__}: {first_line(error)})"
            raise InvalidArgument(
                f"folder={self.folder!r} holds an unreadable image, {image}: repair or remove it"
            ) from error


def shapes_of(images: Mapping[str, np.ndarray]) -> dict[str, tuple[int, int]]:
    """Return the height and width of images; those of a folder are not read for it."""
    return (
        images.shapes
        if isinstance(images, Folder)
        else {name: image.shape for name, image in images.items()}
    )


def distinct(random: np.random.Generator, total: int, count: int) -> np.ndarray:
    """Draw `count` different numbers below `total`, in random order, in memory of the order of
    `count`.
    """
    drawn = np.empty(0, dtype=np.int64)
    while len(drawn) < count:
        more = np.concatenate([drawn, random.integers(total, size=count)])
        # The first of equal numbers stays, in its place.
        drawn = more[np.sort(np.unique(more, return_index=True)[1])]
    return drawn[:count]


def count_patches(images: Mapping[str, np.ndarray], size: int) -> int:
    """Return the number of positions of a patch with side `size`, overlapping ones included; refuse
    a smaller image.
    """
    total = 0
    for name, (height, width) in shapes_of(images).items():
        if min(height, width) < size:
            pixels = f"{name} ({width} x {height} pixels)"
            advice = f"give size <= {min(height, width)} or remove that image"
            raise InvalidArgument(f"size={size} does not fit into {pixels}: {advice}")
        total += (height - size + 1) * (width - size + 1)
    return total


def patches_at(images: Mapping[str, np.ndarray], size: int, positions: np.ndarray) -> np.ndarray:
    """Return the patches at some positions, as rows of shape (size**2,) with values in [0, 1].

    Positions are numbers below `count_patches`, counted row by row through one image after another.
    Images without a position are not read.
    """
    patches = np.empty((len(positions), size * size))
    start = 0
    for name, (height, width) in shapes_of(images).items():
        shape = height - size + 1, width - size + 1
        stop = start + math.prod(shape)
        here = (start <= positions) & (positions < stop)
        if here.any():
            image = images[name]
            windows = sliding_window_view(image, (size, size))
            places = np.unravel_index(positions[here] - start, shape)
            patches[here] = windows[places].reshape(-1, size * size) / np.iinfo(image.dtype).max
        start = stop
    return patches


def random_patches(
    images: Mapping[str, np.ndarray], size: int, n_samples: int, random: np.random.Generator
) -> np.ndarray:
    """Draw patches uniformly over all positions in all images, without replacement, shape
    (n_samples, size**2).
    """
    total = count_patches(images, size)
    if n_samples > total:
        raise InvalidArgument(
            f"n_samples={n_samples} is above the {total} possible crops: lower it or give more data"
        )
    return patches_at(images, size, random.choice(total, n_samples, replace=False))
