"""Tables of numbers from files, arrays and data frames, and rows of tables larger than memory; each
is refused in one line where it is none.
"""

import contextlib
import functools
import importlib
from collections.abc import Callable, Iterator
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
    reader = READERS.get(file.suffix.lower())
    if not reader or not file.is_file():
        raise InvalidArgument(
            f"{shown} is not an existing file with one of the endings {', '.join(READERS)}: correct"
            " the path, or convert the file to one of these"
        )
    with _explained(shown, "pyarrow: pip install 'pudle[parquet]', or convert the file to .csv"):
        data = reader(file)
    return as_table(data, shown)


def as_table(data: Any, name: str, rows: Any = None) -> np.ndarray:
    """Return an array or a data frame as float64, shape (rows, columns), or refuse it by its name
    in one line; `rows` has the numbers of the rows where they are not all.
    """
    if hasattr(data, "select_dtypes") and len(data):
        for column in data.select_dtypes(exclude=["number", "bool"]).columns:
            raise InvalidArgument(
                f"{name}: column {column!r} holds {data[column].dtype}, not numbers: remove or"
                " encode it"
            )
    values = np.asarray(
        data.to_numpy(dtype=float, na_value=np.nan) if hasattr(data, "to_numpy") else data
    )
    if values.dtype.kind not in "fiub":
        raise InvalidArgument(f"{name} holds {values.dtype}, not real numbers: convert it")
    if values.ndim != 2 or not values.size:
        raise InvalidArgument(
            f"{name} has shape {values.shape}: give a table of shape (rows, columns), samples as"
            " rows, with at least one of each"
        )
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        row = row if rows is None else rows[row]
        raise InvalidArgument(
            f"{name} has {len(bad)} missing or infinite values, the first in row {row + 1}, column"
            f" {column + 1}: remove or replace them"
        )
    return values.astype(np.float64)


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
    with np.load(path) as stored:
        names = stored.files
        name = names[0] if len(names) == 1 else "observations"
        if name not in names:
            raise InvalidArgument(
                f"holds {', '.join(names) or 'no array'}: keep one array, or call one"
                " 'observations'"
            )
        return stored[name]


def _read_text(path: Path, separator: str) -> Any:
    import pandas as pd

    first = pd.read_csv(path, sep=separator, header=None, nrows=1)
    numbers = first.select_dtypes("number").shape == first.shape
    return pd.read_csv(path, sep=separator, header=None if numbers else 0)


#: How files are read, by their endings.
READERS: dict[str, Callable[[Path], Any]] = {
    ".npy": np.load,
    ".npz": _read_npz,
    ".csv": functools.partial(_read_text, separator=","),
    ".tsv": functools.partial(_read_text, separator="\t"),
    ".parquet": lambda path: importlib.import_module("pandas").read_parquet(path),
}


# Tables on disk that are read row by row


def open_rows(path: str, column: str | None = None) -> tuple[int, Callable[..., np.ndarray]]:
    """Open a table on disk whose rows are samples, which is never in memory as a whole.

    Parameters
    ----------
    path : str
        An .npy file, the folder of a Zarr array, or the folder of a Hugging Face dataset.
    column : str, optional
        Column of a Hugging Face dataset.

    Returns
    -------
    total : int
        Number of rows.
    read : callable
        Returns the rows of ascending numbers as float64, or refuses one that is not finite.

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

    def read(rows: np.ndarray) -> np.ndarray:
        with _explained(name, package):
            values = read_rows(rows)
        return as_table(values, name, rows)

    with _explained(name, package):
        total, read_rows = opened(file)
    read(np.arange(min(total, 1)))
    return total, read


def _numpy_rows(path: Path) -> Any:
    array = np.load(path, mmap_mode="r")

    def read(rows: np.ndarray) -> np.ndarray:
        if not array.flags.c_contiguous:
            # Mapped anew: pages that were read would else count as memory of this process.
            return np.array(np.load(path, mmap_mode="r")[rows])
        # With each row of a random choice a map would bring many pages around it into memory.
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        width = array[:1].size
        parts = [
            np.fromfile(
                path, array.dtype, len(run) * width, offset=array.offset + run[0] * array.strides[0]
            )
            for run in runs
            if len(run)
        ]
        # A file that became shorter does not fill the shape.
        return np.concatenate(parts or [array]).reshape(len(rows), *array.shape[1:])

    return len(array), read


def _zarr_rows(path: Path) -> Any:
    import zarr

    array: Any = zarr.open_array(str(path), mode="r")
    return array.shape[0], lambda rows: np.asarray(array.oindex[rows])


def _hugging_face_rows(path: Path, column: str | None) -> Any:
    load: Any = importlib.import_module("datasets").load_from_disk
    stored = load(str(path))
    if column not in stored.column_names:
        raise InvalidArgument(
            f"needs column='...', the one that holds the samples: one of"
            f" {', '.join(stored.column_names)}"
        )

    def read(rows: np.ndarray) -> np.ndarray:
        # Opened anew for the same reason as an .npy file.
        return np.asarray(load(str(path)).with_format("numpy", columns=[column])[rows][column])

    return len(stored), read
