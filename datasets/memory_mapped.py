"""An array on disk that may be larger than memory."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import torch

from pudle.data import PATH, Draw, FloatArray
from pudle.data.dataset import to_tensor
from pudle.data.tables import MOST_ROWS, OwnRows, RowsOnDisk, draw_from
from pudle.data.user_files import one_line_errors
from pudle.problems import SparseCoding
from pudle.validation import check_integer


@dataclass(frozen=True)
class MemoryMapped(OwnRows):
    """Samples on disk, the rows of an .npy file.

    A draw reads `n_samples` rows, which the seed chooses, and no others. `batches` yields all rows
    as problems of a few each, over which `pudle.mean_estimate` takes the mean: memory is that of
    one batch. Values count as they are.

    Up to 1 GiB, results depend on the bytes of the file. Beyond, they depend on its size and time
    of change, and a worker on another machine must find the file under the same path.

    Parameters
    ----------
    path : str
        An .npy file, samples as rows.
    dictionary : str, optional
        An .npy file of shape (m, p), atoms as columns; by default scikit-learn learns one, as for
        the dataset ``array``, from at most 1000 rows that are not among those drawn.
    n_samples : int
        Number of rows of a draw.
    n_components : int, optional
        Number of atoms to learn; by default twice the columns, at most 100.
    penalty : float, optional
        Weight of the l1 norm; by default a fifth of the median over the rows drawn of ``max_j
        |d_j^T x|``.
    seed : int
    """

    path: str = field(metadata=PATH)
    dictionary: str | None = field(default=None, metadata=PATH)
    n_samples: int = 1000
    n_components: int | None = None
    penalty: float | None = None
    seed: int = 0

    name = "memory_mapped"

    def read(self, atoms: FloatArray | None) -> Draw:
        """Read random rows, from the stream of the seed, and draw from them; without atoms up to
        1000 more rows are read, from which a dictionary is learned.
        """
        rows, random = RowsOnDisk(self.path), self.generator()
        n_rows = self.n_samples + (MOST_ROWS if atoms is None else 0)
        places = np.sort(random.choice(rows.total, min(n_rows, rows.total), replace=False))
        values = rows.read(places)
        with one_line_errors(f"path={self.path!r}:"):
            return draw_from(values, random, atoms, self.n_components, self.n_samples)

    def batches(
        self,
        size: int,
        loss: str = "lasso",
        *,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ) -> Iterator[SparseCoding]:
        """Yield all rows in order, as problems of at most `size` samples each; the last may have
        fewer.

        All have the dictionary and the penalty of the draw. Rows are read when their batch is asked
        for.
        """
        rows, tensor = RowsOnDisk(self.path), to_tensor(dtype, device)
        first = self.make(loss, tensor)
        # Computed here, it is known to all batches.
        assert first.lipschitz_constant > 0
        for start in range(0, rows.total, check_integer("size", size, 1)):
            places = np.arange(start, min(start + size, rows.total))
            yield first.with_samples(observations=tensor(rows.read(places)))

    def samples(
        self, generating_dictionary: FloatArray | None, n_samples: int, random: np.random.Generator
    ) -> tuple[FloatArray, FloatArray | None]:
        """Read `n_samples` random rows, drawn from `random` without replacement, and return them
        with None: what generated them is not known.
        """
        rows = RowsOnDisk(self.path)
        places = np.sort(random.choice(rows.total, n_samples, replace=False, shuffle=False))
        return rows.read(places), None
