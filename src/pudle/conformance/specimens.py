"""Specimens: problems with an algorithm to check estimators on, each with its closed form.

The named ones are small, regular and made by datasets. The drawn ones vary all options, sizes and
depths that the classes of problems and algorithms can have, as their `specimen` methods draw them:
an estimator that is wrong only for one sample, for long windows or for several channels is right on
any short list of examples. Users may bring a loss, a thresholding rule and an algorithm with memory
of their own, and so do draws. They are the same in every run, because their streams are named.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache, cached_property
from itertools import combinations
from typing import Any

import numpy as np
import torch
from torch.utils._pytree import tree_map_only

from .. import problems
from ..algorithms import Algorithm, Fista, Ista, Iteration, State
from ..names import entries, make_algorithm, make_dataset
from ..streams import generator
from .closed_forms import ClosedForm, Squeeze, Steps, derived, own_losses
from .explanations import EVERY, FAR, SHALLOW

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
}

#: Greatest depth, and what it is lowered to keep: the multiplications of a forward pass, and the
#: layers of a method that runs one pass for every entry of theta.
DEEPEST, WORK, LAYERS = 500, 2_000_000, 1_200


def options_of(owner: Any) -> dict[str, Any]:
    """Return the fields of a problem or an algorithm."""
    return {field.name: getattr(owner, field.name) for field in fields(owner)}


def tensors_of(owner: Any) -> dict[str, torch.Tensor]:
    """Return the tensors in the fields of a problem or an algorithm."""
    values = dict(vars(owner))
    for parts in vars(owner).values():
        values |= parts if isinstance(parts, dict) else {}
    return {name: each for name, each in values.items() if isinstance(each, torch.Tensor)}


@dataclass(frozen=True, eq=False)
class Specimen:
    """A problem and an algorithm to check an estimator on.

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
    scattered : bool
        Whether each tensor is a part of a larger one, or lies in memory by columns: no estimator
        may rely on what lies where.
    """

    problem: str
    loss: str
    algorithm: str
    original: Any
    algorithm_for: Callable[[Any, torch.Tensor], Any]
    drawn: bool = False
    scattered: bool = False

    @property
    def names(self) -> tuple[str, str, str]:
        """The names of problem, loss and algorithm."""
        return self.problem, self.loss, self.algorithm

    def __str__(self) -> str:
        """Return the names, and for a drawn specimen shapes and options."""
        detail = f": {self.original}, {self.make_algorithm()}" if self.drawn else ""
        return " / ".join(self.names) + detail

    @cached_property
    def initial(self) -> torch.Tensor:
        """Codes that a warm start begins with."""
        random = generator(0, f"conformance warm start {self.problem}")
        return torch.tensor(random.standard_normal(self.original.code_shape))

    def make(self, *dtype: Any, **changes: Any) -> Any:
        """Return a copy of the problem, of a dtype and on a device, perhaps with other fields."""
        return self._copied(self.original, *dtype, **changes)

    def make_algorithm(self, *dtype: Any) -> Any:
        """Return a copy of the algorithm, of a dtype and on a device."""
        return self._copied(self.algorithm_for(self.original, self.initial), *dtype)

    def _copied(
        self, owner: Any, dtype: torch.dtype = torch.float64, device: str = "cpu", **changes: Any
    ) -> Any:
        """Return a problem or an algorithm with new tensors, which no estimator can spoil for the
        next call.
        """

        def new(tensor: torch.Tensor) -> torch.Tensor:
            tensor = tensor.to(device, dtype, copy=True)
            if not self.scattered or tensor.ndim < 2:
                return tensor
            columns = tensor.mT.contiguous()
            return (torch.stack([columns, columns], -1)[..., 1] if len(tensor) % 2 else columns).mT

        return replace(owner, **tree_map_only(torch.Tensor, new, options_of(owner)) | changes)

    @cached_property
    def form(self) -> Any:
        """The same problem and algorithm in numpy."""
        problem, directions = self.make(), None
        if self.drawn:
            random = generator(0, f"conformance directions {self.problem}")
            directions = random.standard_normal((2, problem.theta.numel()))
            directions /= np.linalg.norm(directions, axis=1, keepdims=True)
            directions = directions.reshape(2, *problem.theta.shape)
        form = Steps if isinstance(problem, problems.FixedPoint) else ClosedForm
        return form(problem, self.make_algorithm(), directions)

    @cached_property
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
        largest = int(np.clip(min(WORK // form.work, LAYERS // form.theta.size), 12, DEEPEST))
        great, small = largest ** random.uniform(0.6, 1), random.integers(0, 3)
        depths = [*map(int, (great, small, largest ** random.random()))]
        return [*depths, int(random.choice(depths))]


@cache
def named(problem: str, loss: str, algorithm: str = "ista") -> Specimen:
    """Return the specimen of a named problem, one of its losses and a named algorithm."""
    original = make_dataset(NAMED[problem]).problem(loss)
    return Specimen(problem, loss, algorithm, original, lambda *_: make_algorithm(algorithm))


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


PLAIN = ("ista", "fista")
#: Every problem, loss and plain algorithm.
GRID = specimens(algorithms=PLAIN)

# --- the drawn specimens

#: Entries of the codes for each of theta that small ones have at most.
MOST = 20_000
#: Number of draws, of those of each other algorithm, and of those that one is chosen from.
DRAWS, OWN_DRAWS, TRIALS = 135, 5, 12
DENSE = ("sparse coding", problems.SparseCoding)
OTHERS = (
    ("convolutional", problems.ConvolutionalSparseCoding),
    ("learned penalties", problems.ThresholdedConvolutionalSparseCoding),
    ("penalty", problems.PenaltySelection),
    ("ridge", problems.Ridge),
    ("iterations", problems.FixedPoint),
)


@dataclass(frozen=True, eq=False)
class _Moving(State):
    previous: Any = None
    latest: Any = None


class HeavyBall(Fista):
    """An algorithm as users write it: its layers read nothing but a memory beside the codes."""

    name = "heavy_ball"

    def step_size(self, problem: Any) -> float:
        return self.step or 0.7 * super().step_size(problem)

    def start(self, problem: Any, initial: torch.Tensor | None = None) -> State:
        codes = super().start(problem, initial).codes
        return _Moving(codes, codes, previous=codes, latest=codes)

    def advance(self, problem: Any, state: Any, step: float) -> State:
        latest, iteration = state.latest, state.iteration
        inertia = 0.5 * (latest - state.previous)
        moved = latest - step * problem.smooth_gradient(latest) + inertia
        codes = problem.prox(moved, step, self.thresholding, iteration)
        return _Moving(codes, codes, iteration=iteration + 1, previous=latest, latest=codes)


class Relaxed(Ista):
    """One without a memory, whose layers are not the plain ones."""

    name = "relaxed"

    def advance(self, problem: Any, state: State, step: float) -> State:
        codes = 0.8 * super().advance(problem, state, step).codes + 0.2 * state.codes
        return State(codes, codes, iteration=state.iteration + 1)


class Solver(HeavyBall):
    """One whose layers the user has written without derivatives."""

    name = "solver"
    differentiable = False


USUAL = (Ista, Fista, HeavyBall, Relaxed)


#: A weight of a network that is trained beside.
OUTSIDE = torch.ones((), requires_grad=True)


def own_loss(codes: torch.Tensor, theta: torch.Tensor) -> torch.Tensor:
    """Return a loss as users write it."""
    return OUTSIDE * own_losses(codes, theta).mean()


def _draw(index: int, trial: int, name: str, problem_class: Any, algorithm: Any = None) -> Specimen:
    random = generator(index, f"conformance draw {trial}")
    problem = problem_class.specimen(random)
    if random.random() < 0.12 and hasattr(problem, "penalty"):
        # Some algorithms know their own kinds alone.
        apart = not algorithm and random.random() < 0.5
        problem = derived(problem_class, apart)(**options_of(problem))
    scattered = random.random() < 0.35
    losses: Any = ("lasso", "reconstruction", own_loss)
    if getattr(problem, "loss", "") in losses:
        problem = replace(problem, loss=losses[random.choice(3, p=[0.35, 0.35, 0.3])])
    if problem.default_algorithm == "iteration":
        algorithm = Iteration
    elif algorithm is None:
        algorithm = USUAL[random.choice(4, p=[0.35, 0.35, 0.15, 0.15])]
    own_rule = random.random() < 0.25 and hasattr(problem, "penalty") and algorithm in USUAL

    def make(problem: Any, initial: torch.Tensor) -> Any:
        drawn = algorithm.specimen(copy.deepcopy(random), problem, initial)
        return replace(drawn, thresholding=Squeeze()) if own_rule else drawn

    loss = getattr(problem, "loss", "linear")
    loss = "function" if callable(loss) else loss
    return Specimen(f"{name} #{index}", loss, f"#{index}", problem, make, True, scattered)


#: All kinds by turns, those with the most options more often.
TURNS = [*OTHERS, DENSE, *OTHERS[:3], DENSE, *OTHERS[:2], DENSE, DENSE]
#: Other algorithms that bring a specimen.
ALGORITHMS = [
    cls
    for cls in (HeavyBall, Solver, *entries("algorithms").values())
    if cls not in (Ista, Fista, Iteration)
    and cls.specimen.__qualname__ != Algorithm.specimen.__qualname__
]


def _pairs(specimen: Specimen) -> set[Any]:
    """Return the kinds of values that fields have, two by two."""
    owner, algorithm = specimen.original, specimen.make_algorithm()
    values = {"": type(owner), "class": type(algorithm), "scattered": specimen.scattered}
    for each in (owner, algorithm, algorithm.thresholding):
        values |= options_of(each)
    kind = specimen.problem.partition("#")[0]
    return set(combinations([f"{kind}{name} {_kind(value)}" for name, value in values.items()], 2))


def _kind(value: Any) -> Any:
    """Return what kind of option a value is, or of a tensor whether its first axis is long."""
    if isinstance(value, torch.Tensor):
        value = len(value) if value.ndim else 0
    if isinstance(value, int | float):
        return math.ceil(min(value, 2)) + (value > 64)
    return value if isinstance(value, str) else getattr(value, "__name__", type(value).__name__)


def _drawn() -> Iterator[Specimen]:
    """Yield of a few draws the one that brings the most pairs of options not met before: mistakes
    often need two.
    """
    turns = [TURNS[index % len(TURNS)] for index in range(DRAWS)]
    met: set[Any] = set()
    for index, turn in enumerate(turns + [(*DENSE, cls) for cls in OWN_DRAWS * ALGORITHMS]):
        draws = [_draw(index, trial, *turn) for trial in range(TRIALS)]
        best = max(draws, key=lambda each: len(_pairs(each) - met))
        met |= _pairs(best)
        yield best


DRAWN = tuple(_drawn())
#: Those with few entries in their codes or theta, and half of these with samples of their own.
SMALL = tuple(
    each
    for each in DRAWN
    if np.prod(each.original.code_shape) * each.original.theta.numel() <= MOST
)
#: A few of them, of all kinds that take a warm start.
FEW = tuple(each for each in SMALL if "Noodl" not in str(each))[2::7]
#: Those whose theta has so few entries that whole gradients are known, but for rules that jump.
WHOLE = tuple(
    replace(each, drawn=False)
    for each in SMALL
    if each.original.theta.numel() <= 24
    and each.make_algorithm().differentiable
    and "Hard" not in str(each)
)
SAMPLED = tuple(each for each in SMALL if each.original.per_sample)[::2]
