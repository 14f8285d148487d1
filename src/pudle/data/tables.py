"""Tables of numbers from files, arrays and data frames, and sparse coding problems made of them:
which rows are observations, and which a dictionary is learned from.
"""

import copy
import functools
import warnings
from abc import abstractmethod
from collections.abc import Callable, Sequence
from io import BufferedReader
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InvalidArgument
from ..problems import SparseCoding
from ..streams import generator
from ..text import count
from ..validation import check_integer, check_options
from .atoms import COHERENCE, choose_distinct, normalize
from .dataset import Draw, FloatArray, SparseCodingDataset, ToTensor, to_tensor
from .user_files import (
    check_columns,
    check_numbers,
    columns_without_numbers,
    file_size,
    npy_header,
    one_line_errors,
    read_npy,
    read_npz,
    read_parquet,
    read_separated,
    user_file,
)

#: Numbers of rows.
Rows = NDArray[np.int64]
#: The default penalty as a share of the penalty above which the codes of half of the samples are
#: zero.
FRACTION = 0.2
#: Rows to learn a dictionary from and to code, and atoms to learn, at most and unless other numbers
#: are given.
MOST_ROWS, MOST_SAMPLES, MOST_ATOMS = 1000, 500, 100


def read_table(path: str, name: str = "path") -> FloatArray:
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
    reader = READERS.get(Path(path).suffix.lower())
    if not reader:
        raise InvalidArgument(
            f"{name}={path!r} is no file with one of the endings {', '.join(READERS)}: correct the"
            " path, or convert the file to one of these"
        )
    with user_file(path, name) as file:
        data = reader(file)
    return as_table(data, f"{name}={path!r}")


def as_table(data: Any, name: str, rows: Rows | None = None) -> FloatArray:
    """Return an array or a data frame as a copy in float64, shape (rows, columns).

    What is refused is InvalidArgument, one line that begins with `name`: columns without numbers,
    another number of axes, an empty table, too many numbers, values that are missing or infinite.
    `rows` has the numbers of the rows where they are not all.
    """
    with one_line_errors(name):
        if hasattr(data, "select_dtypes"):
            check_columns(columns_without_numbers(data))
        values = np.asarray(
            data.to_numpy(dtype=float, na_value=np.nan) if hasattr(data, "to_numpy") else data
        )
        check_numbers((), values.dtype)
        check_table_shape(values.shape)
        bad_rows, bad_columns = np.nonzero(~np.isfinite(values))
        if len(bad_rows):
            row = bad_rows[0] if rows is None else rows[bad_rows[0]]
            raise InvalidArgument(
                f"has {len(bad_rows)} missing or infinite values, the first in row {row + 1},"
                f" column {bad_columns[0] + 1}: remove or replace them"
            )
        return values.astype(np.float64)


def check_table_shape(shape: Sequence[int]) -> None:
    """Raise InvalidArgument for the shape of what is no table with at least one row and one
    column.
    """
    if len(shape) != 2 or not min(shape):
        raise InvalidArgument(
            f"has shape {tuple(shape)}: give a table of shape (rows, columns), samples as rows,"
            " with at least one of each"
        )


def _read_npy(file: BufferedReader) -> object:
    return read_npy(file, file_size(file))


def _read_npz(file: BufferedReader) -> object:
    (array,) = read_npz(file, _only_or_observations)
    return array


def _only_or_observations(names: list[str]) -> list[str]:
    """Return, in a list, the one name that there is, or ``observations``; InvalidArgument if it is
    not among several.
    """
    name = names[0] if len(names) == 1 else "observations"
    if name not in names:
        raise InvalidArgument(
            f"holds {', '.join(names) or 'no array'}: keep one array, or call one 'observations'"
        )
    return [name]


#: How files are read, by their endings.
READERS: dict[str, Callable[[BufferedReader], object]] = {
    ".npy": _read_npy,
    ".npz": _read_npz,
    ".csv": functools.partial(read_separated, separator=","),
    ".tsv": functools.partial(read_separated, separator="\t"),
    ".parquet": read_parquet,
}


