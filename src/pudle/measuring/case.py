"""A case: a named problem that estimators are measured on."""

import re
from dataclasses import dataclass, replace

import torch

from .. import names
from ..algorithms import Algorithm
from ..data import Dataset
from ..errors import InvalidArgument, UnsupportedProblem
from ..problems import Problem
from ..references.certified import reference
from ..references.probe import probe
from ..references.records import TARGETS, Reference
from ..validation import check_choice, check_integer

#: Bytes of a spec in the name of a file: with all that surrounds it, a name stays below the 255
#: that file systems take.
SLUG_BYTES = 100
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Case:
    """A named problem to measure estimators on, over several seeds.

    Attributes
    ----------
    name : str
        Name in tables and files.
    dataset : str
        Spec of the dataset, without its seed.
    algorithm : str
        Spec of the inner algorithm.
    loss : str
        Outer loss.
    seeds : tuple of int
        Seeds of the dataset; reports show the spread over them.
    depths : tuple of int
        Depths at which estimates are scored; kept in ascending order.
    targets : tuple of str
        Targets of the references that estimates are scored against; asv tracks the first.
    dtype : {"float64", "float32"}
        Precision of the problem's tensors; references are always in float64.

    Raises
    ------
    InvalidArgument
        If a field is empty or unknown.
    """

    name: str
    dataset: str
    algorithm: str
    loss: str
    seeds: tuple[int, ...]
    depths: tuple[int, ...]
    targets: tuple[str, ...] = ("exact",)
    dtype: str = "float64"

    def __post_init__(self) -> None:
        unfit = len(self.name.encode()) > 2 * SLUG_BYTES or not self.name.isprintable()
        if unfit or not re.fullmatch(r"[^\W_][^/\\\0]*", self.name):
            raise InvalidArgument(
                f"case {self.name!r:.80}: this is no name of a folder: use letters, digits, '-' and"
                " '_'"
            )
        for name in ("seeds", "depths", "targets"):
            values = tuple(getattr(self, name))
            if not values:
                raise InvalidArgument(f"case {self.name}: {name} is empty: give at least one")
            for value in values:
                if name == "targets":
                    check_choice(f"case {self.name}: target", value, TARGETS)
                else:
                    check_integer(f"case {self.name}: {name}", value, 0)
            object.__setattr__(self, name, values)
        object.__setattr__(self, "depths", tuple(sorted(set(self.depths))))
        for name in ("dataset", "algorithm"):
            (spec,) = names.specs(f"{name}s", [getattr(self, name)])
            object.__setattr__(self, name, spec)
        check_choice(f"case {self.name}: dtype", self.dtype, DTYPES)

    @property
    def problem(self) -> tuple[str, str, tuple[int, ...], tuple[str, ...], str]:
        """What is solved: cases with the same one differ in the algorithm and in the depths."""
        return self.dataset, self.loss, self.seeds, self.targets, self.dtype

    @property
    def objects(self) -> tuple[Dataset, Algorithm]:
        """The dataset and the algorithm."""
        return names.make_dataset(self.dataset), names.make_algorithm(self.algorithm)

    def make_problem(self, seed: int, device: str = "cpu") -> Problem:
        """Draw the problem of a seed with the case's loss and dtype: a new object at each call,
        with the same values.

        UnsupportedProblem says that the dataset lacks this loss. Imports the user's file that the
        dataset's spec names; the dataset may read files.
        """
        dataset = names.make_dataset(self.dataset)
        if self.loss not in dataset.losses:
            raise UnsupportedProblem(
                f"{dataset.name} has no loss {self.loss!r}: use {' or '.join(dataset.losses)}"
            )
        return dataset.reseeded(seed).problem(self.loss, dtype=DTYPES[self.dtype], device=device)

    def make_algorithm(self) -> Algorithm:
        """Return the inner algorithm."""
        return names.make_algorithm(self.algorithm)

    def make_reference(self, seed: int, target: str) -> Reference:
        """Compute the reference of one seed, with the probe that tells its problem from others; it
        is not stored.

        The problem is on the CPU. UnsupportedProblem says that the dataset has no such loss or
        target.
        """
        problem, algorithm = self.make_problem(seed), self.make_algorithm()
        try:
            truth = reference(problem, target, algorithm).of_spec(self.dataset)
        except InvalidArgument as error:
            raise UnsupportedProblem(str(error)) from error
        return replace(truth, probe=probe(problem, self.probing_algorithm(target)))

    def probing_algorithm(self, target: str) -> Algorithm | None:
        """Return the algorithm whose layers tell the problem of a reference from others: the case's
        own for the target ``limit``, None, which stands for the problem's default, for any other.
        """
        return self.make_algorithm() if target == "limit" else None
