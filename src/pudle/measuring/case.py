"""What is measured: cases, and the frozen selection of cases and estimators for one run."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..algorithms import Algorithm
from ..data.dataset import Dataset
from ..errors import InvalidArgument, UnreadableResult
from ..files import read_json, write_atomically
from ..problems import Problem
from ..references.certified import MINIMIZER_TARGETS, TARGETS
from ..registry import make_algorithm, make_dataset
from ..validation import check_choice, check_integer

#: Environment variable that names the file of a frozen selection; without it a plain `asv run` measures the quick profile.
SELECTION_VARIABLE = "PUDLE_SELECTION"
DTYPES = {"float32": torch.float32, "float64": torch.float64}


@dataclass(frozen=True)
class Case:
    """A named problem to measure estimators on, over several seeds.

    Attributes
    ----------
    name : str
        How tables and files call it.
    dataset : str
        Spec of the dataset, without its seed.
    algorithm : str
        Spec of the inner algorithm.
    loss : str
        Outer loss.
    seeds : tuple of int
        Seeds of the dataset; the spread over them is reported.
    depths : tuple of int
        Depths at which estimates are scored, ascending.
    targets : tuple of str
        References they are scored against; the first is the one that asv tracks.
    dtype : {"float64", "float32"}
        Precision of the problem's tensors; references are always in float64.
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
        rule = self.make_algorithm().thresholding
        wrong = [target for target in self.targets if target in MINIMIZER_TARGETS]
        if wrong and not rule.proximal:
            raise InvalidArgument(
                f"case {self.name}: {rule.name} thresholding leads to no minimizer of the inner problem, which "
                f"{' and '.join(wrong)} {'rests' if len(wrong) == 1 else 'rest'} on: use the targets gstar, gtilde or limit"
            )

    def make_dataset(self, seed: int) -> Dataset:
        """Return the dataset at one seed."""
        dataset: Any = make_dataset(self.dataset)
        return dataclasses.replace(dataset, seed=seed)

    def make_problem(self, seed: int, device: str = "cpu") -> Problem:
        """Draw the problem of one seed."""
        return self.make_dataset(seed).problem(self.loss, dtype=DTYPES[self.dtype], device=device)

    def make_algorithm(self) -> Algorithm:
        """Return the inner algorithm."""
        return make_algorithm(self.algorithm)


@dataclass(frozen=True)
class Selection:
    """All that one run measures, frozen: discovery reads it from a file, so that names never shift between commits.

    Attributes
    ----------
    profile : str
        Name of the profile; results are kept per profile.
    cases : tuple of Case
    estimators : tuple of str
        Specs.
    tracked_depths : tuple of int
        Depths that asv tracks the accuracy at; the store holds all of a case's depths.
    timed_depths : tuple of int
        Depths that asv measures time and memory at.
    timeout : float
        Seconds that one estimator may take on one case.
    device : str
        ``cpu`` or ``cuda``.
    windows : tuple of int
        Windows of the surface of `truncated` over (depth, window), and whether the Jacobian's error is measured: not at all
        where there are none.
    experiments : tuple of str
        Names of the experiments to carry out, see `pudle.measuring.experiment`.
    experiment_timeout : float
        Seconds that one of these may take.
    """

    profile: str
    cases: tuple[Case, ...]
    estimators: tuple[str, ...]
    tracked_depths: tuple[int, ...]
    timed_depths: tuple[int, ...]
    timeout: float = 600.0
    device: str = "cpu"
    windows: tuple[int, ...] = ()
    experiments: tuple[str, ...] = ()
    experiment_timeout: float = 4 * 3600.0

    def __post_init__(self) -> None:
        # Lists, as JSON has them, become tuples.
        for name in ("cases", "estimators", "tracked_depths", "timed_depths", "windows", "experiments"):
            object.__setattr__(self, name, tuple(getattr(self, name)))

    def case(self, name: str) -> Case:
        """Return the case of that name."""
        for case in self.cases:
            if case.name == name:
                return case
        raise InvalidArgument(f"unknown case {name!r}: the selection holds {', '.join(case.name for case in self.cases)}")

    def write(self, path: Path) -> None:
        """Write the selection as JSON, atomically."""
        write_atomically(path, json.dumps(dataclasses.asdict(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> Selection:
        """Read a selection that `write` wrote."""
        content: dict[str, Any] = read_json(path)
        try:
            return cls(**content | {"cases": tuple(Case(**case) for case in content["cases"])})
        except (KeyError, TypeError) as error:
            raise UnreadableResult(f"{path} is not a selection ({error}): delete it and run `pudle run` again") from None
