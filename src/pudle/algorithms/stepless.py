"""Algorithms without a step size and a thresholding rule: the iteration that a problem brings with
it, and solvers of the lasso, which are not differentiated.
"""

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..problems import FixedPoint, Problem
from ..problems.active_set import solve_active_systems
from ..problems.l1 import DenseL1Problem
from .algorithm import Algorithm, State, refuse_recorded, unspecified
from .requirements import DENSE_LASSO, OWN_STEP
from .thresholding import Soft, Thresholding

#: What counts as zero in a correlation of `ActiveSet`, in rounding units of its terms.
ROUNDING = 64


@dataclass(frozen=True)
class Ruleless(Algorithm):
    """An algorithm that takes no thresholding rule."""

    thresholding: Thresholding = unspecified(Soft())

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.thresholding != Soft():
            self._refuse("thresholding rule")

    def _refuse(self, option: str) -> NoReturn:
        raise InvalidArgument(
            f"{self.name} has no {option}: leave it out, or use ista or fista, which have one"
        )


@dataclass(frozen=True)
class Stepless(Ruleless):
    """An algorithm that takes neither a step size nor a thresholding rule."""

    step: float | None = unspecified()

    def __post_init__(self) -> None:
        super().__post_init__()
        # One is what `Iteration.step_size` returns.
        if self.step not in (None, 1.0):
            self._refuse("step size")


@dataclass(frozen=True)
class Iteration(Stepless):
    """The problem's own step: ``z_{t+1} = step(z_t, theta)`` of a `pudle.FixedPoint`.

    It has no step size and no thresholding rule: whatever it needs is part of the problem's step.

    Parameters
    ----------
    initial : Tensor, optional
        Warm start in the form of the codes; by default the problem's own initial state.
    """

    name = "iteration"

    needs = (OWN_STEP,)
    instead = "ista or fista, or gradient_descent on a StronglyConvex"

    def step_size(self, problem: Problem) -> float:
        """Return one, or refuse a problem that brings no step."""
        self.check_supported(problem)
        return 1.0

    def plain_layer(self, problem: Problem, codes: Tensor, step: float, iteration: int) -> Tensor:
        assert isinstance(problem, FixedPoint)  # as `needs` says
        return problem.advance(codes)

    def advance(self, problem: Problem, state: State, step: float) -> State:
        codes = self.plain_layer(problem, state.codes, step, state.iteration)
        return State(codes, codes, iteration=state.iteration + 1)


@dataclass(frozen=True, eq=False, repr=False)
class SolverState(State):
    """The state of a solver that knows of some samples, shape (n,), that they are solved."""

    solved: Tensor = field(kw_only=True)


@dataclass(frozen=True)
class LassoSolver(Stepless):
    """A solver of least squares with an l1 norm, in a dense matrix; it is not differentiated."""

    differentiable = False
    uses_step = False
    stays = True
    needs = (DENSE_LASSO,)
    instead = "ista, or iteration on a FixedPoint"

    def start(self, problem: Problem, initial: Tensor | None = None) -> State:
        """Return the state before the first step; negative entries become zero where codes are to
        be non-negative.
        """
        codes = super().start(problem, initial).codes
        assert isinstance(problem, DenseL1Problem)  # as `needs` says
        codes = codes.clamp(min=0) if problem.nonnegative else codes
        return State(codes, codes)

    def advance(self, problem: Problem, state: State, step: float) -> State:
        """Run one step for all samples; raise `UnsupportedProblem` where torch would record it."""
        # Who calls it layer by layer would differentiate its decisions, and get NaN at some.
        refuse_recorded(self, problem, state)
        assert isinstance(problem, DenseL1Problem)  # as `needs` says
        codes = self.next_codes(problem, state.codes)
        return State(codes, codes, iteration=state.iteration + 1)

    def diagnose(self, problem: Problem, state: State) -> Mapping[str, float]:
        """Count the ``unfinished`` samples, whose codes are not those of a minimizer up to the root
        of rounding; those that the solver knows to be solved are not looked at.
        """
        assert isinstance(problem, DenseL1Problem)  # as `needs` says
        codes, observations = state.codes.detach(), problem.observations
        if isinstance(state, SolverState) and (unsolved := ~state.solved).sum() < len(codes):
            if not unsolved.any():
                return {"unfinished": 0}
            codes, observations = codes[unsolved], observations[unsolved]
            problem = problem.with_samples(observations=observations)
        slope, excess = _violations(problem, codes, -problem.smooth_gradient(codes))
        violations = torch.maximum(slope.abs(), excess).amax(1)
        # No correlation, and no part of it, is larger than these.
        steepest = problem.hessian.diagonal().max()
        sizes = steepest.sqrt() * observations.norm(dim=1) + steepest * codes.norm(dim=1)
        return {"unfinished": int((violations > torch.finfo(codes.dtype).eps ** 0.5 * sizes).sum())}

    @abstractmethod
    def next_codes(self, problem: DenseL1Problem, codes: Tensor) -> Tensor:
        """Return the codes after a step: the same tensor where no later step would change them."""


