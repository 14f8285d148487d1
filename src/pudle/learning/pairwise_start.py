"""A first dictionary found from the samples alone, by the correlations of pairs of them."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.linalg import norm
from numpy.random import Generator

from ..errors import InvalidArgument
from ..measuring.experiment import Outcome, Plain, ProgressCallback
from ..problems.l1 import DictionaryProblem
from ..streams import generator
from ..validation import check_integer
from .images import Images
from .learner import Training
from .learning_experiment import LearningExperiment
from .matching import Array, float64_array, match_atoms

#: A pair is weighed if the inner product of its two samples is at least this in absolute value, in
#: units where the mean square of a nonzero coefficient is one: two samples that share an atom have
#: about one.
SHARED = 0.8
#: An atom is taken where the largest eigenvalue is at least this times s / p, and the second is
#: smaller by log p. The theorem has constants here that it does not name.
LARGEST = 1.0
#: A coefficient with which a sample has an atom, in the same units.
PRESENT = 0.5
#: Pairs that are weighed at most, for each atom.
MOST_PAIRS = 200


@dataclass(frozen=True, eq=False)
class PairwiseStart:
    """A dictionary that was found from pairs of samples.

    Attributes
    ----------
    dictionary : array, shape (m, p)
        Atoms of unit norm, as columns, in the order in which they were found.
    n_pairs : int
        Number of pairs of samples whose weighted covariance was decomposed.
    seconds : float
        Processor seconds.
    """

    dictionary: Array
    n_pairs: int
    seconds: float


def find_start(
    observations: Array,
    n_components: int,
    n_nonzero_coefs: int,
    *,
    n_paired: int = 0,
    seed: int = 0,
) -> PairwiseStart:
    """Find a first dictionary from samples alone.

    Two samples u and v that share exactly one atom show it: with the weights ``<x, u> <x, v>`` the
    samples that have this atom outweigh all others, so that the matrix

        ``M = mean_x <x, u> <x, v> x x^T``

    has one large eigenvalue, of about ``s / p``, with the atom as its eigenvector. Pairs are made
    of `n_paired` of the samples, and the mean is taken over the others. The pairs whose samples
    correlate, and share no atom that is known already, are tried in random order. An eigenvector
    becomes an atom if its eigenvalue is at least ``s / p``, the second at most ``1 / log p`` of
    it, and no earlier atom is near. The search ends with p atoms, or after `MOST_PAIRS` pairs for
    each.

    The theorem: for a generating dictionary of p incoherent atoms, and codes with s nonzero
    sub-Gaussian entries of mean zero that stay away from zero, s at most about ``sqrt(m) / log p``,
    enough samples leave every atom within ``1 / log p`` of a generating one, up to its sign.

    Parameters
    ----------
    observations : array, shape (n, m)
    n_components, n_nonzero_coefs : int
        Numbers p of atoms to find and s of those in a sample, s < p.
    n_paired : int
        Samples that pairs are made of, at least 2; zero stands for twenty times p, or for half
        of the samples if these are fewer.
    seed : int
        Seed of the order of the samples and of the pairs.

    Returns
    -------
    PairwiseStart
        The dictionary, with atoms of unit norm and any sign, and what the search took.

    Raises
    ------
    InvalidArgument
        For numbers out of range, and where fewer atoms are found.

    Source: Arora, Ge, Ma and Moitra, "Simple, efficient and neural algorithms for sparse coding",
    COLT 2015, algorithm 3.
    """
    started = time.process_time()
    check_integer("n_nonzero_coefs", n_nonzero_coefs, 1)
    check_integer("n_components", n_components, n_nonzero_coefs + 1)
    n_samples = len(observations)
    size = n_paired or min(20 * n_components, n_samples // 2)
    if not 2 <= size < n_samples:
        raise InvalidArgument(
            f"n_paired={size} of {n_samples} samples: give at least 2, and leave some to weigh"
        )
    random = generator(seed, "pairwise start")
    # The mean square of a nonzero coefficient becomes one.
    scale = math.sqrt(n_nonzero_coefs / np.square(observations).sum(1).mean())
    shuffled = scale * observations[random.permutation(n_samples)]
    search = _AtomSearch(shuffled[:size], shuffled[size:], n_components, n_nonzero_coefs)
    for first, second in _pairs(search.paired, random):
        search.weigh(first, second)
        if len(search.atoms) == n_components or search.n_pairs >= MOST_PAIRS * n_components:
            break
    if len(search.atoms) < n_components:
        raise InvalidArgument(
            f"{len(search.atoms)} of {n_components} atoms were found from {search.n_pairs} pairs of"
            " samples: give more samples, more of them to pair (n_paired), or the right number of"
            " nonzero coefficients; codes whose entries come near zero, or that share too many"
            " atoms, give none away"
        )
    dictionary = np.stack(search.atoms, axis=1)
    return PairwiseStart(dictionary, search.n_pairs, time.process_time() - started)


def _pairs(paired: Array, random: Generator) -> Iterator[tuple[int, int]]:
    """Yield the pairs of samples whose inner product is at least `SHARED` in absolute value, so
    that they seem to share an atom, in a random order.

    Each pair comes once, as the indices of its samples, the smaller first. The samples are scaled
    as `SHARED` is. The order is drawn from `random`, which moves on.
    """
    correlation = np.abs(paired @ paired.T)
    first, second = np.nonzero(np.triu(correlation >= SHARED, 1))
    for place in random.permutation(len(first)):
        yield int(first[place]), int(second[place])


class _AtomSearch:
    """The atoms that were found so far, and the samples that tell of others."""

    def __init__(self, paired: Array, weighed: Array, n_components: int, sparsity: int) -> None:
        self.paired, self.weighed = paired, weighed
        self.products = weighed @ paired.T
        share = sparsity / n_components
        self.least, self.most_second = LARGEST * share, 1 / math.log(n_components)
        self.radius = 2 / math.log(n_components)
        self.atoms: list[Array] = []
        #: Whether a sample has an atom, one array for each atom.
        self.present: list[np.ndarray[tuple[int], np.dtype[np.bool_]]] = []
        self.n_pairs = 0

    def weigh(self, first: int, second: int) -> None:
        """Take the atom that a pair of samples, given by their indices, shares, unless it is known
        or they share several. Such an atom is the eigenvector of the weighted covariance to its
        eigenvalue of largest absolute value.

        Adds to `atoms` and `present`, and counts the pair in `n_pairs` unless both samples have a
        known atom.
        """
        # Such a pair leads to the atom that is known, or shares another one as well.
        if any(present[first] and present[second] for present in self.present):
            return
        self.n_pairs += 1
        weights = self.products[:, first] * self.products[:, second]
        values, vectors = np.linalg.eigh((self.weighed.T * weights) @ self.weighed)
        sizes = np.abs(values) / len(self.weighed)
        second_largest, largest = np.argsort(sizes)[-2:]
        atom = vectors[:, largest]
        share_one = (
            sizes[largest] >= self.least
            and sizes[second_largest] <= self.most_second * sizes[largest]
        )
        if share_one and self.is_new(atom):
            self.atoms.append(atom)
            self.present.append(np.abs(self.paired @ atom) >= PRESENT)

    def is_new(self, atom: Array) -> bool:
        """Tell whether no known atom is within twice the theorem's radius, up to its sign."""
        if not self.atoms:
            return True
        cosine = float(np.abs(np.stack(self.atoms) @ atom).max())
        return math.sqrt(max(2 - 2 * cosine, 0.0)) >= self.radius


