"""Specimens: small problems of every kind to check estimators on, each with an independent model of it in numpy."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from ..algorithms import Algorithm, Fista, Ista
from ..algorithms.thresholding import Decaying
from ..data.synthetic import normalize
from ..estimator import Estimate, GradientEstimator
from ..problems import ConvolutionalSparseCoding, PenaltySelection, Problem, Ridge, SparseCoding
from ..streams import generator
from .oracles import Array, Layers, Model

#: The algorithms, made from the Lipschitz constant L and a warm start.
ALGORITHMS: dict[str, Callable[[float, torch.Tensor], Algorithm]] = {
    "ista": lambda lipschitz, initial: Ista(),
    "fista": lambda lipschitz, initial: Fista(),
    "fista(restart)": lambda lipschitz, initial: Fista(restart=True),
    "ista(step=1.5/L)": lambda lipschitz, initial: Ista(step=1.5 / lipschitz),
    "ista(decaying)": lambda lipschitz, initial: Ista(thresholding=Decaying(decay=0.95)),
    "warm start": lambda lipschitz, initial: Ista(initial=initial),
}


@dataclass(frozen=True)
class Specimen:
    """A key of `KINDS`, one of the losses of that kind and a key of `ALGORITHMS`, to check an estimator on.

    The gradients that the estimator is compared with are computed once per process.
    """

    problem: str
    loss: str
    algorithm: str = "ista"

    def __str__(self) -> str:
        return f"{self.problem} / {self.loss} / {self.algorithm}"

    def make(self, dtype: torch.dtype = torch.float64, device: str = "cpu", **changes: Any) -> Problem:
        """Return the problem with new tensors, so that no estimator can spoil it for the next call."""
        kind = KINDS[self.problem]
        tensors = {name: torch.tensor(array, dtype=dtype, device=device) for name, array in kind.arrays.items()}
        loss = {"loss": self.loss} if len(kind.models) > 1 else {}
        return kind.make(**(kind.options | loss | tensors | changes))

    def make_algorithm(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Algorithm:
        """Return the algorithm for that problem."""
        initial = generator(0, f"conformance warm start {self.problem}").standard_normal(self.make().code_shape)
        return ALGORITHMS[self.algorithm](self.model.lipschitz_constant, torch.tensor(initial, dtype=dtype, device=device))

    def estimate(
        self, estimator: GradientEstimator, depth: int, dtype: torch.dtype = torch.float64, **changes: Any
    ) -> Estimate:
        """Return an estimator's estimate for the problem, perhaps with some of its fields changed."""
        return estimator.estimate(self.make(dtype, **changes), self.make_algorithm(dtype), depth)

    def sweep(self, estimator: GradientEstimator, depths: Sequence[int]) -> list[Estimate]:
        """Return the estimates of a sweep."""
        return list(estimator.sweep(self.make(), self.make_algorithm(), depths))

    @property
    def model(self) -> Model:
        """The same problem in numpy."""
        return KINDS[self.problem].models[self.loss]

    @functools.cached_property
    def layers(self) -> Layers:
        """The same algorithm in numpy."""
        algorithm = self.make_algorithm()
        return Layers(
            step=algorithm.step or 1 / self.model.lipschitz_constant,
            accelerated=isinstance(algorithm, Fista),
            restart=getattr(algorithm, "restart", False),
            decay=getattr(algorithm.thresholding, "decay", 1.0),
            initial=None if algorithm.initial is None else algorithm.initial.flatten(1).numpy(),
        )

    def codes(self, depth: int) -> Array:
        """Return the codes after `depth` layers."""
        return self.model.codes(self.layers, depth)

    @functools.cache  # noqa: B019  # specimens are few, and equal ones share what is kept
    def direct(self, depth: int) -> Array:
        """Return the direct part of the gradient after `depth` layers."""
        return self.model.direct(self.codes(depth))

    @functools.cache  # noqa: B019
    def implicit(self, depth: int) -> Array:
        """Return the implicit gradient at the codes after `depth` layers."""
        return self.model.implicit(self.codes(depth))

    @functools.cache  # noqa: B019
    def unrolled(self, depth: int, window: int | None = None) -> Array:
        """Return the gradient through the last `window` of `depth` layers, or through all of them."""
        return self.model.unrolled(self.layers, depth, window)


