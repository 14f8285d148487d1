"""Tables of numbers from files, arrays and data frames, and sparse coding problems made of them."""

from __future__ import annotations

import csv
import functools
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import InvalidArgument, MissingDependency, first_line
from ..problems import SparseCoding
from ..streams import generator
from ..validation import check_integer, check_positive
from .atoms import COHERENCE
from .dataset import Draw, to_tensors
from .synthetic import normalize

#: Endings of the files that can be read.
SUFFIXES = (".npy", ".npz", ".csv", ".tsv", ".parquet")
#: The default penalty as a share of the penalty above which the codes of half of the samples are zero.
FRACTION = 0.2
#: Rows to learn a dictionary from and to code, and atoms to learn, at most and unless other numbers are given.
MOST_ROWS, MOST_SAMPLES, MOST_ATOMS = 1000, 500, 100


def read_table(path: str, name: str = "path") -> np.ndarray:
    """Return the numbers in a file, shape (rows, columns), as float64.

    Of an .npz file with several arrays, the one called ``observations`` counts. A first line of a CSV file that holds a text
    is a header. Error texts call the path `name`.

    Raises
    ------
    InvalidArgument
        If there is no such file, it cannot be read, or it holds anything but a table of finite numbers.
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
        raise InvalidArgument(f"{shown} cannot be read ({type(error).__name__}: {first_line(error)})") from error
    return as_table(found, shown)


def table_file(path: str, name: str = "path") -> Path:
    """Return where a file of a table lies, or refuse one that is not there or has another ending."""
    file, shown = Path(path).expanduser(), f"{name}={path!r}"
    if file.suffix.lower() not in SUFFIXES:
        raise InvalidArgument(f"{shown} has none of the endings {', '.join(SUFFIXES)}: convert the file to one of these")
    if not file.is_file():
        raise InvalidArgument(f"{shown} is not an existing file: give the path of a {', '.join(SUFFIXES)} file")
    return file


def as_table(data: Any, name: str) -> np.ndarray:
    """Return an array or a data frame as float64, shape (rows, columns), or refuse it by its name in one line."""
    if hasattr(data, "columns") and hasattr(data, "dtypes") and len(data):
        from pandas.api.types import is_numeric_dtype  # who has a data frame has imported pandas already

        for column, kind in zip(data.columns, data.dtypes, strict=True):
            if not is_numeric_dtype(kind):
                raise InvalidArgument(f"{name}: column {column!r} holds {kind}, not numbers: remove or encode it")
    values = np.asarray(data.to_numpy(dtype=float, na_value=np.nan) if hasattr(data, "to_numpy") else data)
    if values.dtype.kind not in "fiub":
        raise InvalidArgument(f"{name} holds {values.dtype}, not real numbers: convert it")
    if values.ndim != 2:
        raise InvalidArgument(f"{name} has shape {values.shape}: reshape it to (rows, columns), samples as rows")
    if not values.size:
        raise InvalidArgument(f"{name} has shape {values.shape}, which is empty: give at least one row and column")
    bad = np.argwhere(~np.isfinite(values))
    if len(bad):
        row, column = bad[0]
        where = f"the first in row {row + 1}, column {column + 1}"
        raise InvalidArgument(f"{name} has {len(bad)} missing or infinite values, {where}: remove or replace them")
    return values.astype(np.float64)


def draw_from(
    values: np.ndarray,
    random: np.random.Generator,
    *,
    dictionary: np.ndarray | None = None,
    n_components: int | None = None,
    n_samples: int | None = None,
    standardize: bool = False,
) -> Draw:
    """Draw observations from the rows of a table, and learn a dictionary from other rows where none is given.

    The rows are shuffled. Half of them, at most `MOST_ROWS`, are what a dictionary is learned from; observations come from
    the others. With a dictionary, all rows can be observations. See `pudle.sparse_coding` for the parameters.
    """
    rows, features = values.shape
    if standardize:
        values, spread = values - values.mean(axis=0), values.std(axis=0)
        # A column without spread becomes zero.
        values = values / np.where(spread > 0, spread, 1.0)
    shuffled = random.permutation(values)
    if dictionary is None:
        if rows < 4:
            raise InvalidArgument(
                f"{rows} rows are too few to learn a dictionary from and to code: give 4 or more, or a dictionary"
            )
        learned_from = min(rows // 2, MOST_ROWS)
        dictionary = learn_dictionary(shuffled[:learned_from], n_components, int(random.integers(2**31)))
        shuffled = shuffled[learned_from:]
    elif dictionary.shape[0] != features or n_components not in (None, dictionary.shape[1]):
        turned = "; transpose it" if dictionary.shape[1] == features else ""
        wanted = f"({features}, {n_components or 'any'})"
        raise InvalidArgument(
            f"dictionary has shape {dictionary.shape}, atoms as columns: it must be {wanted} to fit{turned}"
        )
    available = len(shuffled)
    if n_samples is not None and n_samples > available:
        raise InvalidArgument(f"n_samples={n_samples} is above the {available} rows to code: lower it or give more data")
    return Draw(shuffled[: n_samples or min(available, MOST_SAMPLES)], dictionary)


def learn_dictionary(rows: np.ndarray, n_components: int | None, seed: int) -> np.ndarray:
    """Learn atoms of unit norm by scikit-learn's MiniBatchDictionaryLearning, shape (columns, n_components).

    Its penalty is `FRACTION` of the median norm of the rows. Any two atoms have a coherence ``|a^T b| < 0.95``, because the
    active Gram matrices of closer ones are singular: of such atoms one is kept. Without `n_components` there are as many as
    remain of twice the columns, at most `MOST_ATOMS` and half the rows; else the number is kept or refused.
    """
    from sklearn.decomposition import MiniBatchDictionaryLearning  # slow to import, and listing datasets must not be
    from sklearn.exceptions import ConvergenceWarning

    wanted = n_components or max(1, min(2 * rows.shape[1], MOST_ATOMS, len(rows) // 2))
    if wanted > len(rows):
        raise InvalidArgument(
            f"n_components={wanted} is above the {len(rows)} rows to learn from: lower it or give more data"
        )
    alpha = FRACTION * float(np.median(np.linalg.norm(rows, axis=1)))
    if alpha == 0:
        raise InvalidArgument("half of the rows are zero: remove them")
    learner = MiniBatchDictionaryLearning(
        wanted, alpha=alpha, max_iter=20, batch_size=min(len(rows), 100), fit_algorithm="cd", random_state=seed
    )  # fmt: skip
    # Its coordinate descent draws a seed from the global state that it makes no use of.
    state = np.random.get_state()  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            atoms = learner.fit(rows).components_
    finally:
        np.random.set_state(state)  # noqa: NPY002
    kept: list[np.ndarray] = []
    for atom in atoms[np.linalg.norm(atoms, axis=1) > 0]:
        atom = atom / np.linalg.norm(atom)
        if all(abs(atom @ other) < COHERENCE for other in kept):
            kept.append(atom)
    if n_components and len(kept) < n_components:
        raise InvalidArgument(
            f"n_components={n_components} is above the {len(kept)} distinct atoms (coherence below {COHERENCE}) that can be "
            f"learned from these rows: give n_components <= {len(kept)}, more rows or a dictionary"
        )
    return normalize(np.stack(kept, axis=1), axis=0)


def default_penalty(draw: Draw) -> float:
    r"""Return `FRACTION` of the median over samples of :math:`\max_j |d_j^\top x|`, above which a sample's code is zero."""
    return FRACTION * float(np.median(np.abs(draw.observations @ draw.dictionary).max(axis=1)))


