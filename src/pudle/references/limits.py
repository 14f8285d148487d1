"""The limit of an algorithm and the gradient there: the target for thresholding rules that lead to no minimizer."""

import torch
from torch import Tensor

from ..algorithms import Algorithm
from ..algorithms.unrolling import differentiable, direct_gradients, gradients
from ..problems import Problem
from .lasso import SINGULAR
from .records import Certificate, Reference, exactly

#: A sample has converged when no entry of its code changes by more than this times the largest entry of all codes, or of
#: the first gradient step from zero where that is larger.
TOLERANCE = 1e-13
#: Consecutive layers for which that must hold: an accelerated method pauses where its momentum turns.
STILL_LAYERS = 10
#: Layers after which a sample that has not converged is given up.
MAX_LAYERS = 20_000


def limit_reference(problem: Problem, algorithm: Algorithm) -> Reference:
    r"""Return the gradient of ``theta -> loss(z(theta), theta)`` at the codes z(theta) to which an algorithm converges.

    The algorithm itself, with its step, its rule and its warm start, runs in float64 until the codes stop changing. With
    :math:`\Phi` one plain proximal gradient layer at that step and with that rule, its codes then satisfy
    :math:`z = \Phi(z, \theta)`, accelerated or not. The unrolled gradient tends to the derivative of that fixed point,

    .. math:: g = \partial_\theta \ell + (\partial_\theta \Phi)^\top v, \qquad
              (I - \partial_z \Phi^\top) v = \partial_z \ell .

    Every rule has slope one on the active entries and keeps the others at zero, so that
    :math:`v_S = H_{SS}^{-1} (\partial_z \ell)_S / \eta` on the active set S, with H the Hessian of the smooth part, and zero
    elsewhere. The part through the codes does not vanish even for the lasso loss: at the limit of a hard or decaying rule
    the penalized objective is not stationary in the codes. A rule that changes from layer to layer is evaluated at twice the
    depth at which the codes converged, where a decaying penalty is squared.

    A last Newton step on the active set refines the codes. `bound` is the change that this step, and the step of the rule
    to twice the depth, make to the gradient: a safe estimate without proof, hence the status ``limit``. The status is
    ``uncertified`` if a sample did not converge, if its active system is singular (the fixed points are then not isolated,
    and the path decides which one is reached) or if the Newton step leaves the active set. It is ``degenerate`` if the
    gradient vanishes with the penalty.

    Raises
    ------
    UnsupportedProblem
        If the problem cannot solve its active systems.
    """
    problem, algorithm = exactly(problem), exactly(algorithm)
    step = algorithm.step_size(problem)
    codes, moving, layers = _run_until_converged(problem, algorithm, step)

    def gradient(at: Tensor, iteration: int) -> Tensor:
        direct, code_gradient = direct_gradients(problem, at)
        adjoint, _ = problem.solve_active(at, code_gradient / step)
        with torch.enable_grad():
            live, theta = differentiable(problem)
            (through_codes,) = gradients(algorithm.proximal_step(live, at, step, iteration), (theta,), adjoint)
        return direct + through_codes

    with torch.no_grad():
        residual = algorithm.proximal_step(problem, codes, step, 2 * layers) - codes
        newton, diagnostics = problem.solve_active(codes, residual / step)
        refined = codes + newton
        left = (algorithm.proximal_step(problem, refined, step, 2 * layers).sign() != codes.sign()).flatten(1).any(1)
    before, after = gradient(codes, layers), gradient(refined, 2 * layers)
    norm = float(torch.linalg.norm(after))
    condition = float(diagnostics["condition_number"])
    # Beyond what the Newton step shows, the solves lose as many digits as the condition number has.
    rounding = torch.finfo(torch.float64).eps * condition
    bound = float(torch.linalg.norm(after - before)) / norm + rounding if norm > 0 else float("inf")
    singular = max(int(diagnostics["singular"]), int(condition >= SINGULAR))
    certificate = Certificate(
        samples=len(codes),
        uncertified=max(int((moving | left).sum()), singular),
        kkt_residual=float(residual.abs().max()) / step,
        condition_number=condition,
        code_error=float(torch.linalg.norm(newton.flatten(1), dim=1).max()),
        zero_codes=float((codes == 0).flatten(1).all(1).double().mean()),
        iterations=layers,
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
    return Reference(after, refined, "limit", bound, certificate, status, reason)


@torch.no_grad()
def _run_until_converged(problem: Problem, algorithm: Algorithm, step: float) -> tuple[Tensor, Tensor, int]:
    """Return the codes, which samples (n,) have not converged, and the number of layers."""
    state = algorithm.start(problem)
    first_step = step * problem.smooth_gradient(problem.initial_codes()).abs().max()
    moving = torch.ones(len(state.codes), dtype=torch.bool)
    still = 0
    while still < STILL_LAYERS and state.iteration < MAX_LAYERS:
        before, state = state.codes, algorithm.advance(problem, state, step)
        scale = torch.maximum(state.codes.abs().max(), first_step)
        # The negation makes a NaN count as a move.
        moving = ~((state.codes - before).flatten(1).abs().amax(1) <= TOLERANCE * scale)
        still = 0 if moving.any() else still + 1
    return state.codes, moving, state.iteration
