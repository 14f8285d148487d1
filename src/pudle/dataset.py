"""What a dataset is: seeded draws that become a problem."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from .problems import Problem, SparseCoding
from .streams import generator


class Dataset(ABC):
    """A seeded source of one problem.

    A concrete dataset sets `name`, keeps its options (among them `seed`) as frozen dataclass fields, and implements
    `problem`; one that consists of observations and a dictionary derives from `SparseCodingDataset` instead.
    """

    name: ClassVar[str]
    references: ClassVar[tuple[str, ...]] = ()
    seed: int

    @abstractmethod
    def problem(
        self, loss: str = "lasso", *, dtype: torch.dtype = torch.float64, device: str | torch.device = "cpu"
    ) -> Problem:
        """Draw the problem; the same seed gives the same problem, bit for bit."""

    def fingerprint(self) -> str:
        """Return what the draw depends on beside the fields and the source code, such as the state of files it reads."""
        return ""

    def generator(self, purpose: str = "") -> np.random.Generator:
        """Return a random generator that depends on the seed, this dataset's name and the purpose alone."""
        return generator(self.seed, f"dataset {self.name} {purpose}".strip())


@dataclass(frozen=True, eq=False)
class Draw:
    """Arrays of one sparse coding problem, in float64.

    Attributes
    ----------
    observations : array, shape (n, m)
    dictionary : array, shape (m, p)
        Where the gradient is taken.
    generating_dictionary : array, shape (m, p), or None
        The dictionary that generated the observations, where there is one.
    generating_codes : array, shape (n, p), or None
        The codes that generated them.
    """

    observations: np.ndarray
    dictionary: np.ndarray
    generating_dictionary: np.ndarray | None = None
    generating_codes: np.ndarray | None = None


class SparseCodingDataset(Dataset):
    """A dataset for `pudle.SparseCoding`: implements `draw`, and has a field or attribute `penalty`."""

    penalty: float

    @abstractmethod
    def draw(self) -> Draw:
        """Draw observations and dictionary."""

    def problem(
        self, loss: str = "lasso", *, dtype: torch.dtype = torch.float64, device: str | torch.device = "cpu"
    ) -> SparseCoding:
        draw = self.draw()

        def tensor(array: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(array).to(device=device, dtype=dtype)

        return SparseCoding(
            observations=tensor(draw.observations),
            dictionary=tensor(draw.dictionary),
            penalty=self.penalty,
            loss=loss,
            generating_dictionary=None if draw.generating_dictionary is None else tensor(draw.generating_dictionary),
            generating_codes=None if draw.generating_codes is None else tensor(draw.generating_codes),
        )


def normalise_atoms(dictionary: np.ndarray) -> np.ndarray:
    """Return the dictionary with every atom (column) scaled to unit Euclidean norm."""
    return dictionary / np.linalg.norm(dictionary, axis=0)
