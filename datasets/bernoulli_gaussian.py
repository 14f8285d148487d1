"""Bernoulli-Gaussian codes in a Gaussian dictionary, with noise: the supports are never fully
recovered.
"""

from dataclasses import dataclass

import numpy as np

from pudle.data import FloatArray
from pudle.data.atoms import SyntheticDataset
from pudle.validation import check_options


@dataclass(frozen=True)
class BernoulliGaussian(SyntheticDataset):
    """Observations ``x = D* z* + noise`` whose code entries are non-zero with a given probability,
    then standard normal.

    Atoms are Gaussian, of unit norm. The dictionary at which the gradient is taken is the
    generating one plus Gaussian entries whose standard deviation is ``perturbation`` times that of
    the generating dictionary's entries, renormalized. The defaults are the synthetic gradient
    experiment of Malézieux, Moreau and Kowalski, in which the penalty 0.1 is an absolute weight
    too; there the perturbed dictionary is not renormalized.

    Parameters
    ----------
    n_samples, n_features, n_components : int
        Number of samples, dimension of an observation, and number of atoms.
    density : float
        Probability that a code entry is non-zero, in (0, 1].
    noise : float
        Standard deviation of the Gaussian noise in every entry of the observations.
    perturbation : float
        Standard deviation of the perturbation of every dictionary entry, as a multiple of that of
        the entries.
    penalty, l2_penalty : float
        Weights of the l1 norm, > 0, and of half the squared l2 norm: zero for the lasso, positive
        for the elastic net.
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
    relative = True
    references = (
        "Malézieux, Moreau and Kowalski, Understanding approximate and unrolled dictionary"
        " learning for pattern recovery, ICLR 2022",
    )

    def __post_init__(self) -> None:
        check_options(self, may_be_zero=("noise", "perturbation", "l2_penalty"))

    def codes(self, random: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
        present = random.random(shape) < self.density
        return np.where(present, random.standard_normal(shape), 0.0)
