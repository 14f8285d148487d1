"""Random codes and atoms, which synthetic datasets share."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import InvalidArgument


def normalize(array: np.ndarray, axis: int | tuple[int, ...]) -> np.ndarray:
    """Scale an array to unit Euclidean norm along some axes; ``axis=0`` normalizes the columns of a
    dictionary.
    """
    return array / np.sqrt(np.square(array).sum(axis=axis, keepdims=True))


def observe(
    codes: np.ndarray,
    generating_dictionary: np.ndarray | None,
    noise: float,
    random: np.random.Generator,
) -> np.ndarray:
    """Return ``D* z`` plus Gaussian noise of a standard deviation for codes z as rows, shape (n,
    m).

    Without a generating dictionary D*, shape (m, p), InvalidArgument is raised.
    """
    if generating_dictionary is None:
        raise InvalidArgument(
            "fresh samples need the problem's generating_dictionary: give one, or fresh=False"
        )
    shape = len(codes), len(generating_dictionary)
    return codes @ generating_dictionary.T + noise * random.standard_normal(shape)


def sparse_codes(
    random: np.random.Generator,
    shape: tuple[int, int],
    n_nonzero_coefs: int,
    draw: Callable[[np.random.Generator, tuple[int, ...]], np.ndarray],
) -> np.ndarray:
    """Draw codes of a shape (n, p) with `n_nonzero_coefs` non-zero entries each, at uniformly
    random places.

    The non-zero entries are what `draw` returns for the generator and the shape (n,
    n_nonzero_coefs).
    """
    places = random.permuted(np.tile(np.arange(shape[1]), (shape[0], 1)), axis=1)[
        :, :n_nonzero_coefs
    ]
    codes = np.zeros(shape)
    np.put_along_axis(codes, places, draw(random, places.shape), axis=1)
    return codes