class Kind(NamedTuple):
    """A kind of problem: its class, its fields that are tensors, the others except the loss, and a model for each loss."""

    make: Callable[..., Problem]
    arrays: dict[str, Array]
    options: dict[str, Any]
    models: dict[str, Model]


def _both_losses(
    observations: Array, theta: Array, parts: Callable[[Array], tuple[Array, Any, Any]], nonnegative: bool = False
) -> dict[str, Model]:
    """Return the models with the mean lasso and reconstruction losses over the samples."""

    def reconstruction(codes: Array, theta: Array) -> Any:
        residual = observations - codes @ parts(theta)[0].T
        return (residual * residual).sum() / 2 / len(observations)

    def lasso(codes: Array, theta: Array) -> Any:
        _, penalty, l2_penalty = parts(theta)
        penalties = penalty * (codes * np.sign(codes.real)).sum() + l2_penalty * (codes * codes).sum() / 2
        return reconstruction(codes, theta) + penalties / len(observations)

    losses = {"lasso": lasso, "reconstruction": reconstruction}
    return {name: Model(observations, theta, parts, loss, nonnegative) for name, loss in losses.items()}


def _dense(
    random: np.random.Generator, n: int = 17, m: int = 8, p: int = 12, nonnegative: bool = False, l2_penalty: float = 0.0
) -> Kind:
    """Make sparse codes in a dense dictionary close to the generating one.

    The numbers n of samples, m of features and p of atoms differ from each other, so that a wrong factor or axis shows.
    Only one kind has a square dictionary, where a transposed gradient has the right shape.
    """
    atoms = random.standard_normal((m, p))
    if p <= m:
        # Nearly orthogonal atoms make the problem so regular that errors vanish within a few hundred layers.
        atoms = np.linalg.qr(atoms)[0] + 0.3 * atoms / m**0.5
    atoms = normalize(atoms, axis=0)
    codes = np.zeros((n, p))
    for row in codes:
        signs = 1.0 if nonnegative else random.choice([-1.0, 1.0], 3)
        row[random.permutation(p)[:3]] = random.uniform(1, 2, 3) * signs
    dictionary = normalize(atoms + 0.1 * random.standard_normal(atoms.shape), axis=0)
    observations = codes @ atoms.T
    options = {"penalty": 0.2, "nonnegative": nonnegative, "l2_penalty": l2_penalty}
    models = _both_losses(observations, dictionary, lambda theta: (theta, 0.2, l2_penalty), nonnegative)
    return Kind(SparseCoding, {"observations": observations, "dictionary": dictionary}, options, models)


