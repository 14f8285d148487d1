"""Random codes and atoms, which synthetic datasets share."""

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import InvalidArgument
from .dataset import Draw, SparseCodingDataset


def normalize(array: np.ndarray, axis: Any) -> np.ndarray:
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
    random: np.random.Generator, shape: tuple[int, int], n_nonzero_coefs: int, draw: Callable
) -> np.ndarray:
    """Draw codes of a shape (n, p) with `n_nonzero_coefs` non-zero entries each, at uniformly
    random places.

    The non-zero entries are what `draw` returns for the generator and the shape (n,
    n_nonzero_coefs).
    """
    order = random.permuted(np.tile(np.arange(shape[1]), (shape[0], 1)), axis=1)
    places = order[:, :n_nonzero_coefs]
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
    def codes(self, random: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
        """Draw codes of a shape (n, p)."""

    def draw(self) -> Draw:
        random = self.generator()
        generating = normalize(random.standard_normal((self.n_features, self.n_components)), axis=0)
        observations, codes = self.samples(generating, self.n_samples, random)
        spread = self.perturbation * (generating.std() if self.relative else 1.0)
        perturbed = generating + spread * random.standard_normal(generating.shape)
        return Draw(observations, normalize(perturbed, axis=0), generating, codes)

    def samples(
        self, generating_dictionary: np.ndarray | None, n_samples: int, random: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        codes = self.codes(random, (n_samples, self.n_components))
        return observe(codes, generating_dictionary, self.noise, random), codes
