"""Algorithms for smooth and strongly convex objectives: gradient descent, plain and accelerated,
and Newton's method as a solver.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from ..problems import Problem, StronglyConvex
from ..problems.linearized import conjugate_gradients, norm
from .algorithm import State, refuse_recorded
from .ista import Ista
from .requirements import SMOOTH
from .stepless import Ruleless, Stepless

#: Halvings of a Newton step before it is given up.
HALVINGS = 40
#: Largest residual of the system of a Newton step, relative to the gradient.
FORCING = 0.1


@dataclass(frozen=True)
class GradientDescent(Ruleless, Ista):
    """Gradient descent: ``z_{t+1} = z_t - step * grad g(z_t)``.

    Parameters
    ----------
    step : float, optional
        None means 1/L. The fastest is ``2/(L + mu)``, which unrolled derivatives take longer to
        profit from: see `pudle.problems.Ridge`.
    initial : Tensor, optional
        Warm start; by default the problem's own initial state.
    """

    name = "gradient_descent"
    needs = (SMOOTH,)


@dataclass(frozen=True)
class Accelerated(GradientDescent):
    r"""Nesterov's accelerated gradient descent for strongly convex objectives.

    .. math:: z_{t+1} = y_t - \eta \, \partial_z g(y_t), \qquad
              y_{t+1} = z_{t+1} + \beta \, (z_{t+1} - z_t), \qquad
              \beta = \frac{1 - \sqrt{\eta \mu}}{1 + \sqrt{\eta \mu}}

    with step eta and the modulus mu that the problem claims. The error falls as
    :math:`(1 - \sqrt{\eta \mu})^{t/2}`.

    References
    ----------
    Nesterov, "Lectures on convex optimization", 2018, section 2.2.
    """

    name = "accelerated"

    def advance(self, problem: Problem, state: State, step: float) -> State:
        """Run one layer, and extrapolate to the point of the next by the momentum beta of the
        problem's modulus.
        """
        assert isinstance(problem, StronglyConvex)  # as `needs` says
        codes = self.proximal_step(problem, state.point, step, state.iteration)
        root = min(step * problem.curvature, 1.0) ** 0.5
        point = torch.add(codes, codes - state.codes, alpha=(1 - root) / (1 + root))
        return State(codes, point, iteration=state.iteration + 1)


@dataclass(frozen=True)
class NewtonCg(Stepless):
    r"""Newton's method with conjugate gradients: the solver for smooth problems.

    A step solves :math:`\partial_{zz} g \, d = \partial_z g` up to a residual that falls with the
    gradient, and goes to :math:`z - \alpha d` with the first of :math:`\alpha = 1, 1/2, 1/4,
    \dots` that makes the gradient smaller; where none does, z stays. It converges quadratically.
    Its steps are not differentiated: use it with an implicit estimator such as `analytic`.

    Parameters
    ----------
    initial : Tensor, optional
        Warm start, such as the solution for a theta nearby.

    References
    ----------
    Dembo, Eisenstat and Steihaug, "Inexact Newton methods", SIAM Journal on Numerical Analysis
    1982.
    """

    name = "newton_cg"
    differentiable = False
    uses_step = False
    needs = (SMOOTH,)
    instead = "iteration, or ista"

    def step_size(self, problem: Problem) -> float:
        """Return the step of `plain_layer`, one of gradient descent."""
        return 1 / problem.lipschitz_constant

    def advance(self, problem: Problem, state: State, step: float) -> State:
        """Run one Newton step, see `newton_step`; raise `UnsupportedProblem` where torch would
        record it.
        """
        refuse_recorded(self, problem, state)
        assert isinstance(problem, StronglyConvex)  # as `needs` says
        # What is solved up to rounding stays where it is.
        solved = torch.finfo(state.codes.dtype).eps
        codes = newton_step(problem, state.codes.detach(), solved)
        return State(codes, codes, iteration=state.iteration + 1)

    @torch.no_grad()
    def diagnose(self, problem: Problem, state: State) -> Mapping[str, float]:
        """Count as ``unfinished`` a state whose gradient is above the square root of rounding.

        The result is ``{"unfinished": 0}`` or 1; a gradient that is not finite counts as well.
        """
        assert isinstance(problem, StronglyConvex)  # as `needs` says
        share = torch.finfo(state.codes.dtype).eps ** 0.5
        terms = problem.lipschitz_constant * norm(state.codes)
        remaining = norm(problem.smooth_gradient(state.codes.detach()))
        return {"unfinished": int(not remaining <= share * terms)}


@torch.no_grad()
def newton_step(problem: StronglyConvex, codes: Tensor, solved: float = 0.0) -> Tensor:
    """Return the codes after a step of `NewtonCg`, or the same tensor where their gradient is at
    most a share `solved` of the size of its terms, or no tried step makes it smaller.

    Where conjugate gradients do not solve the system, the problem's own solver does.
    """
    slope, terms = problem.smooth_gradient(codes), problem.lipschitz_constant * norm(codes)
    size = norm(slope)
    if size <= solved * terms:
        return codes
    first = problem.smooth_gradient(problem.initial_codes())
    solved_system = conjugate_gradients(
        problem.linearized(codes).transposed,
        slope,
        problem.active(codes),
        tolerance=min(FORCING, size / (norm(first) or size)),
        iterations=codes.numel(),
        flat=0.0,
        joint=True,
    )
    direction = solved_system.solution
    if float(solved_system.residuals) > FORCING:
        # So ill-conditioned that rounding delays what as many iterations as unknowns should do.
        direction, _ = problem.solve_active(codes, slope)
    # Close to the minimizer what a whole step does not improve is rounding.
    close = size <= torch.finfo(codes.dtype).eps ** 0.5 * terms
    for _ in range(1 if close else HALVINGS):
        after = codes - direction
        if norm(problem.smooth_gradient(after)) < size:
            return after
        direction = direction / 2
    return codes
