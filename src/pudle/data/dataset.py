"""What a dataset is: seeded draws that become a problem."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from ..errors import InvalidArgument
from ..problems import ConvolutionalSparseCoding, Problem, SparseCoding
from ..streams import generator


class Dataset(ABC):
    """A seeded source of one problem.

    A concrete dataset sets `name`, keeps its options (among them `seed`) as frozen dataclass
    fields, and implements `problem`. A dataset that consists of observations and a dictionary
    derives from `SparseCodingDataset` instead.

    Attributes
    ----------
    name : str
        How specs, tables and files call it.
    references : tuple of str
        The publications it comes from.
    losses : tuple of str
        The outer losses that its problems have.
    seed : int
    """

    name: ClassVar[str]
    references: ClassVar[tuple[str, ...]] = ()
    losses: ClassVar[tuple[str, ...]] = ("lasso", "reconstruction")
    seed: int

    @abstractmethod
    def problem(
        self,
        loss: str = "lasso",
        *,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ) -> Problem:
        """Draw the problem; the same seed gives the same problem, bit for bit."""

    def fingerprint(self) -> str:
        """Return what the draw depends on besides the fields and the source code, such as the state
        of files it reads.
        """
        return ""

    @staticmethod
    def of_problem(make: Callable[..., Problem]) -> type[Dataset]:
        """Return the class of datasets whose problem a function or a class makes; its arguments are
        the options.

        An argument `seed`, `loss`, `dtype` or `device` gets what a run asks for. The losses are
        those of an annotation ``Literal["lasso", "reconstruction"]``. An argument annotated as
        ``Path`` names a file or a folder, whose content the results depend on. Arguments whose
        default is no literal keep it.

        Raises
        ------
        SpecError
            If it is a class with an argument that has no default.
        """
        from .own_problem import dataset_of  # it derives from this class

        return dataset_of(make)

    @classmethod
    def classes_from(cls, defined: Mapping[str, Any], name: str = "") -> list[type[Dataset]]:
        """Return the datasets of what a file defines, by name: that of the function or class `name`
        that makes a problem.

        Without a name, it is that of the function ``problem`` or, without one, those of the classes
        of problems whose fields have defaults.
        """
        from .own_problem import datasets_from

        return datasets_from(defined, name)

    def generator(self, purpose: str = "") -> np.random.Generator:
        """Return a random generator that depends only on the seed, this dataset's name and the
        purpose.
        """
        return generator(self.seed, f"dataset {self.name} {purpose}".strip())


@dataclass(frozen=True, eq=False)
class Draw:
    """The arrays of one sparse coding problem, in float64.

    The shapes are those of a dense dictionary; `ConvolutionalDataset.draw` gives those of a
    convolutional one.

    Attributes
    ----------
    observations : array, shape (n, m)
    dictionary : array, shape (m, p)
        Where the gradient is taken.
    generating_dictionary, generating_codes : array, shapes (m, p) and (n, p), or None
        The dictionary and the codes that generated the observations, where they are known.
    """

    observations: np.ndarray
    dictionary: np.ndarray
    generating_dictionary: np.ndarray | None = None
    generating_codes: np.ndarray | None = None


def to_tensors(
    arrays: Mapping[str, np.ndarray | None], dtype: torch.dtype, device: str | torch.device
) -> dict[str, Any]:
    """Convert named arrays to tensors; names without an array are left out."""
    return {
        name: torch.as_tensor(array).to(device=device, dtype=dtype)
        for name, array in arrays.items()
        if array is not None
    }


class SparseCodingDataset(Dataset):
    """A dataset for `pudle.SparseCoding`: it implements `draw`, has a `penalty` and, for an elastic
    net, an `l2_penalty`.
    """

    penalty: float
    l2_penalty: float = 0.0

    @abstractmethod
    def draw(self) -> Draw:
        """Draw the observations and the dictionary."""

    def samples(
        self, generating_dictionary: np.ndarray | None, n_samples: int, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Draw other samples, for learning from fresh ones in every step.

        Return observations, shape (n_samples, m), and the codes that generated them from the
        generating dictionary, shape (m, p): shape (n_samples, p), or None if they are not known. A
        dataset that holds a fixed set of samples in memory raises InvalidArgument.
        """
        remedy = (
            "learn from its own samples, or use sparse_gaussian, bernoulli_gaussian or"
            " memory_mapped"
        )
        raise InvalidArgument(f"dataset {self.name} has no fresh samples to draw: {remedy}")

    def problem(
        self,
        loss: str = "lasso",
        *,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ) -> SparseCoding:
        tensors = to_tensors(vars(self.draw()), dtype, device)
        return SparseCoding(penalty=self.penalty, l2_penalty=self.l2_penalty, loss=loss, **tensors)


class ConvolutionalDataset(Dataset):
    """A dataset for `pudle.ConvolutionalSparseCoding`: it implements `draw` and has a `penalty` and
    a `stride`.
    """

    penalty: float
    stride: int
    nonnegative: bool = False

    @abstractmethod
    def draw(self) -> Draw:
        """Draw images (n, c, H, W), filters (p, c, k, k) and, where they are known, codes (n, p, h,
        w).
        """

    def problem(
        self,
        loss: str = "lasso",
        *,
        dtype: torch.dtype = torch.float64,
        device: str | torch.device = "cpu",
    ) -> ConvolutionalSparseCoding:
        options = {"penalty": self.penalty, "stride": self.stride, "nonnegative": self.nonnegative}
        return ConvolutionalSparseCoding(
            loss=loss, **(options | to_tensors(vars(self.draw()), dtype, device))
        )
