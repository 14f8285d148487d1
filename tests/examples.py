"""Small problems the tests share, drawn in numpy from seeds of their own."""

from __future__ import annotations

import numpy as np
import torch

import pudle

PENALTY = 0.2


def sparse_arrays(seed: int = 0, n: int = 40, m: int = 12, p: int = 18, s: int = 3) -> dict[str, np.ndarray]:
    """Sparse codes in Gaussian atoms of unit norm, and a dictionary a little off the generating one."""
    random = np.random.default_rng([seed, 2718])
    generating = random.standard_normal((m, p))
    generating /= np.linalg.norm(generating, axis=0)
    dictionary = generating + 0.05 * random.standard_normal((m, p))
    dictionary /= np.linalg.norm(dictionary, axis=0)
    codes = np.zeros((n, p))
    for row in codes:
        row[random.permutation(p)[:s]] = random.uniform(1, 2, s) * random.choice([-1.0, 1.0], s)
    return {
        "observations": codes @ generating.T,
        "dictionary": dictionary,
        "generating_dictionary": generating,
        "generating_codes": codes,
    }


def sparse_problem(
    loss: str = "lasso",
    dtype: torch.dtype = torch.float64,
    device: str = "cpu",
    penalty: float = PENALTY,
    nonnegative: bool = False,
    **shape: int,
) -> pudle.SparseCoding:
    arrays = {name: torch.tensor(array, dtype=dtype, device=device) for name, array in sparse_arrays(**shape).items()}
    return pudle.SparseCoding(**arrays, penalty=penalty, loss=loss, nonnegative=nonnegative)


def ridge_problem(dtype: torch.dtype = torch.float64, device: str = "cpu", seed: int = 0) -> pudle.Ridge:
    """A well-conditioned ridge regression with random observations and weights."""
    random = np.random.default_rng([seed, 3141])
    draw = {"observations": random.standard_normal((30, 12)), "dictionary": random.standard_normal((12, 8)) / 3}
    draw["weights"] = random.standard_normal(8)
    tensors = {name: torch.tensor(array, dtype=dtype, device=device) for name, array in draw.items()}
    return pudle.Ridge(**tensors, strength=0.3)


def arrays_of(problem: pudle.SparseCoding) -> tuple[np.ndarray, np.ndarray]:
    """Observations and dictionary as float64 arrays."""
    return tuple(tensor.detach().cpu().double().numpy() for tensor in (problem.observations, problem.dictionary))


def directions(shape: tuple[int, ...], count: int = 3) -> list[np.ndarray]:
    """Random directions of unit norm."""
    random = np.random.default_rng([count, 1618])
    drawn = [random.standard_normal(shape) for _ in range(count)]
    return [direction / np.linalg.norm(direction) for direction in drawn]
