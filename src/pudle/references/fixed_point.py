"""The exact gradient of an iteration whose user brings an exact solver."""

import torch
from torch import Tensor

from ..algorithms import Iteration
from ..algorithms.unrolling import differentiable, gradients
from ..errors import UnsupportedProblem
from ..problems import FixedPoint
from .converging import Converging
from .lasso import KKT_TOLERANCE
from .linear_model import ROUNDING
from .records import Certificate, exactly

#: Largest distance, relative to the gradient, between the derivative of a user's solution and the
#: implicit one.
AGREEMENT = 1e-8


def solve_fixed_point(problem: FixedPoint) -> tuple[Tensor, float, Tensor, Certificate, str]:
    """Return the gradient of ``theta -> loss(solution(theta), theta)``, its error, the codes,
    certificate and reason.

    The codes must be a fixed point to rounding. The gradient by automatic differentiation of the
    solver and that by the implicit function theorem share nothing but the loss; the error is their
    distance, and what the solve may have lost. The reason says why the problem is not certified,
    and is empty if it is.

    Raises
    ------
    UnsupportedProblem
        If the problem brings no solver, or its adjoint system cannot be solved.
    """
    solution = problem.solution
    if solution is None:
        raise UnsupportedProblem(
            "reference: no exact solution is known for FixedPoint: use target='limit', or give"
            " solution=, a function from theta to the exact state"
        )
    problem = exactly(problem)
    with torch.enable_grad():
        live, theta = differentiable(problem)
        solved = problem.pack(solution(theta))
        (gradient,) = gradients(live.outer_loss(solved), (theta,))
    codes = solved.detach()
    with torch.no_grad():
        residual = float(problem.stationarity(codes).abs().max())
    implicit, diagnostics = Converging(problem, Iteration(), 1.0).gradient(codes, 0)
    condition, norm = float(diagnostics["condition_number"]), float(gradient.norm())
    error, reason = float((gradient - implicit).norm()) + condition * ROUNDING * norm, ""
    if not residual <= KKT_TOLERANCE * max(1.0, float(codes.abs().max())) * len(codes[0]) ** 0.5:
        reason = (
            f"solution(theta) is no fixed point: the step moves it by {residual:.1e}; repair it, or"
            " use target='limit'"
        )
    elif not error <= AGREEMENT * norm:
        reason = (
            f"solution(theta) and the implicit function theorem differ by {error:.1e}: the step has"
            " another derivative than the solution; use target='limit'"
        )
    certificate = Certificate(
        1, uncertified=int(bool(reason)), kkt_residual=residual, condition_number=condition
    )
    return gradient, error, codes, certificate, reason
