"""Pair the atoms of two dictionaries: a learned dictionary is known only up to the order and the
signs of its atoms.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidArgument

#: An array of floats, of any shape.
Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]


@dataclass(frozen=True, eq=False)
class Matching:
    """The pairing of learned with generating atoms that leaves the smallest distance between the
    dictionaries.

    Attributes
    ----------
    places, signs : array, shape (q,)
        Index of the learned atom that is paired with each generating atom, and the sign that brings
        it closest.
    error, relative_error : float
        ``|D P S - D*|_F``, P and S being that order and those signs, and the same over ``|D*|_F``.
    """

    places: np.ndarray[tuple[int], np.dtype[np.intp]]
    signs: Array
    error: float
    relative_error: float

    @property
    def errors(self) -> dict[str, float]:
        """The errors by the names of their columns in a history."""
        return {"dictionary_error": self.error, "relative_error": self.relative_error}


def match_atoms(learned: Tensor | Array, generating: Tensor | Array) -> Matching:
    """Pair the atoms of two dictionaries by optimal assignment.

    Over all permutations P and signs S this minimizes ``|D P S - D*|_F^2 = sum_j |d_P(j)|^2 +
    |d*_j|^2 - 2 |d*_j^T d_P(j)|``, a linear assignment problem.

    Parameters
    ----------
    learned, generating : Tensor or array, shape (m, p) and (m, q)
        Atoms as columns, with q <= p. Filters (p, c, k, k) are atoms as well.

    Raises
    ------
    InvalidArgument
        If the shapes do not fit or an entry is not finite.
    """
    from scipy.optimize import linear_sum_assignment  # slow to import, and needed by few trainings

    d, target = (
        atoms.reshape(len(atoms), -1).T if atoms.ndim == 4 else atoms
        for atoms in map(float64_array, (learned, generating))
    )
    if d.ndim != 2 or target.ndim != 2 or len(d) != len(target) or d.shape[1] < target.shape[1]:
        raise InvalidArgument(
            f"dictionaries of shapes learned (m, p) {d.shape} and generating (m, q) {target.shape}"
            " cannot be matched: give equal m, and q <= p"
        )
    if not (np.isfinite(d).all() and np.isfinite(target).all()):
        raise InvalidArgument(
            "a dictionary has entries that are NaN or infinite: its atoms cannot be matched"
        )
    correlation = target.T @ d
    _, places = linear_sum_assignment(np.square(d).sum(0) - 2 * np.abs(correlation))
    signs = np.where(correlation[np.arange(len(places)), places] < 0, -1.0, 1.0)
    # Computed from the difference: the sum of squares above loses half the digits where the two are
    # close.
    error = float(np.linalg.norm(d[:, places] * signs - target))
    return Matching(places, signs, error, error / float(np.linalg.norm(target)))


def float64_array(values: Tensor | Array) -> Array:
    """Return a tensor of any device, or an array, as a float64 array, which may share memory with
    it.
    """
    return np.asarray(
        values.detach().cpu() if isinstance(values, torch.Tensor) else values, dtype=np.float64
    )