def _convolutional(random: np.random.Generator) -> Kind:
    """Make images with one channel in two filters, with margins to crop: 3 images of 6 x 7, filters of 3 x 3, stride 2."""
    height, width, side, stride, penalty = 6, 7, 3, 2, 0.1
    dictionary = normalize(random.standard_normal((2, 1, side, side)), axis=(1, 2, 3))
    images = random.standard_normal((3, 1, height, width))

    def placed(length: int) -> Array:
        """Return whether pixel y lies under filter entry i at code position a, for all y, a and i along one axis."""
        positions = -(-(length - side) // stride) + 1
        cropped = -(-((positions - 1) * stride + side - length) // 2)
        entries = np.arange(length)[:, None] + cropped - stride * np.arange(positions)
        return (entries[..., None] == np.arange(side)).astype(float)

    def matrix(theta: Array) -> Array:
        """Return all shifted copies of the filters as columns, filter by filter."""
        copies = np.einsum("yai,xbj,fij->fabyx", placed(height), placed(width), theta[:, 0])
        return copies.reshape(-1, height * width).T

    models = _both_losses(images.reshape(3, -1), dictionary, lambda theta: (matrix(theta), penalty, 0.0))
    arrays = {"observations": images, "dictionary": dictionary}
    return Kind(ConvolutionalSparseCoding, arrays, {"penalty": penalty, "stride": stride}, models)


def _penalty(random: np.random.Generator) -> Kind:
    """Make 7 lasso regressions with held-out data; the logarithms of 6 penalties are the outer parameter."""
    design = np.linalg.qr(random.standard_normal((11, 6)))[0] + 0.1 * random.standard_normal((11, 6))
    held_out_design = random.standard_normal((5, 6)) / 3
    codes = random.standard_normal((7, 6)) * (random.random((7, 6)) < 0.5) * 2
    observations = codes @ design.T + 0.1 * random.standard_normal((7, 11))
    held_out = codes @ held_out_design.T + 0.1 * random.standard_normal((7, 5))
    log_penalty = np.log(0.1) + 0.3 * random.standard_normal(6)

    def loss(codes: Array, theta: Array) -> Any:
        residual = codes @ held_out_design.T - held_out
        return (residual * residual).sum() / 2 / len(codes)

    arrays = {"observations": observations, "design": design, "log_penalty": log_penalty}
    arrays |= {"held_out_observations": held_out, "held_out_design": held_out_design}
    model = Model(observations, log_penalty, lambda theta: (design, np.exp(theta), 0.0), loss)
    return Kind(PenaltySelection, arrays, {}, {"held_out": model})


def _ridge(random: np.random.Generator) -> Kind:
    """Make a ridge regression on 9 observations; its strength is the outer parameter."""
    observations, dictionary = random.standard_normal((9, 7)), random.standard_normal((7, 5)) / 2
    weights, strength = random.standard_normal(5), 0.5
    arrays = {"observations": observations, "dictionary": dictionary, "weights": weights}

    def parts(theta: Array) -> tuple[Array, Any, Any]:
        return dictionary, 0.0, strength + theta

    model = Model(observations, np.zeros(()), parts, lambda codes, theta: (codes @ weights).mean())
    return Kind(Ridge, arrays, {"strength": strength}, {"linear": model})


_MAKERS: dict[str, Callable[[np.random.Generator], Kind]] = {
    "sparse coding": _dense,
    "square": functools.partial(_dense, n=19, m=8, p=8),
    "non-negative": functools.partial(_dense, nonnegative=True),
    "elastic net": functools.partial(_dense, l2_penalty=0.1),
    "convolutional": _convolutional,
    "penalty": _penalty,
    "ridge": _ridge,
    # For checks at great depth, where differences on a larger problem would take minutes.
    "tiny": functools.partial(_dense, n=5, m=4, p=3),
}
KINDS = {name: make(generator(0, f"conformance {name}")) for name, make in _MAKERS.items()}


def specimens(*problems: str, algorithms: tuple[str, ...] = ("ista",)) -> tuple[Specimen, ...]:
    """Return the named problems, or all but the tiny one, with each of their losses and each of the algorithms."""
    return tuple(
        Specimen(problem, loss, algorithm)
        for problem in problems or [name for name in KINDS if name != "tiny"]
        for loss in KINDS[problem].models
        for algorithm in algorithms
    )


PLAIN = ("ista", "fista")
#: Every problem, loss and plain algorithm.
GRID = specimens(algorithms=PLAIN)
#: The same, and the other algorithms on one problem.
VARIED = GRID + specimens("sparse coding", algorithms=tuple(name for name in ALGORITHMS if name not in PLAIN))
#: For checks that look only at the class.
CLASS_ALONE = (Specimen("", "", ""),)
