"""Specimens: problems with an algorithm to check estimators on, each with its closed form.

The named ones are small, regular and made by datasets. The drawn ones vary all options, sizes and
depths that the classes of problems and algorithms can have, as their `specimen` methods draw them:
an estimator that is wrong only for one sample, for long windows or for several channels is right on
any short list of examples. Draws are the same in every run, because their streams are named.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..algorithms import Algorithm, Fista, Ista, Iteration
from ..algorithms.thresholding import Decaying, Hard
from ..estimator import Estimate, GradientEstimator
from ..names import entries, make_dataset
from ..problems import (
    ConvolutionalSparseCoding,
    FixedPoint,
    PenaltySelection,
    Problem,
    Ridge,
    SparseCoding,
    ThresholdedConvolutionalSparseCoding,
)
from ..streams import generator
from .closed_forms import FORMS, Array
from .tolerances import EVERY, FAR, SHALLOW

#: Makes an algorithm for a problem, with codes to start from.
Maker = Callable[[Any, torch.Tensor], Algorithm]

ALGORITHMS: dict[str, Maker] = {
    "ista": lambda problem, initial: Ista(),
    "fista": lambda problem, initial: Fista(),
    "fista(restart)": lambda problem, initial: Fista(restart=True),
    "ista(step=1.5/L)": lambda problem, initial: Ista(1.5 / problem.lipschitz_constant),
    "ista(step=0.02/L)": lambda problem, initial: Ista(0.02 / problem.lipschitz_constant),
    "ista(decaying)": lambda problem, initial: Ista(thresholding=Decaying(decay=0.95)),
    "ista(hard)": lambda problem, initial: Ista(thresholding=Hard()),
    "warm start": lambda problem, initial: Ista(initial=initial),
}

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
        " perturbation=0.05, l2_penalty=0.1)"
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
}


def tensors_of(owner: Any) -> dict[str, torch.Tensor]:
    """Return the fields of a problem or an algorithm that hold tensors."""
    values = {field.name: getattr(owner, field.name) for field in dataclasses.fields(owner)}
    return {name: each for name, each in values.items() if isinstance(each, torch.Tensor)}


@dataclass(frozen=True, eq=False)
class Specimen:
    """A problem and an algorithm to check an estimator on; expected gradients are computed once.

    Attributes
    ----------
    problem, loss, algorithm : str
        What tables call them.
    original : Problem
    algorithm_for : callable
        Makes the algorithm, for a problem and the codes of a warm start.
    drawn : bool
        Whether it is drawn: then gradients are compared along two random directions, because all
        directions of a large problem take long.
    """

    problem: str
    loss: str
    algorithm: str
    original: Problem
    algorithm_for: Maker
    drawn: bool = False

    @property
    def names(self) -> tuple[str, str, str]:
        """The names of problem, loss and algorithm."""
        return self.problem, self.loss, self.algorithm

    def __str__(self) -> str:
        """Return the names, and for a drawn specimen shapes and options."""
        detail = f": {self.original}, {self.make_algorithm()}" if self.drawn else ""
        return " / ".join(self.names) + detail

    def make(
        self, dtype: torch.dtype = torch.float64, device: str = "cpu", **changes: Any
    ) -> Problem:
        """Return the problem with new tensors, which no estimator can spoil for the next call."""
        tensors = {
            name: tensor.to(device, dtype, copy=True)
            for name, tensor in tensors_of(self.original).items()
        }
        return dataclasses.replace(self.original, **tensors | changes)  # type: ignore[type-var]

    @functools.cached_property
    def initial(self) -> torch.Tensor:
        """Codes that a warm start begins with."""
        random = generator(0, f"conformance warm start {self.problem}")
        return torch.tensor(random.standard_normal(self.original.code_shape))

    def make_algorithm(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Algorithm:
        """Return the algorithm with new tensors."""
        algorithm = self.algorithm_for(self.original, self.initial)
        start = algorithm.initial
        start = None if start is None else start.to(device, dtype, copy=True)
        return dataclasses.replace(algorithm, initial=start)

    def estimate(
        self,
        estimator: GradientEstimator,
        depth: int,
        dtype: torch.dtype = torch.float64,
        **changes: Any,
    ) -> Estimate:
        """Return an estimate for the problem, perhaps with some of its fields changed."""
        return estimator.estimate(self.make(dtype, **changes), self.make_algorithm(dtype), depth)

    def sweep(self, estimator: GradientEstimator, depths: Iterable[int]) -> list[Estimate]:
        """Return the estimates of a sweep."""
        return list(estimator.sweep(self.make(), self.make_algorithm(), list(depths)))

    @functools.cached_property
    def form(self) -> Any:
        """The same problem and algorithm in numpy."""
        problem = self.make()
        return FORMS[type(problem)](problem, self.make_algorithm())

    @functools.cached_property
    def depths(self) -> list[int]:
        """Depths in no order, one of them twice.

        For drawn specimens they are a great one, as the size of the problem permits, a very small
        one, and one of any magnitude.
        """
        if self.problem == "tiny":
            return [*range(EVERY + 1), *FAR]
        if not self.drawn:
            return [SHALLOW[1], 0, *SHALLOW]
        form, random = self.form, generator(0, f"conformance depths {self.problem}")
        work = form.observations.size * form.parts(form.theta)[0].shape[1]
        largest = int(np.clip(min(WORK // work, LAYERS // form.theta.size), 12, DEEPEST))
        great, small = largest ** random.uniform(0.6, 1), random.integers(0, 3)
        depths = [int(great), int(small), int(largest ** random.random())]
        return [*depths, int(random.choice(depths))]

    @functools.cached_property
    def directions(self) -> Array:
        """Directions along which gradients are compared, flat: two random ones of unit norm, or all
        axes.
        """
        size = self.form.theta.size
        if not self.drawn:
            return np.eye(size)
        random = generator(0, f"conformance directions {self.problem}")
        drawn = random.standard_normal((2, size))
        return drawn / np.linalg.norm(drawn, axis=1, keepdims=True)

    @functools.cache  # noqa: B019  # specimens are few, and live as long as the process
    def along_directions(self, claim: str, depth: int, window: int | None = None) -> Array:
        """Return the products of an exact gradient with the directions.

        The claim is ``implicit``, or any other for the derivative through the last `window` of
        `depth` layers, or through all; a window of 0 leaves the direct part.
        """
        options = () if claim == "implicit" else (window,)
        gradient = self.form.implicit if claim == "implicit" else self.form.unrolled
        shape = self.form.theta.shape
        return np.array(
            [gradient(depth, *options, each.reshape(shape)) for each in self.directions]
        )

    def unrolled(self, depth: int, window: int | None = None) -> Array:
        """Return the derivative through the last `window` layers of a named specimen, or through
        all.
        """
        return self.along_directions("unrolled", depth, window).reshape(self.form.theta.shape)

    def implicit(self, depth: int) -> Array:
        """Return the implicit gradient at the codes of a named specimen."""
        return self.along_directions("implicit", depth).reshape(self.form.theta.shape)


@functools.cache
def named(problem: str, loss: str, algorithm: str = "ista") -> Specimen:
    """Return the specimen of a named problem, one of its losses and a named algorithm."""
    original = make_dataset(NAMED[problem]).problem(loss)
    return Specimen(problem, loss, algorithm, original, ALGORITHMS[algorithm])


def specimens(*problems: str, algorithms: Sequence[str] = ("ista",)) -> tuple[Specimen, ...]:
    """Return the named problems, or all but the tiny one, with each of their losses and each of the
    algorithms.
    """
    return tuple(
        named(problem, loss, algorithm)
        for problem in problems or [name for name in NAMED if name != "tiny"]
        for loss in make_dataset(NAMED[problem]).losses
        for algorithm in algorithms
    )


def _iterations() -> Specimen:
    """Make steps ``tanh(A (theta z) + b)`` of three samples, whose Jacobian is not symmetric: A has
    the norm 0.7 and complex eigenvalues.
    """
    random = generator(0, "conformance iterations")
    matrix = torch.tensor(0.7 * np.linalg.qr(random.standard_normal((4, 4)))[0])
    offsets = torch.tensor(random.standard_normal((3, 4)))

    def step(codes: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        return torch.tanh((theta * codes) @ matrix.to(theta).T + offsets.to(theta))

    def cubes(codes: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
        return (codes**3).sum() / 3 + 0.1 * (theta**2).sum()

    theta = torch.tensor(random.uniform(0.7, 1.0, 4))
    problem = FixedPoint(theta, step, cubes, torch.zeros_like(offsets))
    return Specimen("iterations", "cubes", "iteration", problem, lambda *_: Iteration())


PLAIN = ("ista", "fista")
#: Every problem, loss and plain algorithm.
GRID = specimens(algorithms=PLAIN)
#: The same, the other algorithms on one problem, and an iteration of its own.
VARIED = (*GRID, *specimens("sparse coding", algorithms=list(ALGORITHMS)[2:]), _iterations())

# --- the drawn specimens

#: Number of draws, and of those for each other algorithm.
DRAWS, OWN_DRAWS = 96, 4
#: Greatest depth, and what it is lowered to keep: the multiplications of a forward pass, and the
#: layers of a method that runs one pass for every entry of theta.
DEEPEST, WORK, LAYERS = 500, 2_000_000, 8_000
#: The problems by turns: half of them dense.
_TURNS: tuple[tuple[str, type[Problem]], ...] = (
    ("sparse coding", SparseCoding),
    ("convolutional", ConvolutionalSparseCoding),
    ("sparse coding", SparseCoding),
    ("penalty", PenaltySelection),
    ("sparse coding", SparseCoding),
    ("ridge", Ridge),
    ("sparse coding", SparseCoding),
    ("learned penalties", ThresholdedConvolutionalSparseCoding),
)


def _draw(index: int, algorithm: type[Algorithm] | None = None) -> Specimen:
    random = generator(index, "conformance draw")
    name, cls = _TURNS[index % len(_TURNS)]
    problem: Any = cls.specimen(random)
    changes: dict[str, Any] = {}
    if random.random() < 0.3:
        # An estimator may not rely on how tensors lie in memory.
        changes = {
            name: torch.from_numpy(np.array(each.numpy(), order="F"))
            for name, each in tensors_of(problem).items()
        }
    losses = ("lasso", "reconstruction")
    if getattr(problem, "loss", "") in losses:
        changes["loss"] = str(random.choice(losses))
    problem = dataclasses.replace(problem, **changes)
    if algorithm is None:
        algorithm = Fista if random.random() < 0.5 else Ista

    def make(problem: Problem, initial: torch.Tensor) -> Algorithm:
        return algorithm.specimen(copy.deepcopy(random), problem, initial)

    loss = getattr(problem, "loss", "linear")
    return Specimen(f"{name} #{index}", loss, f"#{index}", problem, make, drawn=True)


#: NOODL and any other algorithm that brings a specimen run on dense problems, those of even turns.
OTHERS = [
    cls
    for cls in entries("algorithms").values()
    if cls not in (Ista, Fista, Iteration)
    and any("specimen" in vars(base) for base in cls.__mro__ if base is not Algorithm)
]
DRAWN = (
    *map(_draw, range(DRAWS)),
    *(
        _draw(DRAWS + 2 * index, cls)
        for start, cls in enumerate(OTHERS)
        for index in range(start * OWN_DRAWS, (start + 1) * OWN_DRAWS)
    ),
)
#: A few draws of all kinds, because 7 and the number of turns have no common factor.
FEW = DRAWN[:DRAWS:7]
SMALL = tuple(
    each
    for each in DRAWN
    if each.original.observations.numel() <= 200  # type: ignore[attr-defined]
)
