"""The dictionary update of NOODL: the residual, weighted by the signs of the codes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch

from pudle.algorithms import Algorithm
from pudle.errors import UnsupportedProblem
from pudle.estimator import Estimate, GradientEstimator
from pudle.problems import Problem, SparseCoding


@dataclass(frozen=True)
class Noodl(GradientEstimator):
    r"""Direction of NOODL's dictionary update: the gradient of no loss, but one that leads to the generating dictionary.

    .. math:: g = \frac{1}{n} \sum_i (D z_T^{(i)} - x^{(i)}) \, \mathrm{sign}(z_T^{(i)})^\top

    Where `alternating` weights a residual by the codes, this weights it by their signs: entries of any size count alike.
    The problem's loss has no part in it, and the size of g is not that of a gradient: near the generating dictionary an
    atom's column is about ``s/p E|z|`` times its error, s of p entries being active, so that a learning rate of about
    ``p / (s E|z|)`` takes an atom all the way in one step. At a minimizer of the lasso loss it does not vanish, since soft
    thresholding leaves a residual.

    As in the paper: the formula, and, given an algorithm such as ``ista(step=0.2, thresholding='hard(threshold=0.1)')``, the
    codes by iterative hard thresholding and their first support, since the first layer keeps ``|D^T x| > threshold / step``,
    where the paper has C/2, C being a lower bound of the codes' magnitudes.

    Not as in the paper: that first layer's entries are ``step`` times the paper's, which the following layers make up for,
    unless the algorithm's warm start, ``initial``, is the thresholded ``D^T x`` itself; step and threshold are the same in
    every layer. The step along g and the renormalization of the atoms are the learner's.

    Cost: T layers forward and one product of matrices; memory independent of T.
    """

    name = "noodl"
    references = ("Rambhatla, Li and Haupt, NOODL: Provable Online Dictionary Learning and Sparse Coding, ICLR 2019",)
    computes = "heuristic"
    consistent_for = ()

    def estimate(self, problem: Problem, algorithm: Algorithm, depth: int) -> Estimate:
        return next(self.sweep(problem, algorithm, [depth]))

    def sweep(self, problem: Problem, algorithm: Algorithm, depths: Sequence[int]) -> Iterator[Estimate]:
        """Read every depth off one forward pass."""
        if not isinstance(problem, SparseCoding):
            raise UnsupportedProblem(
                f"{self.name} treats SparseCoding with a dense dictionary, not {type(problem).__name__}: use alternating"
            )
        with torch.no_grad():
            trajectory = algorithm.run(problem, max(depths, default=0), keep=depths)
        for depth in depths:
            codes = trajectory.at(depth)
            with torch.no_grad():
                gradient = problem.residual(codes).T @ codes.sign() / len(codes)
            yield Estimate(gradient, codes, {"layers": depth, "layers_differentiated": 0})
