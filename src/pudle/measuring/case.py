"""A case: a named problem that estimators are measured on."""

import dataclasses
import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .. import names
from ..algorithms import Algorithm
from ..errors import InvalidArgument, SpecError, UnsupportedProblem
from ..problems import Problem
from ..references.certified import TARGETS, Reference, reference
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
        check_choice(f"case {self.name}: dtype", self.dtype, DTYPES)

    @property
    def problem(self) -> tuple[Any, ...]:
        """What is solved: cases with the same one differ in the algorithm and in the depths."""
        return self.dataset, self.loss, self.seeds, self.targets, self.dtype

    def make_problem(self, seed: int, device: str = "cpu") -> Problem:
        """Draw the problem of a seed; UnsupportedProblem says that the dataset has no such loss."""
        dataset: Any = names.make_dataset(self.dataset)
        if self.loss not in dataset.losses:
            raise UnsupportedProblem(
                f"{dataset.name} has no loss {self.loss!r}: use {' or '.join(dataset.losses)}"
            )
        return dataclasses.replace(dataset, seed=seed).problem(
            self.loss, dtype=DTYPES[self.dtype], device=device
        )

    def make_algorithm(self) -> Algorithm:
        """Return the inner algorithm."""
        return names.make_algorithm(self.algorithm)

    def make_reference(self, seed: int, target: str) -> Reference:
        """Compute the reference of one seed; UnsupportedProblem says that the dataset has no such
        loss or target.
        """
        problem, algorithm = self.make_problem(seed), self.make_algorithm()
        try:
            return reference(problem, target, algorithm).of_spec(self.dataset)
        except InvalidArgument as error:
            raise UnsupportedProblem(str(error)) from error


def labels(cases: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """Return what a person calls each of some cases, given as their fields, by name.

    That is ``x.csv, HeavyBall, lasso`` where a name holds a digest, with the whole specs where two
    of these would read alike, and otherwise the name.
    """

    def label(name: str, show: Callable[[str], str]) -> str:
        case = cases[name]
        return f"{show(case['dataset'])}, {show(case['algorithm'])}, {case['loss']}"

    short = {
        name: label(name, _called) if re.search(r"-[0-9a-f]{8}(-|$)", name) else name
        for name in cases
    }
    counts = Counter(short.values())
    return {
        name: words if counts[words] == 1 else label(name, str) for name, words in short.items()
    }


def common(labels: Sequence[str]) -> str:
    """Return what is common to the labels of cases that differ in the algorithm alone."""
    parts = [re.split("(-|, )", label) for label in labels]
    head, tail = (os.path.commonprefix([part[::way] for part in parts]) for way in (1, -1))
    shared = "".join([*head, *tail[-2::-1]]).rstrip("-, ")
    return shared if shared and len(labels) > 1 else labels[0]


def _called(spec: str) -> str:
    """Return what a person calls the thing of a spec: the last name of the file that it reads, the
    class in a user's file, or the spec. Nothing is made of it.
    """
    try:
        name, options = names.parse(spec)
    except SpecError:
        return spec
    if reads := next(filter(None, map(options.get, ("path", "folder", "of"))), None):
        return Path(str(reads)).name
    file = names.file_of(name)
    return (file[1] or file[0].name) if file else spec


def slug(spec: str) -> str:
    """Return a spec as it stands in the name of a file: letters, digits, points and underscores, at
    most `SLUG_BYTES`.
    """
    plain = re.sub(r"(?:[^\w.]|_)+", "_", unicodedata.normalize("NFC", spec)).strip("_")
    return plain.encode()[:SLUG_BYTES].decode(errors="ignore").rstrip("_")


def short(name: str) -> str:
    """Return the name of a case, cut and with a digest of the whole where it is too long."""
    if len(name.encode()) <= 2 * SLUG_BYTES:
        return name
    kept = name.encode()[: 2 * SLUG_BYTES - 9].decode(errors="ignore")
    return f"{kept}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def spec_slug(spec: str, home: Path, paths: Collection[str] = ()) -> str:
    """Return a spec as it stands in the names of cases: readable, and no two specs alike.

    A digest follows where the readable part alone cannot tell two specs apart, because options
    other than plain numbers lose characters. Of a path (the options named in `paths`, and a file of
    the user's that a spec names) the readable part has the last name, and the digest the path as
    seen from `home`, the folder of the results.
    """
    if re.fullmatch(r"\w+(\([\w=., ]*\))?", spec) and len(spec.encode()) < SLUG_BYTES:
        return slug(spec)
    seen = names.placed(spec, lambda path: Path(os.path.relpath(path, home)), paths)
    name, options = names.parse(seen)
    digest = hashlib.sha256(repr((name, sorted(options.items()))).encode()).hexdigest()
    last = names.placed(spec, lambda path: Path(path.name.removesuffix(".py")), paths)
    return f"{slug(last)}-{digest[:8]}"
