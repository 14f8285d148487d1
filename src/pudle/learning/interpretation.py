"""The training samples behind what was learned: an atom, and a new image, as combinations of the
samples that the dictionary was learned from, and the samples whose codes are most alike.
"""

import math
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import torch
from numpy.linalg import norm

from ..errors import InvalidArgument
from ..measuring.experiment import Outcome, Plain, ProgressCallback
from ..problems.l1 import DictionaryProblem
from ..validation import check_choice, check_integer
from .images import Images
from .learner import Training
from .learning_experiment import LearningExperiment
from .matching import Array, float64_array

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
        """Draw the problem on a device; InvalidArgument refuses atoms that are no square images,
        and numbers of atoms or samples below one.
        """
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
        observations, dictionary = map(float64_array, (problem.observations, training.dictionary))
        codes = self._trained_codes(learned)
        ridge = np.maximum(multipliers(observations, dictionary, codes), LEAST_RIDGE)
        weights = contributions(codes, ridge)
        residual = norm(observations.T @ weights - dictionary) / norm(dictionary)

        most_used = np.argsort(-np.abs(codes).sum(0), kind="stable")[: self.atoms]
        atoms, weights_of_atoms = dictionary[:, most_used].T, weights[:, most_used].T
        amounts = np.abs(weights_of_atoms) * norm(observations, axis=1)
        shown = heaviest(amounts, self.samples)
        shown_weights = np.take_along_axis(weights_of_atoms, shown, 1)
        shown_amounts = np.take_along_axis(amounts, shown, 1)
        # Atoms as columns, as in the dictionary: the order in memory decides about the last bits.
        partial_sums = np.einsum("ar,arm->ma", shown_weights, observations[shown])
        cosines = (partial_sums * dictionary[:, most_used]).sum(0) / norm(partial_sums, axis=0)
        summary: dict[str, Plain] = {
            "method": f"{self.estimator}, {self.loss}",
            "dataset": self.dataset,
            "residual": float(residual),
            "share": float(np.mean(shown_amounts.sum(1) / amounts.sum(1))),
            "cosine": float(np.mean(cosines)),
            "seconds": training.rows[-1]["seconds"],
        }
        side = math.isqrt(len(dictionary))
        return summary, {
            "atoms": atoms.reshape(-1, side, side),
            "samples": observations[shown].reshape(*shown.shape, side, side),
            "weights": shown_weights,
        }

    def _trained_codes(self, problem: DictionaryProblem) -> Array:
        """Return the codes that the trained layers give a problem's observations, shape (n, p)."""
        with torch.no_grad():
            return float64_array(self.parts.algorithm.run(problem, self.depth).codes)


def heaviest(amounts: Array, number: int) -> np.ndarray[tuple[int, ...], np.dtype[np.intp]]:
    """Return the indices of the samples with the largest amounts, the largest first, in each row:
    amounts (a, n) to indices (a, number).
    """
    return np.argsort(-amounts, kind="stable")[:, :number]


Explanation = Literal["combination", "similarity", "training"]
#: What a table calls the ways to explain an image.
EXPLANATIONS: dict[Explanation, str] = {
    "combination": "new images as combinations of training images",
    "similarity": "new images and the training images with the most similar codes",
    "training": "training images and the others with the most similar codes",
}


def similarity(codes: Array, other_codes: Array) -> Array:
    """Return the cosine of every code with every other one, zero where either is zero.

    The codes have shape (n, p) and the other codes (h, p); the cosines have shape (n, h).
    """
    tiny = np.finfo(float).tiny
    lengths = norm(codes, axis=1)[:, None] * norm(other_codes, axis=1)
    cosines: Array = codes @ other_codes.T / np.maximum(lengths, tiny)
    return cosines


