"""A case: a named problem that estimators are measured on."""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

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
#: Cases by any keys, as their fields.
Cases = Mapping[Any, Mapping[str, Any]]
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
        """Draw the problem of a seed; UnsupportedProblem says that the dataset has no such loss."""
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
        """Compute the reference of one seed; UnsupportedProblem says that the dataset has no such
        loss or target.
        """
        problem, algorithm = self.make_problem(seed), self.make_algorithm()
        try:
            truth = reference(problem, target, algorithm).of_spec(self.dataset)
        except InvalidArgument as error:
            raise UnsupportedProblem(str(error)) from error
        return replace(truth, probe=probe(problem, self.probed(target)))

    def probed(self, target: str) -> Algorithm | None:
        """Return the algorithm whose layers tell the problem of a reference from others, None for
        that of the problem.
        """
        return self.make_algorithm() if target == "limit" else None


def labels(cases: Cases) -> dict[Any, str]:
    """Return a label for each of some cases, given as their fields, no two alike.

    That is the name that its author chose, or ``x.csv, HeavyBall(step=0.1), lasso`` where the name
    was made of the specs.
    """
    words, texts = _words(cases), {}
    for key, case in cases.items():
        texts[key] = [case["name"]]
        if not _has_chosen_name(case):
            specs = f"{words[case['dataset']]}, {words[case['algorithm']]}, {case['loss']}"
            texts[key].insert(0, specs)
    return _distinct(texts)


def problem_labels(cases: Cases) -> dict[Any, str]:
    """Return a label for each problem of some cases, no two alike: its dataset and its loss, as in
    ``x.csv, lasso``, or ``digits-lasso`` where a case is called ``digits-ista-lasso``.
    """
    case_labels, words, texts = labels(cases), _words(cases), dict[Any, list[str]]()
    for key, case in cases.items():
        candidates = [case_labels[key]]
        # An algorithm that leads elsewhere makes a problem of its case alone.
        if case["problem"] != case["name"]:
            if _has_chosen_name(case):
                algorithm = slug(case["algorithm"].partition("(")[0])
                candidates.insert(0, re.sub(rf"-{algorithm}[\w.]*-", "-", case["name"]))
            else:
                candidates.insert(0, f"{words[case['dataset']]}, {case['loss']}")
        texts.setdefault(case["problem"], candidates)
    return _distinct(texts)


def _has_chosen_name(case: Mapping[str, Any]) -> bool:
    """Tell whether the name of a case is more than its specs in the form for files."""
    name, *specs = (case[key] for key in ("name", "dataset", "algorithm", "loss"))
    made_of_specs = name.startswith("-".join(map(slug, specs))) and name != "-".join(specs)
    return not made_of_specs and not re.search(r"-[0-9a-f]{8}(-|$)", name)


def _words(cases: Cases) -> dict[str, str]:
    """Return a label for each dataset and algorithm, by spec, that cases have: the last name of the
    file that it reads, the class in a user's file with its options, or the spec,
    as where two would read alike. It is stored text, which may be no spec.
    """
    texts = {}
    for spec in {case[key] for case in cases.values() for key in ("dataset", "algorithm")}:
        word = re.sub(r"^[^(]*[/:]", "", spec)
        if reads := re.search(r"\b(path|folder)=(['\"])(.+?)\2", spec):
            word = Path(reads[3]).name
        texts[spec] = [word, spec]
    return _distinct(texts)


def _distinct(texts: Mapping[Any, Sequence[str]]) -> dict[Any, str]:
    """Return the first of each key's texts that no other key has."""
    counts = Counter(chain(*texts.values()))
    return {key: min(candidates, key=counts.__getitem__) for key, candidates in texts.items()}


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
    beginning = name.encode()[: 2 * SLUG_BYTES - 9].decode(errors="ignore")
    return f"{beginning}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def spec_slug(spec: str, home: Path, paths: Collection[str] = ()) -> str:
    """Return a spec as it stands in the names of cases: readable, and no two specs alike.

    A digest follows where the readable part alone cannot tell two specs apart, because options
    other than plain numbers lose characters. Of a path (the options named in `paths`, and a file of
    the user's that a spec names) the readable part has the last name, and the digest the path as
    seen from `home`, the folder of the results.
    """
    if re.fullmatch(r"\w+(\([\w=., ]*\))?", spec) and len(spec.encode()) < SLUG_BYTES:
        return slug(spec)
    relative = names.placed(spec, lambda path: Path(os.path.relpath(path, home)), paths)
    name, options = names.parse(relative)
    digest = hashlib.sha256(repr((name, sorted(options.items()))).encode()).hexdigest()
    last = names.placed(spec, lambda path: Path(path.name.removesuffix(".py")), paths)
    return f"{slug(last)}-{digest[:8]}"
