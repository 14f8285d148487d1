"""The PUDLE model: sparse combinations of Gaussian atoms."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from pudle.data import FloatArray
from pudle.data.atoms import Draws, SyntheticDataset, sparse_codes
from pudle.validation import check_options

AMPLITUDES: dict[str, Draws] = {
    # Uniform magnitudes keep every active entry clear of the threshold; Gaussian ones
    # (sub-Gaussian) do not.
    "uniform": lambda random, shape: (
        random.uniform(1.0, 2.0, shape) * random.choice([-1.0, 1.0], shape)
    ),
    "gaussian": lambda random, shape: random.standard_normal(shape),
}


@dataclass(frozen=True)
class SparseGaussian(SyntheticDataset):
    """Observations ``x = D* z* + noise`` with s-sparse codes, and a dictionary near the generating
    one.

    Atoms are Gaussian, of unit norm. Each code has s non-zero entries at uniformly random places.
    The dictionary at which the gradient is taken is the generating one plus ``perturbation`` times
    Gaussian entries, renormalized. Except for n_samples, the defaults are the local-gradient
    experiment of the PUDLE paper.

    Parameters
    ----------
    n_samples, n_features, n_components : int
        Number of samples, dimension of an observation, and number of atoms.
    n_nonzero_coefs : int
        Number s of non-zero entries per code, at most n_components.
    amplitudes : {"uniform", "gaussian"}
        Non-zero entries: uniform in [1, 2] with random signs, or standard normal.
    noise, perturbation : float
        Standard deviations of the Gaussian noise in the observations and of the change of every
        dictionary entry.
    penalty, l2_penalty : float
        Weights of the l1 norm, > 0, and of half the squared l2 norm: zero for the lasso, positive
        for the elastic net.
    seed : int
    """

    n_samples: int = 1000
    n_features: int = 50
    n_components: int = 100
    n_nonzero_coefs: int = 5
    amplitudes: Literal["uniform", "gaussian"] = "uniform"
    noise: float = 0.0
    perturbation: float = 0.02
    penalty: float = 0.2
    l2_penalty: float = 0.0
    seed: int = 0

    name = "sparse_gaussian"
    references = (
        "Tolooshams and Ba, Stable and Interpretable Unrolled Dictionary Learning, TMLR 2022",
    )

    def __post_init__(self) -> None:
        check_options(
            self,
            may_be_zero=("noise", "perturbation", "l2_penalty"),
            at_most={"n_nonzero_coefs": "n_components"},
        )

    def codes(self, random: np.random.Generator, shape: tuple[int, int]) -> FloatArray:
        return sparse_codes(random, shape, self.n_nonzero_coefs, AMPLITUDES[self.amplitudes])
