"""Arrays on disk that are read row by row: .npy, Zarr, and Hugging Face datasets; none is ever in
memory as a whole.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidArgument, MissingDependency, first_line

#: Names of the files by which the folders of Zarr arrays (of format 3 and 2) and of Hugging Face
#: datasets are known.
ZARR_FILES, HUGGING_FACE_FILE = ("zarr.json", ".zarray"), "dataset_info.json"


class Rows(ABC):
    """The rows of an array on disk, shape (n, m)."""

    shape: tuple[int, ...]

    @abstractmethod
    def read(self, rows: slice | np.ndarray) -> np.ndarray:
        """Read some rows, given by a slice or by ascending numbers."""


class NumpyRows(Rows):
    """Rows of an .npy file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        array = self._mapped()
        self.shape, self.kind = array.shape, array.dtype.kind

    def _mapped(self) -> np.ndarray:
        return np.load(self.path, mmap_mode="r", allow_pickle=False)

    def read(self, rows: slice | np.ndarray) -> np.ndarray:
        # Mapped anew each time: pages that were read would else count as memory of this process.
        mapped: Any = self._mapped()
        if isinstance(rows, slice) or not mapped.flags.c_contiguous:
            return np.array(mapped[rows])
        # With each row of a random choice the system would map many pages around it.
        found = np.empty((len(rows), *mapped.shape[1:]), mapped.dtype)
        with self.path.open("rb", buffering=0) as file:
            for place, row in zip(rows, found, strict=True):
                file.seek(mapped.offset + int(place) * mapped.strides[0])
                if file.readinto(row) != row.nbytes:
                    raise InvalidArgument(
                        f"path={str(self.path)!r} became shorter while it was read: read it again"
                    )
        return found


class ZarrRows(Rows):
    """Rows of a Zarr array."""

    def __init__(self, path: Path) -> None:
        try:
            import zarr
        except ImportError:
            raise MissingDependency("install pudle[scale]: zarr is not installed") from None
        self.array: Any = zarr.open_array(str(path), mode="r")
        self.shape, self.kind = self.array.shape, self.array.dtype.kind

    def read(self, rows: slice | np.ndarray) -> np.ndarray:
        return np.asarray(self.array[rows] if isinstance(rows, slice) else self.array.oindex[rows])


class HuggingFaceRows(Rows):
    """Rows of one column of a Hugging Face dataset that `save_to_disk` wrote."""

    def __init__(self, path: Path, column: str) -> None:
        try:
            self._load: Any = importlib.import_module("datasets").load_from_disk
        except (ImportError, AttributeError):
            # From the root of this repository, a folder of the same name may be found instead.
            raise MissingDependency(
                "install Hugging Face's package: pip install datasets"
            ) from None
        self.path, self.column = path, column
        stored = self._load(str(path))
        if column not in stored.column_names:
            raise InvalidArgument(
                f"column={column!r} is none of {', '.join(stored.column_names)}: give one of these"
            )
        first = np.asarray(stored.with_format("numpy")[0][column]) if len(stored) else np.empty(0)
        self.shape, self.kind = (len(stored), *first.shape), first.dtype.kind

    def read(self, rows: slice | np.ndarray) -> np.ndarray:
        # Opened anew for the same reason as an .npy file.
        stored = self._load(str(self.path)).with_format("numpy", columns=[self.column])
        return np.asarray(stored[rows][self.column])


def open_rows(path: str, column: str | None = None) -> Rows:
    """Open an array on disk whose rows are samples.

    Parameters
    ----------
    path : str
        An .npy file, the folder of a Zarr array, or the folder of a Hugging Face dataset.
    column : str, optional
        Column of a Hugging Face dataset.

    Raises
    ------
    InvalidArgument
        If there is no such array, or it is not a table of real numbers with at least one row.
    MissingDependency
        If the package that reads it is not installed.
    """
    file, shown = Path(path).expanduser(), f"path={path!r}"
    try:
        if file.is_file() and file.suffix.lower() == ".npy":
            rows: Any = NumpyRows(file)
        elif any((file / name).is_file() for name in ZARR_FILES):
            rows = ZarrRows(file)
        elif (file / HUGGING_FACE_FILE).is_file():
            if column is None:
                raise InvalidArgument(
                    "needs column='...', the one that holds the samples of this Hugging Face"
                    " dataset"
                )
            rows = HuggingFaceRows(file, column)
        else:
            raise InvalidArgument(
                "is no .npy file, Zarr array or Hugging Face dataset on disk: give the path of one"
            )
    except InvalidArgument as error:
        raise InvalidArgument(f"{shown} {error}") from None
    except MissingDependency:
        raise
    except Exception as error:
        raise InvalidArgument(
            f"{shown} cannot be read ({type(error).__name__}: {first_line(error)})"
        ) from error
    if len(rows.shape) != 2 or not all(rows.shape) or rows.kind not in "fiu":
        raise InvalidArgument(
            f"{shown} has shape {tuple(rows.shape)} and numbers of kind {rows.kind!r}: give a table"
            " of real numbers, samples as rows"
        )
    return rows


def finite(values: np.ndarray, places: np.ndarray, path: str) -> np.ndarray:
    """Return rows as float64, or refuse one that is not finite by its place in the file."""
    values = values.astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        row = places[bad[0]] + 1
        raise InvalidArgument(
            f"path={path!r} has missing or infinite values, first in row {row}: remove or replace"
            " them"
        )
    return values
