"""Tables of numbers from files, arrays and data frames, and rows of tables larger than memory; each
is refused in one line where it is none.
"""

from __future__ import annotations

import contextlib
import csv
import functools
import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidArgument, MissingDependency, first_line


def read_table(path: str, name: str = "path") -> np.ndarray:
    """Return the numbers in a file, shape (rows, columns), as float64.

    Of an .npz file with several arrays, the one called ``observations`` counts. A first line of a
    CSV file that holds a text is a header. Error texts call the path `name`.

    Raises
    ------
    InvalidArgument
        If there is no such file, it cannot be read, or it holds anything but a table of finite
        numbers.
    MissingDependency
        If the file is Parquet and pyarrow is not installed.
    """
    file, shown = Path(path).expanduser(), f"{name}={path!r}"
    if file.suffix.lower() not in READERS:
        raise InvalidArgument(
            f"{shown} has none of the endings {', '.join(READERS)}: convert the file to one of"
            " these"
        )
    if not file.is_file():
        raise InvalidArgument(
            f"{shown} is not an existing file: give the path of a {', '.join(READERS)} file"
        )
    with _explained(shown, "pyarrow: pip install 'pudle[parquet]', or convert the file to .csv"):
        data = READERS[file.suffix.lower()](file)
    return as_table(data, shown)


def as_table(data: Any, name: str, rows: np.ndarray | None = None) -> np.ndarray:
    """Return an array or a data frame as float64, shape (rows, columns), or refuse it by its name
    in one line; `rows` has the numbers of the rows where they are not all.
    """
    if hasattr(data, "columns") and hasattr(data, "dtypes") and len(data):
        # Who has a data frame has imported pandas already.
        from pandas.api.types import is_numeric_dtype

        for column, kind in zip(data.columns, data.dtypes, strict=True):
            if not is_numeric_dtype(kind):
                raise InvalidArgument(
                    f"{name}: column {column!r} holds {kind}, not numbers: remove or encode it"
                )
    values = np.asarray(
        data.to_numpy(dtype=float, na_value=np.nan) if hasattr(data, "to_numpy") else data
    )
    _check_shape(values.shape, values.dtype, name)
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        row = row if rows is None else rows[row]
        raise InvalidArgument(
            f"{name} has {len(bad)} missing or infinite values, the first in row {row + 1}, column"
            f" {column + 1}: remove or replace them"
        )
    return values.astype(np.float64)


def _check_shape(shape: tuple[int, ...], kind: np.dtype, name: str) -> None:
    if kind.kind not in "fiub":
        raise InvalidArgument(f"{name} holds {kind}, not real numbers: convert it")
    if len(shape) != 2 or 0 in shape:
        raise InvalidArgument(
            f"{name} has shape {tuple(shape)}: give a table of shape (rows, columns), samples as"
            " rows, with at least one of each"
        )


@contextlib.contextmanager
def _explained(shown: str, package: str) -> Iterator[None]:
    """Say of which file an error is, and which package reads it."""
    try:
        yield
    except ImportError as error:
        raise MissingDependency(f"{shown} needs {package}") from error
    except InvalidArgument as error:
        raise InvalidArgument(f"{shown} {error}") from None
    except Exception as error:
        raise InvalidArgument(
            f"{shown} cannot be read ({type(error).__name__}: {first_line(error)})"
        ) from error


def _read_npz(path: Path) -> np.ndarray:
    with np.load(path, allow_pickle=False) as stored:
        names = stored.files
        if len(names) != 1 and "observations" not in names:
            raise InvalidArgument(
                f"holds {', '.join(names) or 'no array'}: keep one array, or call one"
                " 'observations'"
            )
        return stored["observations" if len(names) != 1 else names[0]]


def _read_text(path: Path, separator: str) -> Any:
    import pandas as pd

    with path.open(newline="") as file:
        first = next(csv.reader(file, delimiter=separator), [])
    if len(first) == 1 and ";" in first[0]:
        raise InvalidArgument("has one column, with semicolons in it: separate columns by commas")
    return pd.read_csv(path, sep=separator, header="infer" if any(map(_is_text, first)) else None)


def _is_text(cell: str) -> bool:
    try:
        float(cell or "nan")
    except ValueError:
        return True
    return False


