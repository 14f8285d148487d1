"""Exact gradients where the inner objective is smooth and strongly convex, and bounds on the error
of any gradient there.
"""

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..algorithms.smooth import newton_step
from ..algorithms.unrolling import differentiable, direct_gradient, direct_gradients, gradients
from ..problems import StronglyConvex
from ..problems.linearized import norm
from ..problems.strongly_convex import Constants
from .records import Certificate, Reference, exactly

#: Roundings that a sum may collect, in rounding units of the sizes of its terms.
ROUNDINGS = 64
#: Newton steps after which an objective is given up, and turns in which the adjoint is refined.
STEPS, TURNS = 200, 3
#: A Newton step that no longer halves a gradient below this share of its terms changes rounding.
SMALL = 1e-8
#: Products by which the norm of the cross derivative is estimated.
PRODUCTS = 10
#: Largest distance between the Hessian and a difference of gradients, relative to the largest
#: curvature, in a random direction.
AGREEMENT = 1e-3
#: A claimed modulus is refuted by a curvature below it by more than this share of the largest one.
REFUTED = 1e-10


@dataclass(frozen=True)
class ErrorBound:
    """Bounds on the distance of a state, of its adjoint and of their gradient from the exact ones,
    in the Euclidean norm.
    """

    state: float
    adjoint: float
    gradient: float


def gradient_at(problem: StronglyConvex, codes: Tensor, adjoint: Tensor) -> Tensor:
    """Return ``partial_theta f - C^T v`` for any state and adjoint v."""
    return direct_gradient(problem, codes) + _through(problem, codes, adjoint)


def _through(problem: StronglyConvex, codes: Tensor, adjoint: Tensor) -> Tensor:
    with torch.enable_grad():
        live, theta = differentiable(problem)
        (contracted,) = gradients(live.smooth_gradient(codes.detach()), (theta,), adjoint)
    return -contracted


def error_bound(problem: StronglyConvex, codes: Tensor, adjoint: Tensor) -> ErrorBound:
    r"""Bound the error of `gradient_at` for a state z and an adjoint v, whatever they are.

    With mu the modulus, b the derivative of the outer loss, r = b - H v, and Lipschitz constants in
    the ball of radius d around z,

    .. math:: |z - z^*| \le d = |\partial_z g(z)| / \mu, \qquad
              |v - v^*| \le d_v = (|r| + (L_{Hv} + L_b) d) / \mu, \qquad
              |G - G^*| \le (L_\theta + L_{Cv}) d + |C| d_v ,

    where rounding is added to every norm that was computed. The last one does not know in which
    direction z is off, and is often a hundred times the error. One Newton step leads to a state and
    an adjoint whose bound is of second order; the distance of the two gradients, which is computed,
    and that bound are a bound for the first gradient as well, and the smaller one is returned.

    Where the problem has no constants, they are those that differences show, and all this is an
    estimate.
    """
    plain = _bound_at(problem, codes, adjoint)
    better = newton_step(problem, codes)
    left = _adjoint_residual(problem, better, adjoint)
    improved = adjoint + problem.solve_active(better, left)[0]
    moved = gradient_at(problem, codes, adjoint).double() - gradient_at(problem, better, improved)
    # The difference and its norm are rounded too.
    sharp = norm(moved) * (1 + 1e-14) + _bound_at(problem, better, improved).gradient
    return replace(plain, gradient=min(plain.gradient, sharp))


def _bound_at(problem: StronglyConvex, codes: Tensor, adjoint: Tensor) -> ErrorBound:
    # Sums of millions of squares in float32 are off by more than this many roundings.
    residual = norm(_adjoint_residual(problem, codes, adjoint).double())
    slope, size = norm(problem.smooth_gradient(codes).double()), norm(adjoint.double())
    mu, direct = problem.curvature, direct_gradient(problem, codes).double()
    unit = ROUNDINGS * torch.finfo(codes.dtype).eps / 2
    if problem.constants:
        # The size of the terms does not depend on the ball, whose radius it is a part of.
        radius = (slope + unit * problem.constants_at(codes).terms) / mu
        known = problem.constants_at(codes, adjoint, radius)
    else:
        known = measured_constants(problem, codes, adjoint)
        radius = (slope + unit * known.terms) / mu
    rounding = unit * (known.outer_terms + known.gradient * size)
    off = (residual + rounding + (known.hessian + known.outer) * radius) / mu
    gradient = (known.direct + known.cross) * radius + known.cross_norm * off
    gradient += unit * (known.cross_norm * size + norm(direct))
    # What is no number bounds nothing.
    return ErrorBound(*(math.inf if each != each else each for each in (radius, off, gradient)))


def _adjoint_residual(problem: StronglyConvex, codes: Tensor, adjoint: Tensor) -> Tensor:
    """Return ``partial_z f - H v``."""
    _, outside = direct_gradients(problem, codes)
    return outside - problem.linearized(codes).transposed(adjoint)


def measured_constants(problem: StronglyConvex, codes: Tensor, adjoint: Tensor) -> Constants:
    """Return the constants that differences to a random place around the state show.

    The place is as far away as the minimizer may be, but not so near that rounding is seen.
    """
    eps = torch.finfo(codes.dtype).eps
    random, _ = problem.linearized(codes).random("constants")
    scale = norm(codes) or 1.0
    slope = problem.smooth_gradient(codes)
    distance = max(norm(slope) / problem.curvature, eps ** (1 / 3) * scale)
    other = codes + distance / norm(random) * random

    def derivatives(at: Tensor) -> tuple[Tensor, ...]:
        hessian = problem.linearized(at).transposed(adjoint)
        return hessian, *direct_gradients(problem, at), _through(problem, at, adjoint)

    here, there = derivatives(codes), derivatives(other)
    hessian, direct, outer, cross = (
        norm(one - two) / distance for one, two in zip(here, there, strict=True)
    )
    return Constants(
        gradient=problem.lipschitz_constant,
        hessian=hessian,
        outer=outer,
        cross=cross,
        direct=direct,
        cross_norm=_cross_norm(problem, codes, slope),
        terms=problem.lipschitz_constant * scale + norm(slope),
        outer_terms=norm(here[2]),
    )


