"""The limit of an algorithm and the gradient there: the target where no exact solution is known."""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import torch
from torch import Tensor

from .. import streams
from ..algorithms import Algorithm
from ..algorithms.unrolling import differentiable, direct_gradients, gradients
from ..errors import UnsupportedProblem, first_line
from ..problems import Problem
from .differences import fault_of_users
from .lasso import ROUNDING, SINGULAR, row_norms
from .records import Certificate, Reference, exactly

#: A sample has converged when no entry of its code changes by more than this times the largest
#: entry of all codes, or of the first layer's change where that is larger.
TOLERANCE = 1e-13
#: Consecutive layers for which that must hold: an accelerated method pauses where its momentum
#: turns.
STILL_LAYERS = 10
#: Layers after which a sample that has not converged is given up.
MAX_LAYERS = 20_000
#: Layers after which the fixed point of a step is sought by Newton's method, and again after
#: twice as many. It is the limit if the second half of these layers came nearer to it, to this
#: share of the distance, and if layers that begin at the square of this share of the distance from
#: it stay within the share.
PATIENCE, NEARER, CLOSE = 1000, 0.999, 1e-3
#: Most steps of Newton's method.
NEWTON = 30

#: Distances in theta, relative to its entries, of the central differences that check a limit, in
#: the order in which they are tried: the active set must stay the same within, and what rounding
#: leaves of the codes counts less in a larger one.
DIFFERENCE_STEPS = (1e-5, 1e-4, 1e-6, 1e-7)
#: How the reason begins why there is none.
NO_LIMIT = "no limit to score against: "