def _read_parquet(path: Path) -> Any:
    import pandas as pd

    return pd.read_parquet(path)


#: How files are read, by their endings.
READERS: dict[str, Callable[[Path], Any]] = {
    ".npy": functools.partial(np.load, allow_pickle=False),
    ".npz": _read_npz,
    ".csv": functools.partial(_read_text, separator=","),
    ".tsv": functools.partial(_read_text, separator="\t"),
    ".parquet": _read_parquet,
}


# Tables on disk that are read row by row


@dataclass(frozen=True)
class Rows:
    """The rows of a table on disk, which is never in memory as a whole.

    `read_rows` returns those of a slice or of ascending numbers; error texts call the table `name`.
    """

    name: str
    shape: tuple[int, ...]
    read_rows: Callable[[Any], np.ndarray]

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Return the rows of ascending numbers as float64, or refuse one that is not finite."""
        consecutive = len(rows) == rows[-1] - rows[0] + 1
        which = slice(int(rows[0]), int(rows[-1]) + 1) if consecutive else rows
        return as_table(self.read_rows(which), self.name, rows)


def open_rows(path: str, column: str | None = None) -> Rows:
    """Open a table on disk whose rows are samples.

    Parameters
    ----------
    path : str
        An .npy file, the folder of a Zarr array, or the folder of a Hugging Face dataset.
    column : str, optional
        Column of a Hugging Face dataset.

    Raises
    ------
    InvalidArgument
        If there is no such table, or it is not one of real numbers with at least one row.
    MissingDependency
        If the package that reads it is not installed.
    """
    file, name = Path(path).expanduser(), f"path={path!r}"
    if file.is_file() and file.suffix.lower() == ".npy":
        opened, package = _numpy_rows, "numpy"
    elif any((file / each).is_file() for each in ("zarr.json", ".zarray")):
        opened, package = _zarr_rows, "zarr: pip install 'pudle[scale]'"
    elif (file / "dataset_info.json").is_file():
        opened = functools.partial(_hugging_face_rows, column=column)
        package = "Hugging Face's package: pip install datasets"
    else:
        raise InvalidArgument(
            f"{name} is no .npy file, Zarr array or Hugging Face dataset on disk: give the path of"
            " one"
        )
    with _explained(name, package):
        shape, kind, read = opened(file)
    _check_shape(shape, kind, name)
    return Rows(name, tuple(shape), read)


def _numpy_rows(path: Path) -> Any:
    def mapped() -> Any:
        return np.load(path, mmap_mode="r", allow_pickle=False)

    def read(rows: slice | np.ndarray) -> np.ndarray:
        # Mapped anew each time: pages that were read would else count as memory of this process.
        array = mapped()
        if isinstance(rows, slice) or not array.flags.c_contiguous:
            return np.array(array[rows])
        # With each row of a random choice the system would map many pages around it.
        values = np.empty((len(rows), *array.shape[1:]), array.dtype)
        with path.open("rb", buffering=0) as file:
            for place, row in zip(rows, values, strict=True):
                file.seek(array.offset + int(place) * array.strides[0])
                if file.readinto(row) != row.nbytes:
                    raise InvalidArgument(
                        f"path={str(path)!r} became shorter while it was read: read it again"
                    )
        return values

    return mapped().shape, mapped().dtype, read


def _zarr_rows(path: Path) -> Any:
    import zarr

    array: Any = zarr.open_array(str(path), mode="r")
    return array.shape, array.dtype, lambda rows: np.asarray(array.oindex[rows])


def _hugging_face_rows(path: Path, column: str | None) -> Any:
    load: Any = getattr(importlib.import_module("datasets"), "load_from_disk", None)
    if load is None:
        # From the root of this repository, a folder of the same name is found instead.
        raise ImportError
    stored = load(str(path)).with_format("numpy")
    if column not in stored.column_names:
        raise InvalidArgument(
            f"needs column='...', the one that holds the samples: one of"
            f" {', '.join(stored.column_names)}"
        )
    first = np.asarray(stored[0][column]) if len(stored) else np.empty(0)

    def read(rows: slice | np.ndarray) -> np.ndarray:
        # Opened anew for the same reason as an .npy file.
        return np.asarray(load(str(path)).with_format("numpy", columns=[column])[rows][column])

    return (len(stored), *first.shape), first.dtype, read
