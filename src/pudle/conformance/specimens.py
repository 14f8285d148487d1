"""Specimens: named small problems of every kind to check estimators on, each with an independent
model of it in numpy.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ..algorithms import Algorithm, Fista, Ista, Noodl
from ..algorithms.thresholding import Decaying, Hard
from ..data.synthetic import normalize
from ..estimator import Estimate, GradientEstimator
from ..problems import Problem
from ..streams import generator
from .kinds import Kind, convolutional, dense, penalty_selection, ridge
from .oracles import Array, Layers, Model

#: The algorithms, made from the Lipschitz constant L and a warm start.
ALGORITHMS: dict[str, Callable[[float, torch.Tensor], Algorithm]] = {
    "ista": lambda lipschitz, initial: Ista(),
    "fista": lambda lipschitz, initial: Fista(),
    "fista(restart)": lambda lipschitz, initial: Fista(restart=True),
    "ista(step=1.5/L)": lambda lipschitz, initial: Ista(step=1.5 / lipschitz),
    "ista(step=0.02/L)": lambda lipschitz, initial: Ista(step=0.02 / lipschitz),
    "ista(decaying)": lambda lipschitz, initial: Ista(thresholding=Decaying(decay=0.95)),
    "ista(hard)": lambda lipschitz, initial: Ista(thresholding=Hard()),
    "warm start": lambda lipschitz, initial: Ista(initial=initial),
}


@dataclass(frozen=True)
class Specimen:
    """A key of `KINDS`, one of the losses of that kind and a key of `ALGORITHMS`, to check an
    estimator on.

    The gradients that the estimator is compared with are computed once per process.
    """

    problem: str
    loss: str
    algorithm: str = "ista"

    def __str__(self) -> str:
        return f"{self.problem} / {self.loss} / {self.algorithm}"

    def make(
        self, dtype: torch.dtype = torch.float64, device: str = "cpu", **changes: Any
    ) -> Problem:
        """Return the problem with new tensors, so that no estimator can spoil it for the next call."""
        kind = KINDS[self.problem]
        # Tensors with reversed strides, if the kind asks for them: an estimator may not rely on how
        # they lie in memory.
        arrays = {
            name: np.array(array.T, order="C") if kind.reversed_strides else array
            for name, array in kind.arrays.items()
        }
        tensors = {
            name: torch.tensor(array, dtype=dtype, device=device) for name, array in arrays.items()
        }
        if kind.reversed_strides:
            tensors = {
                name: tensor.permute(tuple(reversed(range(tensor.ndim))))
                for name, tensor in tensors.items()
            }
        loss = {"loss": self.loss} if len(kind.models) > 1 else {}
        return kind.make(**(kind.options | loss | tensors | changes))

    def make_algorithm(self, dtype: torch.dtype = torch.float64, device: str = "cpu") -> Algorithm:
        """Return the algorithm for that problem."""
        initial = generator(0, f"conformance warm start {self.problem}").standard_normal(
            self.make().code_shape
        )
        return ALGORITHMS[self.algorithm](
            self.model.lipschitz_constant, torch.tensor(initial, dtype=dtype, device=device)
        )

    def estimate(
        self,
        estimator: GradientEstimator,
        depth: int,
        dtype: torch.dtype = torch.float64,
        **changes: Any,
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
        step, cutoff = (
            algorithm.step or 1 / self.model.lipschitz_constant,
            getattr(algorithm.thresholding, "threshold", None),
        )
        first: list[tuple[float, float | None]] = []
        if isinstance(algorithm, Noodl):
            updates = itertools.zip_longest(algorithm.steps, algorithm.thresholds)
            first = [
                (1.0, algorithm.lower_bound / 2),
                *((own or step, threshold or cutoff) for own, threshold in updates),
            ]
        return Layers(
            step=step,
            accelerated=isinstance(algorithm, Fista),
            restart=getattr(algorithm, "restart", False),
            decay=getattr(algorithm.thresholding, "decay", 1.0),
            hard=isinstance(algorithm.thresholding, Hard),
            cutoff=cutoff,
            first=tuple(first),
            initial=None if algorithm.initial is None else algorithm.initial.flatten(1).numpy(),
        )

    @functools.lru_cache(maxsize=64)  # noqa: B019  # those of drawn problems are too large to keep all
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


# --- the named problems


def _dense(
    random: np.random.Generator, n: int = 17, m: int = 8, p: int = 12, **options: Any
) -> Kind:
    """Make sparse codes in a dense dictionary close to the generating one.

    The numbers n of samples, m of features and p of atoms differ from each other, so that a wrong
    factor or axis shows. Only one kind has a square dictionary, where a transposed gradient has the
    right shape.
    """
    atoms = random.standard_normal((m, p))
    if p <= m:
        # Nearly orthogonal atoms make the problem so regular that errors vanish within a few
        # hundred layers.
        atoms = np.linalg.qr(atoms)[0] + 0.3 * atoms / m**0.5
    atoms = normalize(atoms, axis=0)
    codes = np.zeros((n, p))
    for row in codes:
        signs = 1.0 if options.get("nonnegative") else random.choice([-1.0, 1.0], 3)
        row[random.permutation(p)[:3]] = random.uniform(1, 2, 3) * signs
    dictionary = normalize(atoms + 0.1 * random.standard_normal(atoms.shape), axis=0)
    return dense(
        {"observations": codes @ atoms.T, "dictionary": dictionary}, penalty=0.2, **options
    )


def _convolutional(random: np.random.Generator) -> Kind:
    """Make images with one channel in two filters, with margins to crop: 3 images of 6 x 7, filters
    of 3 x 3, stride 2.
    """
    dictionary = normalize(random.standard_normal((2, 1, 3, 3)), axis=(1, 2, 3))
    images = random.standard_normal((3, 1, 6, 7))
    return convolutional({"observations": images, "dictionary": dictionary}, penalty=0.1, stride=2)


def _penalty(random: np.random.Generator) -> Kind:
    """Make 7 lasso regressions with held-out data; the logarithms of 6 penalties are the outer
    parameter.
    """
    design = np.linalg.qr(random.standard_normal((11, 6)))[0] + 0.1 * random.standard_normal(
        (11, 6)
    )
    held_out_design = random.standard_normal((5, 6)) / 3
    codes = random.standard_normal((7, 6)) * (random.random((7, 6)) < 0.5) * 2
    observations = codes @ design.T + 0.1 * random.standard_normal((7, 11))
    held_out = codes @ held_out_design.T + 0.1 * random.standard_normal((7, 5))
    arrays = {"observations": observations, "design": design}
    arrays |= {"log_penalty": np.log(0.1) + 0.3 * random.standard_normal(6)}
    return penalty_selection(
        arrays | {"held_out_observations": held_out, "held_out_design": held_out_design}
    )


def _ridge(random: np.random.Generator) -> Kind:
    """Make a ridge regression on 9 observations; its strength is the outer parameter."""
    observations, dictionary = random.standard_normal((9, 7)), random.standard_normal((7, 5)) / 2
    weights = random.standard_normal(5)
    return ridge(
        {"observations": observations, "dictionary": dictionary, "weights": weights}, strength=0.5
    )


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
    """Return the named problems, or all but the tiny one, with each of their losses and each of the
    algorithms.
    """
    return tuple(
        Specimen(problem, loss, algorithm)
        for problem in problems or [name for name in _MAKERS if name != "tiny"]
        for loss in KINDS[problem].models
        for algorithm in algorithms
    )


PLAIN = ("ista", "fista")
#: Every problem, loss and plain algorithm.
GRID = specimens(algorithms=PLAIN)
#: The same, and the other algorithms on one problem.
VARIED = GRID + specimens(
    "sparse coding", algorithms=tuple(name for name in ALGORITHMS if name not in PLAIN)
)
#: For checks that look only at the class.
CLASS_ALONE = (Specimen("", "", ""),)
