"""Atoms taken from the data: what image patches and digits share."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from ..errors import InvalidArgument

#: Norm that a row needs once its mean is removed: what lies below is nearly constant, and normalizing it amplifies noise.
CONTRAST = 0.3
#: Two atoms this close make the active Gram matrices of about one code in ten singular.
COHERENCE = 0.95


def normalize_rows(rows: np.ndarray) -> np.ndarray:
    """Remove every row's mean and scale it to unit norm; rows with a norm of at most `CONTRAST` before that are left out.

    Parameters
    ----------
    rows : array, shape (k, m)
        Values in [0, 1].

    Returns
    -------
    array, shape (at most k, m)
    """
    centered = rows - rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centered, axis=1, keepdims=True)
    kept = norms[:, 0] > CONTRAST
    return centered[kept] / norms[kept]


def split_atoms(
    blocks: Iterable[np.ndarray], p: int, n: int, random: np.random.Generator, source: str
) -> tuple[np.ndarray, np.ndarray]:
    """Split unit-norm rows into p atoms, any two with a coherence ``|a^T b| < COHERENCE``, and n observations.

    Atoms are chosen greedily in the order of the rows; observations are drawn from the rows that did not become atoms.
    Blocks are read only until there are enough of both.

    Parameters
    ----------
    blocks : iterable of arrays, shape (any, m)
        Rows in random order.
    p, n : int
        How many atoms and observations are wanted.
    random : numpy Generator
        Draws the observations.
    source : str
        What the rows are, in the plural, for the error text.

    Returns
    -------
    dictionary : array, shape (m, p)
    observations : array, shape (n, m)

    Raises
    ------
    InvalidArgument
        If there are not enough distinct rows for p atoms, or not enough others for n observations.
    """
    atoms: list[np.ndarray] = []
    others: list[np.ndarray] = []
    spare = 0
    for block in blocks:
        distinct = np.ones(len(block), dtype=bool)
        if atoms:
            distinct = np.abs(block @ np.transpose(atoms)).max(axis=1) < COHERENCE
        unused = np.ones(len(block), dtype=bool)
        while len(atoms) < p and distinct.any():
            first = int(distinct.argmax())
            atoms.append(block[first])
            unused[first] = False
            distinct &= np.abs(block @ block[first]) < COHERENCE
            distinct[first] = False
        if spare < n:
            others.append(block[unused])
            spare += len(others[-1])
        if len(atoms) == p and spare >= n:
            break
    if not spare and not atoms:
        raise InvalidArgument(f"{source} are all nearly constant (norm <= {CONTRAST} about the mean): give others")
    for name, wanted, found, what in (
        ("n_components", p, len(atoms), f"any two with a coherence below {COHERENCE}"),
        ("n_samples", n, spare, "besides the atoms"),
    ):
        if found < wanted:
            raise InvalidArgument(
                f"{name}={wanted} is above the {found} that {source} offer ({what}, norm above {CONTRAST} about the mean): "
                f"give a smaller {name} or more data"
            )
    return np.stack(atoms, axis=1), random.permutation(np.concatenate(others))[:n]
