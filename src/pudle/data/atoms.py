"""Atoms chosen from the data, which datasets of real images share."""

from collections.abc import Iterable

import numpy as np

from ..errors import InvalidArgument

#: Smallest norm of a row without its mean: rows below are nearly constant, and normalizing them
#: would amplify noise.
CONTRAST = 0.3
#: Coherence that atoms stay below: closer atoms make the active Gram matrices of about one code in
#: ten singular.
COHERENCE = 0.95


def normalize_rows(rows: np.ndarray) -> np.ndarray:
    """Remove the mean of every row, drop the rows whose norm is then at most `CONTRAST`, and scale
    the rest to unit norm.

    The rows have shape (k, m) and values in [0, 1]; the result has shape (at most k, m).
    """
    centered = rows - rows.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(centered, axis=1, keepdims=True)
    kept = norms[:, 0] > CONTRAST
    return centered[kept] / norms[kept]


def split_atoms(
    blocks: Iterable[np.ndarray],
    n_components: int,
    n_samples: int,
    random: np.random.Generator,
    source: str,
) -> tuple[np.ndarray, np.ndarray]:
    """Split unit-norm rows into observations and atoms, any two of which have a coherence ``|a^T b|
    < COHERENCE``.

    The atoms are chosen greedily in the order of the rows. The observations are drawn from the rows
    that did not become atoms. Blocks, arrays of shape (any, m), are read only until there are
    enough of both. The error text calls the rows `source`.

    Returns
    -------
    observations : array, shape (n_samples, m)
    dictionary : array, shape (m, n_components)

    Raises
    ------
    InvalidArgument
        If there are too few distinct rows for the atoms, or too few other rows for the
        observations.
    """
    atoms: list[np.ndarray] = []
    others: list[np.ndarray] = []
    spare = 0
    for block in blocks:
        distinct = (
            np.abs(block @ np.reshape(atoms, (-1, block.shape[1])).T).max(axis=1, initial=0)
            < COHERENCE
        )
        chosen: list[int] = []
        while len(atoms) < n_components and distinct.any():
            chosen.append(int(distinct.argmax()))
            atoms.append(block[chosen[-1]])
            distinct &= np.abs(block @ atoms[-1]) < COHERENCE
        if spare < n_samples:
            others.append(np.delete(block, chosen, axis=0))
            spare += len(others[-1])
        if len(atoms) == n_components and spare >= n_samples:
            break
    for name, wanted, available in (
        ("n_components", n_components, len(atoms)),
        ("n_samples", n_samples, spare),
    ):
        if available < wanted:
            raise InvalidArgument(
                f"{name}={wanted} is above the {available} that {source} offer (norm above"
                f" {CONTRAST} about the mean; atoms with a coherence below {COHERENCE}, samples"
                f" besides them): give a smaller {name} or more data"
            )
    dictionary = np.stack(atoms, axis=1)
    # The empty array stands for a call that wants no observations.
    return random.permutation(np.concatenate([dictionary.T[:0], *others]))[:n_samples], dictionary
