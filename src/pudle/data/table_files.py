"""Tables of numbers from files, arrays and data frames, each refused in one line where it is none."""

from __future__ import annotations

import csv
import functools
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import InvalidArgument, MissingDependency, first_line

#: Endings of the files that can be read.
SUFFIXES = (".npy", ".npz", ".csv", ".tsv", ".parquet")


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
    file, shown = table_file(path, name), f"{name}={path!r}"
    try:
        found = _READERS[file.suffix.lower()](file)
    except ImportError as error:
        raise MissingDependency(
            f"{shown} needs pyarrow: pip install 'pudle[parquet]', or convert the file to .csv"
        ) from error
    except InvalidArgument as error:
        raise InvalidArgument(f"{shown} {error}") from None
    except Exception as error:
        raise InvalidArgument(
            f"{shown} cannot be read ({type(error).__name__}: {first_line(error)})"
        ) from error
    return as_table(found, shown)


def table_file(path: str, name: str = "path") -> Path:
    """Return where a file of a table lies, or refuse one that is not there or has another ending."""
    file, shown = Path(path).expanduser(), f"{name}={path!r}"
    if file.suffix.lower() not in SUFFIXES:
        raise InvalidArgument(
            f"{shown} has none of the endings {', '.join(SUFFIXES)}: convert the file to one of"
            " these"
        )
    if not file.is_file():
        raise InvalidArgument(
            f"{shown} is not an existing file: give the path of a {', '.join(SUFFIXES)} file"
        )
    return file


def as_table(data: Any, name: str) -> np.ndarray:
    """Return an array or a data frame as float64, shape (rows, columns), or refuse it by its name
    in one line.
    """
    if hasattr(data, "columns") and hasattr(data, "dtypes") and len(data):
        from pandas.api.types import (
            is_numeric_dtype,
        )  # who has a data frame has imported pandas already

        for column, kind in zip(data.columns, data.dtypes, strict=True):
            if not is_numeric_dtype(kind):
                raise InvalidArgument(
                    f"{name}: column {column!r} holds {kind}, not numbers: remove or encode it"
                )
    values = np.asarray(
        data.to_numpy(dtype=float, na_value=np.nan) if hasattr(data, "to_numpy") else data
    )
    if values.dtype.kind not in "fiub":
        raise InvalidArgument(f"{name} holds {values.dtype}, not real numbers: convert it")
    if values.ndim != 2:
        raise InvalidArgument(
            f"{name} has shape {values.shape}: reshape it to (rows, columns), samples as rows"
        )
    if not values.size:
        raise InvalidArgument(
            f"{name} has shape {values.shape}, which is empty: give at least one row and column"
        )
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        where = f"the first in row {row + 1}, column {column + 1}"
        raise InvalidArgument(
            f"{name} has {len(bad)} missing or infinite values, {where}: remove or replace them"
        )
    return values.astype(np.float64)


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


_READERS: dict[str, Any] = {
    ".npy": functools.partial(np.load, allow_pickle=False),
    ".npz": _read_npz,
    ".csv": functools.partial(_read_text, separator=","),
    ".tsv": functools.partial(_read_text, separator="\t"),
    ".parquet": _read_parquet,
}
