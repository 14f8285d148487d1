"""Sparse coding problems made of tables: which rows are observations, and which a dictionary is
learned from.
"""

import functools
import warnings
from abc import abstractmethod
from typing import Any

import numpy as np
import torch

from ..errors import InvalidArgument
from ..problems import SparseCoding
from ..streams import generator
from ..text import count
from ..validation import check_integer, check_options
from .atoms import COHERENCE
from .dataset import Draw, SparseCodingDataset, ToTensor, to_tensor
from .synthetic import normalize
from .table_files import as_table, read_table

#: The default penalty as a share of the penalty above which the codes of half of the samples are
#: zero.
FRACTION = 0.2
#: Rows to learn a dictionary from and to code, and atoms to learn, at most and unless other numbers
#: are given.
MOST_ROWS, MOST_SAMPLES, MOST_ATOMS = 1000, 500, 100


def draw_from(
    values: np.ndarray,
    random: np.random.Generator,
    dictionary: np.ndarray | None,
    n_components: int | None,
    n_samples: int | None,
    standardize: bool = False,
) -> Draw:
    """Draw observations from the rows of a table, and learn a dictionary from other rows where none
    is given.

    The rows are shuffled. Half of them, at most `MOST_ROWS`, are what a dictionary is learned from;
    observations come from the others. With a dictionary, all rows can be observations. See
    `pudle.sparse_coding` for the parameters.
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


def learn_dictionary(rows: np.ndarray, n_components: int | None, seed: int) -> np.ndarray:
    """Learn atoms of unit norm by scikit-learn's MiniBatchDictionaryLearning, shape (columns,
    n_components).

    Its penalty is `FRACTION` of the median norm of the rows. Any two atoms have a coherence ``|a^T
    b| < 0.95``, because the active Gram matrices of closer ones are singular: of such atoms one is
    kept. Without `n_components` there are as many as remain of twice the columns, at most
    `MOST_ATOMS` and half the rows; else the number is kept or refused.
    """
    # Slow to import, and listing datasets must not be.
    from sklearn.decomposition import MiniBatchDictionaryLearning
    from sklearn.exceptions import ConvergenceWarning

    wanted = n_components or max(1, min(2 * rows.shape[1], MOST_ATOMS, len(rows) // 2))
    if wanted > len(rows):
        raise InvalidArgument(
            f"n_components={wanted} is above the {len(rows)} rows to learn from: lower it or give"
            " more data"
        )
    alpha = FRACTION * float(np.median(np.linalg.norm(rows, axis=1)))
    if alpha == 0:
        raise InvalidArgument("half of the rows are zero: remove them")
    learner = MiniBatchDictionaryLearning(
        wanted,
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
            f"n_components={n_components} is above the {len(kept)} distinct atoms (coherence below"
            f" {COHERENCE}) that can be learned from these rows: give n_components <= {len(kept)},"
            " more rows or a dictionary"
        )
    return normalize(np.stack(kept, axis=1), axis=0)


def problem_of(draw: Draw, penalty: float | None, loss: str, tensor: ToTensor) -> SparseCoding:
    r"""Return the problem of a draw with a penalty; by default it is `FRACTION` of the median over
    samples of :math:`\max_j |d_j^\top x|`, above which a sample's code is zero.
    """
    if penalty is None:
        largest = np.abs(draw.observations @ draw.dictionary).max(axis=1)
        penalty = FRACTION * float(np.median(largest))
    return SparseCoding(penalty=penalty, loss=loss, **draw.tensors(tensor))


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
    random = generator(check_integer("seed", seed, 0), "dataset array")
    atoms = None if dictionary is None else as_table(dictionary, "dictionary")
    values = as_table(data, "data")
    draw = draw_from(values, random, atoms, n_components, n_samples, standardize)
    return problem_of(draw, penalty, loss, to_tensor(dtype, device))


class OwnRows(SparseCodingDataset):
    """A dataset of a file's rows: it implements `read`.

    It has the options `dictionary`, a file, and `n_components` and `penalty`, each of which may be
    None.
    """

    dictionary: str | None
    n_components: int | None
    penalty: float | None  # type: ignore[assignment]

    __post_init__ = check_options

    @abstractmethod
    def read(self, atoms: np.ndarray | None) -> Draw:
        """Read the rows and choose among them; without atoms, shape (m, p), learn a dictionary from
        others.
        """

    def draw(self) -> Draw:
        drawn = _drawn(self, self.fingerprint())
        # Who changes a problem's tensors must not change those of the next one.
        return Draw(drawn.observations.copy(), drawn.dictionary.copy())

    def make(self, loss: str, tensor: ToTensor) -> SparseCoding:
        return problem_of(self.draw(), self.penalty, loss, tensor)


@functools.lru_cache(maxsize=8)
def _drawn(dataset: OwnRows, state: str) -> Draw:
    """Draw once for all estimators that a process measures: learning a dictionary takes seconds."""
    path = dataset.dictionary
    return dataset.read(None if path is None else read_table(path, "dictionary"))
