"""Small problems of every kind, each beside an independent model of it in numpy: what conformance is checked on."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from ..algorithms import Algorithm, Fista, Ista
from ..algorithms.thresholding import Decaying
from ..problems import Problem, Ridge, SparseCoding
from ..problems.convolutional import ConvolutionalSparseCoding
from ..problems.penalty_selection import PenaltySelection
from ..streams import generator
from .oracles import Array, Layers, Model

LOSSES = ("lasso", "reconstruction")
DECAY = 0.95


@dataclass(frozen=True)
class Setting:
    """A problem and an algorithm to check an estimator on; equal settings share their models.

    Attributes
    ----------
    problem : str
        A key of `KINDS`.
    loss : str
        One of the losses that kind has.
    algorithm : str
        A key of `ALGORITHMS`.
    """

    problem: str
    loss: str
    algorithm: str = "ista"

    def __str__(self) -> str:
        return f"{self.problem} / {self.loss} / {self.algorithm}"

    def make(self, dtype: torch.dtype = torch.float64, device: str = "cpu", **changes: Any) -> Problem:
        """Return the problem, its tensors fresh at every call, so that no estimator can spoil it for the next."""
        kind = KINDS[self.problem]
        arrays = _arrays(self.problem)
        tensors = {name: torch.tensor(array, dtype=dtype, device=device) for name, array in arrays.items()}
        return kind.build(self.loss, tensors | changes)

    def make_algorithm(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Algorithm:
        """Return the algorithm for that problem."""
        initial = torch.tensor(self._warm_start(), dtype=dtype, device=device) if self.algorithm == "warm start" else None
        return ALGORITHMS[self.algorithm](self.model.lipschitz_constant, initial)

    @property
    def model(self) -> Model:
        """The problem again, in numpy."""
        return _model(self.problem, self.loss)

    @property
    def layers(self) -> Layers:
        """The algorithm again, in numpy."""
        curvature = self.model.lipschitz_constant
        return Layers(
            step=1.5 / curvature if self.algorithm == "ista(step=1.5/L)" else 1 / curvature,
            accelerated=self.algorithm.startswith("fista"),
            restart="restart" in self.algorithm,
            decay=DECAY if "decaying" in self.algorithm else 1.0,
            initial=self._warm_start().reshape(len(self.model.observations), -1) if self.algorithm == "warm start" else None,
        )

    def _warm_start(self) -> Array:
        shape = self.make().code_shape
        return generator(0, f"conformance warm start {self.problem}").standard_normal(shape)


#: The algorithms, made from the problem's largest curvature and a warm start.
ALGORITHMS: dict[str, Callable[[float, torch.Tensor | None], Algorithm]] = {
    "ista": lambda curvature, initial: Ista(),
    "fista": lambda curvature, initial: Fista(),
    "fista(restart)": lambda curvature, initial: Fista(restart=True),
    "ista(step=1.5/L)": lambda curvature, initial: Ista(step=1.5 / curvature),
    "ista(decaying)": lambda curvature, initial: Ista(thresholding=Decaying(decay=DECAY)),
    "warm start": lambda curvature, initial: Ista(initial=initial),
}


class Kind:
    """A family of problems: how it is drawn, built, and written in numpy."""

    losses: ClassVar[tuple[str, ...]] = LOSSES
    #: Whether the exact gradient is regular enough for errors to vanish within a few hundred layers.
    regular: ClassVar[bool] = True

    def __init__(self, name: str) -> None:
        self.name = name

    def arrays(self) -> dict[str, Array]:
        """Draw the tensors, the same at every call."""
        raise NotImplementedError

    def build(self, loss: str, tensors: dict[str, Any]) -> Problem:
        """Make the problem of those tensors."""
        raise NotImplementedError

    def model(self, loss: str) -> Model:
        """Make the numpy model of the same arrays."""
        raise NotImplementedError

    @property
    def random(self) -> np.random.Generator:
        return generator(0, f"conformance {self.name}")


class Dense(Kind):
    """Sparse codes in a dense dictionary, a little off the generating one.

    The numbers of samples, rows and atoms differ from each other, so that a wrong factor or axis shows; but for the kind
    whose dictionary is square, where a transposed gradient has the right shape.
    """

    def __init__(
        self, name: str, n: int = 17, m: int = 8, p: int = 12, nonnegative: bool = False, l2_penalty: float = 0.0
    ) -> None:
        super().__init__(name)
        self.n, self.m, self.p = n, m, p
        self.options: dict[str, Any] = {"penalty": 0.2, "nonnegative": nonnegative, "l2_penalty": l2_penalty}

    @property
    def regular(self) -> bool:  # type: ignore[override]  # a fact of the shape here
        return self.p <= self.m

    def arrays(self) -> dict[str, Array]:
        random = self.random
        atoms = random.standard_normal((self.m, self.p))
        if self.regular:
            atoms = np.linalg.qr(atoms)[0] + 0.3 * atoms / self.m**0.5
        atoms /= np.linalg.norm(atoms, axis=0)
        codes = np.zeros((self.n, self.p))
        for row in codes:
            signs = 1.0 if self.options["nonnegative"] else random.choice([-1.0, 1.0], 3)
            row[random.permutation(self.p)[:3]] = random.uniform(1, 2, 3) * signs
        moved = atoms + 0.1 * random.standard_normal(atoms.shape)
        return {"observations": codes @ atoms.T, "dictionary": moved / np.linalg.norm(moved, axis=0)}

    def build(self, loss: str, tensors: dict[str, Any]) -> Problem:
        return SparseCoding(loss=loss, **(self.options | tensors))

    def model(self, loss: str) -> Model:
        arrays = self.arrays()
        options = self.options
        return Model(
            arrays["observations"],
            arrays["dictionary"],
            lambda theta: (theta, options["penalty"], options["l2_penalty"]),
            _loss(loss, arrays["observations"], lambda theta: theta, options["penalty"], options["l2_penalty"]),
            options["nonnegative"],
        )


class Convolutional(Kind):
    """Images of one channel in two filters, with surplus to crop: 3 images of 6 x 7, filters of 3 x 3, stride 2."""

    image, filters, stride, penalty = (6, 7), (2, 1, 3, 3), 2, 0.1

    def arrays(self) -> dict[str, Array]:
        random = self.random
        dictionary = random.standard_normal(self.filters)
        dictionary /= np.linalg.norm(dictionary.reshape(len(dictionary), -1), axis=1)[:, None, None, None]
        return {"observations": random.standard_normal((3, 1, *self.image)), "dictionary": dictionary}

    def build(self, loss: str, tensors: dict[str, Any]) -> Problem:
        return ConvolutionalSparseCoding(loss=loss, **({"penalty": self.penalty, "stride": self.stride} | tensors))

    def matrix(self, theta: Array) -> Array:
        """All shifted copies of the filters as columns, filter by filter."""
        (height, width), (tall, wide), stride = self.image, self.filters[2:], self.stride
        down, across = -(-(height - tall) // stride) + 1, -(-(width - wide) // stride) + 1
        surplus = (down - 1) * stride + tall - height, (across - 1) * stride + wide - width
        top, left = -(-surplus[0] // 2), -(-surplus[1] // 2)
        columns = []
        for filter_ in theta[:, 0]:
            for a in range(down):
                for b in range(across):
                    canvas = np.zeros((height + surplus[0], width + surplus[1]), dtype=theta.dtype)
                    canvas[a * stride : a * stride + tall, b * stride : b * stride + wide] = filter_
                    columns.append(canvas[top : top + height, left : left + width].ravel())
        return np.array(columns).T

    def model(self, loss: str) -> Model:
        arrays = self.arrays()
        images = arrays["observations"].reshape(3, -1)
        return Model(
            images,
            arrays["dictionary"],
            lambda theta: (self.matrix(theta), self.penalty, 0.0),
            _loss(loss, images, self.matrix, self.penalty, 0.0),
        )


class Penalty(Kind):
    """Held-out error of 7 lasso regressions, the logarithms of 6 penalties being the outer parameter."""

    losses = ("held_out",)

    def arrays(self) -> dict[str, Array]:
        random = self.random
        design = np.linalg.qr(random.standard_normal((11, 6)))[0] + 0.1 * random.standard_normal((11, 6))
        held_out = random.standard_normal((5, 6)) / 3
        codes = random.standard_normal((7, 6)) * (random.random((7, 6)) < 0.5) * 2
        return {
            "observations": codes @ design.T + 0.1 * random.standard_normal((7, 11)),
            "design": design,
            "held_out_observations": codes @ held_out.T + 0.1 * random.standard_normal((7, 5)),
            "held_out_design": held_out,
            "log_penalty": np.log(0.1) + 0.3 * random.standard_normal(6),
        }

    def build(self, loss: str, tensors: dict[str, Any]) -> Problem:
        return PenaltySelection(**tensors)

    def model(self, loss: str) -> Model:
        arrays = self.arrays()

        def held_out(codes: Array, theta: Array) -> Any:
            residual = codes @ arrays["held_out_design"].T - arrays["held_out_observations"]
            return (residual * residual).sum() / 2 / len(codes)

        return Model(
            arrays["observations"],
            arrays["log_penalty"],
            lambda theta: (arrays["design"], np.exp(theta), 0.0),
            held_out,
        )


class RidgeStrength(Kind):
    """Ridge regression on 9 observations, its strength being the outer parameter."""

    losses = ("linear",)
    strength = 0.5

    def arrays(self) -> dict[str, Array]:
        random = self.random
        draws = {"observations": random.standard_normal((9, 7)), "dictionary": random.standard_normal((7, 5)) / 2}
        return draws | {"weights": random.standard_normal(5)}

    def build(self, loss: str, tensors: dict[str, Any]) -> Problem:
        return Ridge(**({"strength": self.strength} | tensors))

    def model(self, loss: str) -> Model:
        arrays = self.arrays()
        return Model(
            arrays["observations"],
            np.zeros(()),
            lambda theta: (arrays["dictionary"], 0.0, self.strength + theta),
            lambda codes, theta: (codes @ arrays["weights"]).mean(),
        )


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Dense("sparse coding"),
        Dense("square", n=19, m=8, p=8),
        Dense("non-negative", nonnegative=True),
        Dense("elastic net", l2_penalty=0.1),
        Convolutional("convolutional"),
        Penalty("penalty"),
        RidgeStrength("ridge"),
        Dense("tiny", n=5, m=4, p=3),
    )
}
#: What a conformance table shows; the tiny problem is for checks at great depth, where differences would take minutes.
SHOWN = tuple(name for name in KINDS if name != "tiny")


@functools.cache
def _arrays(problem: str) -> dict[str, Array]:
    return KINDS[problem].arrays()


@functools.cache
def _model(problem: str, loss: str) -> Model:
    return KINDS[problem].model(loss)


def _loss(
    name: str, observations: Array, matrix: Callable[[Array], Array], penalty: float, l2_penalty: float
) -> Callable[[Array, Array], Any]:
    """Mean over samples of the lasso or the reconstruction loss."""

    def value(codes: Array, theta: Array) -> Any:
        residual = observations - codes @ matrix(theta).T
        total = (residual * residual).sum() / 2
        if name == "lasso":
            total = total + penalty * (codes * np.sign(codes.real)).sum() + l2_penalty * (codes * codes).sum() / 2
        return total / len(observations)

    return value


def settings(*problems: str, algorithms: tuple[str, ...] = ("ista",)) -> tuple[Setting, ...]:
    """Return all losses of the named problems, or of all that are shown, with the named algorithms."""
    return tuple(
        Setting(problem, loss, algorithm)
        for problem in problems or SHOWN
        for loss in KINDS[problem].losses
        for algorithm in algorithms
    )
