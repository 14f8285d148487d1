"""Persistent evolution strategies: antithetic smoothing with new perturbations every few layers."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from pudle import streams
from pudle.estimator import CheckedOptions, SmoothingEstimator


@dataclass(frozen=True)
class Pes(CheckedOptions, SmoothingEstimator):
    r"""Random central differences of the loss after T layers, theta perturbed anew in every segment
    of K layers.

    With :math:`f(\theta_1, \dots, \theta_m)` the loss where segment i of the layers runs at
    :math:`\theta_i`, and the loss itself is evaluated at :math:`\theta_m`, the parameter of the
    last segment,

    .. math:: g = \frac{1}{N} \sum_{k=1}^{N} \frac{f(\theta + \sigma E_{k1}, \dots, \theta + \sigma
              E_{km})
              - f(\theta - \sigma E_{k1}, \dots, \theta - \sigma E_{km})}{2 \sigma} \,
              \sum_{i=1}^{m} E_{ki}, \qquad E_{ki} \sim N(0, I)

    Its mean is the gradient of f in all its arguments together, smoothed by Gaussians of width
    :math:`\sigma`: that of `backprop` up to :math:`O(\sigma^2)` where f is smooth. The method is
    meant for losses along the way, each of which it credits to all perturbations so far. Here the
    loss stands at the end alone, and theta is held between segments, so that the new perturbations
    only add variance: the noise of :math:`\sum_i E_{ki}` has m times the variance of one direction.
    One perturbation for the whole trajectory, m = 1, is ES-Single, which is `spsa` here.

    All calls and depths use the same perturbations. ``standard_error`` in the diagnostics, given
    for N > 1, is that of the whole vector (Frobenius norm), estimated from the samples.

    Cost: (2 N + 1) T layers forward, none differentiated, no solves; stored are the tensors of one
    layer and the perturbations of one sample, T / K tensors of the shape of theta.

    Parameters
    ----------
    samples : int
        Number N of antithetic pairs, >= 1.
    window : int
        Number K of layers in a segment, >= 1.
    scale : float
        Width :math:`\sigma` of the smoothing, in units of theta.
    seed : int
        Seed of the perturbations.
    """

    samples: int = 100
    window: int = 10
    scale: float = 1e-3
    seed: int = 0

    name = "pes"
    aliases = ("persistent_es",)
    references = (
        "Vicol, Metz and Sohl-Dickstein, Unbiased gradient estimation in unrolled computation"
        " graphs with persistent evolution strategies, ICML 2021",
    )
    computes = "stochastic"

    def generators(self) -> Iterator[np.random.Generator]:
        # The first segments of a sample do not depend on how many follow.
        for sample in range(self.samples):
            yield streams.generator(self.seed, f"estimator pes {sample}")
