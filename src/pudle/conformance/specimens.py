"""Specimens: problems with an algorithm to check estimators on, each with its closed form.

The named ones are small, regular and made by datasets. The drawn ones vary all options, sizes and
depths that the classes of problems and algorithms can have, as their `specimen` methods draw them:
an estimator that is wrong only for one sample, for long windows or for several channels is right on
any short list of examples. Draws are the same in every run, because their streams are named.
"""

import copy
import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from .. import problems
from ..algorithms import Algorithm, Fista, Ista, Iteration
from ..names import entries, make_algorithm, make_dataset
from ..streams import generator
from .closed_forms import FORMS, ClosedForm, Steps
from .tolerances import EVERY, FAR, SHALLOW

#: Makes an algorithm for a problem, with codes to start from.
Maker = Callable[[Any, torch.Tensor], Any]

#: The algorithms beside ISTA and FISTA: specs, multiples of the step 1/L, and a warm start.
OTHER_ALGORITHMS = (
    "fista(restart=True)",
    "ista(step=1.5/L)",
    "ista(step=0.02/L)",
    "ista(thresholding='decaying(decay=0.95)')",
    "ista(thresholding='hard')",
    "warm start",
)

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

#: Greatest depth, and what it is lowered to keep: the multiplications of a forward pass, and the
#: layers of a method that runs one pass for every entry of theta.
DEEPEST, WORK, LAYERS = 500, 2_000_000, 8_000


def tensors_of(owner: Any) -> dict[str, torch.Tensor]:
    """Return the fields of a problem or an algorithm that hold tensors."""
    values = {field.name: getattr(owner, field.name) for field in dataclasses.fields(owner)}
    return {name: each for name, each in values.items() if isinstance(each, torch.Tensor)}


def copied(
    owner: Any, dtype: torch.dtype = torch.float64, device: str = "cpu", **changes: Any
) -> Any:
    """Return a problem or an algorithm with new tensors, which no estimator can spoil for the next
    call.
    """
    tensors = {name: each.to(device, dtype, copy=True) for name, each in tensors_of(owner).items()}
    return dataclasses.replace(owner, **tensors | changes)


@dataclasses.dataclass(frozen=True, eq=False)
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
    """

    problem: str
    loss: str
    algorithm: str
    original: Any
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

    @functools.cached_property
    def initial(self) -> torch.Tensor:
        """Codes that a warm start begins with."""
        random = generator(0, f"conformance warm start {self.problem}")
        return torch.tensor(random.standard_normal(self.original.code_shape))

    def make(self, *dtype: Any, **changes: Any) -> Any:
        """Return a copy of the problem, of a dtype and on a device, perhaps with other fields."""
        return copied(self.original, *dtype, **changes)

    def make_algorithm(self, *dtype: Any) -> Any:
        """Return a copy of the algorithm, of a dtype and on a device."""
        return copied(self.algorithm_for(self.original, self.initial), *dtype)

    @functools.cached_property
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
        work = form.observations.size * len(form.eigenvalues)
        largest = int(np.clip(min(WORK // work, LAYERS // form.theta.size), 12, DEEPEST))
        great, small = largest ** random.uniform(0.6, 1), random.integers(0, 3)
        depths = [int(great), int(small), int(largest ** random.random())]
        return [*depths, int(random.choice(depths))]


@functools.cache
def named(problem: str, loss: str, algorithm: str = "ista") -> Specimen:
    """Return the specimen of a named problem, one of its losses and a named algorithm."""

    def make(problem: Any, initial: torch.Tensor) -> Any:
        if algorithm == "warm start":
            return Ista(initial=initial)
        if algorithm.endswith("/L)"):
            share = float(algorithm.removeprefix("ista(step=").removesuffix("/L)"))
            return Ista(share / problem.lipschitz_constant)
        return make_algorithm(algorithm)

    return Specimen(problem, loss, algorithm, make_dataset(NAMED[problem]).problem(loss), make)


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
    problem = problems.FixedPoint(theta, step, cubes, torch.zeros_like(offsets))
    return Specimen("iterations", "cubes", "iteration", problem, lambda *_: Iteration())


PLAIN = ("ista", "fista")
#: Every problem, loss and plain algorithm.
GRID = specimens(algorithms=PLAIN)
#: The same, the other algorithms on one problem, and an iteration of its own.
VARIED = (*GRID, *specimens("sparse coding", algorithms=OTHER_ALGORITHMS), _iterations())

# --- the drawn specimens

#: Number of draws, and of those of each class that came later.
DRAWS, OWN_DRAWS = 96, 4
DENSE = ("sparse coding", problems.SparseCoding)
OTHERS = (
    ("convolutional", problems.ConvolutionalSparseCoding),
    ("penalty", problems.PenaltySelection),
    ("ridge", problems.Ridge),
    ("learned penalties", problems.ThresholdedConvolutionalSparseCoding),
)


def _draw(index: int, name: str, problem_class: Any, algorithm: Any = None) -> Specimen:
    random = generator(index, "conformance draw")
    problem = problem_class.specimen(random)
    changes: dict[str, Any] = {}
    if random.random() < 0.3:
        # An estimator may not rely on how tensors lie in memory.
        changes = {
            field: torch.from_numpy(np.array(each.numpy(), order="F"))
            for field, each in tensors_of(problem).items()
        }
    loss, losses = getattr(problem, "loss", "linear"), ("lasso", "reconstruction")
    if loss in losses:
        changes["loss"] = loss = str(random.choice(losses))
    problem = dataclasses.replace(problem, **changes)
    if algorithm is None:
        algorithm = Fista if random.random() < 0.5 else Ista

    def make(problem: Any, initial: torch.Tensor) -> Any:
        return algorithm.specimen(copy.deepcopy(random), problem, initial)

    return Specimen(f"{name} #{index}", loss, f"#{index}", problem, make, drawn=True)


def _drawn() -> Iterator[Specimen]:
    """Yield draws of all kinds by turns, half of them dense, and then those of every other
    registered class: algorithms that bring a specimen, on dense problems, and problems.
    """
    turns = [turn for other in OTHERS for turn in (DENSE, other)]
    for index in range(DRAWS):
        yield _draw(index, *turns[index % len(turns)])
    new: list[Any] = [
        (*DENSE, cls)
        for cls in entries("algorithms").values()
        if cls not in (Ista, Fista) and cls.specimen.__qualname__ != Algorithm.specimen.__qualname__
    ]
    new += [
        (name, cls)
        for name, cls in entries("problems").items()
        if cls in FORMS and cls not in dict(turns).values()
    ]
    for index in range(len(new) * OWN_DRAWS):
        yield _draw(DRAWS + 2 * index, *new[index // OWN_DRAWS])


DRAWN = tuple(_drawn())
#: A few draws of all kinds, because 7 and the number of turns have no common factor.
FEW = DRAWN[:DRAWS:7]
SMALL = tuple(each for each in DRAWN if each.original.observations.numel() <= 200)