def distances_of_atoms(learned: Array, generating: Array) -> Array:
    """Return the distance of every generating atom, shape (q,), from the learned one that it is
    matched with, up to its sign.
    """
    matching = match_atoms(learned, generating)
    distances: Array = norm(learned[:, matching.places] * matching.signs - generating, axis=0)
    return distances


@dataclass(frozen=True)
class PairwiseStartExperiment(LearningExperiment):
    """Learn a dictionary from the start that `find_start` finds in the observations.

    Attributes
    ----------
    n_nonzero_coefs : int
        Atoms in a sample, which the search is told.
    """

    n_nonzero_coefs: int = 1

    @property
    def title(self) -> str:
        return f"{super().title} from pairs of samples"

    @cached_property
    def pairwise_start(self) -> PairwiseStart:
        """What the search finds in the observations; it is done once. InvalidArgument refuses
        filters, and data in which too few atoms are found.
        """
        problem = super().problem()
        if problem.dictionary.ndim != 2:
            raise InvalidArgument(
                f"pairs of samples find a dense dictionary, not filters: {self.dataset!r} has"
                " filters; give one such as sparse_gaussian"
            )
        observations = float64_array(problem.observations)
        components = problem.dictionary.shape[1]
        return find_start(observations, components, self.n_nonzero_coefs, seed=self.seed)

    def problem(self, device: str = "cpu", **options: Images) -> DictionaryProblem:
        """Draw the problem on a device, and search its observations for the dictionary to start
        from, which takes the place of its own; a `start` is refused.
        """
        if self.start is not None:
            raise InvalidArgument(
                f"start={self.start!r} is not for this experiment, which finds its own: leave it"
                " out"
            )
        problem = super().problem(device, **options)
        dictionary = problem.dictionary.new_tensor(self.pairwise_start.dictionary)
        return replace(problem, dictionary=dictionary)

    def outcome(
        self, problem: DictionaryProblem, training: Training, progress: ProgressCallback
    ) -> Outcome:
        """Return summary and arrays with what was found: the largest and the median distance of an
        atom from its generating one, how many are within ``1 / log p``, and pairs and seconds.
        """
        summary, arrays = super().outcome(problem, training, progress)
        start = self.pairwise_start
        more: dict[str, Plain] = {"start_pairs": start.n_pairs, "start_seconds": start.seconds}
        more["start_relative_error"] = training.rows[0]["relative_error"]
        if problem.generating_dictionary is not None:
            distances = distances_of_atoms(
                start.dictionary, float64_array(problem.generating_dictionary)
            )
            more |= {
                "start_largest_distance": float(distances.max()),
                "start_median_distance": float(np.median(distances)),
                "start_atoms_near": int((distances <= 1 / math.log(len(distances))).sum()),
            }
        return summary | more, arrays
