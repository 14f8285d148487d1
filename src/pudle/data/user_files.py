"""The files of a user that datasets read: one reader for all of them, with limits.

A file is looked at before it is read. A pipe is waited for and a device has no end, so anything but
a regular file is refused; the shape and the type that a file states are compared with what it holds
and with `MOST_NUMBERS` before memory is taken. Whatever is wrong becomes `InvalidArgument`, one
line that names the `option` and its value.
"""

import contextlib
import math
import os
import zipfile
from collections.abc import Callable, Iterator, Sequence
from io import BufferedReader
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidArgument, MissingDependency, first_line
from ..files import open_regular
from ..text import count

#: Any array.
AnyArray = NDArray[Any]
#: Numbers that are read from one file at most: 512 MiB in double precision.
MOST_NUMBERS = 1 << 26
#: Bytes of a text file that are read at most, of its first line, and columns that it may have.
MOST_TEXT, MOST_LINE, MOST_COLUMNS = 1 << 28, 1 << 22, 1 << 14
#: Numbers of a text file that are converted at a time.
CHUNK = 1 << 20
#: What to do with a table that is too large.
USE_MEMORY_MAPPED = "give fewer, or an .npy file to the dataset memory_mapped, which reads parts"


@contextlib.contextmanager
def one_line_errors(option: str) -> Iterator[None]:
    """Raise InvalidArgument for whatever is wrong with a file, in one line that begins with the
    `option` and its value.

    A library that cannot be imported is MissingDependency, which asks for pyarrow.
    """
    try:
        yield
    except ImportError as error:
        raise MissingDependency(
            f"{option} needs pyarrow: pip install 'pudle[parquet]', or convert the file to .csv"
        ) from error
    except InvalidArgument as error:
        raise InvalidArgument(f"{option} {error}") from None
    except MemoryError as error:
        raise InvalidArgument(f"{option} does not fit into memory: {USE_MEMORY_MAPPED}") from error
    except Exception as error:
        kind = "" if isinstance(error, OSError) else f"{type(error).__name__}: "
        reason = getattr(error, "strerror", None) or first_line(error) or "it is empty"
        raise InvalidArgument(
            f"{option} cannot be read ({kind}{reason}): correct the path or repair the file"
        ) from error


def check_regular(path: Path) -> None:
    """Raise InvalidArgument for what is no regular file: a folder, a pipe, a device, or nothing at
    all.
    """
    if path.is_dir():
        raise InvalidArgument("is a folder: give the path of a file in it")
    if not path.exists():
        raise InvalidArgument("is not an existing file: correct the path")
    if not path.is_file():
        raise InvalidArgument("is no regular file but a pipe, a socket or a device: give a file")


@contextlib.contextmanager
def user_file(path: str | Path, name: str = "path") -> Iterator[BufferedReader]:
    """Open a regular file that the option `name` gives, in which ``~`` is expanded; whatever is
    wrong with it, or with what is read from it within the context, is InvalidArgument.
    """
    with one_line_errors(f"{name}={str(path)!r}"):
        expanded = Path(path).expanduser()
        check_regular(expanded)
        with open_regular(expanded) as file:
            yield file


def check_numbers(shape: Sequence[int], dtype: Any = None) -> None:
    """Raise InvalidArgument for an array, by its shape, or by its type where that is given, before
    it is read: for what holds no real numbers, and for more of them than `MOST_NUMBERS`.
    """
    if dtype is not None and dtype.kind not in "fiub":
        raise InvalidArgument(f"holds {dtype}, not real numbers: convert it")
    if math.prod(shape) > MOST_NUMBERS:
        raise InvalidArgument(
            f"has shape {tuple(shape)}, which is above {MOST_NUMBERS} numbers: {USE_MEMORY_MAPPED}"
        )


def npy_header(file: IO[bytes], n_bytes: int) -> tuple[tuple[int, ...], np.dtype[Any]]:
    """Return the shape and the type that the header of an .npy file of a length states.

    The file is read up to the end of the header. Refused, by InvalidArgument, are an array that
    does not fit into that length, Python objects, and an unknown format.
    """
    version = np.lib.format.read_magic(file)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise InvalidArgument(f"is of an unknown format {version}: save it by numpy.save")
    shape, _, dtype = readers[version](file)
    if dtype.hasobject:
        raise InvalidArgument("holds Python objects, not real numbers: convert it")
    stated = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or stated > n_bytes - file.tell():
        raise InvalidArgument(
            f"has {n_bytes - file.tell()} bytes of numbers, but its shape {shape} of {dtype} takes"
            f" {stated}: it was cut or damaged, so save it again"
        )
    return shape, dtype


def file_size(file: BufferedReader) -> int:
    """Return the number of bytes of an open file."""
    return os.fstat(file.fileno()).st_size


def read_npy(file: IO[bytes], n_bytes: int) -> AnyArray:
    """Read the array of real numbers of an .npy file of a length, or of a part of an .npz file,
    from its start.

    It is refused by its header before memory is taken; objects are never unpickled.
    """
    check_numbers(*npy_header(file, n_bytes))
    file.seek(0)
    array: AnyArray = np.lib.format.read_array(file, allow_pickle=False)
    return array


