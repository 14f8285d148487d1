"""An array on disk that may be larger than memory."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from pudle.data import Draw, SparseCodingDataset
from pudle.data.options import check_options, path_option
from pudle.data.rows import finite, open_rows
from pudle.data.tables import MOST_ROWS, draw_from, problem_of, read_table, table_file
from pudle.errors import InvalidArgument
from pudle.files import MOST_TRAVELLING, content_digest, files_in
from pudle.problems import SparseCoding
from pudle.validation import check_integer, check_positive


@dataclass(frozen=True)
class MemoryMapped(SparseCodingDataset):
    """Samples on disk: an .npy file, a Zarr array, or a Hugging Face dataset.

    A draw reads `n_samples` rows, which the seed chooses, and no others. `batches` yields all rows as problems of a few
    each, over which `pudle.mean_estimate` takes the mean: memory is that of one batch. Values count as they are.

    Up to 1 GiB, results depend on the bytes of the file. Beyond, they depend on its size and time of change, and a worker on
    another machine must find the file under the same path.

    Parameters
    ----------
    path : str
        An .npy file, the folder of a Zarr array, or a folder that Hugging Face's ``save_to_disk`` wrote; samples as rows.
    dictionary : str, optional
        An .npy file of shape (m, p), atoms as columns; by default scikit-learn learns one, as for the dataset ``array``,
        from at most 1000 rows that are not among those drawn.
    column : str, optional
        Column of a Hugging Face dataset.
    n_samples : int
        Number of rows of a draw.
    n_components : int, optional
        Number of atoms to learn; by default twice the columns, at most 100.
    penalty : float, optional
        Weight of the l1 norm; by default a fifth of the median over the rows drawn of ``max_j |d_j^T x|``.
    seed : int
    """

    path: str = field(metadata={"path": True})
    dictionary: str | None = path_option()
    column: str | None = None
    n_samples: int = 1000
    n_components: int | None = None
    penalty: float | None = None  # type: ignore[assignment]
    seed: int = 0

    name = "memory_mapped"

    def __post_init__(self) -> None:
        check_options(self)
        if self.n_components is not None:
            check_integer("n_components", self.n_components, 1)
        if self.penalty is not None:
            check_positive("penalty", self.penalty)

    def fingerprint(self) -> str:
        """Return the names of the files with digests of their contents or, of a large array, sizes and times of change."""
        files = files_in(Path(self.path).expanduser())
        large = sum(file.stat().st_size for file in files) > MOST_TRAVELLING
        state = [(file.name, _changed(file) if large else content_digest(file)) for file in files]
        dictionary = [] if self.dictionary is None else [content_digest(table_file(self.dictionary, "dictionary"))]
        return repr([*state, *dictionary])

    def draw(self) -> Draw:
        drawn = _drawn(self, self.fingerprint())
        # Who changes a problem's tensors must not change those of the next one.
        return Draw(drawn.observations.copy(), drawn.dictionary.copy())

    def problem(
        self, loss: str = "lasso", *, dtype: torch.dtype = torch.float64, device: str | torch.device = "cpu"
    ) -> SparseCoding:
        return problem_of(self.draw(), self.penalty, loss, dtype, device)

    def batches(
        self,
        size: int,
        loss: str = "lasso",
        *,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ) -> Iterator[SparseCoding]:
        """Yield all rows in order, as problems of at most `size` samples each."""
        rows = open_rows(self.path, self.column)
        first = self.problem(loss, dtype=dtype, device=device)
        # Computed here, it is known to all batches.
        assert first.lipschitz_constant > 0
        for start in range(0, rows.shape[0], check_integer("size", size, 1)):
            places = np.arange(start, min(start + size, rows.shape[0]))
            values = finite(rows.read(slice(start, start + size)), places, self.path)
            yield first.with_samples(observations=torch.from_numpy(values).to(first.theta))

    def samples(
        self, generating_dictionary: np.ndarray | None, n_samples: int, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Read `n_samples` random rows, without replacement; how they were generated is not known."""
        rows = open_rows(self.path, self.column)
        places = np.sort(random.choice(rows.shape[0], n_samples, replace=False, shuffle=False))
        return finite(rows.read(places), places, self.path), None


@functools.lru_cache(maxsize=8)
def _drawn(dataset: MemoryMapped, state: str) -> Draw:
    """Draw once for all estimators that a process measures: learning a dictionary takes seconds."""
    rows = open_rows(dataset.path, dataset.column)
    total, n_samples = rows.shape[0], dataset.n_samples
    if n_samples > total:
        raise InvalidArgument(f"n_samples={n_samples} is above the {total} rows of path={dataset.path!r}: lower it")
    random = dataset.generator()
    wanted = n_samples if dataset.dictionary else min(n_samples + MOST_ROWS, total)
    places = np.sort(random.choice(total, wanted, replace=False))
    atoms: np.ndarray | None = None if dataset.dictionary is None else read_table(dataset.dictionary, "dictionary")
    return draw_from(
        finite(rows.read(places), places, dataset.path), random, dictionary=atoms, n_components=dataset.n_components,
        n_samples=n_samples,
    )  # fmt: skip


def _changed(file: Path) -> str:
    state = file.stat()
    return f"{state.st_size} {state.st_mtime_ns}"
