"""The training samples that shaped an atom: a learned dictionary as a combination of the samples it
was learned from.
"""

import math
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.linalg import norm

from ..errors import InvalidArgument
from ..measuring.experiment import Outcome, Plain, ProgressCallback
from ..problems.l1 import DictionaryProblem
from ..validation import check_integer
from .images import Images
from .learner import Training
from .matching import Array, float64_array
from .training import LearningExperiment

#: Smallest ridge of an atom. An atom that no sample uses needs one for a solution; its weights are
#: zero with any.
LEAST_RIDGE = 1e-6


def contributions(codes: Array, ridge: float | Array) -> Array:
    """Return the weights by which a dictionary is a combination of samples, given their codes.

    The dictionary that fits observations X (n, m) best at fixed codes Z (n, p), the minimizer of
    ``1/2 |X - Z D^T|_F^2 + 1/2 sum_j w_j |d_j|^2``, is ``D = X^T W`` with ``W = Z (Z^T Z +
    diag(w))^-1``: atom j is the sum of all samples, with weight ``W[i, j]`` for sample i. A learned
    dictionary has this form where the direct gradient of the reconstruction loss vanishes along the
    sphere of unit atoms; its ridge is then that of `multipliers`.

    The codes have shape (n, p); `ridge` is w > 0, one number for all atoms or an array with one for
    each, shape (p,). The weights have shape (n, p).

    Source: Tolooshams and Ba, "Stable and Interpretable Unrolled Dictionary Learning", TMLR 2022.
    """
    from scipy import linalg  # slow to import, and a list of experiments does without

    gram = codes.T @ codes + np.diag(np.broadcast_to(ridge, codes.shape[1]))
    weights: Array = linalg.solve(gram, codes.T, assume_a="pos").T
    return weights


def multipliers(observations: Array, dictionary: Array, codes: Array) -> Array:
    """Return the ridge that explains a dictionary learned under unit norms, shape (p,).

    Where learning by alternation converges, the direct gradient ``G = D Z^T Z - X^T Z`` of the
    reconstruction loss has no part across the atoms: ``G = -D diag(c)`` with the Lagrange
    multipliers ``c_j = -d_j^T g_j / |d_j|^2`` of the unit norms. Then ``D = X^T Z (Z^T Z +
    diag(c))^-1``, exactly. At codes that solve the lasso, ``c_j = penalty sum_i |z_ij|``, which is
    not small. Shapes are X (n, m), D (m, p) and Z (n, p).
    """
    descent = observations.T @ codes - dictionary @ (codes.T @ codes)
    ridge: Array = (dictionary * descent).sum(0) / np.square(dictionary).sum(0)
    return ridge


@dataclass(frozen=True)
class InterpretationExperiment(LearningExperiment):
    """Learn a dense dictionary from small square images, and find the samples that shaped its atoms
    most.

    `atoms` and `samples` are the numbers of atoms to show (those with the largest sum of absolute
    codes), and of samples for each of them (those with the largest ``|W[i, j]| |x_i|``).
    """

    kind: ClassVar[str] = "interpretation"

    atoms: int = 12
    samples: int = 6

    def problem(self, device: str = "cpu", **options: Images) -> DictionaryProblem:
        for name in ("atoms", "samples"):
            check_integer(name, getattr(self, name), 1)
        problem = super().problem(device, **options)
        start = problem.dictionary
        if start.ndim != 2 or math.isqrt(len(start)) ** 2 != len(start):
            raise InvalidArgument(
                f"dataset {self.dataset!r} has atoms of shape {tuple(start[:, 0].shape)}, which are"
                " no square images: give one such as digits or image_patches"
            )
        return problem

    def outcome(
        self, problem: DictionaryProblem, training: Training, progress: ProgressCallback
    ) -> Outcome:
        """Explain the dictionary.

        Arrays are ``atoms`` (a, h, w), ``samples`` (a, r, h, w) and their ``weights`` (a, r). The
        summary holds ``method``, ``dataset``, ``seconds`` and:

        - ``residual``: ``|X^T W - D|_F / |D|_F`` with the ridge of `multipliers`, which the weights
          belong to;
        - ``share``: the share of the shown samples in the sum of ``|W[i, j]| |x_i|``, a mean over
          the shown atoms; ``cosine``: that between an atom and the weighted sum of its shown
          samples.
        """
        learned = replace(problem, dictionary=training.dictionary)
        with torch.no_grad():
            codes = self.parts.algorithm.run(learned, self.depth).codes
        x, d, z = map(float64_array, (problem.observations, training.dictionary, codes))
        weights = contributions(z, np.maximum(multipliers(x, d, z), LEAST_RIDGE))
        residual = norm(x.T @ weights - d) / norm(d)
        # From here on one row per displayed atom, and its samples as columns, the heaviest first.
        most_used = np.argsort(-np.abs(z).sum(0), kind="stable")[: self.atoms]
        weights, d = weights[:, most_used].T, d[:, most_used]
        amounts = np.abs(weights) * norm(x, axis=1)
        top = np.argsort(-amounts, kind="stable")[:, : self.samples]
        top_weights = np.take_along_axis(weights, top, 1)
        top_amounts = np.take_along_axis(amounts, top, 1)
        partial = np.einsum("ar,arm->ma", top_weights, x[top])
        summary: dict[str, Plain] = {
            "method": f"{self.estimator}, {self.loss}",
            "dataset": self.dataset,
            "residual": float(residual),
            "share": float(np.mean(top_amounts.sum(1) / amounts.sum(1))),
            "cosine": float(np.mean((partial * d).sum(0) / norm(partial, axis=0))),
            "seconds": training.rows[-1]["seconds"],
        }
        side = math.isqrt(len(d))
        return summary, {
            "atoms": d.T.reshape(-1, side, side),
            "samples": x[top].reshape(*top.shape, side, side),
            "weights": top_weights,
        }
