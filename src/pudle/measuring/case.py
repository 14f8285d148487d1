"""A case: a named problem that estimators are measured on."""

from __future__ import annotations

import dataclasses
import re
from dataclasses import dataclass
from typing import Any

import torch

from ..algorithms import Algorithm
from ..errors import InvalidArgument
from ..problems import Problem
from ..references.certified import MINIMIZER_TARGETS, TARGETS
from ..registry import make_algorithm, make_dataset
from ..validation import check_choice, check_integer

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
        If a field is empty or unknown, or a target rests on a minimizer that the algorithm's thresholding does not lead to.
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
        for name in ("seeds", "depths", "targets"):
            values = tuple(getattr(self, name))
            if not values:
                raise InvalidArgument(f"case {self.name}: {name} is empty: give at least one")
            object.__setattr__(self, name, values)
        for name in ("seeds", "depths"):
            for value in getattr(self, name):
                check_integer(f"case {self.name}: {name}", value, 0)
        object.__setattr__(self, "depths", tuple(sorted(set(self.depths))))
        for target in self.targets:
            check_choice(f"case {self.name}: target", target, TARGETS)
        check_choice(f"case {self.name}: dtype", self.dtype, DTYPES)
        thresholding = self.make_algorithm().thresholding
        wrong = [target for target in self.targets if target in MINIMIZER_TARGETS]
        if wrong and not thresholding.proximal:
            raise InvalidArgument(
                f"case {self.name}: {thresholding.name} thresholding leads to no minimizer of the inner problem, which "
                f"{' and '.join(wrong)} {'rests' if len(wrong) == 1 else 'rest'} on: use the targets gstar, gtilde or limit"
            )

    def make_problem(self, seed: int, device: str = "cpu") -> Problem:
        """Draw the problem of one seed."""
        dataset: Any = make_dataset(self.dataset)
        return dataclasses.replace(dataset, seed=seed).problem(self.loss, dtype=DTYPES[self.dtype], device=device)

    def make_algorithm(self) -> Algorithm:
        """Return the inner algorithm."""
        return make_algorithm(self.algorithm)


def slug(spec: str) -> str:
    """Return a spec as it stands in the name of a case or a file: letters, digits, points and underscores."""
    return re.sub(r"[^A-Za-z0-9.]+", "_", spec).strip("_")
