"""Specimens: problems with an algorithm to check estimators on, from registered datasets and
algorithms with drawn options.

The named ones are small and regular. The drawn ones vary what the list in docs/add_an_estimator.md
names: an estimator that is wrong only for one sample, for long windows or for several channels is
right on any short list of examples. What no dataset makes is added, see `CHANGES` and `brought`.
All are the same in every run, because their streams are named.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.utils._pytree import tree_map_only

from .. import names
from ..algorithms import Algorithm, Fista, Noodl
from ..algorithms.thresholding import Hard
from ..errors import InvalidArgument
from ..names import entries, make_algorithm, make_dataset
from ..problems import FixedPoint, Problem
from ..streams import generator
from . import brought
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
    "penalty": (
        "penalty_selection(n_samples=7, n_features=11, held_out=5, n_components=6,"
        " n_nonzero_coefs=3, correlation=0.2, weighted=True)"
    ),
    "ridge": "ridge(n_samples=9, n_components=5, kappa=10, observations='random')",
    # For great depths, and the one with more than some hundred samples.
    "tiny": "sparse_gaussian(n_samples=5, n_features=4, n_components=3, n_nonzero_coefs=2)",
    "many samples": "bernoulli_gaussian(n_samples=20000, n_features=3, n_components=4)",
}
PLAIN = "ista", "fista"
#: Two layers, where the first and the last differ in kind, and enough layers for most supports to
#: change.
SHALLOW = 2, 12
#: All depths up to here are checked one by one, and those where an estimator may have a limit of
#: its own.
EVERY_DEPTH, FAR = 130, (257, 401, 500, 1030)
#: Entries of theta that count as few.
FEW = 24

#: The fields of a problem or an algorithm by name.
Fields = dict[str, Any]


def options_of(owner: Problem | Algorithm) -> Fields:
    """Return the fields of a problem or an algorithm."""
    # Every concrete one is a dataclass.
    return {each.name: getattr(owner, each.name) for each in fields(cast(Any, owner))}


def tensors_of(owner: Problem | Algorithm) -> dict[str, Tensor]:
    """Return the tensors in the fields of a problem or an algorithm."""
    values = dict(vars(owner))
    for parts in vars(owner).values():
        values |= parts if isinstance(parts, dict) else {}
    return {name: each for name, each in values.items() if isinstance(each, Tensor)}


def changed(owner: T, **values: object) -> T:
    """Return a problem, an algorithm or an estimator with other fields."""
    made: T = replace(cast(Any, owner), **values)
    return made


def in_units(problem: Problem, ratio: float, rows: list[int] | slice = slice(None)) -> Fields:
    """Return the fields that have some samples of a problem in other units."""
    values = options_of(problem)
    samples = {name: values[name] for name in problem.per_sample if values.get(name) is not None}
    fields = {name: ratio * tensor[rows] for name, tensor in samples.items()}
    if "log_penalty" in values:
        fields["log_penalty"] = values["log_penalty"] + math.log(ratio)
    elif "penalty" in values:
        fields["penalty"] = ratio * values["penalty"]
    return fields


@dataclass(frozen=True, eq=False)
class Specimen:
    """A problem and an algorithm to check an estimator on.

    Attributes
    ----------
    problem, loss, algorithm : str
        What tables call them.
    original : Problem
        It is copied for every use.
    algorithm_on : callable
        Makes the algorithm, for a problem and the codes of a warm start.
    drawn : str
        What was drawn, if anything.
    scattered : bool
        Whether each tensor is a part of a larger one, or lies in memory by columns: no estimator
        may rely on what lies where.
    depths : list of int
        Depths in no order, one of them twice.
    """

    problem: str
    loss: str
    algorithm: str
    original: Problem
    algorithm_on: Callable[[Problem, Tensor], Algorithm]
    depths: Sequence[int] = (SHALLOW[1], 0, *SHALLOW)
    drawn: str = ""
    scattered: bool = False

    @property
    def names(self) -> tuple[str, str, str]:
        """The names of problem, loss and algorithm."""
        return self.problem, self.loss, self.algorithm

    def __str__(self) -> str:
        """Return the names, and what was drawn."""
        detail = f": {self.drawn}, {names.text(self.make_algorithm())}" if self.drawn else ""
        return " / ".join(self.names) + detail

    @cached_property
    def initial(self) -> Tensor:
        """Codes that a warm start begins with."""
        random = generator(0, f"conformance warm start {self.problem}")
        return torch.tensor(random.standard_normal(self.original.code_shape))

    def make(
        self, dtype: torch.dtype = torch.float64, device: str = "cpu", **values: object
    ) -> Problem:
        """Return a copy of the problem, of a dtype and on a device, perhaps with other fields."""
        return self._copied(self.original, dtype, device, values)

    def make_algorithm(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Algorithm:
        """Return a copy of the algorithm, of a dtype and on a device."""
        return self._copied(self.algorithm_on(self.original, self.initial), dtype, device, {})

    def _copied(self, owner: T, dtype: torch.dtype, device: str, values: Fields) -> T:
        """Return a problem or an algorithm with new tensors, which no estimator can spoil for the
        next call.
        """

        def new(tensor: Tensor) -> Tensor:
            tensor = tensor.to(device, dtype, copy=True)
            if not self.scattered or tensor.ndim < 2:
                return tensor
            columns = tensor.mT.contiguous()
            return (torch.stack([columns, columns], -1)[..., 1] if len(tensor) % 2 else columns).mT

        copies = tree_map_only(Tensor, new, options_of(cast(Any, owner)))
        return changed(owner, **copies | values)

    @cached_property
    def truth(self) -> Truth:
        """The codes and gradients that are right."""
        return Truth(self.make(), self.make_algorithm())

    @property
    def few(self) -> bool:
        """Tell whether theta has few entries, and no rule jumps: what differences can find."""
        theta, algorithm = self.original.theta, self.make_algorithm()
        jumps = isinstance(algorithm.thresholding, Hard)
        return theta.numel() <= FEW and algorithm.differentiable and not jumps


@cache
def named(problem: str, loss: str, algorithm: str = "ista") -> Specimen:
    """Return the specimen of a named problem, one of its losses and a named algorithm."""
    original, made = make_dataset(NAMED[problem]).problem(loss), make_algorithm(algorithm)
    depths = [*range(EVERY_DEPTH + 1), *FAR] if problem == "tiny" else Specimen.depths
    return Specimen(problem, loss, algorithm, original, lambda *_: made, depths)


def specimens(*problems: str, algorithms: Sequence[str] = PLAIN[:1]) -> tuple[Specimen, ...]:
    """Return the named problems, or all but those for great depths and many samples, with each of
    their losses and each of the algorithms.
    """
    return tuple(
        named(problem, loss, algorithm)
        for problem in problems or [*NAMED][:-2]
        for loss in make_dataset(NAMED[problem]).losses
        for algorithm in algorithms
    )


#: Every problem, loss and plain algorithm.
GRID = specimens(algorithms=PLAIN)

# --- the drawn specimens

#: The most entries of the codes, and of the codes for each of theta.
MOST_CODES, MOST = 5_000, 500_000
#: What great depths are lowered to keep: these entries times the layers.
WORK = 10_000_000
#: The datasets of a round, those with the most options more often, and the rounds.
OWN = "iteration"
SPARSE, IMAGES, LEARNED = "bernoulli_gaussian", "convolutional", "noisy_crops"
SELECTION = "penalty_selection"
DATASETS = [SPARSE, OWN, IMAGES, LEARNED, SELECTION, SPARSE, IMAGES, "equilibrium", SPARSE]
DATASETS += ["ridge", SELECTION, SELECTION, IMAGES, OWN, LEARNED, SPARSE]
ROUNDS, OTHERS = 7, 4
#: Algorithms by name, those of users among them, and those that are drawn most often.
ALGORITHMS: dict[str, type[Algorithm]] = brought.ALGORITHMS | entries("algorithms")
USUAL = "ista", "ista", "fista", "fista", "heavy_ball", "relaxed"
#: Thresholding rules, with a place for a threshold, one that a user has written, and derived
#: classes.
RULES = "soft", "decaying(decay=0.8)", "decaying(decay=0.97)", "hard", "hard(threshold={})"
OWN_RULE = "own"
DERIVED = "", "", "", "", "derived", "apart"
#: What the options of datasets are drawn from, by name.
OPTIONS: dict[str, Sequence[object]] = {
    "n_samples": (1, 1, 2, 3, 7, 17, 40, 65, 130, 300),
    "n_features": (1, 2, 3, 5, 8, 12),
    "n_components": (1, 2, 3, 5, 8, 14, 60, 150),
    "n_nonzero_coefs": (1,),
    "size": (2, 4, 6, 9),
    "kernel": (1, 2, 3, 4),
    "stride": (1, 2, 3),
    "channels": (1, 2, 3),
    "penalty": (0.02, 0.1, 0.3),
    "penalty_fraction": (0.05, 0.3),
    "l2_penalty": (0.0, 0.3),
    "nonnegative": (False, True),
    "weighted": (False, True),
    "supervised": (False, True),
    "learned_penalties": (True,),
    "observations": ("random",),
    "kappa": (3.0, 10.0),
}


@dataclass
class Draw:
    """Draws options one after the other, each such that it meets options that it has not met
    before: mistakes often need two.

    Attributes
    ----------
    random : Generator
    met : set
        Pairs of options that have met in earlier draws.
    chosen : list
        The options of this draw.
    """

    random: Generator
    met: set[object]
    chosen: list[object] = field(default_factory=list)

    def pick(self, name: str, choices: Sequence[T]) -> T:
        """Draw an option from some choices."""

        def new_pairs(place: int) -> int:
            return sum((other, (name, place)) not in self.met for other in self.chosen)

        best: int = max(self.random.permutation(len(choices)).tolist(), key=new_pairs)
        self.chosen.append((name, best))
        return choices[best]

    def flip(self, name: str) -> bool:
        """Draw whether an option is taken."""
        return self.pick(name, (False, True))

    def keep(self) -> None:
        """Keep the pairs of this draw."""
        self.met.update(itertools.combinations(self.chosen, 2))


def _factors(random: Generator, *shape: int) -> Tensor:
    """Draw numbers around one."""
    return torch.tensor(np.exp(0.4 * random.standard_normal(shape)))


def _observations(problem: Any, random: Generator) -> Tensor:
    """Return samples of which the last counts much; of images, samples that are not square."""
    samples: Tensor = problem.observations
    if samples.ndim > 2:
        return samples[..., 1:]
    return torch.cat([samples[:-1], 10 * samples[-1:]])


def _penalties(problem: Any, random: Generator) -> Tensor:
    """Return a penalty for each atom or filter."""
    return torch.as_tensor(problem.penalty).flatten() * _factors(random, problem.code_shape[1])


#: What is added to a problem, by the name of the field, where the field takes it.
CHANGES: dict[str, Callable[[Any, Generator], object]] = {
    "generating_dictionary": lambda problem, random: [None, 0.9 * problem.dictionary][
        random.integers(2)
    ],
    "generating_codes": lambda problem, random: _factors(random, *problem.code_shape),
    "observations": _observations,
    "dictionary": lambda problem, random: problem.dictionary * _factors(random, 1),
    "penalty": _penalties,
    "log_penalty": lambda problem, random: problem.log_penalty - _factors(random, 1)[0],
    "nonnegative": lambda problem, random: not problem.nonnegative,
    "l2_penalty": lambda problem, random: 0.3,
    "targets": lambda problem, random: problem.observations.roll(1, -1),
    "loss": lambda problem, random: brought.own_loss,
    "theta": lambda problem, random: problem.theta + 0.1,
}


def _added(draw: Draw, problem: Problem) -> tuple[Problem, str]:
    """Return a problem with some of what no dataset makes, and what that is."""
    told = ""
    for name, change in CHANGES.items():
        if name in options_of(problem) and draw.flip(f"another {name}"):
            with suppress(InvalidArgument):
                problem = changed(problem, **{name: change(problem, draw.random)})
                told += f", another {name}"
    unit = draw.pick("unit", (1.0, 1.0, 2.0**-10, 2.0**13))
    return changed(problem, **in_units(problem, unit)), f"{told}, in units of {unit:g}"


def _problem(draw: Draw, name: str, seed: int) -> tuple[Problem, str, str]:
    """Draw a problem of a dataset, its loss and what it is made of."""
    if name == OWN:
        return brought.own_iteration(draw.random), "function", OWN
    cls = entries("datasets")[name]
    taken = [each.name for each in names.options(cls) if each.name in OPTIONS]
    dataset = cls(**{each: draw.pick(each, OPTIONS[each]) for each in taken}, seed=seed)
    loss = draw.pick("loss", dataset.losses)
    problem, told = _added(draw, dataset.problem(loss))
    codes = math.prod(problem.code_shape)
    if codes > MOST_CODES or codes * problem.theta.numel() > MOST:
        raise InvalidArgument(f"{names.text(dataset)} is too large")
    loss = "function" if callable(getattr(problem, "loss", "")) else loss
    return problem, loss, names.text(dataset) + told


@dataclass(frozen=True)
class Proportions:
    """An algorithm whose numbers are in proportion to a problem: its step to 1/L, its thresholds to
    the penalty, and its warm start to some codes.
    """

    cls: type[Algorithm]
    step: float | None
    rule: str
    restart: bool
    warm: float

    def __call__(self, problem: Problem, initial: Tensor) -> Algorithm:
        """Return the algorithm for a problem and the codes of a warm start."""
        taken = [each.name for each in names.options(self.cls)]
        unit = 1 / problem.lipschitz_constant if "step" in taken else 1.0
        penalty = float(torch.as_tensor(getattr(problem, "penalty", 1.0)).mean())
        threshold = 1.2 * penalty * unit
        rule = brought.Squeeze() if self.rule == OWN_RULE else self.rule.format(threshold)
        values: Fields = {
            "step": self.step and self.step * unit,
            "thresholding": rule,
            "restart": self.restart,
            "initial": self.warm * initial if self.warm else None,
        }
        if issubclass(self.cls, Noodl):
            # It has higher thresholds in place of a warm start, and maybe updates of its own.
            higher = 1 + self.warm
            values |= {"thresholding": Hard(higher * threshold), "initial": None}
            values["lower_bound"] = higher * penalty
            if self.restart:
                values |= {"steps": (0.5 * unit,), "thresholds": (threshold, 0.5 * threshold)}
        return self.cls(**{name: values[name] for name in (*taken, "initial") if name in values})


def _specimen(draw: Draw, index: int, dataset: str, algorithm: str) -> Specimen:
    """Draw a specimen of a dataset and of an algorithm, or a usual one if there is no name."""
    problem, loss, told = _problem(draw, dataset, index)
    if isinstance(problem, FixedPoint):
        algorithm = problem.default_algorithm
    cls = ALGORITHMS[algorithm or draw.pick("algorithm", USUAL)]
    if not algorithm and "penalty" in dir(problem) and (kind := draw.pick("class", DERIVED)):
        derived = brought.derived(type(problem), kind == "apart")
        problem, told = derived(**options_of(problem)), f"{told}, a class {kind}"
    rule = draw.pick("rule", (*RULES, OWN_RULE))
    # Beyond 1/L neither acceleration nor hard thresholding need converge.
    slow = "hard" in rule or issubclass(cls, Fista | Noodl)
    step = draw.pick("step", (None, None, 0.4, 0.9, 0.9 if slow else 1.5))
    warm = draw.pick("warm", (0.0, 0.0, 0.2, 2.0))
    work = math.prod(problem.code_shape) * problem.theta.numel()
    great = min(draw.pick("depth", (12, 50, 130, 300, 500)), max(WORK // work, SHALLOW[1]))
    depths = [great, int(draw.random.integers(3)), int(great ** draw.random.random())]
    scattered = draw.flip("scattered")
    return Specimen(
        f"{dataset} #{index}",
        loss,
        cls.name,
        problem,
        Proportions(cls, step, rule, draw.flip("restart"), warm),
        [*depths, depths[index % 3]],
        told + ", scattered in memory" * scattered,
        scattered,
    )


def _drawn() -> Iterator[Specimen]:
    """Yield specimens of all datasets, and of the algorithms that are not usual."""
    turns = [(dataset, "") for dataset in DATASETS * ROUNDS]
    others = [name for name in ALGORITHMS if name not in (*USUAL, "iteration")]
    turns += [(SPARSE, name) for name in others * OTHERS]
    met: dict[str, set[object]] = {dataset: set() for dataset in DATASETS}
    for index, (dataset, algorithm) in enumerate(turns):
        random, specimen = generator(index, "conformance draw"), None
        while specimen is None:
            draw = Draw(random, met[dataset])
            with suppress(InvalidArgument):
                specimen = _specimen(draw, index, dataset, algorithm)
            draw.keep()
        yield specimen


DRAWN = tuple(_drawn())
