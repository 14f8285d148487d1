"""Specimens: small problems of every kind to check estimators on, each with an independent model of it in numpy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch

from ..algorithms import Algorithm, Fista, Ista
from ..algorithms.thresholding import Decaying
from ..estimator import Estimate, GradientEstimator
from ..problems import ConvolutionalSparseCoding, PenaltySelection, Problem, Ridge, SparseCoding
from ..streams import generator
from .oracles import Array, Layers, Model

DECAY = 0.95
#: The algorithms, made from the problem's Lipschitz constant and a warm start.
ALGORITHMS: dict[str, Callable[[float, torch.Tensor | None], Algorithm]] = {
    "ista": lambda lipschitz, initial: Ista(),
    "fista": lambda lipschitz, initial: Fista(),
    "fista(restart)": lambda lipschitz, initial: Fista(restart=True),
    "ista(step=1.5/L)": lambda lipschitz, initial: Ista(step=1.5 / lipschitz),
    "ista(decaying)": lambda lipschitz, initial: Ista(thresholding=Decaying(decay=DECAY)),
    "warm start": lambda lipschitz, initial: Ista(initial=initial),
}


@dataclass(frozen=True)
class Specimen:
    """A problem and an algorithm to check an estimator on.

    The gradients that the estimator is compared with are computed once per process.

    Attributes
    ----------
    problem : str
        A key of `KINDS`.
    loss : str
        One of the losses of that kind.
    algorithm : str
        A key of `ALGORITHMS`.
    """

    problem: str
    loss: str
    algorithm: str = "ista"

    def __str__(self) -> str:
        return f"{self.problem} / {self.loss} / {self.algorithm}"

    def make(self, dtype: torch.dtype = torch.float64, device: str = "cpu", **changes: Any) -> Problem:
        """Return the problem with new tensors, so that no estimator can spoil it for the next call."""
        arrays = KINDS[self.problem].arrays
        tensors = {name: torch.tensor(array, dtype=dtype, device=device) for name, array in arrays.items()}
        return KINDS[self.problem].build(self.loss, tensors | changes)

    def make_algorithm(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Algorithm:
        """Return the algorithm for that problem."""
        initial = torch.tensor(self._warm_start(), dtype=dtype, device=device) if self.algorithm == "warm start" else None
        return ALGORITHMS[self.algorithm](self.model.lipschitz_constant, initial)

    def estimate(
        self, estimator: GradientEstimator, depth: int, dtype: torch.dtype = torch.float64, **changes: Any
    ) -> Estimate:
        """Return what an estimator makes of the problem, perhaps with some of its fields changed."""
        return estimator.estimate(self.make(dtype, **changes), self.make_algorithm(dtype), depth)

    def sweep(self, estimator: GradientEstimator, depths: Sequence[int]) -> list[Estimate]:
        """Return the estimates of a sweep."""
        return list(estimator.sweep(self.make(), self.make_algorithm(), depths))

    @functools.cached_property
    def model(self) -> Model:
        """The same problem in numpy."""
        return KINDS[self.problem].model(self.loss)

    @functools.cached_property
    def layers(self) -> Layers:
        """The same algorithm in numpy."""
        lipschitz = self.model.lipschitz_constant
        return Layers(
            step=1.5 / lipschitz if self.algorithm == "ista(step=1.5/L)" else 1 / lipschitz,
            accelerated=self.algorithm.startswith("fista"),
            restart="restart" in self.algorithm,
            decay=DECAY if "decaying" in self.algorithm else 1.0,
            initial=self._warm_start().reshape(len(self.model.observations), -1) if self.algorithm == "warm start" else None,
        )

    def codes(self, depth: int) -> Array:
        """Return the codes after `depth` layers."""
        return self.model.codes(self.layers, depth)

    def direct(self, depth: int) -> Array:
        """Return the direct part of the gradient after `depth` layers."""
        return _computed_once(self, "direct", depth)

    def implicit(self, depth: int) -> Array:
        """Return the implicit gradient at the codes after `depth` layers."""
        return _computed_once(self, "implicit", depth)

    def unrolled(self, depth: int, window: int | None = None) -> Array:
        """Return the gradient through the last `window` of `depth` layers, or through all of them."""
        return _computed_once(self, "unrolled", depth, window)

    def _warm_start(self) -> Array:
        return generator(0, f"conformance warm start {self.problem}").standard_normal(self.make().code_shape)


@functools.cache
def _computed_once(specimen: Specimen, gradient: str, depth: int, window: int | None = None) -> Array:
    if gradient == "unrolled":
        return specimen.model.unrolled(specimen.layers, depth, window)
    return getattr(specimen.model, gradient)(specimen.codes(depth))


class Kind:
    """A kind of problem: how it is drawn, built, and written in numpy."""

    losses: ClassVar[tuple[str, ...]] = ("lasso", "reconstruction")

    def __init__(self, name: str) -> None:
        self.name = name

    @functools.cached_property
    def arrays(self) -> dict[str, Array]:
        """The problem's tensors as arrays."""
        return self.draw(generator(0, f"conformance {self.name}"))

    def draw(self, random: np.random.Generator) -> dict[str, Array]:
        """Draw the arrays."""
        raise NotImplementedError

    def build(self, loss: str, tensors: dict[str, Any]) -> Problem:
        """Return the problem made of some tensors."""
        raise NotImplementedError

    def model(self, loss: str) -> Model:
        """Return the model made of the same arrays."""
        raise NotImplementedError