def read_npz(file: BufferedReader, choose: Callable[[list[str]], Sequence[str]]) -> list[AnyArray]:
    """Read some arrays of an .npz file, which `choose` names of those that there are, in the order
    of the names that it returns.
    """
    arrays = []
    with zipfile.ZipFile(file) as archive:
        members = {
            member.filename.removesuffix(".npy"): member
            for member in archive.infolist()
            if member.filename.endswith(".npy")
        }
        for name in choose([*members]):
            with one_line_errors(f"array {name!r}"), archive.open(members[name]) as stored:
                arrays.append(read_npy(stored, members[name].file_size))
    return arrays


def check_text(file: BufferedReader) -> None:
    """Go back to the start of a text file, or raise InvalidArgument if it is empty or too large, or
    its first line is too long.
    """
    size = file_size(file)
    if not size:
        raise InvalidArgument("is empty: give a file with a line per sample")
    if size > MOST_TEXT:
        raise InvalidArgument(f"has {size} bytes, above {MOST_TEXT}: {USE_MEMORY_MAPPED}")
    if len(file.readline(MOST_LINE + 1)) > MOST_LINE:
        raise InvalidArgument(
            f"has a first line of more than {MOST_LINE} bytes: give each sample a line of its own"
        )
    file.seek(0)


def read_separated(file: BufferedReader, separator: str) -> AnyArray:
    """Read the numbers of a text file with columns between separators, part by part, as float64;
    missing ones are NaN.

    A first line that holds a text is a header. Columns without numbers, and more columns or numbers
    than are allowed, are InvalidArgument.
    """
    import pandas as pd

    check_text(file)
    columns = file.readline().count(separator.encode()) + 1
    if columns > MOST_COLUMNS:
        raise InvalidArgument(
            f"has {count(columns, 'column')}, above {MOST_COLUMNS}: convert it to .npy"
        )
    file.seek(0)
    first = pd.read_csv(file, sep=separator, header=None, nrows=1)
    has_header = first.select_dtypes("number").shape != first.shape
    file.seek(0)
    parts = []
    n_numbers = 0
    for part in pd.read_csv(
        file,
        sep=separator,
        header=0 if has_header else None,
        chunksize=max(1, CHUNK // columns),
    ):
        check_columns(columns_without_numbers(part))
        n_numbers += part.size
        check_numbers((n_numbers,))
        parts.append(part.to_numpy(dtype=float, na_value=np.nan))
    return np.concatenate(parts)


def columns_without_numbers(frame: Any) -> dict[Any, str]:
    """Return the columns of a data frame that hold neither numbers nor booleans, by name with their
    type; none if it has no rows.
    """
    frame_without_numbers = (
        frame.select_dtypes(exclude=["number", "bool"]) if len(frame) else frame[[]]
    )
    return {name: str(frame_without_numbers[name].dtype) for name in frame_without_numbers}


def check_columns(columns: dict[Any, str]) -> None:
    """Raise InvalidArgument for the first of some columns that hold no numbers, given by name with
    what they hold.
    """
    for name, dtype in columns.items():
        raise InvalidArgument(f"holds {dtype} in column {name!r}, not numbers: remove or encode it")


def read_parquet(file: BufferedReader) -> Any:
    """Read the columns of a Parquet file as a data frame; needs pyarrow.

    A column without numbers, or too many numbers, are InvalidArgument before the file is read; the
    index of a frame that was saved does not count.
    """
    import pandas as pd
    from pyarrow import parquet, types

    stated = parquet.ParquetFile(file)
    schema = stated.schema_arrow
    index = (schema.pandas_metadata or {}).get("index_columns", [])
    fields = [field for field in schema if field.name not in index]
    numeric = (types.is_integer, types.is_floating, types.is_boolean, types.is_decimal)

    def is_numeric(field: Any) -> bool:
        return any(is_kind(field.type) for is_kind in numeric)

    check_columns({field.name: str(field.type) for field in fields if not is_numeric(field)})
    check_numbers((stated.metadata.num_rows, len(fields)))
    file.seek(0)
    return pd.read_parquet(file)


def read_svmlight(file: BufferedReader) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Read the features, as a dense array, and the labels of a file of the svmlight format.

    A file without features, too many numbers, and values that are not finite are InvalidArgument.
    """
    from sklearn.datasets import load_svmlight_file  # slow to import

    check_text(file)
    features, labels = load_svmlight_file(file)
    check_numbers(features.shape)
    if not features.nnz:
        raise InvalidArgument("holds no feature: give a file of lines as `1 1:0.5 2:0.7`")
    dense: NDArray[np.float64] = features.toarray()
    for noun, values in (("feature", dense), ("label", labels)):
        if n_invalid := int(np.count_nonzero(~np.isfinite(values))):
            raise InvalidArgument(
                f"has {count(n_invalid, f'{noun} that is', f'{noun}s that are')} NaN or infinite:"
                " remove or replace what is not finite"
            )
    return dense, labels
