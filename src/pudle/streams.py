"""Random streams that never collide: every consumer draws from its own stream, given by (seed,
name).
"""

import hashlib

import numpy as np


def generator(seed: int, name: str) -> np.random.Generator:
    """Return the random generator of the stream `name` under `seed`.

    numpy's ``SeedSequence`` over the seed and a digest of the name seeds the stream, so an
    estimator and a dataset with the same seed share no draws. Otherwise Gaussian smoothing with
    seed 0 would draw the dictionary of a dataset with seed 0 as its first direction. The name is
    that of the dataset or the estimator, with a suffix if it needs several streams.
    """
    digest = int.from_bytes(hashlib.sha256(name.encode()).digest()[:16], "little")
    return np.random.default_rng(np.random.SeedSequence([seed, digest]))