def _violations(
    problem: DenseL1Problem, codes: Tensor, correlation: Tensor
) -> tuple[Tensor, Tensor]:
    """Return how far codes are from a minimizer's: the slope of the objective on their support,
    zero elsewhere, and by how much correlations exceed the penalty off it, minus infinity
    elsewhere.
    """
    signs = codes.sign()
    slope = torch.where(signs == 0, 0, correlation - problem.penalty * signs)
    excess = (correlation if problem.nonnegative else correlation.abs()) - problem.penalty
    return slope, torch.where(codes == 0, excess, -torch.inf)


@dataclass(frozen=True)
class ActiveSet(LassoSolver):
    r"""Lasso by active-set steps: exact after finitely many, and then it stays where it is.

    A step of a sample that minimizes the objective on its support S lets the atom j enter that
    violates the optimality conditions most, where :math:`|d_j^\top (x - D z)|` exceeds its penalty.
    Then, with s the signs of the codes on S, each step moves towards the minimizer for these signs,

    .. math:: z_S \leftarrow z_S + \alpha \, (H_{SS}^{-1} (D_S^\top x - \lambda s) - z_S),

    up to :math:`\alpha = 1`, or to the first entry that becomes zero, which leaves S. Where
    :math:`H_{SS}` is singular, it moves along its null space to such an entry. So the objective
    never rises, and no support comes twice. From zero codes there are about as many steps as
    entries in the solution; from codes near the solution, one for each change of the support, and
    one.

    It solves `SparseCoding` and `PenaltySelection`, and its steps are not differentiated: use it
    with an implicit estimator such as `analytic`.

    Parameters
    ----------
    initial : Tensor, optional
        Warm start, such as the solution for a dictionary nearby.

    References
    ----------
    Lee, Battle, Raina and Ng, "Efficient sparse coding algorithms", NIPS 2006. Osborne, Presnell
    and Turlach, "A new approach to variable selection in least squares problems", IMA J. Numerical
    Analysis 2000. Mairal, Bach and Ponce, "Task-driven dictionary learning", PAMI 2012.
    """

    name = "active_set"

    def next_codes(self, problem: DenseL1Problem, codes: Tensor) -> Tensor:
        """Return the codes after a step of each sample: the same tensor if all are solved."""
        hessian, correlation = problem.hessian, -problem.smooth_gradient(codes)
        slope, excess = _violations(problem, codes, correlation)
        rounding = _rounding(problem, codes, hessian)
        # A sample that minimizes the objective on its support lets an atom enter, or is solved.
        is_minimal = slope.abs().amax(1, keepdim=True) <= rounding
        largest_excess, entering = excess.max(1, keepdim=True)
        lets_enter = is_minimal & (largest_excess > rounding)
        solved = is_minimal & ~lets_enter
        if solved.all():
            return codes
        enters = lets_enter & (torch.arange(codes.shape[1]).to(entering) == entering)
        signs = torch.where(enters, correlation, codes).sign()
        slope = torch.where(enters, correlation - problem.penalty * signs, slope)
        direction, is_flat = _direction(hessian, signs, slope, rounding)
        return torch.where(solved, codes, _moved(codes, signs, direction, is_flat))


