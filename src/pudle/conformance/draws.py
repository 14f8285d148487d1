"""Specimens drawn at random from the whole contract: every problem and algorithm, all their
options, all sizes and depths.

An estimator that is wrong only for one sample, for long windows or for several channels is right on
any short list of examples. The draws are the same in every run, because their streams are named.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from ..algorithms import Algorithm, Fista, Ista, Noodl
from ..algorithms.thresholding import Decaying, Hard, Soft
from ..streams import generator
from .kinds import Kind, convolutional, dense, penalty_selection, ridge
from .oracles import Array, lipschitz_constant
from .specimens import ALGORITHMS, KINDS, Specimen

#: Number of draws.
DRAWS = 96
#: Greatest depth, and what it is lowered to keep: the multiplications of a forward pass, and the
#: layers of a method that runs one pass for every entry of theta.
DEEPEST, WORK, LAYERS = 500, 2_000_000, 8_000

Random = np.random.Generator


def _size(random: Random, largest: int) -> int:
    """Draw a size: often 1, or else of any magnitude."""
    return 1 if random.random() < 0.2 else int(largest ** random.random() + 0.5)


def _dense(random: Random) -> Kind:
    """Draw sparse coding: mostly of a few samples, sometimes of thousands, or with thousands of
    dictionary entries.
    """
    n, m, p = _size(random, 40), _size(random, 10), _size(random, 14)
    if (extreme := random.random()) < 0.15:
        n, m, p = (
            int(random.integers(300, 3000)),
            int(random.integers(2, 6)),
            int(random.integers(2, 7)),
        )
    elif extreme < 0.3:
        n, m, p = (
            int(random.integers(1, 4)),
            int(random.integers(20, 60)),
            int(random.integers(60, 70)),
        )
    nonnegative = bool(random.random() < 0.3)
    atoms = random.standard_normal((m, p))
    # Atoms have norms of all magnitudes, and differ in them.
    atoms = (
        atoms
        / np.linalg.norm(atoms, axis=0)
        * 10 ** random.uniform(-1, 1)
        * random.uniform(0.5, 2, p)
    )
    codes = random.standard_normal((n, p)) * (random.random((n, p)) < 0.3)
    codes = np.abs(codes) if nonnegative else codes
    observations = (codes @ atoms.T + 0.1 * random.standard_normal((n, m))) * 10 ** random.uniform(
        -1, 1
    )
    if n > 1 and random.random() < 0.2:
        observations[0] = 0
    dictionary = atoms * (1 + 0.1 * random.standard_normal((m, p)))
    arrays = {"observations": observations, "dictionary": dictionary} | _generating(
        random, atoms, codes
    )
    options = _penalties(random, observations @ dictionary, dictionary)
    return dense(arrays, nonnegative=nonnegative, **options)


def _images(random: Random, learned: bool = False) -> Kind:
    """Draw convolutional sparse coding, filters and images not necessarily square."""
    kernel = random.integers(1, 5, 2)
    height, width = kernel + random.integers(0, 6, 2)
    n, channels, filters = _size(random, 5), int(random.integers(1, 4)), int(random.integers(1, 4))
    stride = int(random.integers(1, kernel.min() + 1))
    dictionary = random.standard_normal((filters, channels, *kernel)) * 10 ** random.uniform(
        -0.5, 0.5
    )
    arrays = {
        "observations": random.standard_normal((n, channels, height, width)),
        "dictionary": dictionary,
    }
    if random.random() < 0.5:
        arrays["targets"] = arrays["observations"] + 0.3 * random.standard_normal(
            arrays["observations"].shape
        )
    matrix = convolutional(arrays, penalty=1.0, stride=stride).models["lasso"].parts(dictionary)[0]
    correlation = arrays["observations"].reshape(n, -1) @ matrix
    options = _penalties(random, correlation, matrix) | {
        "stride": stride,
        "nonnegative": bool(random.random() < 0.3),
    }
    positions = [
        -(-(length - side) // stride) + 1
        for length, side in zip((height, width), kernel, strict=True)
    ]
    arrays |= _generating(random, dictionary, random.standard_normal((n, filters, *positions)))
    if learned:
        arrays["penalty"] = options.pop("penalty") * np.exp(0.3 * random.standard_normal(filters))
    return convolutional(arrays, **options)


def _selection(random: Random) -> Kind:
    """Draw a choice of penalties, one for each entry of the codes or one for all."""
    n, m, p, held_out = _size(random, 30), _size(random, 12), _size(random, 9), _size(random, 6)
    design, observations = (
        random.standard_normal((m, p)) * 10 ** random.uniform(-1, 1),
        random.standard_normal((n, m)),
    )
    largest = np.abs(observations @ design).max()
    log_penalty = np.log(largest * random.uniform(0.05, 0.4)) + 0.3 * random.standard_normal(p)
    arrays = {"observations": observations, "design": design}
    arrays |= {"log_penalty": log_penalty if random.random() < 0.6 else np.asarray(log_penalty[0])}
    arrays |= {"held_out_observations": random.standard_normal((n, held_out))}
    arrays |= {"held_out_design": random.standard_normal((held_out, p))}
    return penalty_selection(arrays, nonnegative=bool(random.random() < 0.3))


def _regression(random: Random) -> Kind:
    """Draw a ridge regression."""
    n, m, p = _size(random, 1000), _size(random, 9), _size(random, 7)
    arrays = {
        "observations": random.standard_normal((n, m)),
        "dictionary": random.standard_normal((m, p)),
    }
    arrays |= {"weights": random.standard_normal(p)}
    if random.random() < 0.6:
        arrays["theta"] = np.asarray(random.uniform(-0.1, 0.5))
    return ridge(arrays, strength=float(random.uniform(0.2, 2)))


def _penalties(random: Random, correlation: Array, matrix: Array) -> dict[str, Any]:
    """Draw the penalty as a share of the largest useful one, and an l2_penalty as a share of the
    Lipschitz constant.
    """
    penalty = float(np.abs(correlation).max() * 10 ** random.uniform(-1.5, -0.2))
    l2_penalty = (
        float(lipschitz_constant(matrix) * random.uniform(0.01, 0.5))
        if random.random() < 0.4
        else 0.0
    )
    return {"penalty": penalty, "l2_penalty": l2_penalty}


def _generating(random: Random, dictionary: Array, codes: Array) -> dict[str, Array]:
    """Draw whether the generating dictionary and codes are known."""
    known = {"generating_dictionary": dictionary, "generating_codes": codes}
    return {name: array for name, array in known.items() if random.random() < 0.4}


def _algorithm(random: Random, model: Any) -> Callable[[float, torch.Tensor], Algorithm]:
    """Draw an algorithm with a step, a thresholding rule and a start, in proportion to the problem."""
    accelerated, restart, warm = random.random(3) < (0.5, 0.5, 0.35)
    rule = str(random.choice(["soft", "soft", "decaying", "hard", "hard at"]))
    # Beyond 1/L neither acceleration nor hard thresholding need converge, and rounding grows from
    # layer to layer.
    largest = 1.0 if accelerated or "hard" in rule else 1.9
    fraction = float(random.uniform(0.2, largest)) if random.random() < 0.6 else None
    decay, cutoff, size = (
        random.uniform(0.8, 0.99),
        random.uniform(0.5, 2),
        10 ** random.uniform(-1, 0.5),
    )

    def make(lipschitz: float, initial: torch.Tensor) -> Algorithm:
        step = None if fraction is None else fraction / lipschitz
        threshold = (
            float(np.mean(model.parts(model.theta)[1]) * cutoff * (step or 1 / lipschitz)) or None
        )
        rules = {
            "soft": Soft(),
            "decaying": Decaying(decay),
            "hard": Hard(),
            "hard at": Hard(threshold),
        }
        start = {"initial": size * initial} if warm else {}
        if accelerated:
            return Fista(step, rules[rule], restart=bool(restart), **start)
        return Ista(step, rules[rule], **start)

    return make


def _noodl(random: Random, model: Any) -> Callable[[float, torch.Tensor], Algorithm]:
    """Draw NOODL's iteration, with up to three updates that have a step or a threshold of their
    own.
    """
    matrix, penalty, _ = model.parts(model.theta)
    bound = float(np.abs(model.observations @ matrix).max() * random.uniform(0.1, 0.6))
    fractions, cutoffs = (
        random.uniform(0.2, 1, int(random.integers(0, 4))),
        random.uniform(0.5, 2, int(random.integers(1, 4))),
    )
    common = float(random.uniform(0.3, 1)) if random.random() < 0.5 else None

    def make(lipschitz: float, initial: torch.Tensor) -> Algorithm:
        step, scale = (
            None if common is None else common / lipschitz,
            float(np.mean(penalty)) / lipschitz,
        )
        last, *thresholds = (cutoffs * scale).tolist()
        steps = tuple((fractions / lipschitz).tolist())
        return Noodl(step, Hard(last), lower_bound=bound, steps=steps, thresholds=tuple(thresholds))

    return make


#: The problems by turns: half of them dense.
_TURNS: tuple[tuple[str, Callable[[Random], Kind]], ...] = (
    ("sparse coding", _dense),
    ("convolutional", _images),
    ("sparse coding", _dense),
    ("penalty", _selection),
    ("sparse coding", _dense),
    ("ridge", _regression),
    ("sparse coding", _dense),
    ("learned penalties", functools.partial(_images, learned=True)),
)


def _draw(index: int, algorithm_of: Callable[..., Any] = _algorithm) -> Specimen:
    random = generator(index, "conformance draw")
    name, make = _TURNS[index % len(_TURNS)]
    kind = make(random)._replace(reversed_strides=bool(random.random() < 0.3))
    loss = str(random.choice(list(kind.models)))
    algorithm = algorithm_of(random, kind.models[loss])
    problem = f"{name} #{index}"
    # The random start has a stream of the problem's name.
    KINDS[problem], ALGORITHMS[f"#{index}"] = kind, algorithm
    return Specimen(problem, loss, f"#{index}")


#: The problems of even turns are dense, for which NOODL is meant.
DRAWN = tuple(_draw(index) for index in range(DRAWS)) + tuple(
    _draw(DRAWS + 2 * index, _noodl) for index in range(4)
)
#: A few draws of all kinds, because 7 and the number of turns have no common factor.
FEW = DRAWN[:DRAWS:7]


def depths_of(specimen: Specimen) -> list[int]:
    """Return depths in no order for a drawn specimen: a great one, a very small one, one of any
    magnitude, and one again.
    """
    model, random = specimen.model, generator(0, f"conformance depths {specimen.problem}")
    work = model.observations.size * model.parts(model.theta)[0].shape[1]
    largest = int(np.clip(min(WORK // work, LAYERS // model.theta.size), 12, DEEPEST))
    great, small, any_size = (
        largest ** random.uniform(0.6, 1),
        random.integers(0, 3),
        largest ** random.random(),
    )
    depths = [int(great), int(small), int(any_size)]
    return [*depths, int(random.choice(depths))]


#: Condition number of the Hessian up to which an implicit system is solved to the tolerance of its
#: check.
REGULAR = 1e3


def is_regular(specimen: Specimen) -> bool:
    """Return whether every implicit system of a drawn problem is well conditioned, whatever the
    supports.
    """
    matrix, _, l2_penalty = specimen.model.parts(specimen.model.theta)
    values = np.linalg.eigvalsh(matrix.T @ matrix) + l2_penalty
    return bool(values[0] * REGULAR > values[-1])
