"""Gray images, from scikit-learn or from a user's folder, and patches of them."""

import functools
import math
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.random import Generator
from numpy.typing import NDArray
from PIL import Image

from ..errors import InvalidArgument, first_line
from ..files import open_regular
from .atoms import normalize_rows, split_atoms
from .dataset import Dataset, FloatArray

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".pgm", ".ppm")
#: What these files may be, whatever their endings say: other formats start programs, as EPS does.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP", "PPM")
#: Pixels of an image that is read at most, in up to four bytes each.
MOST_PIXELS = 1 << 27
#: Patches that are normalized at a time.
BLOCK = 2048
#: Unsigned integers of 8 or 16 bits.
Pixels = np.ndarray[tuple[int, ...], np.dtype[np.uint8 | np.uint16]]
#: Images by file name.
Images = Mapping[str, Pixels]
Read = TypeVar("Read")


def handwritten_digits() -> tuple[FloatArray, NDArray[np.int64]]:
    """Return the handwritten digits that ship inside scikit-learn, of shape (1797, 8, 8) with gray
    values in [0, 1], and which digit each is.
    """
    from sklearn.datasets import load_digits  # slow to import, and listing datasets must not be

    loaded = load_digits()
    return loaded.images / 16, loaded.target


class ImageDataset(Dataset):
    """A dataset of gray images: those in `folder`, or else the two photographs that ship inside
    scikit-learn.

    Its draw raises `InvalidArgument` if the folder does not exist or holds no image, an image is
    unreadable or smaller than a crop or patch, or there are too few distinct ones.
    """

    folder: str | None

    def images(self) -> Images:
        """Return the images in gray, by file name; those of a folder are read late.

        Raises
        ------
        InvalidArgument
            If there is no such folder, it holds no image, or one cannot be opened.
        """
        if self.folder is not None:
            return Folder(self.folder)
        from sklearn.datasets import load_sample_images  # slow to import, and only needed here

        samples = load_sample_images()
        return {
            Path(file).name: to_gray(Image.fromarray(image))
            for file, image in zip(samples.filenames, samples.images, strict=True)
        }

    def split_patches(
        self, size: int, n_components: int, n_samples: int, random: Generator
    ) -> tuple[FloatArray, FloatArray]:
        """Split random patches with side `size` into observations and atoms, as
        `pudle.data.atoms.split_atoms` does.

        All positions of all images are equally likely; nearly constant patches are dropped. Of more
        than a million positions some are drawn, twenty for each patch that is wanted and a million
        besides.
        """
        images = self.images()
        total = count_positions(images, size)
        # A permutation of every position in a folder of large photographs would not fit into
        # memory.
        limit = 1_000_000 + 20 * (n_samples + n_components)
        positions = (
            random.choice(total, total, replace=False)
            if total <= limit
            else draw_distinct(random, total, limit)
        )
        patches = (
            normalize_rows(patches_at(images, size, block))
            for block in np.split(positions, range(BLOCK, len(positions), BLOCK))
        )
        source = f"folder={self.folder!r}" if self.folder else "the sample images"
        return split_atoms(patches, n_components, n_samples, random, f"the patches of {source}")


def to_gray(picture: Image.Image) -> Pixels:
    """Return the gray values as unsigned integers of 8 or 16 bits; white is the largest value of
    the type.

    Raises
    ------
    InvalidArgument
        If the pixels are floating-point numbers, negative or above 16 bits.
    """
    if picture.mode == "F":
        raise InvalidArgument("its pixels are floating-point numbers: save it in 8 or 16 bits")
    if not picture.mode.startswith("I"):
        return np.asarray(picture.convert("L"))
    pixels = np.asarray(picture)
    if pixels.min() < 0 or pixels.max() > np.iinfo(np.uint16).max:
        raise InvalidArgument(
            f"its pixels go from {pixels.min()} to {pixels.max()}: save it in 8 or 16 bits"
        )
    return pixels.astype(np.uint16)


