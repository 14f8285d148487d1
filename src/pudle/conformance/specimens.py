"""Specimens: problems with an algorithm to check estimators on, as specs of registered datasets and
algorithms.

The named ones are small and regular. The drawn ones vary what the list in docs/add_an_estimator.md
names, two options at a time: an estimator that is wrong only for one sample, for long windows or
for several channels is right on any short list of examples. What no dataset makes is added to its
problem, see `brought`. All are the same in every run, because their streams are named, and each is
made when it is first needed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields, replace
from functools import cache, cached_property
from itertools import combinations
from typing import Any, Self, TypeVar, cast

import numpy as np
import torch
from numpy.random import Generator
from torch import Tensor
from torch.utils._pytree import tree_map_only

from ..algorithms import Algorithm, Fista
from ..algorithms.thresholding import Hard
from ..data import Dataset
from ..names import Spec, entries, make_algorithm, make_dataset, text
from ..problems import Problem
from ..streams import generator
from . import brought
from .truth import Truth

T = TypeVar("T")
Owner = TypeVar("Owner", Problem, Algorithm)
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
    # For checks at great depth, where differences on a larger problem would take minutes.
    "tiny": "sparse_gaussian(n_samples=5, n_features=4, n_components=3, n_nonzero_coefs=2)",
    # The one with more than a few hundred samples.
    "many samples": "bernoulli_gaussian(n_samples=20000, n_features=3, n_components=4)",
}

#: Two layers, where the first and the last differ in kind, and enough layers for most supports to
#: change.
SHALLOW = 2, 12
#: All depths up to here are checked one by one, and those where an estimator may have a limit of
#: its own.
EVERY_DEPTH, FAR = 130, (257, 401, 500, 1030)
#: What a great depth is lowered to keep: the multiplications of a forward pass.
WORK = 2_000_000
#: The most entries of theta that count as few, and those of the codes for each of theta as small.
FEW, MOST = 24, 20_000

# --- what is drawn

#: The kinds of problems in a round, those with the most options more often, and the rounds; draws
#: of each algorithm with options of its own; and draws that one is chosen from.
SPARSE, PENALTY, RIDGE, OWN = "sparse coding", "penalty", "ridge", "iterations"
IMAGES = "convolutional", "learned penalties"
KINDS = [SPARSE, OWN, *IMAGES, PENALTY, SPARSE, IMAGES[0], OWN, SPARSE, RIDGE, PENALTY]
KINDS += [SPARSE, IMAGES[0]]
ROUNDS, OTHER_DRAWS, TRIALS = 8, 4, 8
#: By what they have: a matrix, a dictionary, an l1 penalty, samples.
DENSE, DICTIONARY = (SPARSE, PENALTY, RIDGE), (SPARSE, *IMAGES)
PENALIZED, SAMPLED = (*DICTIONARY, PENALTY), (*DICTIONARY, PENALTY, RIDGE)
EVERY = (*SAMPLED, OWN)
#: The datasets of each kind, with places for options.
DATASETS = {
    SPARSE: (
        "bernoulli_gaussian(n_samples={samples}, n_features={features}, n_components={atoms},"
        " density=0.5, perturbation=0.3, penalty={penalty}, l2_penalty={l2_penalty}, seed={seed})"
    ),
    "convolutional": (
        "convolutional(n_samples={samples}, size={size}, channels={channels},"
        " n_components={filters}, kernel={kernel}, stride={stride}, density=0.3, noise=0.2,"
        " perturbation=0.2, penalty={penalty}, nonnegative={nonnegative}, seed={seed})"
    ),
    "learned penalties": (
        "noisy_crops(n_samples={samples}, size={size}, sigma=150, supervised={targets},"
        " start='random', n_components={filters}, kernel={kernel}, stride={stride},"
        " nonnegative={nonnegative}, penalty={penalty}, learned_penalties=True, seed={seed})"
    ),
    PENALTY: (
        "penalty_selection(n_samples={samples}, n_features={features}, held_out=4,"
        " n_components={atoms}, n_nonzero_coefs=1, penalty_fraction={penalty},"
        " weighted={several}, seed={seed})"
    ),
    RIDGE: "ridge(n_samples={samples}, n_components={more}, kappa=10, observations='random')",
}
#: Iterations that a dataset makes, and what the others are called.
ITERATIONS = {
    "equilibrium": "equilibrium(n_samples=7, n_components=3, contraction=0.8, seed={seed})",
    "logistic": "logistic(per_feature={several}, seed={seed})",
}
ITERATION = "an iteration"
#: The axis that has the rows of images and filters.
IMAGE_ROWS = {"observations": 2, "dictionary": 2, "targets": 2}
#: What losses are called that are no option.
LOSSES = {PENALTY: "held_out", RIDGE: "linear", OWN: "function"}
#: Algorithms that take the same options, and the rules among these, with a place for a threshold.
USUAL = "ista", "fista", "heavy_ball", "relaxed", "solver"
RULES = dict.fromkeys(
    ("soft", "decaying(decay=0.8)", "decaying(decay=0.97)", "hard", "hard(threshold={})")
) | {"own": brought.Squeeze()}
#: The fields of a problem or an algorithm by name.
Fields = dict[str, Any]


def options_of(owner: Problem | Algorithm) -> Fields:
    """Return the fields of a problem or an algorithm."""
    # Every concrete one is a dataclass.
    return {each.name: getattr(owner, each.name) for each in fields(cast(Any, owner))}


def changed(owner: T, **values: object) -> T:
    """Return a problem, an algorithm or an estimator with other fields."""
    made: T = replace(cast(Any, owner), **values)
    return made


def tensors_of(owner: Problem | Algorithm) -> dict[str, Tensor]:
    """Return the tensors in the fields of a problem or an algorithm."""
    values = dict(vars(owner))
    for parts in vars(owner).values():
        values |= parts if isinstance(parts, dict) else {}
    return {name: each for name, each in values.items() if isinstance(each, Tensor)}


def in_units(problem: Problem, ratio: float, rows: list[int] | slice = slice(None)) -> Fields:
    """Return the fields that have some samples of a problem in other units."""
    values = options_of(problem)
    changed = {
        name: ratio * values[name][rows]
        for name in problem.per_sample
        if values.get(name) is not None
    }
    if "log_penalty" in values:
        changed["log_penalty"] = values["log_penalty"] + math.log(ratio)
    elif "penalty" in values:
        changed["penalty"] = ratio * values["penalty"]
    return changed


def _factors(random: Generator, *shape: int) -> Tensor:
    """Draw numbers around one."""
    return torch.tensor(np.exp(0.4 * random.standard_normal(shape)))


def one_of(*choices: T, of: tuple[str, ...] = EVERY) -> T:
    """Return a field that is drawn from some choices; other kinds of problems than those in `of`
    have the first.
    """
    made: T = field(default=choices[0], metadata={"choices": choices, "of": of})
    return made


@dataclass(frozen=True)
class Options:
    """What is drawn; the list in docs/add_an_estimator.md says it in words."""

    kind: str
    seed: int
    samples: int = one_of(3, 1, 2, 7, 17, 40, 65, 130, 300, of=SAMPLED)
    features: int = one_of(5, 1, 2, 3, 8, 12, of=DENSE)
    atoms: int = one_of(4, 1, 2, 3, 5, 8, 14, 60, 150, of=DENSE)
    filters: int = one_of(2, 3, 4, of=IMAGES)
    channels: int = one_of(1, 2, 3, of=IMAGES[:1])
    kernel: int = one_of(2, 3, 4, of=IMAGES)
    stride: int = one_of(1, 2, 3, of=IMAGES)
    beyond: int = one_of(0, 1, 3, 5, of=IMAGES)
    cut: bool = one_of(False, True, of=(*IMAGES, RIDGE))
    penalty: float = one_of(0.1, 0.02, 0.3, of=PENALIZED)
    l2_penalty: float = one_of(0.0, 0.3, of=DICTIONARY)
    several: bool = one_of(False, True, of=(*PENALIZED, OWN))
    moved: bool = one_of(False, True, of=(RIDGE,))
    nonnegative: bool = one_of(False, False, True, of=PENALIZED)
    loss: str = one_of("lasso", "reconstruction", "function", of=DICTIONARY)
    targets: bool = one_of(False, True, of=IMAGES)
    truth: bool = one_of(False, True, of=DICTIONARY)
    derived: str = one_of("no", "no", "no", "no", "no", "derived", "apart", of=PENALIZED)
    norms: bool = one_of(False, True, of=DICTIONARY)
    unit: float = one_of(1.0, 1.0, 1.0, 2.0**-10, 2.0**13, of=PENALIZED)
    last: float = one_of(1.0, 1.0, 0.0, 10.0, of=SAMPLED)
    state: str = one_of("named", "named", "axes", "vector", *ITERATIONS, of=(OWN,))
    entries: int = one_of(30, 1, 2, 5, of=(OWN,))
    axes: int = one_of(0, 1, 2, 3, of=(OWN,))
    scattered: bool = one_of(False, False, True)
    algorithm: str = one_of("ista", "fista", *USUAL[:4], of=SAMPLED)
    step: float | None = one_of(None, None, 0.4, 0.9, 1.8, of=SAMPLED)
    rule: str = one_of("soft", *RULES, of=PENALIZED)
    restart: bool = one_of(False, True, of=SAMPLED)
    warm: float = one_of(0.0, 0.0, 0.2, 2.0)
    depth: int = one_of(12, 50, 130, 300, 500)

    @classmethod
    def drawn(cls, kind: str, seed: int, random: Generator, **fixed: str) -> Self:
        """Draw the options of a kind of problem, but for some that are fixed."""
        options: dict[str, Any] = {"kind": kind, "seed": seed} | fixed
        for each in fields(cls):
            if kind in each.metadata.get("of", ()) and each.name not in fixed:
                choices = each.metadata["choices"]
                options[each.name] = choices[random.integers(len(choices))]
        return cls(**options)

    def pairs(self) -> set[object]:
        """Return the options of this kind of problem, two by two."""
        drawn = [
            (each.name, getattr(self, each.name))
            for each in fields(self)
            if self.kind in each.metadata.get("of", ())
        ]
        return {(self.kind, *pair) for pair in combinations(drawn, 2)}

    @property
    def dataset(self) -> str:
        """The spec of the dataset; of an iteration that none makes, a word."""
        text = ITERATIONS.get(self.state, ITERATION) if self.kind == OWN else DATASETS[self.kind]
        sizes = {"size": self.kernel + self.beyond, "more": self.atoms + 1}
        stride = {"stride": min(self.stride, self.kernel - self.cut)}
        return text.format(**vars(self) | sizes | stride)

    @property
    def added(self) -> str:
        """What the spec of the dataset does not tell."""
        told = DATASETS.get(self.kind, "")
        others = (each for each in fields(self) if f"{{{each.name}}}" not in told)
        return "".join(
            f"{each.name}={value!r}, "
            for each in others
            if (value := getattr(self, each.name)) != each.default
        )

    def problem(self) -> Problem:
        """Return the problem of the dataset with what no dataset makes."""
        random = generator(self.seed, f"conformance {self.kind}")
        if self.dataset == ITERATION:
            return brought.own_iteration(self.state, self.entries, self.axes, random)
        problem = make_dataset(self.dataset).problem()
        values = self._penalties(self._data(options_of(problem), random), random)
        problem = changed(problem, **values)
        if self.truth:
            codes = torch.tensor(random.standard_normal(problem.code_shape))
            truth = {"generating_dictionary": 0.9 * values["dictionary"], "generating_codes": codes}
            problem = changed(problem, **truth)
        kind = type(problem)
        if self.derived != "no":
            kind = brought.derived(kind, self.derived == "apart")
        return kind(**options_of(problem) | in_units(problem, self.unit))

    def _data(self, values: Fields, random: Generator) -> Fields:
        """Return fields with other data."""
        if self.cut:
            # Neither images nor filters are square then, nor is the dictionary of a ridge problem.
            axes = {"observations": 1, "dictionary": 0} if self.kind == RIDGE else IMAGE_ROWS
            for name, axis in axes.items():
                if (whole := values[name]) is not None:
                    values[name] = whole.narrow(axis, 1, whole.shape[axis] - 1)
        if self.norms:
            factors = _factors(random, *values["dictionary"].shape)
            atoms = factors[:1] if self.kind == SPARSE else factors[:, :1, :1, :1]
            values["dictionary"] = atoms * values["dictionary"]
        if self.targets and values["targets"] is None:
            noise = 0.3 * random.standard_normal(values["observations"].shape)
            values["targets"] = values["observations"] + torch.tensor(noise)
        if self.kind != OWN and len(values["observations"]) > 1:
            # A sample counts for nothing, or much.
            values["observations"][-1] *= self.last
        return values

    def _penalties(self, values: Fields, random: Generator) -> Fields:
        """Return fields with other penalties and losses."""
        if self.kind in PENALIZED:
            values["nonnegative"] = self.nonnegative
        if self.kind in DICTIONARY:
            values["l2_penalty"] = self.l2_penalty
            values["loss"] = brought.own_loss if self.loss == "function" else self.loss
            values |= {"generating_dictionary": None, "generating_codes": None}
        if self.several and self.kind == SPARSE:
            atoms = values["dictionary"].shape[1]
            values["penalty"] = values["penalty"] * _factors(random, atoms)
        if self.several and self.kind == IMAGES[1]:
            values["penalty"] = values["penalty"] * _factors(random, *values["penalty"].shape)
        if self.several and self.kind == PENALTY:
            penalties = values["log_penalty"]
            values["log_penalty"] = penalties + _factors(random, *penalties.shape).log()
        if self.moved:
            values["theta"] = torch.tensor(0.1, dtype=torch.float64)
        return values

    def algorithm_on(self, problem: Problem, initial: Tensor) -> Algorithm:
        """Return the algorithm, whose numbers are in proportion to a problem, and its warm start to
        some codes.
        """
        curvature = problem.lipschitz_constant if self.kind != OWN else 1.0
        penalty = float(torch.as_tensor(getattr(problem, "penalty", 1.0)).mean())
        cls = ALGORITHMS["iteration" if self.kind == OWN else self.algorithm]
        options = Fields()
        if self.algorithm == "noodl":
            options = self._of_noodl(penalty, curvature)
        elif self.kind != OWN and self.algorithm in USUAL:
            # Beyond 1/L neither acceleration nor hard thresholding need converge.
            farther = self.algorithm in ("ista", "relaxed") and "hard" not in self.rule
            step = self.step and min(self.step, 1.9 if farther else 1.0) / curvature
            rule = self.rule.format(penalty * (step or 1 / curvature))
            options = {"step": step, "thresholding": RULES.get(rule) or rule}
            options |= {"restart": self.restart} if issubclass(cls, Fista) else {}
        if self.warm and self.algorithm != "noodl":
            options["initial"] = self.warm * initial
        return cls(**options)

    def _of_noodl(self, penalty: float, curvature: float) -> Fields:
        """Draw up to three updates that have a step or a threshold of their own."""
        random = generator(self.seed, "conformance noodl")
        last, *cutoffs = random.uniform(0.5, 2, random.integers(1, 4)) * penalty / curvature
        steps = random.uniform(0.2, 1, random.integers(0, 4)) / curvature
        return {
            "step": self.step and min(self.step, 1.0) / curvature,
            "thresholding": Hard(float(last)),
            "lower_bound": penalty * random.uniform(0.3, 2),
            "steps": tuple(steps.tolist()),
            "thresholds": tuple(map(float, cutoffs)),
        }


@dataclass(frozen=True, eq=False)
class Specimen:
    """A problem and an algorithm to check an estimator on.

    Attributes
    ----------
    problem, loss, algorithm : str
        What tables call them.
    made : callable
        Makes the problem.
    algorithm_on : callable
        Makes the algorithm, for a problem and the codes of a warm start.
    options : Options or None
        What was drawn; of no kind if nothing was.
    """

    problem: str
    loss: str
    algorithm: str
    made: Callable[[], Problem]
    algorithm_on: Callable[[Problem, Tensor], Algorithm]
    options: Options = Options("", 0)

    @property
    def drawn(self) -> bool:
        """Tell whether its options are drawn."""
        return self.options.kind != ""

    @property
    def names(self) -> tuple[str, str, str]:
        """The names of problem, loss and algorithm."""
        return self.problem, self.loss, self.algorithm

    def __str__(self) -> str:
        """Return the names, and what was drawn."""
        names = " / ".join(self.names)
        if not self.drawn:
            return names
        algorithm = text(self.make_algorithm())
        return f"{names}: {self.options.dataset}, {self.options.added}{algorithm}"

    def of(self, problem: Problem) -> Self:
        """Return a specimen with another problem."""
        return replace(self, made=lambda: problem)

    @cached_property
    def original(self) -> Problem:
        """The problem, which nobody but `make` is given."""
        return self.made()

    @cached_property
    def initial(self) -> Tensor:
        """Codes that a warm start begins with."""
        random = generator(0, f"conformance warm start {self.problem}")
        return torch.tensor(random.standard_normal(self.original.code_shape))

    def make(
        self, dtype: torch.dtype = torch.float64, device: str = "cpu", **changes: object
    ) -> Problem:
        """Return a copy of the problem, of a dtype and on a device, perhaps with other fields."""
        return self._copied(self.original, dtype, device, changes)

    def make_algorithm(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Algorithm:
        """Return a copy of the algorithm, of a dtype and on a device."""
        return self._copied(self.algorithm_on(self.original, self.initial), dtype, device, {})

    def _copied(self, owner: Owner, dtype: torch.dtype, device: str, changes: Fields) -> Owner:
        """Return a problem or an algorithm with new tensors, which no estimator can spoil for the
        next call.
        """

        def new(tensor: Tensor) -> Tensor:
            tensor = tensor.to(device, dtype, copy=True)
            if not self.options.scattered or tensor.ndim < 2:
                return tensor
            # A part of a larger tensor, or one that lies in memory by columns.
            columns = tensor.mT.contiguous()
            return (torch.stack([columns, columns], -1)[..., 1] if len(tensor) % 2 else columns).mT

        copies = tree_map_only(Tensor, new, options_of(owner))
        return changed(owner, **copies | changes)

    @cached_property
    def truth(self) -> Truth:
        """The codes and gradients that are right."""
        return Truth(self.make(), self.make_algorithm())

    @cached_property
    def depths(self) -> list[int]:
        """Depths in no order, one of them twice.

        For drawn specimens they are a great one, as the size of the problem permits, a very small
        one, and one of any magnitude.
        """
        if self.problem == "tiny":
            return [*range(EVERY_DEPTH + 1), *FAR]
        if not self.drawn:
            return [SHALLOW[1], 0, *SHALLOW]
        random = generator(0, f"conformance depths {self.problem}")
        shape = getattr(self.original, "observations", torch.zeros(1, 1)).shape
        work = math.prod(self.original.code_shape) * math.prod(shape[1:])
        great = min(self.options.depth, max(WORK // work, SHALLOW[1]))
        depths = [great, int(random.integers(0, 3)), int(great ** random.random())]
        return [*depths, depths[random.integers(3)]]

    @property
    def small(self) -> bool:
        """Tell whether there are few entries in codes or theta."""
        return math.prod(self.original.code_shape) * self.original.theta.numel() <= MOST

    @cached_property
    def few(self) -> bool:
        """Tell whether theta has few entries, and no rule jumps: what differences can find."""
        theta, algorithm = self.original.theta, self.make_algorithm()
        jumps = isinstance(algorithm.thresholding, Hard)
        return theta.numel() <= FEW and algorithm.differentiable and not jumps


@cache
def named(problem: str, loss: str, algorithm: str = "ista") -> Specimen:
    """Return the specimen of a named problem, one of its losses and a named algorithm."""
    dataset, made = Spec[Dataset]("datasets", NAMED[problem]), make_algorithm(algorithm)
    return Specimen(problem, loss, algorithm, lambda: dataset.made.problem(loss), lambda *_: made)


def specimens(*problems: str, algorithms: Sequence[str] = ("ista",)) -> tuple[Specimen, ...]:
    """Return the named problems, or all but those for great depth and many samples, with each of
    their losses and each of the algorithms.
    """
    return tuple(
        named(problem, loss, algorithm)
        for problem in problems or [*NAMED][:-2]
        for loss in make_dataset(NAMED[problem]).losses
        for algorithm in algorithms
    )


def _drawn() -> Iterator[Specimen]:
    """Yield of a few draws the one that brings the most pairs of options not met before: mistakes
    often need two.
    """
    met: set[object] = set()
    turns = [(kind, {}) for kind in KINDS * ROUNDS]
    turns += [(SPARSE, {"algorithm": name, "derived": "no"}) for name in OTHERS * OTHER_DRAWS]
    for index, (kind, fixed) in enumerate(turns):
        draws = [
            Options.drawn(kind, index, generator(index, f"conformance draw {trial}"), **fixed)
            for trial in range(TRIALS)
        ]
        best = max(draws, key=lambda each: len(each.pairs() - met))
        met |= best.pairs()
        loss = LOSSES.get(kind, best.loss)
        yield Specimen(f"{kind} #{index}", loss, f"#{index}", best.problem, best.algorithm_on, best)


#: Algorithms by name, those of users among them, and those that take options of their own or none.
ALGORITHMS: dict[str, type[Algorithm]] = brought.ALGORITHMS | entries("algorithms")
OTHERS = ["solver", *(name for name in ALGORITHMS if name not in (*USUAL, "iteration"))]
PLAIN = "ista", "fista"
#: Every problem, loss and plain algorithm.
GRID = specimens(algorithms=PLAIN)
DRAWN = tuple(_drawn())