def _cross_norm(problem: StronglyConvex, codes: Tensor, vector: Tensor) -> float:
    """Return the norm of the cross derivative at some codes by power iteration, from below."""
    with torch.enable_grad():
        live, theta = differentiable(problem)
        slope = live.smooth_gradient(codes.detach())
        weights = torch.zeros_like(slope, requires_grad=True)
        if not slope.requires_grad:
            return 0.0
        (along,) = torch.autograd.grad(
            slope, theta, weights, create_graph=True, materialize_grads=True
        )
    found = 0.0
    vector = vector + torch.ones_like(vector)
    for _ in range(PRODUCTS):
        vector = vector / (norm(vector) or 1.0)
        (image,) = gradients(slope, (theta,), vector, keep_graph=True)
        found = norm(image)
        (vector,) = gradients(along, (weights,), image, keep_graph=True)
    return found


def strongly_convex_reference(problem: StronglyConvex, target: str) -> Reference:
    """Return the gradient at the minimizer, by Newton's method and conjugate gradients in float64.

    It is certified by `error_bound` where the problem has constants; otherwise the bound is an
    estimate, and the status ``limit``. The modulus is what the problem claims: curvature at the
    minimizer that is smaller refutes it, and nothing proves it.
    """
    problem = exactly(problem)
    codes, steps = _minimizer(problem)
    adjoint = _adjoint(problem, codes)
    gradient = gradient_at(problem, codes, adjoint)
    smallest = problem.extreme_curvature(codes, largest=False)
    reason = _refuted(problem, codes, smallest)
    if not (gradient.isfinite().all() and problem.outer_loss(codes).isfinite()):
        reason = "the outer loss or its derivative is NaN or infinite at the minimizer"
    found = error_bound(problem, codes, adjoint)
    size = norm(gradient)
    bound = found.gradient / size if size else math.inf
    status = "certified" if problem.constants else "limit"
    if size and not (reason or bound < 1):
        reason = (
            f"the error of the gradient may be {bound:.2g} times its norm: it is zero, or give a"
            " better conditioned objective, or an initial state nearer to the minimizer"
        )
    if reason:
        status = "uncertified"
    elif not size:
        status, reason = "degenerate", "the exact gradient is zero: relative errors have no meaning"
    certificate = Certificate(
        samples=1,
        uncertified=int(status == "uncertified"),
        kkt_residual=norm(problem.smooth_gradient(codes)),
        smallest_eigenvalue=smallest,
        largest_eigenvalue=problem.lipschitz_constant,
        condition_number=problem.lipschitz_constant / problem.curvature,
        code_error=found.state,
        iterations=steps,
        modulus=problem.curvature,
    )
    return Reference(gradient, codes, target, bound, certificate, status, reason)


def _minimizer(problem: StronglyConvex) -> tuple[Tensor, int]:
    """Return the state that Newton steps lead to, until rounding is all that they change, and
    their number.
    """
    codes = problem.initial_codes()
    size = norm(problem.smooth_gradient(codes))
    for steps in range(STEPS):
        after = newton_step(problem, codes)
        left = norm(problem.smooth_gradient(after))
        small = left <= SMALL * problem.lipschitz_constant * norm(after)
        if not left < size / 2 and (small or not left < size):
            return codes, steps
        codes, size = after, left
    return codes, STEPS


def _adjoint(problem: StronglyConvex, codes: Tensor) -> Tensor:
    """Return the solution of ``H v = partial_z f``, refined."""
    adjoint = torch.zeros_like(codes)
    for _ in range(TURNS):
        left = _adjoint_residual(problem, codes, adjoint)
        adjoint = adjoint + problem.solve_active(codes, left)[0]
    return adjoint


def _refuted(problem: StronglyConvex, codes: Tensor, smallest: float) -> str:
    """Return why the claims about the objective do not hold at codes where its curvature is
    `smallest`.
    """
    if not _differentiable_twice(problem, codes):
        return (
            "the second derivative of the objective is not the derivative of its first: leave out"
            " kinks such as abs, random numbers, detach and no_grad"
        )
    if smallest <= 0:
        return (
            f"the objective is not convex: its curvature is {smallest:.2g} in some direction of the"
            " last state; add a term such as a squared norm"
        )
    if smallest < problem.curvature - REFUTED * problem.lipschitz_constant:
        return (
            f"modulus(theta)={problem.curvature:.6g} is above the curvature {smallest:.6g} at the"
            " minimizer: give a lower bound"
        )
    return ""


def _differentiable_twice(problem: StronglyConvex, codes: Tensor) -> bool:
    """Tell whether a difference of gradients in a random direction agrees with the Hessian."""
    system = problem.linearized(codes)
    random, _ = system.random("second derivative")
    random *= torch.finfo(codes.dtype).eps ** 0.5 * (norm(codes) or 1.0) / norm(random)
    moved = problem.smooth_gradient(codes + random) - problem.smooth_gradient(codes - random)
    off = norm(moved / 2 - system.transposed(random))
    # What overflows tells nothing.
    return not off > AGREEMENT * problem.lipschitz_constant * norm(random)
