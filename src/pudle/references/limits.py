"""The limit of an algorithm and the gradient there: the target where no exact solution is known."""

from typing import Any

import torch
from torch import Tensor

from .. import streams
from ..algorithms import Algorithm
from ..algorithms.unrolling import differentiable, direct_gradients, gradients
from ..errors import UnsupportedProblem, first_line
from ..problems import FixedPoint, Problem
from .lasso import SINGULAR
from .records import Certificate, Reference, exactly

#: A sample has converged when no entry of its code changes by more than this times the largest entry of all codes, or of
#: the first layer's change where that is larger.
TOLERANCE = 1e-13
#: Consecutive layers for which that must hold: an accelerated method pauses where its momentum turns.
STILL_LAYERS = 10
#: Layers after which a sample that has not converged is given up.
MAX_LAYERS = 20_000
#: Distances in theta, relative to its entries, of the central differences that check a limit: the first within which the
#: active set stays the same is taken.
DIFFERENCE_STEPS = (1e-5, 1e-6, 1e-7)
#: Largest error that the differences may show, relative to the gradient.
DIFFERENCE_TOLERANCE = 1e-6


def limit_reference(problem: Problem, algorithm: Algorithm) -> Reference:
    r"""Return the gradient of ``theta -> loss(z(theta), theta)`` at the codes z(theta) to which an algorithm converges.

    The algorithm itself, with its step, its rule and its warm start, runs in float64 until the codes stop changing. With
    :math:`\Phi` one plain layer at that step and with that rule, its codes then satisfy :math:`z = \Phi(z, \theta)`,
    accelerated or not. The unrolled gradient tends to the derivative of that fixed point,

    .. math:: g = \partial_\theta \ell + (\partial_\theta \Phi)^\top v, \qquad
              (I - \partial_z \Phi^\top) v = \partial_z \ell .

    Every thresholding rule has slope one on the active entries and keeps the others at zero, so that
    :math:`v_S = H_{SS}^{-1} (\partial_z \ell)_S / \eta` on the active set S, with H the Hessian of the smooth part, and zero
    elsewhere. The part through the codes does not vanish even for the lasso loss: at the limit of a hard or decaying rule
    the penalized objective is not stationary in the codes. A rule that changes from layer to layer is evaluated at twice the
    depth at which the codes converged, where a decaying penalty is squared. For `FixedPoint` the system is solved as it
    stands, whether symmetric or not.

    A last Newton step on the active set refines the codes. `bound` is the change that this step, and the step of the rule
    to twice the depth, make to the gradient, and what the solves may have lost: an estimate without proof, hence the status
    ``limit``. The status is ``uncertified`` if a sample did not converge, if its active system is singular (the fixed points
    are then not isolated, and the path decides which one is reached), if the Newton step leaves the active set, or if
    central differences of the loss at the limits for other theta do not agree; these are taken where the rule is the same in
    every layer. It is ``degenerate`` if the gradient vanishes with the penalty.

    Raises
    ------
    UnsupportedProblem
        If the problem cannot solve its active systems.
    """
    problem, algorithm = exactly(problem), exactly(algorithm)
    step = algorithm.step_size(problem)
    codes, moving, layers = _run_until_converged(problem, algorithm, step)
    if not torch.isfinite(codes).all():
        return _nothing(problem, codes, f"the codes are NaN or infinite after {layers} layers: the iteration diverges")

    def gradient(at: Tensor, iteration: int) -> tuple[Tensor, dict[str, Any]]:
        direct, code_gradient = direct_gradients(problem, at)
        adjoint, diagnostics = problem.solve_active(at, code_gradient / step)
        with torch.enable_grad():
            live, theta = differentiable(problem)
            (through_codes,) = gradients(algorithm.plain_layer(live, at, step, iteration), (theta,), adjoint)
        return direct + through_codes, diagnostics

    try:
        with torch.no_grad():
            newton, residual, diagnostics = _newton_step(problem, algorithm, step, codes, 2 * layers)
            refined = codes + newton
            after_newton = problem.piece(algorithm.plain_layer(problem, refined, step, 2 * layers))
            left = (after_newton != problem.piece(codes)).flatten(1).any(1)
        (before, _), (after, solved) = gradient(codes, layers), gradient(refined, 2 * layers)
    except UnsupportedProblem as refused:
        if not isinstance(problem, FixedPoint):
            raise
        return _nothing(problem, codes, f"no limit to score against: {first_line(refused)}")
    norm = float(torch.linalg.norm(after))
    condition = max(float(each["condition_number"]) for each in (diagnostics, solved))
    # Beyond what the Newton step shows, the solves lose as many digits as the condition number has.
    rounding = condition * max(torch.finfo(torch.float64).eps, float(solved.get("largest_relative_residual", 0)))
    bound = float(torch.linalg.norm(after - before)) / norm + rounding if norm > 0 else float("inf")
    singular = max(int(diagnostics["singular"]), int(condition >= SINGULAR))
    radius = problem.linearized(refined).spectral_radius() if isinstance(problem, FixedPoint) else None
    certificate = Certificate(
        samples=len(codes),
        uncertified=max(int((moving | left).sum()), singular),
        kkt_residual=float(residual.abs().max()) / step,
        condition_number=condition,
        code_error=float(torch.linalg.norm(newton.flatten(1), dim=1).max()),
        zero_codes=float((codes == 0).flatten(1).all(1).double().mean()),
        iterations=layers,
        **({} if radius is None else {"smallest_eigenvalue": 1 - radius, "largest_eigenvalue": 1 - radius}),
    )
    status, reason = "limit", ""
    if certificate.uncertified:
        status = "uncertified"
        reason = (
            f"no limit to score against: of {len(codes)} samples {int(moving.sum())} still moved after {layers} layers, "
            f"{singular} have a singular active system, {int((left & ~moving).sum())} leave their active set"
        )
    elif bound >= 1:
        status, reason = "degenerate", "the gradient at the limit is zero: relative errors have no meaning"
    elif algorithm.thresholding.proximal and (error := _difference_error(problem, algorithm, step, refined, after)) > 1:
        status = "uncertified"
        reason = (
            f"no limit to score against: central differences of the loss at the limits for other theta are "
            f"{error * DIFFERENCE_TOLERANCE:.1e} off, relative to the gradient: there is a kink close by, or the step is no "
            f"function of state and theta alone"
        )
    return Reference(after, refined, "limit", bound, certificate, status, reason)


