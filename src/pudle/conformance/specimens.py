"""Specimens: problems with an algorithm to check estimators on, from registered datasets and
algorithms with drawn options.

The named ones are small and regular. The drawn ones vary what the list in docs/add_an_estimator.md
names: an estimator that is wrong only for one sample, for long windows or for several channels is
right on any short list of examples. What no dataset makes is added, see `CHANGES` and `brought`.
All are the same in every run, because their streams are named.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.utils._pytree import tree_map_only

from .. import names
from ..algorithms import ActiveSet, Algorithm, CoordinateDescent, Fista, Ista, Iteration
from ..algorithms.thresholding import Decaying, Hard, Soft, Thresholding
from ..declared import with_values as with_values
from ..errors import InvalidArgument, UnsupportedProblem
from ..names import entries, make_algorithm, make_dataset
from ..problems import FixedPoint, Problem, StronglyConvex
from ..problems.l1 import L1Problem
from ..streams import generator
from .brought import HeavyBall, Squeeze, derived_class, own_iteration, own_loss
from .truth import Truth

T = TypeVar("T")
#: The named problems. Numbers of samples, features and atoms differ from each other, so that a
#: wrong factor or axis shows; only one has a square dictionary, where a transposed gradient has the
#: right shape.
NAMED = {
    "sparse coding": (
        "sparse_gaussian(n_samples=17, n_features=8, n_components=12, n_nonzero_coefs=3,"
        " perturbation=0.05)"
    ),
    "square": (
        "sparse_gaussian(n_samples=19, n_features=8, n_components=8, n_nonzero_coefs=2,"
        " perturbation=0.05, seed=4)"
    ),
    "elastic net": (
        "sparse_gaussian(n_samples=17, n_features=8, n_components=12, n_nonzero_coefs=3,"
        " perturbation=0.05, l2_penalty=1.0)"
    ),
    "convolutional": (
        "convolutional(n_samples=3, size=6, n_components=2, kernel=3, density=0.3, noise=0.3,"
        " penalty=0.1, seed=6)"
    ),
    "nonnegative": (
        "convolutional(n_samples=2, size=6, n_components=2, kernel=3, density=0.3, noise=0.1,"
        " penalty=0.1, nonnegative=True, seed=6)"
    ),
    "penalty": (
        "penalty_selection(n_samples=7, n_features=11, held_out=5, n_components=6,"
        " n_nonzero_coefs=3, correlation=0.2, weighted=True)"
    ),
    "smooth": "quadratic(n_samples=30, n_inner=6, n_outer=3, kappa=5)",
    "ridge": "ridge(n_samples=9, n_components=5, kappa=10, observations='random')",
    # For great depths.
    "tiny": "sparse_gaussian(n_samples=5, n_features=4, n_components=3, n_nonzero_coefs=2)",
}
PLAIN = "ista", "fista"
#: Two layers, where the first and the last differ in kind, and enough layers for most supports to
#: change.
SHALLOW = 2, 12
#: All depths up to here are checked one by one, and those where an estimator may have a limit of
#: its own.
EVERY_DEPTH, FAR = 130, (257, 401, 500, 513, 640)
#: Entries of theta that count as few.
FEW = 24
#: The fields of a problem or an algorithm by name.
Fields = dict[str, Any]


def options_of(owner: object) -> Fields:
    """Return the fields of a problem, an algorithm or a rule."""
    # Every concrete one is a dataclass.
    return {field.name: getattr(owner, field.name) for field in fields(cast(Any, owner))}


def tensors_of(owner: Problem | Algorithm) -> dict[str, Tensor]:
    """Return the tensors in the fields of a problem or an algorithm, and in mappings there, by
    name.
    """
    values = dict(vars(owner))
    for parts in vars(owner).values():
        values |= parts if isinstance(parts, dict) else {}
    return {name: tensor for name, tensor in values.items() if isinstance(tensor, Tensor)}


def in_units(owner: T, ratio: float, rows: list[int] | slice = slice(None)) -> T:
    """Return a copy of a problem, an algorithm or a rule for some of the samples, by default all,
    in other units: fields with a row for each sample, starts, penalties and thresholds are `ratio`
    times as large.
    """
    values = options_of(owner)
    for name, value in values.items():
        if name in (*getattr(owner, "per_sample", ()), "initial") and value is not None:
            values[name] = ratio * value[rows]
        elif name in ("penalty", "threshold") and value is not None:
            values[name] = ratio * value
        elif name == "log_penalty":
            values[name] = value + math.log(ratio)
        elif name == "thresholding":
            values[name] = in_units(value, ratio)
    return with_values(owner, **values)


@dataclass(frozen=True, eq=False)
class Specimen:
    """A problem and an algorithm to check an estimator on.

    Attributes
    ----------
    problem, loss, algorithm : str
        What tables call them.
    originals : Problem, Algorithm
        They are copied for every use.
    depths : list of int
        Depths in no order, one of them twice.
    noncontiguous, requires_grad : bool
        Whether each tensor is a part of a larger one, or lies in memory by columns, and whether it
        requires a gradient: no estimator may rely on that.
    drawn : str
        The drawn options; empty for a named specimen.
    """

    problem: str
    loss: str
    algorithm: str
    originals: tuple[Problem, Algorithm]
    depths: Sequence[int] = (SHALLOW[1], 0, *SHALLOW)
    noncontiguous: bool = False
    requires_grad: bool = False
    drawn: str = ""

    @property
    def original(self) -> Problem:
        """The problem, to look at."""
        return self.originals[0]

    @property
    def name(self) -> str:
        """What tables call it as a whole."""
        return f"{self.problem}-{self.loss}-{self.algorithm}"

    def __str__(self) -> str:
        """Return the drawn options, or the name."""
        return self.drawn or self.name

    def make(self, dtype: torch.dtype = torch.float64) -> tuple[Problem, Algorithm]:
        """Make copies of the problem and the algorithm in a dtype, with new tensors, which no
        estimator can spoil for the next call.

        Tensors of a `noncontiguous` specimen have another layout in memory; those of one that
        `requires_grad` require gradients.
        """

        def new(tensor: Tensor) -> Tensor:
            """Return a copy of a tensor in the dtype and in the layout of this specimen."""
            tensor = tensor.to(dtype, copy=True)
            if self.noncontiguous and tensor.ndim > 1:
                tensor = _stored_by_columns(tensor, every_second=len(tensor) % 2 == 1)
            return tensor.requires_grad_(self.requires_grad)

        def copied(owner: T) -> T:
            return with_values(owner, **tree_map_only(Tensor, new, options_of(owner)))

        problem, algorithm = self.originals
        return copied(problem), copied(algorithm)

    @cached_property
    def truth(self) -> Truth:
        """The codes and gradients that are right."""
        problem, algorithm = replace(self, requires_grad=False).make()
        return Truth(problem, algorithm, problem)

    @property
    def jumps(self) -> bool:
        """Tell whether codes jump across a threshold, where no difference finds a derivative."""
        return isinstance(self.originals[1].thresholding, Hard)

    @property
    def has_few_parameters(self) -> bool:
        """Tell whether theta has few entries, and the layers have derivatives."""
        differentiable = self.originals[1].differentiable and not self.jumps
        return self.original.theta.numel() <= FEW and differentiable


def _stored_by_columns(tensor: Tensor, *, every_second: bool) -> Tensor:
    """Return a tensor with the same values whose last two axes are stored by columns, and as every
    second number of a larger one if asked for.
    """
    columns = tensor.mT.contiguous()
    if every_second:
        columns = torch.stack([columns, columns], -1)[..., 1]
    return columns.mT


@cache
def named_specimen(problem: str, loss: str, algorithm: str = "ista") -> Specimen:
    """Return the specimen of a named problem, one of its losses and a named algorithm; the same
    call returns the same object.
    """
    originals = make_dataset(NAMED[problem]).problem(loss), make_algorithm(algorithm)
    depths = [*range(EVERY_DEPTH + 1), *FAR] if problem == "tiny" else Specimen.depths
    return Specimen(problem, loss, algorithm, originals, depths)


def specimens(*problems: str, algorithms: Sequence[str] = PLAIN[:1]) -> tuple[Specimen, ...]:
    """Return the named problems, or all but that for great depths, with each of their losses and
    each of the algorithms, by default `ista` alone. The same call returns the same objects.
    """
    return tuple(
        named_specimen(problem, loss, algorithm)
        for problem in problems or [*NAMED][:-1]
        for loss in make_dataset(NAMED[problem]).losses
        for algorithm in algorithms
    )


#: Every problem, loss and plain algorithm, and nonnegative codes in a dense dictionary, which no
#: dataset has.
GRID = (
    *specimens(algorithms=PLAIN),
    *(
        replace(
            specimen,
            problem="one-sided",
            originals=(with_values(specimen.original, nonnegative=True), specimen.originals[1]),
        )
        for specimen in specimens("elastic net", algorithms=PLAIN)
    ),
)

# --- the drawn specimens

#: The most entries of the codes, of theta, and of the codes for each of theta.
MOST_CODES, MOST_THETA, MOST = 5_000, 320, 500_000
#: What great depths are lowered to keep: these entries times the layers.
WORK = 10_000_000
#: The datasets of a round, those with the most options more often, and the rounds.
OWN, SPARSE, IMAGES = "iteration", "bernoulli_gaussian", "convolutional"
LEARNED, SELECTION = "noisy_crops", "penalty_selection"
DATASETS = [SPARSE, OWN, IMAGES, LEARNED, SELECTION, SPARSE, IMAGES]
DATASETS += [SPARSE, "ridge", SELECTION, IMAGES, OWN, LEARNED, SPARSE, SELECTION, LEARNED]
ROUNDS = 7
#: Smooth problems, after all others.
SMOOTH = ["quadratic", "logistic", "quadratic"] * 4
#: Algorithms by name, one of users among them, and those that are drawn most often.
ALGORITHMS = {
    algorithm.name: algorithm
    for algorithm in (Ista, Fista, HeavyBall, ActiveSet, CoordinateDescent)
}
USUAL = "ista", "fista", "heavy_ball", "ista", "fista", "heavy_ball"
FOR_SMOOTH = "gradient_descent", "accelerated", "newton_cg"
#: What the options of datasets are drawn from, by name.
OPTIONS: dict[str, Sequence[Any]] = {
    "n_components": (1, 2, 3, 5, 8, 14, 60, 150),
    "n_samples": (1, 1, 2, 3, 7, 17, 40, 65, 130, 300),
    "n_features": (1, 2, 3, 5, 8, 12),
    "n_nonzero_coefs": (1,),
    "size": (2, 4, 6, 9),
    "kernel": (1, 2, 3, 4),
    "stride": (1, 2, 3),
    "channels": (1, 2, 3),
    "penalty": (0.02, 0.1, 0.3),
    "weighted": (False, True),
    "learned_penalties": (True,),
    "observations": ("random",),
    "kappa": (3.0, 10.0),
    "n_inner": (1, 3, 12),
    "n_outer": (1, 2, 7),
    "per_feature": (False, True),
}
#: The most that some options come to for all atoms together.
LARGEST = {"n_samples": 5_000, "n_features": 320}


class OptionDraws:
    """Draws options one after the other, each such that it meets options that it has not met
    before: mistakes often need two.

    Parameters
    ----------
    random : Generator
    met : set
        Pairs of options that have met in earlier draws; those of this one are added.
    description : str
        The dataset and the options drawn so far, which are added.
    """

    def __init__(self, random: Generator, met: set[object], description: str) -> None:
        self.random, self.met, self.description = random, met, description
        self.chosen: list[object] = []

    def pick(self, name: str, choices: Sequence[T]) -> T:
        """Draw an option from some choices, of which the one that meets most options anew is taken;
        of several such ones the first in a random order.

        It is added to the description, and its pairs with earlier options to `met`.
        """
        best, best_pairs, most_new = -1, set[object](), -1
        places: list[int] = self.random.permutation(len(choices)).tolist()
        for place in places:
            pairs: set[object] = {(earlier, name, place) for earlier in self.chosen}
            n_new = len(pairs - self.met)
            if n_new > most_new:
                best, best_pairs, most_new = place, pairs, n_new
        self.met |= best_pairs
        self.chosen.append((name, best))
        self.description += f", {name}={choices[best]}"
        return choices[best]

    def factors(self, *shape: int) -> Tensor:
        """Draw numbers around one."""
        return torch.tensor(np.exp(0.4 * self.random.standard_normal(shape)))


#: What is added to a problem, by the name of the field, where the field takes it.
CHANGES: dict[str, Callable[[Any, OptionDraws], object]] = {
    # The last sample counts much; images are not square.
    "observations": lambda problem, draw: (
        problem.observations[..., 1:]
        if problem.observations.ndim > 2
        else torch.cat([problem.observations[:-1], 10 * problem.observations[-1:]])
    ),
    "dictionary": lambda problem, draw: (
        problem.dictionary * draw.factors(*problem.dictionary.shape)
    ),
    "penalty": lambda problem, draw: (
        torch.as_tensor(problem.penalty).flatten() * draw.factors(problem.code_shape[1])
    ),
    "log_penalty": lambda problem, draw: problem.log_penalty - draw.factors(1)[0],
    "nonnegative": lambda problem, draw: not problem.nonnegative,
    "l2_penalty": lambda problem, draw: 0.3,
    "targets": lambda problem, draw: problem.observations.roll(1, -1),
    "loss": lambda problem, draw: own_loss,
    "theta": lambda problem, draw: problem.theta + 0.1,
    "initial": lambda problem, draw: problem.initial + draw.factors(*problem.initial.shape),
}


def _problem(draw: OptionDraws, dataset_name: str, seed: int) -> tuple[Problem, str]:
    """Draw a problem of a dataset and its loss; InvalidArgument if it is too large, or its options
    do not go together.
    """
    if dataset_name == OWN:
        return own_iteration(draw.random), "function"
    cls = entries("datasets")[dataset_name]
    option_names, values = {option.name for option in names.options(cls)}, Fields()
    for name, choices in OPTIONS.items():
        if name in option_names:
            most = LARGEST.get(name, 0) // values.get("n_components", 1)
            fitting = [choice for choice in choices if not most or choice <= most]
            values[name] = draw.pick(name, fitting)
    dataset = cls(**values, seed=seed)
    loss = draw.pick("loss", dataset.losses)
    problem = dataset.problem(loss)
    for name, change in CHANGES.items():
        # The loss of a smooth problem is a function already.
        option_names = options_of(problem).keys() - (
            {"loss"} if isinstance(problem, StronglyConvex) else ()
        )
        if name in option_names and draw.pick(f"another {name}", (False, True)):
            with suppress(InvalidArgument):
                problem = with_values(problem, **{name: change(problem, draw)})
    if isinstance(problem, L1Problem) and draw.pick("derived", (False, False, False, True)):
        problem = derived_class(type(problem))(**options_of(problem))
    codes, size = math.prod(problem.code_shape), problem.theta.numel()
    if codes > MOST_CODES or size > MOST_THETA or codes * size > MOST:
        raise InvalidArgument("this problem is too large")
    loss = "function" if callable(getattr(problem, "loss", "")) else loss
    return problem, loss


def _algorithm(draw: OptionDraws, problem: Problem) -> Algorithm:
    """Draw an algorithm with options in proportion to a problem: its step to 1/L, its thresholds to
    the penalty.

    Options that do not go together, or with the problem, raise InvalidArgument or
    UnsupportedProblem.
    """
    warm = draw.pick("warm_start", (0.0, 0.0, 0.2, 2.0))
    initial = warm * torch.tensor(draw.random.standard_normal(problem.code_shape))
    if isinstance(problem, FixedPoint):
        return Iteration(initial=initial if warm else None)
    if isinstance(problem, StronglyConvex):
        algorithm = make_algorithm(draw.pick("algorithm", FOR_SMOOTH))
        step = draw.pick("step", (None, 0.4, 0.9)) if algorithm.uses_step else None
        unit = step and step / problem.lipschitz_constant
        return with_values(algorithm, step=unit, initial=initial if warm else None)
    cls = ALGORITHMS[draw.pick("algorithm", (*USUAL, *ALGORITHMS))]
    unit = 1 / problem.lipschitz_constant
    penalty = float(torch.as_tensor(getattr(problem, "penalty", 1.0)).mean())
    rules = Soft(), Decaying(0.8), Decaying(0.97), Hard(), Hard(1.2 * penalty * unit), Squeeze()
    rule: Thresholding = draw.pick("rule", rules)
    # Beyond 1/L neither acceleration nor hard thresholding need converge.
    slow = isinstance(rule, Hard) or issubclass(cls, Fista)
    step = draw.pick("step", (None, None, 0.4, 0.9, 0.9 if slow else 1.5))
    values: Fields = {
        "step": step and step * unit,
        "thresholding": rule,
        "restart": draw.pick("restart", (False, True)),
        "initial": initial if warm else None,
    }
    option_names = {option.name for option in names.options(cls)} | {"initial"}
    algorithm = cls(**{name: value for name, value in values.items() if name in option_names})
    algorithm.check_supported(problem)
    return algorithm


def _specimen(draw: OptionDraws, index: int, dataset: str) -> Specimen:
    """Draw a specimen of a dataset: a problem, an algorithm, units, depths and the layout of
    tensors.
    """
    problem, loss = _problem(draw, dataset, index)
    algorithm = _algorithm(draw, problem)
    if problem.per_sample:
        unit = draw.pick("unit", (1.0, 1.0, 2.0**-26, 2.0**13))
        problem, algorithm = in_units(problem, unit), in_units(algorithm, unit)
    work = math.prod(problem.code_shape) * problem.theta.numel()
    great = min(draw.pick("depth", (12, 50, 130, 300, 500)), max(WORK // work, SHALLOW[1]))
    depths = [great, int(draw.random.integers(3)), int(great ** draw.random.random())]
    return Specimen(
        f"{dataset} #{index}",
        loss,
        algorithm.name,
        (problem, algorithm),
        [*depths, depths[index % 3]],
        draw.pick("noncontiguous", (False, True)),
        draw.pick("requires_grad", (False, True)),
        draw.description,
    )


def _drawn() -> Iterator[Specimen]:
    """Yield a specimen for each dataset of each round, from streams named by their numbers; a draw
    that is refused is made again from the same stream.
    """
    met: dict[str, set[object]] = {dataset: set() for dataset in [*DATASETS, *SMOOTH]}
    for index, dataset in enumerate(DATASETS * ROUNDS + SMOOTH):
        random, specimen = generator(index, "conformance draw"), None
        while specimen is None:
            with suppress(InvalidArgument, UnsupportedProblem):
                specimen = _specimen(OptionDraws(random, met[dataset], dataset), index, dataset)
        yield specimen


DRAWN = tuple(_drawn())
