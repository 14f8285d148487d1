"""Differences of the inner objective's derivative at minimizers that the loss has moved."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pudle.algorithms.requirements import SMOOTH
from pudle.algorithms.unrolling import direct_gradient
from pudle.errors import UnsupportedProblem
from pudle.estimator import Algorithm, CheckedOptions, CodesEstimator, Contribution, Problem, State
from pudle.problems import StronglyConvex
from pudle.problems.linearized import norm
from pudle.problems.state import UserState

#: Distances of a stencil's places from the middle, relative to its size: below, rounding is seen,
#: and above, the quotient may be far from the derivative.
SMALLEST_MOVE, LARGEST_MOVE = 1e-8, 0.1


@dataclass(frozen=True)
class FirstOrder(CheckedOptions, CodesEstimator):
    r"""F2SA-p: a difference quotient in :math:`\nu` at :math:`\nu = 0`, without second derivatives.

    .. math:: z_\nu = \arg\min_z g(z, \theta) + \nu f(z, \theta), \qquad
              G = \partial_\theta f(z_0) + \frac{\mathrm{d}}{\mathrm{d} \nu}
                  \partial_\theta g(z_\nu) \Big|_{\nu = 0}
                \approx \partial_\theta f(z_0) + \frac{1}{\nu} \sum_j w_j \,
                  \partial_\theta g(z_{j \nu})

    with inner objective g and outer loss f. The weights make the quotient exact for polynomials of
    degree p, the order: of an even p it is central, with :math:`j = \pm 1, \dots, \pm p/2`, of an
    odd one it goes forward, with :math:`j = 0, \dots, p`. The error is of order :math:`\nu^p`. Each
    :math:`z_{j \nu}` comes from `depth` layers of the algorithm, at its step for that objective.
    Inner errors that do not go together at the places of a stencil are divided by
    :math:`\nu`, and rounding is: a floor of about 1e-16 / :math:`\nu` times a condition number.
    Those of layers from one start do go together, and leave a floor that does not depend on
    :math:`\nu`: that of an unrolled gradient, of order :math:`T \rho^T`.

    A negative :math:`\nu` takes curvature away: where the problem has constants,
    :math:`p/2 \cdot \nu L_f < \mu` is needed, with the Lipschitz constant :math:`L_f` of
    :math:`\partial_z f`. Without constants nothing is refused: :math:`z_{j \nu}` need not exist
    then, and the layers may diverge.

    Diagnostics have the largest distance of a :math:`z_{j \nu}` from :math:`z_0`, relative to the
    size of :math:`z_0`, as ``displacement``. Where it is above 0.1 the loss is so large beside the
    objective that the quotient may be far from the derivative, and where it is below 1e-8 rounding
    is; ``unfinished`` is one then: choose :math:`\nu` in proportion to the units of g over those of
    f.

    Cost: (p + 1) T layers forward, of which p T differentiate the loss as well, no second
    derivatives; memory independent of T.

    Parameters
    ----------
    nu : float
        Distance :math:`\nu` > 0 between two neighbors, in units of g over those of f.
    order : int
        Order p, >= 1.
    """

    nu: float = 1e-3
    order: int = 2

    name = "first_order"
    aliases = ("f2sa",)
    references = (
        (
            "Kwon, Kwon, Wright and Nowak, A fully first-order method for stochastic bilevel"
            " optimization, ICML 2023"
        ),
        (
            "Chen, Li, Chayti and Zhang, Faster gradient methods for highly-smooth stochastic"
            " bilevel optimization, ICLR 2026"
        ),
    )
    computes = "approximate"
    consistent_for = ()
    needs = (SMOOTH,)
    instead = "analytic, or finite_difference"

    @property
    def places(self) -> list[int]:
        """The numbers j of the stencil."""
        half, odd = divmod(self.order, 2)
        return [*range(self.order + 1)] if odd else [j for j in range(-half, half + 1) if j]

    def check_supported(self, problem: Problem, algorithm: Algorithm) -> None:
        """Raise `UnsupportedProblem` also where a negative nu would take away all curvature, as far
        as the problem's constants tell.
        """
        super().check_supported(problem, algorithm)
        assert isinstance(problem, StronglyConvex)  # as `needs` says
        lowest = min(self.places) * self.nu
        if lowest < 0 and problem.constants:
            curvature_loss = -lowest * problem.constants_at(problem.initial_codes()).outer
            if curvature_loss >= problem.curvature:
                raise UnsupportedProblem.lacking(
                    self.name,
                    f"more curvature than the {curvature_loss:.3g} that nu={lowest:.3g} may take"
                    " away",
                    f"{problem.curvature:.3g}",
                    f"give nu < {self.nu * problem.curvature / curvature_loss:.3g}, or order=1",
                )

    @torch.no_grad()
    def gradients_at(
        self, problem: Problem, algorithm: Algorithm, states: list[State]
    ) -> Iterator[Contribution]:
        """Run the algorithm once for each place of the stencil but 0, and yield the quotient at
        each depth.

        The diagnostics are ``layers``, ``displacement`` and, where that is too small or too large,
        ``unfinished``.
        """
        assert isinstance(problem, StronglyConvex)  # as `needs` says
        depths = [state.iteration for state in states]
        inner_problem = replace(problem, loss=problem.objective)
        totals = [direct_gradient(problem, state.codes) for state in states]
        displacements = [0.0] * len(states)
        for place, weight in zip(self.places, derivative_weights(self.places), strict=True):
            codes = [state.codes for state in states]
            if place:
                moved = penalized_problem(problem, place * self.nu)
                trajectory = algorithm.run(moved, max(depths), keep=depths)
                codes = [trajectory.at(depth) for depth in depths]
            for index, moved_codes in enumerate(codes):
                slope = direct_gradient(inner_problem, moved_codes)
                totals[index] = totals[index] + weight / self.nu * slope
                size = norm(states[index].codes) or 1.0
                distance = norm(moved_codes - states[index].codes) / size
                displacements[index] = max(displacements[index], distance)
        for depth, total, displacement in zip(depths, totals, displacements, strict=True):
            diagnostics = {"layers": depth * (self.order + 1), "displacement": displacement}
            if depth and not SMALLEST_MOVE <= displacement <= LARGEST_MOVE:
                diagnostics["unfinished"] = 1
            yield total, diagnostics


def derivative_weights(places: list[int]) -> list[float]:
    r"""Return the weights :math:`w_j` by which :math:`\sum_j w_j f(j)` is the derivative of f at
    zero, for every polynomial f with as many coefficients as there are places j.

    They solve :math:`\sum_j w_j j^k = 1` for k = 1, and 0 for all other powers k.
    """
    powers = np.vander(np.array(places, float), increasing=True).T
    weights: list[float] = np.linalg.solve(powers, np.arange(len(places)) == 1).tolist()
    return weights


def penalized_problem(problem: StronglyConvex, nu: float) -> StronglyConvex:
    """Return the problem whose inner objective is g + nu f, as layers need it: with a modulus and
    constants that hold at its initial codes, if it has constants.

    Its theta is detached.
    """

    def objective(state: UserState, theta: Tensor) -> Tensor:
        return problem.objective(state, theta) + nu * problem.loss(state, theta)

    mu, known = problem.curvature, None
    if problem.constants:
        of_g = problem.constants_at(problem.initial_codes())
        mu += min(nu, 0.0) * of_g.outer
        known = replace(of_g, gradient=of_g.gradient + abs(nu) * of_g.outer)
    return replace(
        problem,
        theta=problem.theta.detach(),
        objective=objective,
        modulus=lambda _: mu,
        constants=(lambda *_: known) if known else None,
    )