@dataclass(frozen=True)
class ExplanationExperiment(InterpretationExperiment):
    """Learn a dictionary from small square images, and explain images by the training images.

    The last `new_images` of the dataset are held out of the training. Its layers give an image the
    code z and the synthesis ``D z``, and with the weights of `contributions` that is ``X^T (W z)``,
    a combination of training images. Or the training images with the codes most similar to z are
    shown, by the cosine of the codes.

    Attributes
    ----------
    explains : {"combination", "similarity", "training"}
        A new image as a combination; the training images most similar to it; or those most similar
        to a training image.
    new_images : int
        Images held out, and images explained.
    """

    explains: Explanation = "combination"
    new_images: int = 8

    @cached_property
    def held_out(self) -> Array:
        """The images that nothing is learned from, shape (h, m)."""
        return float64_array(super().problem().observations[-self.new_images :])

    def problem(self, device: str = "cpu", **options: Images) -> DictionaryProblem:
        """Draw the problem on a device without the last `new_images` images; InvalidArgument
        refuses to hold out all of them.
        """
        check_choice("explains", self.explains, EXPLANATIONS)
        number = check_integer("new_images", self.new_images, 1)
        problem = super().problem(device, **options)
        if number >= len(problem.observations):
            raise InvalidArgument(
                f"new_images={number} of {len(problem.observations)} leaves none to learn from:"
                " give a smaller one"
            )
        fields = problem.sample_fields()
        return problem.with_samples(**{name: value[:-number] for name, value in fields.items()})

    def outcome(
        self, problem: DictionaryProblem, training: Training, progress: ProgressCallback
    ) -> Outcome:
        """Explain images.

        Arrays are those of `InterpretationExperiment`, with the explained images in place of the
        atoms. The summary holds ``method``, ``dataset``, ``explains``, ``seconds``, and ``cosine``,
        that between an image and the weighted sum of the shown training images; for combinations
        also ``residual``, that of all training images with the synthesis, and ``share``.
        """
        learned = replace(problem, dictionary=training.dictionary)
        observations, dictionary = map(float64_array, (problem.observations, training.dictionary))
        training_codes = self._trained_codes(learned)
        images = observations[: self.new_images] if self.explains == "training" else self.held_out
        new_observations = problem.observations.new_tensor(images)
        codes = self._trained_codes(learned.with_samples(observations=new_observations))
        summary: dict[str, Plain] = {
            "method": f"{self.estimator}, {self.loss}",
            "dataset": f"{self.dataset}, {EXPLANATIONS[self.explains]}",
            "explains": "image",
            "seconds": training.rows[-1]["seconds"],
        }
        # One row per explained image, one column per training image.
        if self.explains == "combination":
            ridge = np.maximum(multipliers(observations, dictionary, training_codes), LEAST_RIDGE)
            weights = codes @ contributions(training_codes, ridge).T
            synthesis = codes @ dictionary.T
            summary["residual"] = float(norm(weights @ observations - synthesis) / norm(synthesis))
            amounts = np.abs(weights) * norm(observations, axis=1)
        else:
            weights = similarity(codes, training_codes)
            amounts = weights.copy()
            if self.explains == "training":
                # An image is not its own neighbor.
                amounts[np.diag_indices(len(images))] = -np.inf
        shown = heaviest(amounts, self.samples)
        shown_weights = np.take_along_axis(weights, shown, 1)
        if self.explains == "combination":
            shown_amounts = np.take_along_axis(amounts, shown, 1)
            summary["share"] = float(np.mean(shown_amounts.sum(1) / amounts.sum(1)))
        partial_sums = np.einsum("ar,arm->am", shown_weights, observations[shown])
        lengths = norm(partial_sums, axis=1) * norm(images, axis=1)
        summary["cosine"] = float(np.mean((partial_sums * images).sum(1) / lengths))
        side = math.isqrt(observations.shape[1])
        return summary, {
            "atoms": images.reshape(-1, side, side),
            "samples": observations[shown].reshape(*shown.shape, side, side),
            "weights": shown_weights,
        }
