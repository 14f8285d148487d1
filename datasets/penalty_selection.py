"""Simulated regression with held-out data, for a gradient in the penalty."""

from dataclasses import dataclass

import numpy as np

from pudle.data import ArraysDataset, FloatArray, ToTensor, check_options
from pudle.data.atoms import observe, sparse_codes
from pudle.problems import PenaltySelection


@dataclass(frozen=True)
class HeldOutRegression(ArraysDataset):
    """`pudle.PenaltySelection` on n regressions ``y = A z* + noise`` that share a Gaussian design
    and differ in z*.

    Rows of the designs are Gaussian, neighboring columns correlated as ``correlation^|i - j|``,
    scaled by ``1/sqrt(m)`` so that columns have norm about one, in both designs. Each z* has
    `n_nonzero_coefs` entries +1 or -1 at uniformly random places. The standard deviation of the
    noise is the root mean square of ``A z*`` over `snr`, in both sets.

    Parameters
    ----------
    n_samples : int
        Number of regressions.
    n_features, held_out : int
        Numbers of observations that each regression is fitted to (m) and tested on.
    n_components, n_nonzero_coefs : int
        Numbers of all coefficients and of the non-zero ones.
    correlation : float
        Correlation of neighboring columns, in [0, 1).
    snr : float
        Signal-to-noise ratio, > 0.
    penalty_fraction : float
        The penalty as a fraction of the smallest one at which all codes are zero, in (0, 1).
    weighted : bool
        Whether each coefficient has a penalty of its own (all equal at first): theta then has p
        entries, not one.
    seed : int
    """

    n_samples: int = 20
    n_features: int = 60
    held_out: int = 60
    n_components: int = 100
    n_nonzero_coefs: int = 5
    correlation: float = 0.5
    snr: float = 3.0
    penalty_fraction: float = 0.05
    weighted: bool = False
    seed: int = 0

    name = "penalty_selection"
    references = (
        "Bertrand, Klopfenstein, Blondel, Vaiter, Gramfort and Salmon, Implicit differentiation of"
        " Lasso-type models for hyperparameter optimization, ICML 2020",
    )
    losses = (PenaltySelection.loss,)

    def __post_init__(self) -> None:
        check_options(
            self,
            may_be_zero=("correlation",),
            below_one=("correlation", "penalty_fraction"),
            at_most={"n_nonzero_coefs": "n_components"},
        )

    def make(self, loss: str, tensor: ToTensor) -> PenaltySelection:
        """Draw codes, designs and noise from one stream of the seed, and return the problem; its
        one outer loss, ``held_out``, is the mean of half the squared error on the held-out data.
        """
        random = self.generator()
        codes = sparse_codes(
            random,
            (self.n_samples, self.n_components),
            self.n_nonzero_coefs,
            lambda random, shape: random.choice(np.array([-1.0, 1.0]), shape),
        )
        design = self._design(random, self.n_features)
        held_out_design = self._design(random, self.held_out)
        noise = float(np.sqrt(np.square(codes @ design.T).mean())) / self.snr
        observations = observe(codes, design, noise, random)
        penalty = self.penalty_fraction * float(np.abs(observations @ design).max())
        return PenaltySelection(
            observations=tensor(observations),
            design=tensor(design),
            held_out_observations=tensor(observe(codes, held_out_design, noise, random)),
            held_out_design=tensor(held_out_design),
            log_penalty=tensor(
                np.log(np.full(self.n_components if self.weighted else (), penalty))
            ),
        )

    def _design(self, random: np.random.Generator, rows: int) -> FloatArray:
        """Draw rows of an autoregressive process of order one from `random`, with unit variance
        before the scaling; shape (rows, n_components).
        """
        columns = random.standard_normal((self.n_components, rows))
        for j in range(1, self.n_components):
            columns[j] = (
                self.correlation * columns[j - 1] + np.sqrt(1 - self.correlation**2) * columns[j]
            )
        design: FloatArray = columns.T / np.sqrt(self.n_features)
        return design
