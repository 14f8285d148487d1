"""A case: a named problem that estimators are measured on."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..algorithms import Algorithm
from ..errors import InvalidArgument
from ..problems import Problem
from ..references.certified import MINIMIZER_TARGETS, TARGETS
from ..registry import make_algorithm, make_dataset
from ..specs import parse
from ..validation import check_choice, check_integer

#: Bytes of a spec in the name of a file: with all that surrounds it, a name stays below the 255 that file systems take.
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
        if not re.fullmatch(r"[^\W_][^/\\\0]*", self.name) or len(self.name.encode()) > 2 * SLUG_BYTES:
            raise InvalidArgument(f"case {self.name!r:.80}: the name is none for a folder: use letters, digits, '-' and '_'")
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
    """Return a spec as it stands in the name of a file: letters, digits, points and underscores, at most `SLUG_BYTES`."""
    plain = re.sub(r"(?:[^\w.]|_)+", "_", unicodedata.normalize("NFC", spec)).strip("_")
    return plain.encode()[:SLUG_BYTES].decode(errors="ignore").rstrip("_")


def dataset_slug(spec: str, home: Path) -> str:
    """Return a dataset's spec as it stands in the names of cases: readable, and no two specs alike.

    A digest follows where the readable part alone cannot tell two specs apart, because options other than plain numbers lose
    characters. Of a folder the readable part has the last name, and the digest the path as seen from `home`, the folder
    of the results.
    """
    if re.fullmatch(r"\w+(\([\w=., ]*\))?", spec) and len(spec.encode()) < SLUG_BYTES:
        return slug(spec)
    name, options = parse(spec)
    shown = dict(options)
    if isinstance(options.get("folder"), str):
        path = Path(options["folder"]).expanduser().absolute()
        shown["folder"] = path.name
        options["folder"] = os.path.relpath(path, home.absolute())
    readable = slug(f"{name}({', '.join(f'{key}={value!r}' for key, value in shown.items())})")
    return f"{readable}-{hashlib.sha256(repr((name, sorted(options.items()))).encode()).hexdigest()[:8]}"
