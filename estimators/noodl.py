"""The dictionary update of NOODL: the residual, weighted by the signs of the codes."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from pudle.algorithms import Algorithm, State
from pudle.errors import UnsupportedProblem
from pudle.estimator import CodesEstimator, Contribution
from pudle.problems import Problem, SparseCoding


@dataclass(frozen=True)
class Noodl(CodesEstimator):
    r"""Direction of NOODL's dictionary update: the gradient of no loss, but one that leads to the generating dictionary.

    .. math:: g = \frac{1}{n} \sum_i (D z_T^{(i)} - x^{(i)}) \, \mathrm{sign}(z_T^{(i)})^\top

    Where `alternating` weights a residual by the codes, this weights it by their signs. The problem's loss plays no role,
    and the size of g is not that of a gradient: near the generating dictionary, with s of p entries active, an atom's column
    is about ``s/p E|z|`` times its error, so that a learning rate of about ``p / (s E|z|)`` corrects the atom in one step.
    At a minimizer of the lasso loss g does not vanish, since soft thresholding leaves a residual.

    An algorithm such as ``ista(step=0.2, thresholding='hard(threshold=0.1)')`` gives the codes of the paper, by iterative
    hard thresholding. Their first support is that of the paper, since the first layer keeps ``|D^T x| > threshold / step``,
    where the paper has C/2 with C a lower bound of the codes' magnitudes. Two things differ: the first layer's entries are
    ``step`` times the paper's, unless the warm start ``initial`` is the thresholded ``D^T x`` itself; and step and threshold
    are the same in every layer. The learner does the step along g and the renormalization of the atoms.

    Cost: T layers forward and one product of matrices; memory independent of T.
    """

    name = "noodl"
    references = ("Rambhatla, Li and Haupt, NOODL: Provable Online Dictionary Learning and Sparse Coding, ICLR 2019",)
    computes = "heuristic"
    consistent_for = ()

    def check_supported(self, problem: Problem, algorithm: Algorithm) -> None:
        if not isinstance(problem, SparseCoding):
            raise UnsupportedProblem(
                f"{self.name} treats SparseCoding with a dense dictionary, not {type(problem).__name__}: use alternating"
            )

    @torch.no_grad()
    def gradients_at(self, problem: SparseCoding, algorithm: Algorithm, states: list[State]) -> Iterator[Contribution]:
        for state in states:
            yield problem.residual(state.codes).T @ state.codes.sign() / len(state.codes), {}
