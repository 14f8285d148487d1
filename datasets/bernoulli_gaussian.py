"""Bernoulli-Gaussian codes in a Gaussian dictionary, with noise: the supports are never fully recovered."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pudle.data.dataset import Draw, SparseCodingDataset, normalize_atoms
from pudle.errors import InvalidArgument
from pudle.validation import check_integer, check_positive


@dataclass(frozen=True)
class BernoulliGaussian(SparseCodingDataset):
    """Observations ``x = D* z* + noise`` where each code entry is non-zero with a given probability, then standard normal.

    Atoms are Gaussian, of unit norm. The dictionary at which the gradient is taken is the generating one plus Gaussian
    entries whose standard deviation is ``perturbation`` times that of the generating dictionary's entries, renormalized.
    The defaults are the synthetic gradient experiment of Malezieux, Moreau and Kowalski, in which the penalty 0.1 is an
    absolute weight too; there the perturbed dictionary is not renormalized.

    Parameters
    ----------
    n_samples : int
        Number of samples.
    n_features : int
        Dimension of an observation.
    n_components : int
        Number of atoms.
    density : float
        Probability that a code entry is non-zero, in (0, 1].
    noise : float
        Standard deviation of Gaussian noise added to every entry of the observations.
    perturbation : float
        Standard deviation of what is added to every entry of the dictionary, as a multiple of that of its entries.
    penalty : float
        Weight of the l1 norm.
    l2_penalty : float
        Weight of half the squared l2 norm: zero for the lasso, positive for the elastic net.
    seed : int
    """

    n_samples: int = 1000
    n_features: int = 30
    n_components: int = 50
    density: float = 0.3
    noise: float = 0.1
    perturbation: float = 0.5
    penalty: float = 0.1
    l2_penalty: float = 0.0
    seed: int = 0

    name = "bernoulli_gaussian"
    references = (
        "Malezieux, Moreau and Kowalski, Understanding approximate and unrolled dictionary learning for pattern recovery, "
        "ICLR 2022",
    )

    def __post_init__(self) -> None:
        for name in ("n_samples", "n_features", "n_components"):
            check_integer(name, getattr(self, name), 1)
        check_integer("seed", self.seed, 0)
        if check_positive("density", self.density) > 1:
            raise InvalidArgument(f"density={self.density} is above 1: it is a probability, give a number in (0, 1]")
        check_positive("noise", self.noise, allow_zero=True)
        check_positive("perturbation", self.perturbation, allow_zero=True)
        check_positive("penalty", self.penalty)
        check_positive("l2_penalty", self.l2_penalty, allow_zero=True)

    def draw(self) -> Draw:
        random = self.generator()
        generating = normalize_atoms(random.standard_normal((self.n_features, self.n_components)))
        present = random.random((self.n_samples, self.n_components)) < self.density
        codes = np.where(present, random.standard_normal(present.shape), 0.0)
        observations = codes @ generating.T + self.noise * random.standard_normal((self.n_samples, self.n_features))
        spread = self.perturbation * generating.std()
        dictionary = normalize_atoms(generating + spread * random.standard_normal(generating.shape))
        return Draw(observations, dictionary, generating, codes)
