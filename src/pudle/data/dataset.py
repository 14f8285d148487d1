"""What a dataset is: seeded draws that become a problem."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from ..problems import Problem, SparseCoding
from ..problems.convolutional import ConvolutionalSparseCoding
from ..streams import generator


class Dataset(ABC):
    """A seeded source of one problem.

    A concrete dataset sets `name`, keeps its options (among them `seed`) as frozen dataclass fields, and implements
    `problem`; one that consists of observations and a dictionary derives from `SparseCodingDataset` instead. `losses` names
    the outer losses that its problems have.
    """

    name: ClassVar[str]
    references: ClassVar[tuple[str, ...]] = ()
    losses: ClassVar[tuple[str, ...]] = ("lasso", "reconstruction")
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
    """Arrays of one sparse coding problem, in float64; shapes are those of a dense dictionary.

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


def _tensors(draw: Draw, dtype: torch.dtype, device: str | torch.device) -> dict[str, Any]:
    arrays = {field.name: getattr(draw, field.name) for field in dataclasses.fields(draw)}
    return {
        name: None if array is None else torch.as_tensor(array).to(device=device, dtype=dtype)
        for name, array in arrays.items()
    }


class SparseCodingDataset(Dataset):
    """A dataset for `pudle.SparseCoding`: implements `draw`, and has a field or attribute `penalty`.

    One with a field `l2_penalty` beside it draws an elastic net.
    """

    penalty: float
    l2_penalty: float = 0.0

    @abstractmethod
    def draw(self) -> Draw:
        """Draw observations and dictionary."""

    def problem(
        self, loss: str = "lasso", *, dtype: torch.dtype = torch.float64, device: str | torch.device = "cpu"
    ) -> SparseCoding:
        tensors = _tensors(self.draw(), dtype, device)
        return SparseCoding(penalty=self.penalty, l2_penalty=self.l2_penalty, loss=loss, **tensors)


class ConvolutionalDataset(Dataset):
    """A dataset for `pudle.ConvolutionalSparseCoding`: implements `draw`, and has fields `penalty` and `stride`."""

    penalty: float
    stride: int
    nonnegative: bool = False

    @abstractmethod
    def draw(self) -> Draw:
        """Draw images (n, c, H, W) and filters (p, c, k, k), and codes (n, p, h, w) where they are known."""

    def problem(
        self, loss: str = "lasso", *, dtype: torch.dtype = torch.float64, device: str | torch.device = "cpu"
    ) -> ConvolutionalSparseCoding:
        return ConvolutionalSparseCoding(
            penalty=self.penalty,
            stride=self.stride,
            nonnegative=self.nonnegative,
            loss=loss,
            **_tensors(self.draw(), dtype, device),
        )


def normalize_atoms(dictionary: np.ndarray) -> np.ndarray:
    """Return the dictionary with every atom (column) scaled to unit Euclidean norm."""
    return dictionary / np.linalg.norm(dictionary, axis=0)
