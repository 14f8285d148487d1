"""The dictionary update of NOODL: the residual, weighted by the signs of the codes."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass

import torch

from pudle.algorithms.requirements import DENSE_DICTIONARY
from pudle.estimator import Algorithm, CodesEstimator, Contribution, State
from pudle.problems import Problem, SparseCoding


@dataclass(frozen=True)
class Noodl(CodesEstimator):
    r"""Direction of NOODL's dictionary update: the gradient of no loss, but one that leads to the
    generating dictionary.

    .. math:: g = \frac{1}{n} \sum_i (D z_T^{(i)} - x^{(i)}) \, \mathrm{sign}(z_T^{(i)})^\top

    Where `alternating` weights a residual by the codes, this weights it by their signs. The
    problem's loss plays no role, and the size of g is not that of a gradient: near the generating
    dictionary, with s of p entries active, an atom's column is about ``s/p E|z|`` times its error,
    so that a learning rate of about ``p / (s E|z|)`` corrects the atom in one step.

    The algorithm `noodl` gives the codes of the paper, and the optimizer `sgd` with fresh samples
    in every step its descent; the learner renormalizes the atoms. ISTA with the rule ``hard``
    differs in the start only. Soft thresholding leaves a residual at the generating dictionary, so
    that this direction does not vanish there: a warning says so.

    Cost: T layers forward and one product of matrices; memory independent of T.
    """

    name = "noodl"
    references = (
        "Rambhatla, Li and Haupt, NOODL: Provable Online Dictionary Learning and Sparse Coding,"
        " ICLR 2019",
    )
    computes = "heuristic"
    consistent_for = ()
    needs = (DENSE_DICTIONARY,)
    instead = "alternating"

    @torch.no_grad()
    def gradients_at(
        self, problem: Problem, algorithm: Algorithm, states: list[State]
    ) -> Iterator[Contribution]:
        """Yield the direction at each state, without diagnostics of its own; under soft
        thresholding warn once, before the first.
        """
        assert isinstance(problem, SparseCoding)  # as `needs` says
        if algorithm.thresholding.proximal:
            warnings.warn(
                "noodl's direction does not vanish at the generating dictionary under soft"
                " thresholding: use the algorithm noodl, or ista with the rule hard",
                stacklevel=2,
            )
        for state in states:
            yield problem.residual(state.codes).T @ state.codes.sign() / len(state.codes), {}
