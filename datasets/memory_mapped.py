"""An array on disk that may be larger than memory."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from pudle.data import Draw, SparseCodingDataset
from pudle.data.options import check_options
from pudle.data.rows import Rows, finite, open_rows
from pudle.errors import InvalidArgument
from pudle.files import content_digest, located
from pudle.problems import SparseCoding

#: Bytes of an array above which its state on disk stands for its contents.
MOST_READ = 1 << 30


@dataclass(frozen=True)
class MemoryMapped(SparseCodingDataset):
    """Samples on disk, coded in a given dictionary: an .npy file, a Zarr array, or a Hugging Face dataset.

    A draw reads `n_samples` rows, which the seed chooses, and no others. `batches` yields all rows as problems of a few
    each, over which `pudle.mean_estimate` takes the mean: memory is that of one batch. Values count as they are.

    Up to 1 GiB, results depend on the bytes of the file. Beyond, they depend on its size and time of change, and a worker on
    another machine must find the file under the same path.

    Parameters
    ----------
    path : str
        An .npy file, the folder of a Zarr array, or a folder that Hugging Face's ``save_to_disk`` wrote; samples as rows.
    dictionary : str
        An .npy file of shape (m, p), atoms as columns.
    column : str, optional
        Column of a Hugging Face dataset.
    n_samples : int
        Number of rows of a draw.
    penalty : float
        Weight of the l1 norm.
    seed : int
    """

    path: str = field(metadata={"path": True})
    dictionary: str = field(metadata={"path": True})
    column: str | None = None
    n_samples: int = 1000
    penalty: float = 0.1
    seed: int = 0

    name = "memory_mapped"

    def __post_init__(self) -> None:
        check_options(self)

    def files(self) -> list[Path]:
        files = [located(self.dictionary), *_below(located(self.path))]
        return files if sum(file.stat().st_size for file in files) <= MOST_READ else files[:1]

    def fingerprint(self) -> str:
        """Return the names of the files with digests of their contents or, of a large array, sizes and times of change."""
        travelling = self.files()
        state = [(file.name, content_digest(file)) for file in travelling]
        for file in [] if len(travelling) > 1 else _below(located(self.path)):
            state.append((file.name, f"{file.stat().st_size} {file.stat().st_mtime_ns}"))
        return repr(state)

    def draw(self) -> Draw:
        rows, dictionary = self._opened()
        if self.n_samples > rows.shape[0]:
            raise InvalidArgument(
                f"n_samples={self.n_samples} is above the {rows.shape[0]} rows of path={self.path!r}: lower it"
            )
        places = np.sort(self.generator().choice(rows.shape[0], self.n_samples, replace=False))
        return Draw(finite(rows.read(places), 0, self.path), dictionary)

    def batches(
        self,
        size: int,
        loss: str = "lasso",
        *,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ) -> Iterator[SparseCoding]:
        """Yield all rows in order, as problems of at most `size` samples each."""
        rows, _ = self._opened()
        first = dataclasses.replace(self, n_samples=1).problem(loss, dtype=dtype, device=device)
        # Computed here, it is known to all batches.
        assert first.lipschitz_constant > 0
        for start in range(0, rows.shape[0], size):
            values = finite(rows.read(slice(start, start + size)), start, self.path)
            yield first.with_samples(observations=torch.from_numpy(values).to(first.theta))

    def _opened(self) -> tuple[Rows, np.ndarray]:
        """Return the rows and the dictionary, which must fit each other."""
        rows, dictionary = open_rows(self.path, self.column), np.asarray(open_rows(self.dictionary).read(slice(None)))
        if dictionary.shape[0] != rows.shape[1]:
            raise InvalidArgument(
                f"dictionary={self.dictionary!r} has shape {dictionary.shape} and path={self.path!r} {tuple(rows.shape)}: "
                f"the dictionary needs as many rows as the array has columns, atoms as columns"
            )
        return rows, dictionary.astype(np.float64)


def _below(path: Path) -> list[Path]:
    """Return a file, or the files of a folder in order."""
    return [path] if path.is_file() else sorted(file for file in path.rglob("*") if file.is_file())
