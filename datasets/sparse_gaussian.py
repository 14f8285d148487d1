"""The PUDLE model: sparse combinations of Gaussian atoms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from pudle.data.dataset import Draw, SparseCodingDataset, normalize_atoms
from pudle.errors import InvalidArgument
from pudle.validation import check_choice, check_integer, check_positive

AMPLITUDES = {
    # Uniform magnitudes keep every active entry clear of the threshold; Gaussian ones (sub-Gaussian) do not.
    "uniform": lambda random, shape: random.uniform(1.0, 2.0, shape) * random.choice([-1.0, 1.0], shape),
    "gaussian": lambda random, shape: random.standard_normal(shape),
}


@dataclass(frozen=True)
class SparseGaussian(SparseCodingDataset):
    """Observations ``x = D* z* + noise`` with s-sparse codes, and a dictionary near the generating one.

    Atoms are Gaussian, of unit norm. Each code has s non-zero entries at uniformly random places. The dictionary at which
    the gradient is taken is the generating one plus ``perturbation`` times Gaussian entries, renormalized. The defaults are
    the local-gradient experiment of the PUDLE paper, but for n.

    Parameters
    ----------
    n_samples : int
        Number of samples.
    n_features : int
        Dimension of an observation.
    n_components : int
        Number of atoms.
    n_nonzero_coefs : int
        Non-zero entries per code, at most p.
    amplitudes : {"uniform", "gaussian"}
        Non-zero entries: uniform in [1, 2] with random signs, or standard normal (sub-Gaussian).
    noise : float
        Standard deviation of Gaussian noise added to every entry of the observations.
    perturbation : float
        Standard deviation of what is added to every entry of the dictionary.
    penalty : float
        Weight of the l1 norm.
    l2_penalty : float
        Weight of half the squared l2 norm: zero for the lasso, positive for the elastic net.
    seed : int
    """

    n_samples: int = 1000
    n_features: int = 50
    n_components: int = 100
    n_nonzero_coefs: int = 5
    amplitudes: str = "uniform"
    noise: float = 0.0
    perturbation: float = 0.02
    penalty: float = 0.2
    l2_penalty: float = 0.0
    seed: int = 0

    name = "sparse_gaussian"
    references = ("Tolooshams and Ba, Stable and Interpretable Unrolled Dictionary Learning, TMLR 2022",)

    def __post_init__(self) -> None:
        for name in ("n_samples", "n_features", "n_components", "n_nonzero_coefs"):
            check_integer(name, getattr(self, name), 1)
        check_integer("seed", self.seed, 0)
        if self.n_nonzero_coefs > self.n_components:
            raise InvalidArgument(
                f"n_nonzero_coefs={self.n_nonzero_coefs} is above n_components={self.n_components}: "
                f"a code cannot have more nonzero entries than atoms"
            )
        check_choice("amplitudes", self.amplitudes, AMPLITUDES)
        check_positive("noise", self.noise, allow_zero=True)
        check_positive("perturbation", self.perturbation, allow_zero=True)
        check_positive("penalty", self.penalty)
        check_positive("l2_penalty", self.l2_penalty, allow_zero=True)

    def draw(self) -> Draw:
        random = self.generator()
        generating = normalize_atoms(random.standard_normal((self.n_features, self.n_components)))
        places = random.permuted(np.tile(np.arange(self.n_components), (self.n_samples, 1)), axis=1)[
            :, : self.n_nonzero_coefs
        ]
        codes = np.zeros((self.n_samples, self.n_components))
        np.put_along_axis(codes, places, AMPLITUDES[self.amplitudes](random, places.shape), axis=1)
        observations = codes @ generating.T + self.noise * random.standard_normal((self.n_samples, self.n_features))
        dictionary = normalize_atoms(generating + self.perturbation * random.standard_normal(generating.shape))
        return Draw(observations, dictionary, generating, codes)