#: What a solve of linear systems tells, such as the condition number.
Diagnostics = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Converging:
    """An algorithm on a problem. Its step is a constant: it is the same at another theta."""

    problem: Problem
    algorithm: Algorithm
    step: float

    def at(self, theta: Tensor) -> Self:
        """Return it at another value of the parameter."""
        return dataclasses.replace(self, problem=self.problem.with_theta(theta))

    def layer(self, codes: Tensor, iteration: int) -> Tensor:
        """Return the codes after one plain layer, the map whose fixed point they converge to."""
        return self.algorithm.plain_layer(self.problem, codes, self.step, iteration)

    @torch.no_grad()
    def run(self, initial: Tensor | None = None) -> tuple[Tensor, Tensor, int]:
        """Return the codes, which samples (n,) have not converged, and the number of layers; rows
        that form one system count as one sample.
        """
        state, first = self.algorithm.start(self.problem, initial), self.problem.initial_codes()
        first_change = (self.layer(first, 0) - first).abs().max()
        moving = torch.ones(1 if self.problem.joint else len(first), dtype=torch.bool)
        still, due, halfway = 0, PATIENCE, first
        while still < STILL_LAYERS and state.iteration < MAX_LAYERS:
            before, state = state.codes, self.algorithm.advance(self.problem, state, self.step)
            scale = torch.maximum(state.codes.abs().max(), first_change)
            if not scale.isfinite():
                break
            changes = (state.codes - before).abs().reshape(len(moving), -1).amax(1)
            moving = changes > TOLERANCE * scale
            still = 0 if moving.any() else still + 1
            if self.problem.joint and state.iteration == due:
                fixed = self._sought(state.codes, halfway, TOLERANCE * scale)
                if fixed is not None:
                    state = dataclasses.replace(state, codes=fixed, point=fixed)
                due *= 2
            if 2 * state.iteration == due:
                halfway = state.codes
        return state.codes, moving, state.iteration

    def _sought(self, codes: Tensor, halfway: Tensor, tolerance: Tensor) -> Tensor | None:
        """Return a fixed point of the layer by Newton's method.

        None where it finds none, where the layers from `halfway` to `codes` came no nearer to it,
        or where layers from a place close to it leave it.
        """
        fixed = codes
        for _ in range(NEWTON):
            try:
                newton, residual, _ = self.newton_step(fixed, 0)
            # A step may not be defined where Newton's method leads: torch's factorizations raise.
            except (UnsupportedProblem, RuntimeError):
                return None
            if not newton.isfinite().all():
                return None
            if residual.abs().max() <= tolerance:
                break
            fixed = fixed + newton
        else:
            return None
        distance = (halfway - fixed).norm()
        random = streams.generator(0, "push off a fixed point").standard_normal(fixed.shape)
        push = torch.as_tensor(random)
        pushed = fixed + CLOSE**2 * distance * (push / push.norm())
        for _ in range(PATIENCE // 2):
            pushed = self.layer(pushed, 0)
        nearer = (codes - fixed).norm() < NEARER * distance
        return fixed if nearer and (pushed - fixed).norm() < CLOSE * distance else None

    @torch.no_grad()
    def newton_step(self, codes: Tensor, iteration: int) -> tuple[Tensor, Tensor, Diagnostics]:
        """Return the Newton step towards the fixed point, on the active set, and the residual
        ``Phi(z) - z`` before it.
        """
        residual = self.layer(codes, iteration) - codes
        newton, diagnostics = self.problem.solve_tangent(codes, residual / self.step)
        return newton, residual, diagnostics

    def gradient(self, codes: Tensor, iteration: int) -> tuple[Tensor, Diagnostics]:
        """Return the gradient by the implicit function theorem at a fixed point."""
        gradient, _, diagnostics = self.gradient_and_adjoint(codes, iteration)
        return gradient, diagnostics

    def gradient_and_adjoint(
        self, codes: Tensor, iteration: int
    ) -> tuple[Tensor, Tensor, Diagnostics]:
        """Return the gradient by the implicit function theorem at a fixed point, and the adjoint
        that it is made from.
        """
        direct, code_gradient = direct_gradients(self.problem, codes)
        adjoint, diagnostics = self.problem.solve_active(codes, code_gradient / self.step)
        with torch.enable_grad():
            live, theta = differentiable(self.problem)
            after = self.algorithm.plain_layer(live, codes, self.step, iteration)
            (through_codes,) = gradients(after, (theta,), adjoint)
        return direct + through_codes, adjoint, diagnostics


def limit_reference(problem: Problem, algorithm: Algorithm) -> Reference:
    r"""Return the gradient of ``theta -> loss(z(theta), theta)`` at the codes z(theta) to which an
    algorithm converges.

    The algorithm itself, with its step, its rule and its warm start, runs in float64 until the
    codes stop changing. With
    :math:`\Phi` one plain layer at that step and with that rule, its codes then satisfy :math:`z =
    \Phi(z, \theta)`, accelerated or not. The unrolled gradient tends to the derivative of that
    fixed point,

    .. math:: g = \partial_\theta \ell + (\partial_\theta \Phi)^\top v, \qquad
              (I - \partial_z \Phi^\top) v = \partial_z \ell .

    Every thresholding rule has slope one on the active entries and keeps the others at zero, so
    that
    :math:`v_S = H_{SS}^{-1} (\partial_z \ell)_S / \eta` on the active set S, with H the Hessian of
    the smooth part, and zero elsewhere. The part through the codes does not vanish even for the
    lasso loss: at the limit of a hard or decaying rule the penalized objective is not stationary in
    the codes. A rule that changes from layer to layer is evaluated at twice the depth at which the
    codes converged, where a decaying penalty is squared. For `FixedPoint` the system is solved as
    it stands, whether symmetric or not, singular or not as long as it has a solution; a state that
    still changes after many steps is found by Newton's method.

    A last Newton step on the active set refines the codes. `bound` is the change that this step,
    and the step of the rule to twice the depth, make to the gradient, and what the solves may have
    lost: an estimate without proof, hence the status ``limit``. The status is ``uncertified`` if a
    sample did not converge, if its active system is singular (the fixed points are then not
    isolated, and the path decides which one is reached), if the Newton step leaves the active set,
    if a loss or a step that a user wrote has another derivative than its differences, or if central
    differences of the loss at the limits for other theta do not agree; these are taken where the
    rule is the same in every layer. It is ``degenerate`` if the gradient vanishes
    with the penalty.

    Raises
    ------
    UnsupportedProblem
        If the problem cannot solve its active systems.
    """
    problem, algorithm = exactly(problem), exactly(algorithm)
    running = Converging(problem, algorithm, algorithm.step_size(problem))
    codes, moving, layers = running.run()

    def nothing(reason: object) -> Reference:
        return Reference(
            problem.theta * torch.nan,
            codes,
            "limit",
            torch.inf,
            Certificate(len(moving), len(moving)),
            "uncertified",
            f"{NO_LIMIT}{reason}",
        )

    if not codes.isfinite().all():
        return nothing(
            f"the codes are NaN or infinite after {layers} layers: the iteration diverges"
        )
    if problem.joint and moving.any():
        return nothing(f"the state still changes after {layers} steps")
    try:
        newton, residual, newton_solve = running.newton_step(codes, 2 * layers)
        refined = codes + newton
        after = problem.piece(running.layer(refined, 2 * layers))
        before, _ = running.gradient(codes, layers)
        gradient, solve = running.gradient(refined, 2 * layers)
    except UnsupportedProblem as refused:
        if not problem.joint:
            raise
        # What follows is advice for estimators.
        return nothing(first_line(refused).partition("; use")[0])
    left = (after != problem.piece(codes)).reshape(len(moving), -1).any(1)
    norm = float(gradient.norm())
    condition = max(float(each["condition_number"]) for each in (newton_solve, solve))
    # Beyond what the Newton step shows, the solves lose as many digits as the condition number has.
    rounding = condition * max(2 * ROUNDING, float(solve.get("largest_relative_residual", 0)))
    bound = float((gradient - before).norm()) / norm + rounding if norm else torch.inf
    # A joint system that is singular has been seen to have a solution.
    singular = max(0 if problem.joint else int(newton_solve["singular"]), condition >= SINGULAR)
    radius = problem.joint and problem.linearized(refined).spectral_radius()
    certificate = Certificate(
        samples=len(moving),
        uncertified=max(int((moving | left).sum()), singular),
        kkt_residual=float(residual.abs().max()) / running.step,
        smallest_eigenvalue=1 - radius if radius else torch.inf,
        largest_eigenvalue=1 - radius if radius else 0.0,
        condition_number=condition,
        code_error=float(row_norms(newton.flatten(1)).max()),
        zero_codes=float((codes == 0).reshape(len(moving), -1).all(1).double().mean()),
        iterations=layers,
    )
    flaw = ""
    if certificate.uncertified and problem.joint:
        flaw = f"the derivative of the state has the condition number {condition:.1e}"
    elif certificate.uncertified:
        flaw = (
            f"of {len(codes)} samples {int(moving.sum())} still moved after {layers} layers,"
            f" {singular} have a singular active system, {int((left & ~moving).sum())} leave their"
            " active set"
        )
    elif not bound >= 1:
        flaw = fault_of_users(problem, refined)
        if not flaw and algorithm.thresholding.proximal:
            flaw = _disagreement(running, refined, gradient)
    return Reference(gradient, refined, "limit", bound, certificate, *_status(problem, bound, flaw))


def _status(problem: Problem, bound: float, flaw: str) -> tuple[str, str]:
    """Return the status of a limit whose gradient has a bound, and the reason for it."""
    if flaw:
        return "uncertified", f"{NO_LIMIT}{flaw}"
    if bound >= 1:
        reason = "the gradient at the limit is zero: relative errors have no meaning"
        if problem.joint:
            reason += "; pudle.audit(problem) tells whether the step has lost one"
        return "degenerate", reason
    return "limit", ""


@torch.no_grad()
def _disagreement(running: Converging, codes: Tensor, gradient: Tensor) -> str:
    """Return why the gradient is not that of the loss at the limit, or an empty text if central
    differences confirm it.

    They are taken along two directions, itself and a random one, from limits that are found from
    the one at this theta. The tolerance holds what rounding of the loss leaves.
    """
    theta, norm = running.problem.theta, gradient.norm()
    random = torch.as_tensor(streams.generator(0, "check of a limit").standard_normal(theta.shape))
    size = float(theta.norm()) / theta.numel() ** 0.5 or 1.0
    for direction in (gradient / norm, random / random.norm()):
        reason = "the active set changes close by"
        for relative in DIFFERENCE_STEPS:
            distance = relative * size
            above, below = (
                _loss_at_limit(running.at(theta + move * direction), codes)
                for move in (distance, -distance)
            )
            if above is None or below is None:
                continue
            error = ((above - below) / (2 * distance) - (gradient * direction).sum()).abs()
            rounding = 200 * ROUNDING * above.abs() / distance
            # The differences may be off by so much, relative to the gradient.
            if error <= 1e-6 * norm + rounding:
                break
            reason = (
                "central differences of the loss at the limits for other theta are"
                f" {float(error / norm):.1e} off, relative to the gradient: there is a kink close"
                " by, the gradient of the step or of the loss is wrong, or the step is no function"
                " of state and theta alone; pudle.audit(problem) tells more"
            )
        else:
            return reason
    return ""


def _loss_at_limit(running: Converging, codes: Tensor) -> Tensor | None:
    """Return the loss at the limit that is found from `codes`; None where its active set is
    another.
    """
    limit, _, layers = running.run(codes)
    if not torch.equal(running.problem.piece(limit), running.problem.piece(codes)):
        return None
    return running.problem.outer_loss(limit + running.newton_step(limit, layers)[0])