class RowsOnDisk:
    """The rows of an .npy file, which is never in memory as a whole.

    Raises
    ------
    InvalidArgument
        If there is no such file, or it holds no table of real numbers with at least one row.
    """

    def __init__(self, path: str) -> None:
        self._path, self._name = Path(path).expanduser(), f"path={path!r}"
        if self._path.suffix.lower() != ".npy":
            raise InvalidArgument(
                f"{self._name} is no .npy file: write the samples to one, as 'Measure on your"
                " data' in the docs shows for other formats"
            )
        with user_file(path) as file:
            shape, dtype = npy_header(file, file_size(file))
            check_numbers((), dtype)
            check_table_shape(shape)
            self._array = self._mapped()
        self.total = len(self._array)
        self.read(np.arange(1))

    def _mapped(self) -> np.memmap[tuple[int, ...], np.dtype[np.generic]]:
        return np.lib.format.open_memmap(self._path, mode="r")

    def read(self, rows: Rows) -> FloatArray:
        """Read the rows of ascending numbers from the file, as float64; refuse, by InvalidArgument,
        one that is not finite and more than fit into memory.
        """
        with one_line_errors(self._name):
            check_numbers((len(rows), *self._array.shape[1:]))
            values = self._read(rows)
        return as_table(values, self._name, rows)

    def _read(self, rows: Rows) -> NDArray[np.generic]:
        """Read rows of ascending numbers in the file's own dtype; a file that has become shorter
        raises ValueError.
        """
        array = self._array
        if not array.flags.c_contiguous:
            # Mapped anew: pages that were read would else count as memory of this process.
            return np.array(self._mapped()[rows])
        # With each row of a random choice a map would bring many pages around it into memory.
        runs = np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1)
        width = array[:1].size
        parts = [
            np.fromfile(
                self._path,
                array.dtype,
                len(run) * width,
                offset=array.offset + run[0] * array.strides[0],
            )
            for run in runs
            if len(run)
        ]
        # A file that became shorter does not fill the shape.
        return np.concatenate(parts or [array]).reshape(len(rows), *array.shape[1:])


# Problems of tables


