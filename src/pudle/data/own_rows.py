"""What datasets of the user's own files share: the rows of a file, coded in a dictionary of a file
or in a learned one.
"""

from __future__ import annotations

import functools
from abc import abstractmethod

import numpy as np
import torch

from ..problems import SparseCoding
from ..validation import check_integer, check_positive
from .dataset import Draw, SparseCodingDataset
from .options import check_options
from .table_files import read_table
from .tables import problem_of


class OwnRows(SparseCodingDataset):
    """A dataset of a file's rows: it implements `read`, and its `fingerprint` changes with the
    files.

    It has the options `dictionary`, a file, and `n_components` and `penalty`, each of which may be
    None.
    """

    dictionary: str | None
    n_components: int | None
    penalty: float | None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        check_options(self)
        if self.n_components is not None:
            check_integer("n_components", self.n_components, 1)
        if self.penalty is not None:
            check_positive("penalty", self.penalty)

    @abstractmethod
    def read(self, atoms: np.ndarray | None) -> Draw:
        """Read the rows and choose among them; without atoms, shape (m, p), learn a dictionary from
        others.
        """

    def draw(self) -> Draw:
        drawn = _drawn(self, self.fingerprint())
        # Who changes a problem's tensors must not change those of the next one.
        return Draw(drawn.observations.copy(), drawn.dictionary.copy())

    def problem(
        self,
        loss: str = "lasso",
        *,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ) -> SparseCoding:
        return problem_of(self.draw(), self.penalty, loss, dtype, device)


@functools.lru_cache(maxsize=8)
def _drawn(dataset: OwnRows, state: str) -> Draw:
    """Draw once for all estimators that a process measures: learning a dictionary takes seconds."""
    return dataset.read(
        None if dataset.dictionary is None else read_table(dataset.dictionary, "dictionary")
    )
