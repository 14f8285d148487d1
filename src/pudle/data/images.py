"""Gray images, from scikit-learn or a user's folder, and patches of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from ..errors import InvalidArgument

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".gif", ".webp", ".pgm", ".ppm")


def to_gray(picture: Image.Image) -> np.ndarray:
    """Return the gray values as unsigned integers, white being the largest of their type (8 or 16 bits)."""
    if picture.mode.startswith("I"):
        return np.asarray(picture).clip(0, 65535).astype(np.uint16)
    return np.asarray(picture.convert("L"))


def sample_images() -> dict[str, np.ndarray]:
    """Return the two photographs that ship inside scikit-learn, in gray, by file name."""
    from sklearn.datasets import load_sample_images  # slow to import, and only this function needs it

    pictures = load_sample_images()
    return {
        Path(name).name: to_gray(Image.fromarray(values))
        for name, values in zip(pictures.filenames, pictures.images, strict=True)
    }


def check_folder(folder: str | None) -> None:
    """Refuse a `folder` option that is neither None nor text."""
    if folder is not None and not isinstance(folder, str):
        raise InvalidArgument(f"folder={folder!r} is not a path: give the path of a folder of images as a string")


def folder_state(folder: str | None) -> str:
    """Return names, sizes and times of a folder's images, for a dataset's fingerprint; nothing for the sample images."""
    if folder is None:
        return ""
    return repr([(file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in image_files(folder)])


def image_files(folder: str) -> list[Path]:
    """Return the image files of a folder (not of its subfolders), sorted by name.

    Raises
    ------
    InvalidArgument
        If the folder does not exist or holds no image.
    """
    path = Path(folder).expanduser()
    if not path.is_dir():
        raise InvalidArgument(f"folder={folder!r} is not an existing folder: give the path of a folder of images")
    files = sorted(file for file in path.iterdir() if file.suffix.lower() in SUFFIXES and not file.name.startswith("."))
    if not files:
        kinds = " ".join(SUFFIXES)
        raise InvalidArgument(f"folder={folder!r} is an empty image folder: put images in it ({kinds})")
    return files


def read_folder(folder: str) -> dict[str, np.ndarray]:
    """Return the images of a folder in gray, sorted by file name.

    Raises
    ------
    InvalidArgument
        If the folder does not exist or holds no image, or an image cannot be read.
    """
    images = {}
    for file in image_files(folder):
        try:
            with Image.open(file) as picture:
                images[file.name] = to_gray(picture)
        except Exception as error:
            reason = (str(error).splitlines() or [""])[0]
            raise InvalidArgument(
                f"folder={folder!r} holds an unreadable image, {file.name} ({type(error).__name__}: {reason}): "
                f"repair or remove it"
            ) from error
    return images


def count_patches(images: dict[str, np.ndarray], size: int) -> int:
    """Return the number of positions of a patch with side `size`, overlapping ones counted.

    Raises
    ------
    InvalidArgument
        If an image is smaller than the patch.
    """
    for name, image in images.items():
        if min(image.shape) < size:
            height, width = image.shape
            raise InvalidArgument(
                f"size={size} does not fit into {name} ({width} x {height} pixels): give size <= {min(image.shape)} or "
                f"remove that image"
            )
    return sum((height - size + 1) * (width - size + 1) for height, width in (image.shape for image in images.values()))


def patches_at(images: dict[str, np.ndarray], size: int, positions: np.ndarray) -> np.ndarray:
    """Return the patches at these positions, row by row through one image after another.

    Parameters
    ----------
    images : dict of arrays
    size : int
        Side of a patch.
    positions : array of int, shape (k,)
        Numbers below `count_patches`.

    Returns
    -------
    array, shape (k, size**2)
        Values in [0, 1].
    """
    patches = np.empty((len(positions), size * size))
    start = 0
    for image in images.values():
        windows = sliding_window_view(image, (size, size))
        stop = start + windows.shape[0] * windows.shape[1]
        here = (start <= positions) & (positions < stop)
        rows, columns = np.divmod(positions[here] - start, windows.shape[1])
        patches[here] = windows[rows, columns].reshape(-1, size * size) / np.iinfo(image.dtype).max
        start = stop
    return patches
