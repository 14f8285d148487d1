"""Antithetic Gaussian smoothing: a gradient from loss values alone."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pudle import streams
from pudle.estimator import CheckedOptions, SmoothingEstimator


@dataclass(frozen=True)
class Spsa(CheckedOptions, SmoothingEstimator):
    r"""Random central differences of :math:`f(\theta) = \ell(z_T(\theta), \theta)` along Gaussian
    directions.

    .. math:: g = \frac{1}{K} \sum_{k=1}^{K} \frac{f(\theta + \sigma E_k) - f(\theta - \sigma
              E_k)}{2 \sigma} \, E_k, \qquad E_k \sim N(0, I)

    Its mean is the gradient of f smoothed by a Gaussian of width :math:`\sigma`, which is that of f
    up to
    :math:`O(\sigma^2)` where f is smooth; the algorithm's step is held constant. With P entries of
    theta the relative error is about :math:`\sqrt{(P + 1) / K}`. All calls and depths use the same
    directions. ``standard_error`` in the diagnostics, given for K > 1, is that of the whole vector
    (Frobenius norm), estimated from the samples.

    Each direction serves a whole trajectory, whatever the number of layers between two evaluations.
    For a loss at the end of the trajectory and a theta that does not move on the way, that is also
    what ES-Single computes; `pes` draws new directions on the way.

    Cost: (2 K + 1) T layers forward, none differentiated, no solves; stored are the tensors of one
    layer, whatever T.

    Parameters
    ----------
    samples : int
        Number K of antithetic pairs, >= 1.
    scale : float
        Width :math:`\sigma` of the smoothing, in units of theta. Below about 1e-3 in float32
        rounding dominates.
    seed : int
        Seed of the directions.
    """

    samples: int = 100
    scale: float = 1e-3
    seed: int = 0

    name = "spsa"
    aliases = ("es", "antithetic", "zero_order", "es_single")
    references = (
        (
            "Spall, Multivariate stochastic approximation using a simultaneous perturbation"
            " gradient approximation, IEEE Transactions on Automatic Control 1992"
        ),
        "Nesterov and Spokoiny, Random gradient-free minimization of convex functions, 2017",
        (
            "Salimans, Ho, Chen, Sidor and Sutskever, Evolution strategies as a scalable"
            " alternative to reinforcement learning, arXiv 1703.03864"
        ),
        (
            "Vicol, Kolter and Swersky, Low-variance gradient estimation in unrolled computation"
            " graphs with ES-Single, ICML 2023"
        ),
    )
    computes = "stochastic"

    def generators(self) -> Iterator[np.random.Generator]:
        return itertools.repeat(streams.generator(self.seed, "estimator spsa"))