def _rounding(problem: DenseL1Problem, codes: Tensor, hessian: Tensor) -> Tensor:
    """Return what counts as zero in a correlation of each sample, shape (n, 1): `ROUNDING` units of
    the sizes of its terms, ``max_j |d_j^T x| + max_j H_jj |z|``.
    """
    products = problem.smooth_gradient(torch.zeros_like(codes)).abs().amax(1, keepdim=True)
    sizes: Tensor = codes.norm(dim=1, keepdim=True)
    scale = products + hessian.diagonal().max() * sizes
    return ROUNDING * torch.finfo(codes.dtype).eps * scale


def _direction(
    hessian: Tensor, signs: Tensor, slope: Tensor, rounding: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the direction in which each sample moves, shape (n, p), and whether it is flat, shape
    (n, 1).

    It is ``H_SS^{-1} F`` on the support S, where `signs` are not zero, with F the `slope`, minus
    the derivative of the objective: a step of length one leads to the minimizer for these signs. If
    no vector solves ``H_SS v = F`` up to `rounding`, it is what F has in the null space of H_SS:
    along that the objective is linear, and falls.
    """
    systems = solve_active_systems(hessian, signs != 0, slope)
    is_singular = systems.singular[:, None]
    if not is_singular.any():
        return systems.solution, is_singular
    unreached = slope
    # The second turn removes the rounding of the first.
    for _ in range(2):
        reached = solve_active_systems(hessian, signs != 0, unreached).solution
        unreached = torch.where(signs == 0, 0, unreached - reached @ hessian)
    is_flat = is_singular & (unreached.abs().amax(1, keepdim=True) > rounding)
    return torch.where(is_flat, unreached, systems.solution), is_flat


def _moved(codes: Tensor, signs: Tensor, direction: Tensor, is_flat: Tensor) -> Tensor:
    """Return the codes after a step ``z + alpha v`` along a direction v, up to ``alpha = 1`` or to
    the first entry that becomes zero; along a flat direction there is no end but such an entry, and
    without one no step.

    Entries that have become zero, or have another sign than `signs` says, are exactly zero.
    """
    lengths_to_zero = torch.where(direction * signs < 0, -codes / direction, torch.inf)
    length = lengths_to_zero.amin(1, keepdim=True)
    length = torch.where(is_flat, length.nan_to_num(posinf=0), length.clamp(max=1))
    moved = codes + length * direction
    return torch.where((lengths_to_zero > length) & (moved * signs > 0), moved, 0)


@dataclass(frozen=True)
class CoordinateDescent(LassoSolver):
    r"""Lasso by coordinate descent: a step minimizes over one code entry after another.

    .. math:: z_j \leftarrow S_{\lambda / c_j}\bigl(z_j + d_j^\top (x - D z) / c_j\bigr), \qquad
              c_j = \lVert d_j \rVert^2, \qquad j = 1, \dots, p

    with :math:`\ell_2` penalties added to slope and :math:`c_j`. Its steps need no linear systems,
    so that large supports and nearly dependent atoms, which slow down `active_set`, cost it nothing
    but more steps; it converges linearly. Its steps are not differentiated: use it with an implicit
    estimator such as `analytic`.

    Parameters
    ----------
    initial : Tensor, optional
        Warm start.

    References
    ----------
    Wu and Lange, "Coordinate descent algorithms for lasso penalized regression", Annals of Applied
    Statistics 2008.
    """

    name = "coordinate_descent"

    def next_codes(self, problem: DenseL1Problem, codes: Tensor) -> Tensor:
        """Return new codes after a sweep over all entries, from the first atom to the last."""
        codes, residual = codes.clone(), problem.residual(codes)
        # A zero atom has no curvature, and its code becomes zero.
        curvatures = problem.hessian.diagonal().clamp(min=torch.finfo(codes.dtype).tiny)
        thresholds = problem.penalty / curvatures
        for j, atom in enumerate(problem.matrix.unbind(1)):
            slope = residual @ atom + problem.l2_penalty * codes[:, j]
            values = codes[:, j] - slope / curvatures[j]
            after = self.thresholding(values, thresholds[j], 0, problem.nonnegative)
            residual = residual + torch.outer(after - codes[:, j], atom)
            codes[:, j] = after
        return codes