def _nothing(problem: Problem, codes: Tensor, reason: str) -> Reference:
    certificate = Certificate(samples=len(codes), uncertified=len(codes))
    gradient = torch.full_like(problem.theta, float("nan"))
    return Reference(gradient, codes, "limit", float("inf"), certificate, "uncertified", reason)


def _newton_step(
    problem: Problem, algorithm: Algorithm, step: float, codes: Tensor, iteration: int
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """Return the Newton step on the active set, the residual of the fixed point, and the diagnostics of the solve."""
    residual = algorithm.plain_layer(problem, codes, step, iteration) - codes
    newton, diagnostics = problem.solve_tangent(codes, residual / step)
    return newton, residual, diagnostics


@torch.no_grad()
def _difference_error(problem: Problem, algorithm: Algorithm, step: float, codes: Tensor, gradient: Tensor) -> float:
    """Return the largest error of the gradient along two directions, itself and a random one, over its tolerance.

    Limits at other theta are found from the limit at this one. The tolerance holds what rounding of the loss leaves. The
    error is infinite where the active set changes within the smallest distance.
    """
    theta, norm = problem.theta, torch.linalg.norm(gradient)
    random = torch.as_tensor(streams.generator(0, "check of a limit").standard_normal(theta.shape))
    size = float(torch.linalg.norm(theta)) / theta.numel() ** 0.5 or 1.0
    worst = 0.0
    for direction in (gradient / norm, random / torch.linalg.norm(random)):
        for distance in (relative * size for relative in DIFFERENCE_STEPS):
            above, below = (
                _loss_at_limit(problem, theta + sign * distance * direction, algorithm, step, codes) for sign in (1, -1)
            )
            if above is not None and below is not None:
                error = ((above - below) / (2 * distance) - (gradient * direction).sum()).abs()
                floor = 100 * torch.finfo(torch.float64).eps * above.abs() / distance
                worst = max(worst, float(error / (DIFFERENCE_TOLERANCE * norm + floor)))
                break
        else:
            return float("inf")
    return worst


def _loss_at_limit(problem: Problem, theta: Tensor, algorithm: Algorithm, step: float, codes: Tensor) -> Tensor | None:
    """Return the loss at the limit for another theta; None where its active set is not that of `codes`."""
    moved = problem.with_theta(theta)
    limit, _, layers = _run_until_converged(moved, algorithm, step, codes)
    if not torch.equal(problem.piece(limit), problem.piece(codes)):
        return None
    return moved.outer_loss(limit + _newton_step(moved, algorithm, step, limit, layers)[0])


@torch.no_grad()
def _run_until_converged(
    problem: Problem, algorithm: Algorithm, step: float, initial: Tensor | None = None
) -> tuple[Tensor, Tensor, int]:
    """Return the codes, which samples (n,) have not converged, and the number of layers."""
    state = algorithm.start(problem, initial)
    first_codes = problem.initial_codes()
    first_step = (algorithm.plain_layer(problem, first_codes, step, 0) - first_codes).abs().max()
    moving = torch.ones(len(state.codes), dtype=torch.bool)
    still = 0
    while still < STILL_LAYERS and state.iteration < MAX_LAYERS:
        before, state = state.codes, algorithm.advance(problem, state, step)
        scale = torch.maximum(state.codes.abs().max(), first_step)
        if not torch.isfinite(scale):
            return state.codes, torch.ones_like(moving), state.iteration
        # The negation makes a NaN count as a move.
        moving = ~((state.codes - before).flatten(1).abs().amax(1) <= TOLERANCE * scale)
        still = 0 if moving.any() else still + 1
    return state.codes, moving, state.iteration
