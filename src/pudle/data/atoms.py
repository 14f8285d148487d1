"""Atoms and codes, random or chosen from the data, which datasets share."""

from abc import abstractmethod
from collections.abc import Callable, Iterable

import numpy as np
from numpy.random import Generator

from ..errors import InvalidArgument
from .dataset import Draw, FloatArray, SparseCodingDataset

#: Smallest norm of a row without its mean: rows below are nearly constant, and normalizing them
#: would amplify noise.
CONTRAST = 0.3
#: Coherence that atoms stay below: closer atoms make the active Gram matrices of about one code in
#: ten singular.
COHERENCE = 0.95
#: Draws numbers of a shape.
Draws = Callable[[Generator, tuple[int, ...]], FloatArray]


def normalize_rows(rows: FloatArray) -> FloatArray:
    """Remove the mean of every row, drop the rows whose norm is then at most `CONTRAST`, and scale
    the rest to unit norm.

    The rows have shape (k, m) and values in [0, 1]; the result has shape (at most k, m).
    """
    centered: FloatArray = rows - rows.mean(axis=1, keepdims=True)
    norms: FloatArray = np.linalg.norm(centered, axis=1, keepdims=True)
    has_contrast = norms[:, 0] > CONTRAST
    return centered[has_contrast] / norms[has_contrast]


def choose_distinct(rows: FloatArray, atoms: list[FloatArray], most: int) -> list[int]:
    """Add unit-norm rows to atoms, greedily in their order, until there are as many as `most`;
    return the numbers of those added.

    Changes `atoms` in place. Any two of them then have a coherence ``|a^T b| < COHERENCE``.
    """
    earlier_atoms = np.reshape(atoms, (-1, rows.shape[1]))
    distinct = np.abs(rows @ earlier_atoms.T).max(axis=1, initial=0) < COHERENCE
    chosen: list[int] = []
    while len(atoms) < most and distinct.any():
        chosen.append(int(distinct.argmax()))
        atoms.append(rows[chosen[-1]])
        distinct &= np.abs(rows @ atoms[-1]) < COHERENCE
    return chosen


def split_atoms(
    blocks: Iterable[FloatArray],
    n_components: int,
    n_samples: int,
    random: Generator,
    source: str,
) -> tuple[FloatArray, FloatArray]:
    """Split unit-norm rows into observations and atoms, which `choose_distinct` chooses.

    The observations are drawn from the rows that did not become atoms. Blocks, arrays of shape
    (any, m), are read only until there are enough of both. The error text calls the rows `source`.

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
    atoms: list[FloatArray] = []
    remaining: list[FloatArray] = []
    spare = 0
    for block in blocks:
        chosen = choose_distinct(block, atoms, n_components)
        if spare < n_samples:
            remaining.append(np.delete(block, chosen, axis=0))
            spare += len(remaining[-1])
        if len(atoms) == n_components and spare >= n_samples:
            break
    if not spare and not atoms:
        raise InvalidArgument(
            f"{source} are all nearly constant (norm <= {CONTRAST} about the mean): give others"
        )
    for name, requested, available in (
        ("n_components", n_components, len(atoms)),
        ("n_samples", n_samples, spare),
    ):
        if available < requested:
            raise InvalidArgument(
                f"{name}={requested} is above the {available} that {source} offer (norm above"
                f" {CONTRAST} about the mean; atoms with a coherence below {COHERENCE}, samples"
                f" besides them): give a smaller {name} or more data"
            )
    dictionary = np.stack(atoms, axis=1)
    # The empty array stands for a call that wants no observations.
    return random.permutation(np.concatenate([dictionary.T[:0], *remaining]))[
        :n_samples
    ], dictionary


def normalize(array: FloatArray, axis: int | tuple[int, ...]) -> FloatArray:
    """Scale an array to unit Euclidean norm along some axes, in a new array; ``axis=0`` normalizes
    the columns of a dictionary. Zeros become NaN.
    """
    norms: FloatArray = np.sqrt(np.square(array).sum(axis=axis, keepdims=True))
    return array / norms


def observe(
    codes: FloatArray,
    generating_dictionary: FloatArray | None,
    noise: float,
    random: Generator,
) -> FloatArray:
    """Return ``D* z`` plus Gaussian noise of a standard deviation for codes z as rows, shape (n,
    m).

    The noise is drawn from `random`. Without a generating dictionary D*, shape (m, p),
    InvalidArgument is raised.
    """
    if generating_dictionary is None:
        raise InvalidArgument(
            "fresh samples need the problem's generating_dictionary: give one, or fresh=False"
        )
    clean = codes @ generating_dictionary.T
    return clean + noise * random.standard_normal(clean.shape)


def sparse_codes(
    random: Generator, shape: tuple[int, int], n_nonzero_coefs: int, draw: Draws
) -> FloatArray:
    """Draw codes of a shape (n, p) with `n_nonzero_coefs` non-zero entries each, at uniformly
    random places.

    The non-zero entries are what `draw` returns for the generator and the shape (n,
    n_nonzero_coefs).
    """
    places = random.permuted(np.indices(shape)[1], axis=1)[:, :n_nonzero_coefs]
    codes = np.zeros(shape)
    np.put_along_axis(codes, places, draw(random, places.shape), axis=1)
    return codes


class SyntheticDataset(SparseCodingDataset):
    """Observations ``x = D* z* + noise`` of a Gaussian dictionary with unit norms: a concrete
    dataset draws the codes.

    The dictionary at which the gradient is taken is the generating one plus ``perturbation`` times
    Gaussian entries, renormalized.
    """

    n_samples: int
    n_features: int
    n_components: int
    noise: float
    perturbation: float
    #: Whether the perturbation is a multiple of the standard deviation of the entries.
    relative = False

    @abstractmethod
    def codes(self, random: Generator, shape: tuple[int, int]) -> FloatArray:
        """Draw codes of a shape (n, p)."""

    def draw(self) -> Draw:
        """Draw the generating dictionary, observations and codes, and the perturbed dictionary, all
        from one stream of the seed.
        """
        random = self.generator()
        generating = normalize(random.standard_normal((self.n_features, self.n_components)), axis=0)
        observations, codes = self.samples(generating, self.n_samples, random)
        spread = self.perturbation * (generating.std() if self.relative else 1.0)
        perturbed = generating + spread * random.standard_normal(generating.shape)
        return Draw(observations, normalize(perturbed, axis=0), generating, codes)

    def samples(
        self, generating_dictionary: FloatArray | None, n_samples: int, random: Generator
    ) -> tuple[FloatArray, FloatArray]:
        """Draw codes from `random`, then their observations with noise; InvalidArgument without a
        generating dictionary.
        """
        codes = self.codes(random, (n_samples, self.n_components))
        return observe(codes, generating_dictionary, self.noise, random), codes