class Folder(Mapping[str, Pixels]):
    """The images of a folder (not of its subfolders) in gray, by file name and sorted by it; of
    those that were read, a few are kept.

    Making it looks at the size of every image, and refuses one that cannot be read.
    """

    def __init__(self, folder: str) -> None:
        self.folder, self.path = folder, Path(folder).expanduser()
        if not self.path.is_dir():
            raise InvalidArgument(
                f"folder={folder!r} is not an existing folder: give the path of a folder of images"
            )
        files = [
            file
            for file in sorted(self.path.iterdir())
            if file.suffix.lower() in SUFFIXES and not file.name.startswith(".")
        ]
        if not files:
            raise InvalidArgument(
                f"folder={folder!r} is an empty image folder: put images in it"
                f" ({' '.join(SUFFIXES)})"
            )
        #: Widths and heights.
        self.sizes = {
            file.name: self._open(file.name, lambda picture: picture.size) for file in files
        }
        self._kept = functools.lru_cache(maxsize=4)(lambda name: self._open(name, to_gray))

    def __getitem__(self, name: str) -> Pixels:
        return self._kept(name)

    def __iter__(self) -> Iterator[str]:
        return iter(self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)

    def _open(self, name: str, read: Callable[[Image.Image], Read]) -> Read:
        """Open an image and return what `read` gives for it; whatever is wrong, or too many pixels,
        is InvalidArgument, with the names of the folder and the file.
        """
        try:
            with open_regular(self.path / name) as file, warnings.catch_warnings():
                # The limit here stands for that of the library.
                warnings.simplefilter("ignore", Image.DecompressionBombWarning)
                with Image.open(file, formats=FORMATS) as picture:
                    width, height = picture.size
                    if width * height > MOST_PIXELS:
                        raise InvalidArgument(f"it has {width} x {height} pixels: give parts of it")
                    return read(picture)
        except Exception as error:
            kind = "" if isinstance(error, InvalidArgument) else f"{type(error).__name__}: "
            raise InvalidArgument(
                f"folder={self.folder!r} holds an unreadable image, {name}"
                f" ({kind}{first_line(error)}): repair or remove it"
            ) from error


def draw_distinct(random: Generator, total: int, count: int) -> NDArray[np.int64]:
    """Draw `count` different numbers below `total`, in random order, in memory of the order of
    `count`, which is at most `total`.
    """
    drawn = np.empty(0, dtype=np.int64)
    while len(drawn) < count:
        more = np.concatenate([drawn, random.integers(total, size=count)])
        # The first of equal numbers stays, in its place.
        drawn = more[np.sort(np.unique(more, return_index=True)[1])]
    return drawn[:count]


def grids(images: Images, size: int) -> dict[str, tuple[int, int]]:
    """Return by image the numbers of rows and columns of the positions of a patch with side `size`,
    overlapping ones included; no pixels are read.

    Raises
    ------
    InvalidArgument
        If an image is smaller than the patch.
    """
    sizes = (
        images.sizes
        if isinstance(images, Folder)
        else {name: image.shape[::-1] for name, image in images.items()}
    )
    positions = {}
    for name, (width, height) in sizes.items():
        if min(height, width) < size:
            raise InvalidArgument(
                f"size={size} does not fit into {name} ({width} x {height} pixels): give the"
                f" dataset size <= {min(height, width)}, as in --dataset 'noisy_crops(size=64)', or"
                " remove that image"
            )
        positions[name] = height - size + 1, width - size + 1
    return positions


def count_positions(images: Images, size: int) -> int:
    """Return the number of positions of a patch in all images."""
    return sum(rows * columns for rows, columns in grids(images, size).values())


def patches_at(images: Images, size: int, positions: NDArray[np.int64]) -> FloatArray:
    """Return the patches at some positions, as rows of shape (size**2,) with values in [0, 1], in
    the order of the positions.

    Positions are numbers that count those of `grids` row by row through one image after another.
    Images without a position are not read.
    """
    patches = np.empty((len(positions), size * size))
    start = 0
    for name, grid in grids(images, size).items():
        stop = start + math.prod(grid)
        inside = (start <= positions) & (positions < stop)
        if inside.any():
            image = images[name]
            windows = sliding_window_view(image, (size, size))
            places = np.unravel_index(positions[inside] - start, grid)
            patches[inside] = windows[places].reshape(-1, size * size) / np.iinfo(image.dtype).max
        start = stop
    return patches


def random_patches(images: Images, size: int, n_samples: int, random: Generator) -> FloatArray:
    """Draw patches uniformly over all positions in all images, without replacement, shape
    (n_samples, size**2).

    More patches than there are positions are InvalidArgument.
    """
    total = count_positions(images, size)
    if n_samples > total:
        raise InvalidArgument(
            f"n_samples={n_samples} is above the {total} possible crops: lower it or give more data"
        )
    return patches_at(images, size, random.choice(total, n_samples, replace=False))
