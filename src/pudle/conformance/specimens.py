"""Specimens: small problems of every kind to check estimators on, each with an independent model of it in numpy."""

from __future__ import annotations

import dataclasses
import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..algorithms import Algorithm, Fista, Ista
from ..algorithms.thresholding import Decaying
from ..estimator import Estimate, GradientEstimator
from ..problems import ConvolutionalSparseCoding, PenaltySelection, Problem, Ridge, SparseCoding
from ..streams import generator
from .oracles import Array, Layers, Model

#: The algorithms: made by pudle from the Lipschitz constant L and a warm start, and as fields of `Layers` (step times L).
ALGORITHMS: dict[str, tuple[Callable[[float, torch.Tensor | None], Algorithm], dict[str, Any]]] = {
    "ista": (lambda lipschitz, initial: Ista(), {}),
    "fista": (lambda lipschitz, initial: Fista(), {"accelerated": True}),
    "fista(restart)": (lambda lipschitz, initial: Fista(restart=True), {"accelerated": True, "restart": True}),
    "ista(step=1.5/L)": (lambda lipschitz, initial: Ista(step=1.5 / lipschitz), {"step": 1.5}),
    "ista(decaying)": (lambda lipschitz, initial: Ista(thresholding=Decaying(decay=0.95)), {"decay": 0.95}),
    "warm start": (lambda lipschitz, initial: Ista(initial=initial), {}),
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
        kind = _kind(self.problem)
        tensors = {name: torch.tensor(array, dtype=dtype, device=device) for name, array in kind.arrays.items()}
        loss = {} if self.problem in ONLY_LOSS else {"loss": self.loss}
        return kind.make(**(kind.options | loss | tensors | changes))

    def make_algorithm(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Algorithm:
        """Return the algorithm for that problem."""
        make, _ = ALGORITHMS[self.algorithm]
        warm = self._warm_start()
        initial = None if warm is None else torch.tensor(warm, dtype=dtype, device=device)
        return make(self.model.lipschitz_constant, initial)

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
        return _kind(self.problem).models[self.loss]

    @functools.cached_property
    def layers(self) -> Layers:
        """The same algorithm in numpy."""
        _, fields = ALGORITHMS[self.algorithm]
        layers, warm = Layers(**({"step": 1.0} | fields)), self._warm_start()
        initial = None if warm is None else warm.reshape(len(warm), -1)
        return dataclasses.replace(layers, step=layers.step / self.model.lipschitz_constant, initial=initial)

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

    def _warm_start(self) -> Array | None:
        if self.algorithm != "warm start":
            return None
        return generator(0, f"conformance warm start {self.problem}").standard_normal(self.make().code_shape)


@functools.cache
def _computed_once(specimen: Specimen, gradient: str, depth: int, window: int | None = None) -> Array:
    if gradient == "unrolled":
        return specimen.model.unrolled(specimen.layers, depth, window)
    return getattr(specimen.model, gradient)(specimen.codes(depth))


@dataclass(frozen=True, eq=False)
class Kind:
    """A kind of problem: how it is made with pudle, and its models in numpy.

    Attributes
    ----------
    make : callable
        Makes the problem from its fields.
    arrays : dict of arrays
        The fields that are tensors.
    options : dict
        The other fields, without the loss.
    models : dict of Model
        The same problem in numpy, for each loss.
    """

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
    atoms /= np.linalg.norm(atoms, axis=0)
    codes = np.zeros((n, p))
    for row in codes:
        signs = 1.0 if nonnegative else random.choice([-1.0, 1.0], 3)
        row[random.permutation(p)[:3]] = random.uniform(1, 2, 3) * signs
    dictionary = atoms + 0.1 * random.standard_normal(atoms.shape)
    dictionary /= np.linalg.norm(dictionary, axis=0)
    observations = codes @ atoms.T
    options = {"penalty": 0.2, "nonnegative": nonnegative, "l2_penalty": l2_penalty}
    models = _both_losses(observations, dictionary, lambda theta: (theta, 0.2, l2_penalty), nonnegative)
    return Kind(SparseCoding, {"observations": observations, "dictionary": dictionary}, options, models)


def _convolutional(random: np.random.Generator) -> Kind:
    """Make images with one channel in two filters, with margins to crop: 3 images of 6 x 7, filters of 3 x 3, stride 2."""
    (height, width), side, stride, penalty = (6, 7), 3, 2, 0.1
    dictionary = random.standard_normal((2, 1, side, side))
    dictionary /= np.linalg.norm(dictionary.reshape(len(dictionary), -1), axis=1)[:, None, None, None]
    images = random.standard_normal((3, 1, height, width))

    def matrix(theta: Array) -> Array:
        """Return all shifted copies of the filters as columns, filter by filter."""
        down, across = -(-(height - side) // stride) + 1, -(-(width - side) // stride) + 1
        surplus = (down - 1) * stride + side - height, (across - 1) * stride + side - width
        top, left = -(-surplus[0] // 2), -(-surplus[1] // 2)
        columns = []
        for filter_, a, b in itertools.product(theta[:, 0], range(down), range(across)):
            canvas = np.zeros((height + surplus[0], width + surplus[1]), dtype=theta.dtype)
            canvas[a * stride : a * stride + side, b * stride : b * stride + side] = filter_
            columns.append(canvas[top : top + height, left : left + width].ravel())
        return np.array(columns).T

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
    model = Model(
        observations,
        np.zeros(()),
        lambda theta: (dictionary, 0.0, strength + theta),
        lambda codes, theta: (codes @ weights).mean(),
    )
    return Kind(Ridge, arrays, {"strength": strength}, {"linear": model})


#: Losses of the kinds that have no choice between the lasso and the reconstruction loss.
ONLY_LOSS = {"penalty": "held_out", "ridge": "linear"}
KINDS: dict[str, Callable[[np.random.Generator], Kind]] = {
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


@functools.cache
def _kind(name: str) -> Kind:
    return KINDS[name](generator(0, f"conformance {name}"))


def specimens(*problems: str, algorithms: tuple[str, ...] = ("ista",)) -> tuple[Specimen, ...]:
    """Return the named problems, or all but the tiny one, with each of their losses and each of the algorithms."""
    return tuple(
        Specimen(problem, loss, algorithm)
        for problem in problems or [name for name in KINDS if name != "tiny"]
        for loss in ([ONLY_LOSS[problem]] if problem in ONLY_LOSS else ["lasso", "reconstruction"])
        for algorithm in algorithms
    )
