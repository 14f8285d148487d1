"""Random streams that never collide: every consumer draws from its own, named by (seed, name)."""

from __future__ import annotations

import hashlib

import numpy as np


def generator(seed: int, name: str) -> np.random.Generator:
    """Return the random generator that belongs to `name` under `seed`.

    The stream is seeded by numpy's ``SeedSequence`` over the seed and a digest of the name, so that an estimator and a
    dataset with the same seed share no draws: Gaussian smoothing with seed 0 would otherwise draw the dictionary of a
    dataset with seed 0 as its first direction.

    Parameters
    ----------
    seed : int
        Non-negative.
    name : str
        The consumer: a dataset's or an estimator's name, with a suffix where one consumer needs several streams.
    """
    digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    return np.random.default_rng(np.random.SeedSequence([seed, digest]))
