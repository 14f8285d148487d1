"""An array on disk that may be larger than memory."""

from collections.abc import Iterator
from dataclasses import MISSING, dataclass
from typing import Any

import numpy as np
import torch

from pudle.data import Draw, path_option
from pudle.data.tables import MOST_ROWS, OwnRows, draw_from, open_rows
from pudle.errors import InvalidArgument
from pudle.problems import SparseCoding
from pudle.validation import check_integer


@dataclass(frozen=True)
class MemoryMapped(OwnRows):
    """Samples on disk: an .npy file, a Zarr array, or a Hugging Face dataset.

    A draw reads `n_samples` rows, which the seed chooses, and no others. `batches` yields all rows
    as problems of a few each, over which `pudle.mean_estimate` takes the mean: memory is that of
    one batch. Values count as they are.

    Up to 1 GiB, results depend on the bytes of the file. Beyond, they depend on its size and time
    of change, and a worker on another machine must find the file under the same path.

    Parameters
    ----------
    path : str
        An .npy file, the folder of a Zarr array, or a folder that Hugging Face's ``save_to_disk``
        wrote; samples as rows.
    dictionary : str, optional
        An .npy file of shape (m, p), atoms as columns; by default scikit-learn learns one, as for
        the dataset ``array``, from at most 1000 rows that are not among those drawn.
    column : str, optional
        Column of a Hugging Face dataset.
    n_samples : int
        Number of rows of a draw.
    n_components : int, optional
        Number of atoms to learn; by default twice the columns, at most 100.
    penalty : float, optional
        Weight of the l1 norm; by default a fifth of the median over the rows drawn of ``max_j
        |d_j^T x|``.
    seed : int
    """

    path: str = path_option(MISSING)
    dictionary: str | None = path_option()
    column: str | None = None
    n_samples: int = 1000
    n_components: int | None = None
    penalty: float | None = None  # type: ignore[assignment]
    seed: int = 0

    name = "memory_mapped"

    def read(self, atoms: np.ndarray | None) -> Draw:
        total, read_rows = open_rows(self.path, self.column)
        if self.n_samples > total:
            raise InvalidArgument(
                f"n_samples={self.n_samples} is above the {total} rows of path={self.path!r}:"
                " lower it"
            )
        random = self.generator()
        wanted = self.n_samples if atoms is not None else min(self.n_samples + MOST_ROWS, total)
        places = np.sort(random.choice(total, wanted, replace=False))
        return draw_from(read_rows(places), random, atoms, self.n_components, self.n_samples)

    def batches(self, size: int, loss: str = "lasso", **options: Any) -> Iterator[SparseCoding]:
        """Yield all rows in order, as problems of at most `size` samples each; `options` are those
        of `problem`.
        """
        total, read_rows = open_rows(self.path, self.column)
        first = self.problem(loss, **options)
        # Computed here, it is known to all batches.
        assert first.lipschitz_constant > 0
        for start in range(0, total, check_integer("size", size, 1)):
            values = torch.from_numpy(read_rows(np.arange(start, min(start + size, total))))
            yield first.with_samples(observations=values.to(first.theta))

    def samples(
        self, generating_dictionary: np.ndarray | None, n_samples: int, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Read `n_samples` random rows, without replacement; what generated them is not known."""
        total, read_rows = open_rows(self.path, self.column)
        places = np.sort(random.choice(total, n_samples, replace=False, shuffle=False))
        return read_rows(places), None
