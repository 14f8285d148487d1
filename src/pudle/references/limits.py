"""Where an algorithm comes to rest, and the gradient there: a target for rules that lead to no minimizer."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import torch
from torch import Tensor

from ..algorithms import Algorithm, Ista, State
from ..algorithms.unrolling import direct_gradients, gradients
from ..problems import Problem
from .certified import Certificate, Reference
from .lasso import SINGULAR

#: Codes are at rest when no entry of a sample changes by more than this times max(1, the largest entry of all).
REST_TOLERANCE = 1e-13
#: Layers in a row that must stay below it: an accelerated method stands still for a moment where its momentum turns.
REST_LAYERS = 10
#: Layers after which a sample that still moves is given up.
MAX_LAYERS = 20_000

T = TypeVar("T")


def limit_reference(problem: Problem, algorithm: Algorithm) -> Reference:
    r"""Gradient of ``theta -> loss(z(theta), theta)`` at the codes z(theta) that an algorithm comes to rest at, in float64.

    The algorithm itself is run until the codes stop changing. With :math:`\Phi` one plain proximal gradient layer at its
    step eta and by its rule, its codes then satisfy :math:`z = \Phi(z, \theta)`, accelerated or not, and what the unrolled
    gradient tends to is the derivative of that fixed point,

    .. math:: g = \partial_\theta \ell + (\partial_\theta \Phi)^\top v, \qquad
              (I - \partial_z \Phi^\top) v = \partial_z \ell .

    Every rule keeps the active entries with slope one and the others at zero, so that :math:`v_S = H_{SS}^{-1} (\partial_z
    \ell)_S / \eta` on the active set S, H the Hessian of the smooth part, and zero off it. The direct part alone would be
    no target: at the limit of a hard or decaying rule the penalized objective is not stationary in the codes, so that its
    total derivative has a part through them. A rule that changes from layer to layer is taken as it stands at twice the
    depth where the codes came to rest, where what is left of a decaying penalty is the square of what it was there.

    A last Newton step on the active set polishes the codes. The gradient's change from the codes and the rule as the
    iteration left them, which is about what it left undone, is reported as `bound`: an estimate that errs on the safe side,
    no proof. Hence the status ``limit``. The status is ``uncertified`` where a sample did not come to rest, where its active
    system is singular (there the fixed points are not isolated, and which of them is reached depends on the path) or where
    the Newton step leaves the active set; it is ``degenerate`` where the gradient fades with the penalty.

    Parameters
    ----------
    problem : Problem
        A frozen dataclass; its tensors are converted to float64 on the CPU.
    algorithm : Algorithm
        Its step, its rule and its warm start all matter.

    Raises
    ------
    UnsupportedProblem
        If the problem cannot solve its active systems.
    """
    problem, algorithm = exactly(problem), exactly(algorithm)
    step = algorithm.step_size(problem)
    codes, moving, layers = _run_to_rest(problem, algorithm, step)
    plain = Ista(step=step, thresholding=algorithm.thresholding)

    def layer(live: Problem, at: Tensor, iteration: int) -> Tensor:
        return plain.advance(live, State(codes=at, point=at, iteration=iteration), step).codes

    def gradient(at: Tensor, iteration: int) -> Tensor:
        direct, code_gradient = direct_gradients(problem, at)
        adjoint, _ = problem.solve_active(at, code_gradient / step)
        with torch.enable_grad():
            theta = problem.theta.detach().requires_grad_()
            (through_codes,) = gradients(layer(problem.with_theta(theta), at, iteration), (theta,), adjoint)
        return direct + through_codes

    with torch.no_grad():
        residual = layer(problem, codes, 2 * layers) - codes
        newton, diagnostics = problem.solve_active(codes, residual / step)
        polished = codes + newton
        left = (layer(problem, polished, 2 * layers).sign() != codes.sign()).flatten(1).any(1)
    before, after = gradient(codes, layers), gradient(polished, 2 * layers)
    norm = float(torch.linalg.norm(after))
    condition = float(diagnostics["condition_number"])
    # Beyond what the Newton step shows, the solves themselves lose the digits that the condition number takes.
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
    return Reference(after, polished, "limit", bound, certificate, status, reason)


@torch.no_grad()
def _run_to_rest(problem: Problem, algorithm: Algorithm, step: float) -> tuple[Tensor, Tensor, int]:
    """Return the codes, which samples (n,) still moved, and the layers run."""
    state = algorithm.start(problem)
    moving = torch.ones(len(state.codes), dtype=torch.bool)
    still = 0
    while still < REST_LAYERS and state.iteration < MAX_LAYERS:
        before, state = state.codes, algorithm.advance(problem, state, step)
        scale = state.codes.abs().max().clamp(min=1)
        # Written so that a NaN counts as a move.
        moving = ~((state.codes - before).flatten(1).abs().amax(1) <= REST_TOLERANCE * scale)
        still = 0 if moving.any() else still + 1
    return state.codes, moving, state.iteration


def exactly(thing: T) -> T:
    """Return a copy of a problem or an algorithm whose tensors are in float64 on the CPU."""
    tensors: dict[str, Any] = {}
    for field in dataclasses.fields(thing):  # type: ignore[arg-type]
        value = getattr(thing, field.name)
        if isinstance(value, Tensor):
            tensors[field.name] = value.detach().to(device="cpu", dtype=torch.float64)
    return dataclasses.replace(thing, **tensors)  # type: ignore[type-var]