def draw_from(
    values: FloatArray,
    random: np.random.Generator,
    dictionary: FloatArray | None,
    n_components: int | None,
    n_samples: int | None,
    standardize: bool = False,
) -> Draw:
    """Draw observations from the rows of a table, and learn a dictionary from other rows where none
    is given.

    The rows are shuffled by `random`. Half of them, at most `MOST_ROWS`, are what a dictionary is
    learned from; observations come from the others, at most `MOST_SAMPLES` unless a number is
    given. With a dictionary, all rows can be observations. See `pudle.sparse_coding` for the
    parameters. `values` is not changed.

    Raises
    ------
    InvalidArgument
        If there are too few rows, or the dictionary does not fit.
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
                f"{count(rows, 'row')}: too few to learn a dictionary from and to code; give 4 or"
                " more, or a dictionary"
            )
        learned_from = min(rows // 2, MOST_ROWS)
        dictionary = learn_dictionary(
            shuffled[:learned_from], n_components, int(random.integers(2**31))
        )
        shuffled = shuffled[learned_from:]
    elif dictionary.shape[0] != features or n_components not in (None, dictionary.shape[1]):
        turned = "; transpose it" if dictionary.shape[1] == features else ""
        raise InvalidArgument(
            f"dictionary has shape {dictionary.shape}, atoms as columns: it must be ({features},"
            f" {n_components or 'any'}) to fit{turned}"
        )
    if n_samples is not None and n_samples > len(shuffled):
        raise InvalidArgument(
            f"n_samples={n_samples} is above the {len(shuffled)} rows to code: lower it or give"
            " more data"
        )
    return Draw(shuffled[: n_samples or MOST_SAMPLES], dictionary)


def learn_dictionary(rows: FloatArray, n_components: int | None, seed: int) -> FloatArray:
    """Learn atoms of unit norm by scikit-learn's MiniBatchDictionaryLearning, shape (columns,
    n_components).

    Its penalty is `FRACTION` of the median norm of the rows. Any two atoms have a coherence ``|a^T
    b| < 0.95``, because the active Gram matrices of closer ones are singular: of such atoms one is
    kept. Without `n_components` there are as many as remain of twice the columns, at most
    `MOST_ATOMS` and half the rows; else the number is kept or refused.

    Scikit-learn draws from `seed` alone: numpy's global random state is left as it was, and its
    warning of an early stop is hidden. Rows of which half are zero, or too few of them, are
    InvalidArgument.
    """
    # Slow to import, and listing datasets must not be.
    from sklearn.decomposition import MiniBatchDictionaryLearning
    from sklearn.exceptions import ConvergenceWarning

    n_atoms = n_components or max(1, min(2 * rows.shape[1], MOST_ATOMS, len(rows) // 2))
    if n_atoms > len(rows):
        raise InvalidArgument(
            f"n_components={n_atoms} is above the {len(rows)} rows to learn from: lower it or give"
            " more data"
        )
    alpha = FRACTION * float(np.median(np.linalg.norm(rows, axis=1)))
    if alpha == 0:
        raise InvalidArgument("half of the rows are zero: remove them")
    learner = MiniBatchDictionaryLearning(
        n_atoms,
        alpha=alpha,
        max_iter=20,
        batch_size=min(len(rows), 100),
        fit_algorithm="cd",
        random_state=seed,
    )
    # Its coordinate descent draws a seed from the global state that it makes no use of.
    state = np.random.get_state()  # noqa: NPY002
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            atoms: FloatArray = learner.fit(rows).components_
    finally:
        np.random.set_state(state)  # noqa: NPY002
    distinct: list[FloatArray] = []
    unit = [atom / np.linalg.norm(atom) for atom in atoms if atom.any()]
    choose_distinct(np.array(unit), distinct, n_atoms)
    if n_components and len(distinct) < n_components:
        raise InvalidArgument(
            f"n_components={n_components} is above the {len(distinct)} distinct atoms (coherence"
            f" below {COHERENCE}) that can be learned from these rows: give n_components <="
            f" {len(distinct)}, more rows or a dictionary"
        )
    return normalize(np.stack(distinct, axis=1), axis=0)


def problem_of(draw: Draw, penalty: float | None, loss: str, tensor: ToTensor) -> SparseCoding:
    r"""Return the problem of a draw with a penalty; by default it is `FRACTION` of the median over
    samples of :math:`\max_j |d_j^\top x|`, above which a sample's code is zero.
    """
    if penalty is None:
        largest = np.abs(draw.observations @ draw.dictionary).max(axis=1)
        penalty = FRACTION * float(np.median(largest))
    return SparseCoding(penalty=penalty, loss=loss, **draw.tensors(tensor))


def sparse_coding(
    data: object,
    *,
    dictionary: object = None,
    n_components: int | None = None,
    penalty: float | None = None,
    n_samples: int | None = None,
    standardize: bool = False,
    seed: int = 0,
    loss: str = "lasso",
    dtype: torch.dtype = torch.float64,
    device: str | torch.device = "cpu",
) -> SparseCoding:
    """Make a sparse coding problem of a data frame or an array, as the dataset ``array`` does of a
    file.

    Parameters
    ----------
    data : DataFrame or array, shape (rows, columns)
        Samples as rows.
    dictionary : array, shape (columns, p), optional
        Atoms as columns. By default, scikit-learn learns atoms from half of the rows, which the
        seed chooses, at most 1000; the other rows are coded.
    n_components : int, optional
        Number of atoms to learn; by default twice the columns, at most 100 and half the rows that
        they are learned from.
    penalty : float, optional
        Weight of the l1 norm; by default a fifth of the median over samples of ``max_j |d_j^T x|``,
        the penalty above which half of the codes are zero.
    n_samples : int, optional
        Number of rows to code; by default all that there are, at most 500.
    standardize : bool
        Whether to subtract each column's mean and divide by its standard deviation. Without it the
        values count as they are: if their means or scales differ much, learned atoms are few and
        alike.
    seed : int
        Chooses the rows.

    Raises
    ------
    InvalidArgument
        If the data are no table of finite numbers, or too few for what is asked.
    """
    draw = draw_from(
        as_table(data, "data"),
        generator(check_integer("seed", seed, 0), "dataset array"),
        None if dictionary is None else as_table(dictionary, "dictionary"),
        n_components,
        n_samples,
        standardize,
    )
    return problem_of(draw, penalty, loss, to_tensor(dtype, device))


class OwnRows(SparseCodingDataset):
    """A dataset of a file's rows: it implements `read`.

    It has the options `dictionary`, a file, and `n_components` and `penalty`, each of which may be
    None.
    """

    dictionary: str | None
    n_components: int | None
    penalty: float | None  # type: ignore[assignment]  # by default it follows from the rows

    __post_init__ = check_options

    @abstractmethod
    def read(self, atoms: FloatArray | None) -> Draw:
        """Read the rows and choose among them; without atoms, shape (m, p), learn a dictionary from
        others.
        """

    def draw(self) -> Draw:
        """Return a copy of the draw, which is made once for the same options and files; a path to a
        folder is InvalidArgument.
        """
        for name, path in self.paths().items():
            # The fingerprint would read all that lies below a folder.
            if path.is_dir():
                raise InvalidArgument(f"{name}={str(path)!r} is a folder: give a file in it")
        # Who changes a problem's tensors must not change those of the next one.
        return copy.deepcopy(_draw_once(self, self.fingerprint()))

    def make(self, loss: str, tensor: ToTensor) -> SparseCoding:
        return problem_of(self.draw(), self.penalty, loss, tensor)


@functools.lru_cache(maxsize=8)
def _draw_once(dataset: OwnRows, state: str) -> Draw:
    """Read the files and draw, once for all estimators that a process measures: learning a
    dictionary takes seconds. `state` is the dataset's fingerprint.
    """
    path = dataset.dictionary
    return dataset.read(None if path is None else read_table(path, "dictionary"))