def sparse_coding(
    data: Any,
    *,
    dictionary: Any = None,
    n_components: int | None = None,
    penalty: float | None = None,
    n_samples: int | None = None,
    standardize: bool = False,
    seed: int = 0,
    loss: str = "lasso",
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
) -> SparseCoding:
    """Make a sparse coding problem of a data frame or an array, as the dataset ``array`` does of a file.

    Parameters
    ----------
    data : DataFrame or array, shape (rows, columns)
        Samples as rows.
    dictionary : array, shape (columns, p), optional
        Atoms as columns. By default, scikit-learn learns atoms from half of the rows, which the seed chooses, at most 1000;
        the other rows are coded.
    n_components : int, optional
        Number of atoms to learn; by default twice the columns, at most 100 and half the rows that they are learned from.
    penalty : float, optional
        Weight of the l1 norm; by default a fifth of the median over samples of ``max_j |d_j^T x|``, the penalty above which
        half of the codes are zero.
    n_samples : int, optional
        Number of rows to code; by default all that there are, at most 500.
    standardize : bool
        Whether to subtract each column's mean and divide by its standard deviation. Without it the values count as they
        are: if their means or scales differ much, learned atoms are few and alike.
    seed : int
        Chooses the rows.

    Raises
    ------
    InvalidArgument
        If the data are no table of finite numbers, or too few for what is asked.
    """
    random = generator(check_integer("seed", seed, 0), "dataset array")
    atoms = None if dictionary is None else as_table(dictionary, "dictionary")
    draw = draw_from(
        as_table(data, "data"), random, dictionary=atoms, n_components=n_components, n_samples=n_samples,
        standardize=standardize,
    )  # fmt: skip
    return problem_of(draw, penalty, loss, dtype, device)


def problem_of(draw: Draw, penalty: float | None, loss: str, dtype: torch.dtype, device: str | torch.device) -> SparseCoding:
    """Return the problem of a draw with a penalty, the default one if None."""
    given = default_penalty(draw) if penalty is None else check_positive("penalty", penalty)
    return SparseCoding(penalty=given, loss=loss, **to_tensors(vars(draw), dtype, device))


def _read_npz(path: Path) -> np.ndarray:
    with np.load(path, allow_pickle=False) as stored:
        names = stored.files
        if len(names) != 1 and "observations" not in names:
            raise InvalidArgument(f"holds {', '.join(names) or 'no array'}: keep one array, or call one 'observations'")
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
