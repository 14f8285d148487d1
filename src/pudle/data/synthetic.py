"""Random codes and atoms, which synthetic datasets share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


def normalize(array: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """Scale an array to unit Euclidean norm along some axes; ``axis=0`` normalizes the columns of a dictionary."""
    return array / np.sqrt(np.square(array).sum(axis=axis, keepdims=True))


def sparse_codes(
    random: np.random.Generator,
    shape: tuple[int, int],
    n_nonzero_coefs: int,
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray],
) -> np.ndarray:
    """Draw codes of a shape (n, p) with `n_nonzero_coefs` non-zero entries each, at uniformly random places.

    The non-zero entries are what `draw` returns for the generator and the shape (n, n_nonzero_coefs).
    """
    places = random.permuted(np.tile(np.arange(shape[1]), (shape[0], 1)), axis=1)[:, :n_nonzero_coefs]
    codes = np.zeros(shape)
    np.put_along_axis(codes, places, draw(random, places.shape), axis=1)
    return codes
