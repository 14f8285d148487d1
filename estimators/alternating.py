"""The gradient of alternating minimization: the codes are held constant."""

from collections.abc import Iterator
from dataclasses import dataclass

from pudle.algorithms.unrolling import direct_gradient
from pudle.estimator import Algorithm, CodesEstimator, Contribution, Problem, State


@dataclass(frozen=True)
class Alternating(CodesEstimator):
    r"""Direct part of the gradient, with the codes held constant.

    .. math:: g = \partial_\theta \ell(z_T, \theta)

    At the minimizer this is the exact gradient of the lasso loss (Danskin's theorem), and its error
    at depth T falls as
    :math:`O(\rho^T)`. On the reconstruction loss it has a floor, since the dependence of the codes
    on theta is dropped.

    Cost: T layers forward, one evaluation of the loss's partial derivative; memory independent of
    T.
    """

    name = "alternating"
    aliases = ("g_dec", "g1", "danskin", "envelope")
    references = (
        (
            "Ablin, Peyré and Moreau, Super-efficiency of automatic differentiation for functions"
            " defined as a minimum, ICML 2020"
        ),
        "Tolooshams and Ba, Stable and Interpretable Unrolled Dictionary Learning, TMLR 2022",
    )
    computes = "direct"
    consistent_for = ("lasso",)

    def gradients_at(
        self, problem: Problem, algorithm: Algorithm, states: list[State]
    ) -> Iterator[Contribution]:
        """Yield the direct part at each state, without diagnostics of its own."""
        for state in states:
            yield direct_gradient(problem, state.codes), {}
