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
    """Draw codes with a fixed number of non-zero entries at uniformly random places.

    Parameters
    ----------
    random : numpy Generator
    shape : tuple of int
        Shape (n, p) of the codes.
    n_nonzero_coefs : int
        Non-zero entries of each code, at most p.
    draw : callable
        Takes the generator and the shape (n, n_nonzero_coefs); returns the non-zero entries.
    """
    places = random.permuted(np.tile(np.arange(shape[1]), (shape[0], 1)), axis=1)[:, :n_nonzero_coefs]
    codes = np.zeros(shape)
    np.put_along_axis(codes, places, draw(random, places.shape), axis=1)
    return codes