class Dense(Kind):
    """Sparse codes in a dense dictionary close to the generating one.

    The numbers n of samples, m of features and p of atoms differ from each other, so that a wrong factor or axis shows.
    Only one kind has a square dictionary, where a transposed gradient has the right shape.
    """

    def __init__(
        self, name: str, n: int = 17, m: int = 8, p: int = 12, nonnegative: bool = False, l2_penalty: float = 0.0
    ) -> None:
        super().__init__(name)
        self.n, self.m, self.p = n, m, p
        self.options: dict[str, Any] = {"penalty": 0.2, "nonnegative": nonnegative, "l2_penalty": l2_penalty}

    def draw(self, random: np.random.Generator) -> dict[str, Array]:
        atoms = random.standard_normal((self.m, self.p))
        if self.p <= self.m:
            # Nearly orthogonal atoms make the problem so regular that errors vanish within a few hundred layers.
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
        observations, dictionary = self.arrays["observations"], self.arrays["dictionary"]
        penalty, l2_penalty = self.options["penalty"], self.options["l2_penalty"]
        return Model(
            observations,
            dictionary,
            lambda theta: (theta, penalty, l2_penalty),
            _loss(loss, observations, lambda theta: theta, penalty, l2_penalty),
            self.options["nonnegative"],
        )


class Convolutional(Kind):
    """Images with one channel in two filters, with margins to crop: 3 images of 6 x 7, filters of 3 x 3, stride 2."""

    image, filters, stride, penalty = (6, 7), (2, 1, 3, 3), 2, 0.1

    def draw(self, random: np.random.Generator) -> dict[str, Array]:
        dictionary = random.standard_normal(self.filters)
        dictionary /= np.linalg.norm(dictionary.reshape(len(dictionary), -1), axis=1)[:, None, None, None]
        return {"observations": random.standard_normal((3, 1, *self.image)), "dictionary": dictionary}

    def build(self, loss: str, tensors: dict[str, Any]) -> Problem:
        return ConvolutionalSparseCoding(loss=loss, **({"penalty": self.penalty, "stride": self.stride} | tensors))

    def matrix(self, theta: Array) -> Array:
        """Return all shifted copies of the filters as columns, filter by filter."""
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
        images = self.arrays["observations"].reshape(3, -1)
        return Model(
            images,
            self.arrays["dictionary"],
            lambda theta: (self.matrix(theta), self.penalty, 0.0),
            _loss(loss, images, self.matrix, self.penalty, 0.0),
        )


class Penalty(Kind):
    """Held-out error of 7 lasso regressions; the logarithms of 6 penalties are the outer parameter."""

    losses = ("held_out",)

    def draw(self, random: np.random.Generator) -> dict[str, Array]:
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
        arrays = self.arrays

        def held_out(codes: Array, theta: Array) -> Any:
            residual = codes @ arrays["held_out_design"].T - arrays["held_out_observations"]
            return (residual * residual).sum() / 2 / len(codes)

        return Model(
            arrays["observations"], arrays["log_penalty"], lambda theta: (arrays["design"], np.exp(theta), 0.0), held_out
        )


class RidgeStrength(Kind):
    """Ridge regression on 9 observations; its strength is the outer parameter."""

    losses = ("linear",)
    strength = 0.5

    def draw(self, random: np.random.Generator) -> dict[str, Array]:
        draws = {"observations": random.standard_normal((9, 7)), "dictionary": random.standard_normal((7, 5)) / 2}
        return draws | {"weights": random.standard_normal(5)}

    def build(self, loss: str, tensors: dict[str, Any]) -> Problem:
        return Ridge(**({"strength": self.strength} | tensors))

    def model(self, loss: str) -> Model:
        arrays = self.arrays
        return Model(
            arrays["observations"],
            np.zeros(()),
            lambda theta: (arrays["dictionary"], 0.0, self.strength + theta),
            lambda codes, theta: (codes @ arrays["weights"]).mean(),
        )


def _loss(
    name: str, observations: Array, matrix: Callable[[Array], Array], penalty: float, l2_penalty: float
) -> Callable[[Array, Array], Any]:
    """Return the mean lasso or reconstruction loss over the samples, as a function of codes and theta."""

    def value(codes: Array, theta: Array) -> Any:
        residual = observations - codes @ matrix(theta).T
        total = (residual * residual).sum() / 2
        if name == "lasso":
            total = total + penalty * (codes * np.sign(codes.real)).sum() + l2_penalty * (codes * codes).sum() / 2
        return total / len(observations)

    return value


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
        # For checks at great depth, where differences on a larger problem would take minutes.
        Dense("tiny", n=5, m=4, p=3),
    )
}


def specimens(*problems: str, algorithms: tuple[str, ...] = ("ista",)) -> tuple[Specimen, ...]:
    """Return the named problems, or all but the tiny one, with each of their losses and each of the algorithms."""
    return tuple(
        Specimen(problem, loss, algorithm)
        for problem in problems or [name for name in KINDS if name != "tiny"]
        for loss in KINDS[problem].losses
        for algorithm in algorithms
    )
